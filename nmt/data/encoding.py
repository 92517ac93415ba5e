"""Encoding a block of raw pairs into what lies in the files of a token store."""

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import traceback
from array import array
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nmt.backend import machine, session
from nmt.data.corpus import CorpusReport, TextBlock
from nmt.data.lines import compression
from nmt.data.sequences import record_of
from nmt.errors import DataError
from nmt.text.pair import TextPair
from nmt.text.tokenizer import Tokenizer
from nmt.text.vocabulary import EOS_ID

_WIDEST_NARROW = int(np.iinfo(np.uint16).max)


class EncodedSide(NamedTuple):
    """One side of some pairs.

    Attributes:
        lengths: tokens of each sequence, EOS counted, as bytes of the type of `length_dtype`.
        records: what lies in the file of the side, see `nmt.data.sequences`.
        tokens: tokens in all, EOS counted.
    """

    lengths: bytes
    records: bytes
    tokens: int


class EncodedBlock(NamedTuple):
    """What became of some pairs.

    Attributes:
        report: how many were kept and dropped.
        sides: source and target of the pairs kept; and if text is kept, the UTF-8 of both, and of their links if they
            have some, a byte in place of a token.
        weights: of the pairs kept in the training loss, as bytes of float32; none if the corpus has none.
    """

    report: CorpusReport
    sides: tuple[EncodedSide, ...]
    weights: bytes = b""


class PairFilters(NamedTuple):
    """What pairs of a corpus are left out, besides those that no training can use.

    Attributes:
        min_length: tokens of a side at least, EOS not counted.
        max_length: tokens of a side at most; None for no bound of its own.
        max_ratio: tokens of the longer side to those of the shorter, at most; None for any.
        drop_copies: whether pairs are dropped whose source is their target.
    """

    min_length: int = 1
    max_length: int | None = None
    max_ratio: float | None = None
    drop_copies: bool = False

    def reason(self, lines: Sequence[str], token_ids: Sequence[Sequence[int]]) -> str | None:
        """Why a pair is left out, as a phrase; None if it is kept.

        Args:
            lines: of source and target.
            token_ids: of both, at least one of each.
        """
        shorter, longer = sorted(map(len, token_ids))
        if shorter < self.min_length:
            return f"shorter than {self.min_length} tokens"
        if self.max_length is not None and longer > self.max_length:
            return f"longer than the {self.max_length} tokens of its filter"
        if self.max_ratio is not None and longer > self.max_ratio * shorter:
            return f"with more than {self.max_ratio:g} times the tokens on one side"
        return "that are copies" if self.drop_copies and lines[0] == lines[1] else None


NO_FILTERS = PairFilters()

NO_WEIGHT = "with loss weight 0"
"""Why a pair is left out that no loss would count."""


@dataclass(frozen=True)
class BlockEncoder:
    """Turns raw pairs into records; the same pairs give the same bytes wherever it runs.

    Attributes:
        text: the tokenizers.
        max_length: tokens per side, EOS not counted; longer pairs are dropped.
        filters: what else is dropped.
        keep_text: whether the text of the pairs is kept beside the ids.
    """

    text: TextPair
    max_length: int
    filters: PairFilters = NO_FILTERS
    keep_text: bool = False

    def encode(self, pairs: Sequence[tuple[str, ...]]) -> EncodedBlock:
        """Encode pairs of lines, in order; if they have weights as third texts, those with weight 0 are left out.

        Links behind the weights are kept with the text.
        """
        tokenizers = (self.text.source, self.text.target)
        clean = [pair for pair in pairs if "\0" not in pair[0] and "\0" not in pair[1]]
        usable = [pair for pair in clean if pair[0].strip() and pair[1].strip()]
        sides = [each.encode_batch([pair[side] for pair in usable]) for side, each in enumerate(tokenizers)]
        # What is white space to the tokenizer alone, such as a lone U+200B, leaves an empty side too.
        encoded = zip(zip(*sides, strict=True), usable, strict=True)
        full = [(ids, pair) for ids, pair in encoded if ids[0] and ids[1]]
        short = [(ids, pair) for ids, pair in full if max(map(len, ids)) <= self.max_length]
        reasons: list[str | None] = [None] * len(short)
        if self.filters != NO_FILTERS:
            reasons = [self.filters.reason(pair, ids) for ids, pair in short]
        weights = [float(pair[2]) for _, pair in short] if pairs and len(pairs[0]) > 2 else []
        if weights:
            reasons = [why if weight else why or NO_WEIGHT for why, weight in zip(reasons, weights, strict=True)]
            weights = [weight for why, weight in zip(reasons, weights, strict=True) if why is None]
        kept = [unit for unit, reason in zip(short, reasons, strict=True) if reason is None]
        report = CorpusReport(
            pairs_read=len(pairs),
            kept=len(kept),
            dropped_empty=len(clean) - len(full),
            dropped_nul=len(pairs) - len(clean),
            dropped_too_long=len(full) - len(short),
            max_length=self.max_length,
            filtered=dict(Counter(reason for reason in reasons if reason is not None)),
        )
        laid = [self._lay(each, [ids[side] for ids, _ in kept]) for side, each in enumerate(tokenizers)]
        if self.keep_text:
            others = range(3, len(pairs[0]) if pairs else 3)
            laid += [_lay_text([pair[place] for _, pair in kept]) for place in (0, 1, *others)]
        return EncodedBlock(report, tuple(laid), np.array(weights, np.float32).tobytes())

    def _lay(self, tokenizer: Tokenizer, sequences: Sequence[Sequence[int]]) -> EncodedSide:
        """Close each sequence by EOS and lay their records one behind the other."""
        code = token_dtype(tokenizer).char
        records = b"".join([record_of(array(code, [*sequence, EOS_ID]).tobytes()) for sequence in sequences])
        lengths = np.array([len(sequence) + 1 for sequence in sequences], dtype=length_dtype(self.max_length))
        return EncodedSide(lengths.tobytes(), records, int(lengths.sum(dtype=np.int64)))


