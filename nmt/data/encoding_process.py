"""A process that encodes blocks of text, and the end of it that lies in ours.

A program of its own, not a fork: threads of TensorFlow may run here, and a fork would copy their locks but not the
threads. It imports neither TensorFlow nor the user's main module, and talks through its standard input and output. It
ends when its input ends, so it never outlives the process that started it, however that ends.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from nmt.data.encoding import BlockEncoder, EncodedBlock, EncodedSide
from nmt.errors import DataError
from nmt.text.pair import TextPair

_PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from nmt.data.encoding_process import serve
serve(sys.argv[2], max_length=int(sys.argv[3]))
"""
_COUNT, _SIZE = struct.Struct("<I"), struct.Struct("<Q")
_NUMBERS = struct.Struct("<6Q")
_SECONDS_TO_END = 5.0


class EncodingProcess:
    """A running process that encodes; to be used by one thread at a time.

    Args:
        tokenizers: directory in which `TextPair.save` has put the tokenizers.
        max_length: tokens a side, EOS not counted; longer pairs are dropped.

    Raises:
        OSError: the system starts no process.
    """

    def __init__(self, tokenizers: Path, *, max_length: int) -> None:
        path = json.dumps([os.path.abspath(entry) for entry in sys.path])
        # Many processes share the cores, so none shall start threads of its own.
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        with _interrupts_blocked():
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, path, os.fspath(tokenizers), str(max_length)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
            )

    @property
    def id(self) -> int:
        """What the system calls the process."""
        return self._process.pid

    def encode(self, source_text: bytes, target_text: bytes) -> EncodedBlock:
        r"""Encode the lines of two texts in UTF-8, each line closed by `\n`.

        Raises:
            DataError: the process has ended, or could not encode.
        """
        try:
            with suppress(BrokenPipeError):  # it may have said why it ended
                _write_frame(_pipe(self._process.stdin), [source_text, target_text])
            parts = _read_frame(_pipe(self._process.stdout))
        except (OSError, ValueError):  # it was ended by `stop`, which closes the pipes
            parts = None
        if parts is None:
            raise DataError(f"a process that encoded the corpus ended before its work was done: {self._fate()}")
        if len(parts) == 1:
            raise DataError(
                f"a process that encoded the corpus failed:\n{parts[0].decode('utf-8', 'replace').rstrip()}"
            )
        return _unpack(parts)

    def stop(self) -> None:
        """End the process at once and wait for its end. May be called again."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                _pipe(pipe).close()
            except OSError:  # what was still to be written has no reader
                continue

    def _fate(self) -> str:
        try:
            code = self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            return "it does not answer"
        if code >= 0:
            return f"exit code {code}"
        name = signal.Signals(-code).name
        hint = ", as the system does where memory runs out: lower --threads" if code == -signal.SIGKILL else ""
        return f"killed by {name}{hint}"


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Start a process that Ctrl-C does not end: it reaches all of a terminal, and this one says what becomes of it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def serve(tokenizers: str, *, max_length: int) -> None:
    """Encode what comes through standard input until it ends: the life of an encoding process."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not come between the answers
    try:
        encoder = BlockEncoder(TextPair.load(tokenizers), max_length)
        while (request := _read_frame(requests)) is not None:
            source_lines, target_lines = (part.decode("utf-8").split("\n")[:-1] for part in request)
            _write_frame(answers, _pack(encoder.encode(source_lines, target_lines)))
    except BrokenPipeError:  # nobody is left to take the answer
        os._exit(1)
    except Exception:
        _write_frame(answers, [traceback.format_exc().encode("utf-8", "replace")])


def _pack(block: EncodedBlock) -> list[bytes]:
    numbers = [*block[:4], block.source.tokens, block.target.tokens]
    return [_NUMBERS.pack(*numbers), *block.source[:2], *block.target[:2]]


def _unpack(parts: Sequence[bytes]) -> EncodedBlock:
    kept, empty, nul, too_long, source_tokens, target_tokens = _NUMBERS.unpack(parts[0])
    source = EncodedSide(parts[1], parts[2], source_tokens)
    target = EncodedSide(parts[3], parts[4], target_tokens)
    return EncodedBlock(kept, empty, nul, too_long, source, target)


def _write_frame(file: IO[bytes], parts: Sequence[bytes]) -> None:
    file.write(_COUNT.pack(len(parts)) + b"".join(_SIZE.pack(len(part)) for part in parts))
    for part in parts:
        file.write(part)
    file.flush()


def _read_frame(file: IO[bytes]) -> list[bytes] | None:
    """The parts of a frame; None where the file ends before or within it."""
    head = file.read(_COUNT.size)
    if len(head) < _COUNT.size:
        return None
    (count,) = _COUNT.unpack(head)
    sizes = file.read(count * _SIZE.size)
    if len(sizes) < count * _SIZE.size:
        return None
    parts = [file.read(size) for (size,) in _SIZE.iter_unpack(sizes)]
    return (
        parts if all(len(part) == size for part, (size,) in zip(parts, _SIZE.iter_unpack(sizes), strict=True)) else None
    )


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise ValueError("the process was started without this pipe")
    return pipe