TEXT_DTYPES = np.dtype(np.uint8), np.dtype(np.uint32)
"""Of text that is kept: of its bytes, and of their number in a line."""


def _lay_text(lines: Sequence[str]) -> EncodedSide:
    contents = [line.encode("utf-8") for line in lines]
    lengths = np.array([len(content) for content in contents], dtype=TEXT_DTYPES[1])
    return EncodedSide(lengths.tobytes(), b"".join(map(record_of, contents)), int(lengths.sum(dtype=np.int64)))


def token_dtype(tokenizer: Tokenizer) -> np.dtype:
    """The narrowest type that holds the ids of a tokenizer: uint16 or int32."""
    return np.dtype(np.uint16 if len(tokenizer.vocabulary) <= 1 + _WIDEST_NARROW else np.int32)


def length_dtype(max_length: int) -> np.dtype:
    """The narrowest type that holds the length of a sequence and its EOS: uint16 or int32."""
    return np.dtype(np.uint16 if max_length < _WIDEST_NARROW else np.int32)


_PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from nmt.data.encoding import serve
filters, keep_text = json.loads(sys.argv[5])
how = {"filters": filters, "keep_text": keep_text, "imports": sys.argv[6:]}
serve(sys.argv[2], max_length=int(sys.argv[3]), connection=int(sys.argv[4]), **how)
"""


class EncodingProcess:
    """A running process that encodes; to be used by one thread at a time.

    Python's own `multiprocessing` would run the main module again in it, which many scripts do not expect.

    Args:
        tokenizers: directory in which `TextPair.save` has put the tokenizers.
        max_length: tokens per side, EOS not counted; longer pairs are dropped.
        filters: what else is dropped.
        keep_text: whether the text is kept beside the ids.
        imports: the files that hold the tokenizers' classes, if these are not ours.

    Raises:
        OSError: the system starts no process.
    """

    def __init__(
        self,
        tokenizers: Path,
        *,
        max_length: int,
        filters: PairFilters = NO_FILTERS,
        keep_text: bool = False,
        imports: Sequence[str] = (),
    ) -> None:
        path = json.dumps([os.path.abspath(entry) for entry in sys.path])
        # Many processes share the cores, so none shall start threads of its own.
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        # Ctrl-C reaches all of a terminal, and this process says what becomes of those that it started.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        self._connection, theirs = Pipe()
        numbers = (str(max_length), str(theirs.fileno()), json.dumps([filters, keep_text]))
        words = (path, os.fspath(tokenizers), *numbers, *imports)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, *words],
                stdin=subprocess.DEVNULL,
                stdout=2,  # what a library prints is no output of this program
                pass_fds=[theirs.fileno()],
                env=environment,
            )
        finally:
            theirs.close()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def encode(self, texts: tuple[bytes, ...]) -> EncodedBlock:
        """Encode the texts of a `TextBlock`.

        Raises:
            DataError: the process has ended, or could not encode.
        """
        try:
            with suppress(ConnectionError):  # it may have said why it ended
                self._connection.send(texts)
            answer = self._connection.recv()
        except (OSError, EOFError):
            answer = None
        if isinstance(answer, EncodedBlock):
            return answer
        if answer is None:
            code = self._process.wait()
            fate = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            hint = ", as the system does when memory runs out: lower --threads" if code == -signal.SIGKILL else ""
            raise DataError(f"a process that encoded the corpus ended before its work was done: {fate}{hint}")
        raise DataError(f"a process that encoded the corpus failed:\n{answer.rstrip()}")

    def stop(self) -> None:
        """End the process at once and wait for its end. May be called again."""
        self._process.kill()
        self._process.wait()


def serve(
    tokenizers: str,
    *,
    max_length: int,
    connection: int,
    filters: Sequence[Any],
    keep_text: bool = False,
    imports: Sequence[str] = (),
) -> None:
    """Encode what comes through a connection until it ends: the life of an encoding process."""
    with Connection(connection) as parent:
        try:
            session.import_files(imports)
            encoder = BlockEncoder(TextPair.load(tokenizers), max_length, PairFilters(*filters), keep_text)
            while True:
                sides = (text.decode("utf-8").split("\n")[:-1] for text in parent.recv())
                parent.send(encoder.encode(list(zip(*sides, strict=True))))
        except (EOFError, ConnectionError):  # nobody is left to ask or to take the answer
            os._exit(1)
        except Exception:
            parent.send(traceback.format_exc().encode("utf-8", "replace").decode("utf-8"))


_BYTES_A_PROCESS = 4 * 2**20
"""Each process must have so much text to encode, about a second's work, or it is not worth its start."""

_COMPRESSION_RATIO = 3
_MOST_PROCESSES = 8
"""As many as this process can read and hash text for (measured with SentencePiece); more would wait for it."""


def processes_for(paths: Sequence[str], *, at_most: int | None = None) -> int:
    """How many processes to encode the text of some files with; 1 means this one, without another.

    Args:
        paths: the files of both sides.
        at_most: upper bound; the cores there are (at most 8) unless given.
    """
    size = 0
    for path in paths:
        with open(path, "rb") as file:
            size += os.path.getsize(path) * (_COMPRESSION_RATIO if compression(file.read(10)) else 1)
    return max(1, min(at_most or min(machine.available_processors(), _MOST_PROCESSES), size // _BYTES_A_PROCESS))


def encode_blocks(
    blocks: Iterator[TextBlock], encoder: BlockEncoder, *, processes: int, folder: Path | None = None
) -> Generator[EncodedBlock, None, None]:
    """Encode blocks, in order: one thread per process hands it a block and waits for the answer.

    A generator: close it, and the processes are gone. Tokenizers of a kind that no directory can hold are used here.

    Args:
        blocks: the text; read by the caller's thread, so an error in it comes from here as it is.
        encoder: what encodes.
        processes: how many processes; with 1, this one.
        folder: where the tokenizers lie for the processes meanwhile; the system's place for such files unless given.

    Raises:
        DataError: a process ended before its work was done.
    """
    imports = encoder.text.imports
    if processes <= 1 or imports is None or not sys.executable:
        for block in blocks:
            yield encoder.encode(block.pairs)
        return
    with ExitStack() as stack:
        tokenizers = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nmt-tokenizers-", dir=folder)))
        encoder.text.save(tokenizers)
        threads = ThreadPoolExecutor(processes, thread_name_prefix="encode")
        stack.callback(threads.shutdown, cancel_futures=True)
        idle: queue.SimpleQueue[EncodingProcess] = queue.SimpleQueue()
        for _ in range(processes):
            process = EncodingProcess(
                tokenizers,
                max_length=encoder.max_length,
                filters=encoder.filters,
                keep_text=encoder.keep_text,
                imports=imports,
            )
            stack.callback(process.stop)  # before the threads are waited for, who would wait for the process
            idle.put(process)

        def encode(block: TextBlock) -> EncodedBlock:
            process = idle.get()
            try:
                return process.encode(block.texts)
            finally:
                idle.put(process)

        pending: deque[Future[EncodedBlock]] = deque()
        for block in blocks:
            pending.append(threads.submit(encode, block))
            if len(pending) > 2 * processes:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
