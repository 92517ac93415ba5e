"""Training corpora larger than memory: how fast they are encoded, how soon a run starts, what limit it stays within.

    python benchmarks/corpus_size.py encoding --pairs 300000
    python benchmarks/corpus_size.py start --pairs 10000000
    python benchmarks/corpus_size.py epoch --pairs 10000000 --limit-megabytes 450
    python benchmarks/corpus_size.py training --pairs 10000000 --limit-megabytes 3000 --updates 20

`encoding` writes synthetic text, learns SentencePiece pieces from it, and encodes it with one process and with two, in
turn; the stores are compared byte for byte. The others lay down a store of random tokens as encoding would have left it
(its text files are only looked at, at their size and time) and use it in a process of its own: `start` opens it and
draws the first batch, `epoch` draws all batches of an epoch under `ulimit -v` without TensorFlow, `training` makes
updates of a small Transformer under `ulimit -v` with it. Files go to a temporary directory and are deleted.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from smoke import add_smoke, say

from nmt.data import Corpus, TokenStore, open_store
from nmt.data import store as stores
from nmt.data.corpus import CorpusReport
from nmt.data.encoding import NO_FILTERS, EncodedSide, length_dtype, token_dtype
from nmt.data.sequences import record_of
from nmt.streams import BatchStream, Cursor
from nmt.text import SentencePieceTokenizer, TextPair, WhitespaceTokenizer

VOCABULARY_SIZE = 8000
MAX_LENGTH = 200
BATCH_TOKENS = 4096
SETTINGS: dict[str, Any] = {
    "hidden_size": 64,
    "ffn_size": 128,
    "num_heads": 2,
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
    "dropout": 0.1,
    "attention_dropout": 0.0,
    "ffn_dropout": 0.0,
    "norm": "pre",
    "tie_embeddings": "all",
}
"""A model that is small beside the corpus."""

FRUGAL = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
"""Less address space is reserved that is never used: by NumPy for its threads, by the C library for each thread."""

_REPEATED_PAIRS = 100_000

_SMOKE_PAIRS, _SMOKE_SIZE = 4000, 200


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measure", choices=["encoding", "start", "epoch", "training"])
    parser.add_argument(
        "--pairs", type=int, default=300_000, help=f"a multiple of {_REPEATED_PAIRS:,}, except for encoding"
    )
    parser.add_argument("--mean-tokens", type=int, default=25, help="tokens of a sentence of the synthetic store")
    parser.add_argument("--limit-megabytes", type=int, default=None, help="address space, as of ulimit -v")
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", default=None, help="where to write; a temporary directory unless given")
    add_smoke(parser)
    parser.add_argument("--inside", default=None, help=argparse.SUPPRESS)  # the folder, in the process that is limited
    arguments = parser.parse_args()
    arguments.repeated, arguments.vocabulary_size = _REPEATED_PAIRS, VOCABULARY_SIZE
    if arguments.smoke:
        arguments.pairs, arguments.repeated, arguments.vocabulary_size = _SMOKE_PAIRS, _SMOKE_PAIRS // 2, _SMOKE_SIZE
        arguments.rounds, arguments.updates = 1, 2
    elif arguments.measure != "encoding" and (arguments.pairs < _REPEATED_PAIRS or arguments.pairs % _REPEATED_PAIRS):
        parser.error(
            f"--pairs must be a multiple of {_REPEATED_PAIRS:,} for {arguments.measure}, whose store repeats so many "
            f"pairs, got {arguments.pairs:,}"
        )
    return arguments


def main() -> None:
    """Measure and print."""
    arguments = parse()
    if arguments.inside is not None:
        {"start": start, "epoch": epoch, "training": training}[arguments.measure](arguments)
        return
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        if arguments.measure == "encoding":
            encoding(Path(directory), arguments)
            return
        say("writing the store")
        size = write_store(Path(directory), arguments)
        limit = arguments.limit_megabytes
        ratio = "" if limit is None else f", {size / limit / 2**20:.1f} times the limit of {limit:,} MiB"
        print(f"store of {arguments.pairs:,} pairs: {size / 2**20:,.0f} MiB{ratio}", flush=True)
        command = [sys.executable, __file__, *sys.argv[1:], "--inside", directory]
        environment = {**os.environ, **FRUGAL, "TF_CPP_MIN_LOG_LEVEL": "3"}
        sys.exit(subprocess.run(command, env=environment, check=False).returncode)


def encoding(directory: Path, arguments: argparse.Namespace) -> None:
    """Encode the same text with one process and with two."""
    pairs = arguments.pairs
    say("writing text")
    generator = random.Random(1)
    syllables = [first + last for first in "bdfgklmnprst" for last in ("a", "e", "i", "o", "u", "an", "er", "il")]
    words = ["".join(generator.choices(syllables, k=generator.randrange(1, 5))) for _ in range(30_000)]
    common = list(accumulate(1.0 / rank for rank in range(1, len(words) + 1)))
    paths = directory / "text.source", directory / "text.target"
    for path in paths:
        with path.open("w") as file:
            for _ in range(pairs):
                file.write(" ".join(generator.choices(words, cum_weights=common, k=generator.randrange(5, 25))) + "\n")
    say("learning pieces")
    sample = [path.read_text().split("\n")[:4000] for path in paths]
    text = TextPair.learn(
        SentencePieceTokenizer,
        *sample,
        model_type="unigram",
        joint=True,
        vocabulary_size=arguments.vocabulary_size,
        character_coverage=1.0,
        seed=1,
    )
    size = sum(path.stat().st_size for path in paths)
    print(f"{pairs:,} pairs, {size / 1e6:,.0f} MB of text, load {os.getloadavg()[0]:.1f}")
    for number in range(1, arguments.rounds + 1):
        seconds, work, found = {}, {}, {}
        for processes in (1, 2):
            say(f"round {number}, {processes} processes")
            started, worked = time.perf_counter(), processor_seconds()
            place = directory / f"{number}.{processes}"
            store = open_store(place, *paths, text=text, max_length=MAX_LENGTH, processes=processes)
            seconds[processes] = time.perf_counter() - started
            work[processes] = processor_seconds() - worked
            found[processes] = {path.name: path.read_bytes() for path in store.path.iterdir()}
        print(
            f"one process {seconds[1]:.2f} s ({pairs / seconds[1]:,.0f} pairs/s), "
            f"two {seconds[2]:.2f} s ({pairs / seconds[2]:,.0f} pairs/s): {seconds[1] / seconds[2]:.2f} times as fast, "
            f"{'equal' if found[1] == found[2] else 'DIFFERENT'} files; processor time {work[1][0]:.2f} s, and "
            f"{work[2][0]:.2f} s here + {work[2][1]:.2f} s in the two; load {os.getloadavg()[0]:.1f}",
            flush=True,
        )


def processor_seconds() -> np.ndarray:
    """Return the processor time so far of this process, and of those it started that have ended, (2,) seconds."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return np.array([times.ru_utime + times.ru_stime for times in usage])


def start(arguments: argparse.Namespace) -> None:
    """Do what a second start does with the corpus, and say how long each part takes."""
    clock = Clock()
    limit_memory(arguments.limit_megabytes)
    store = open_synthetic(Path(arguments.inside))
    clock.lap("finding and opening the store")
    stream = BatchStream(store, batch_tokens=BATCH_TOKENS, seed=1)
    batches = stream.batches_in_epoch(0)
    clock.lap(f"planning an epoch of {batches:,} batches")
    next(stream)
    clock.lap("the first batch")
    clock.total()
    stream.seek(Cursor(3, 5))
    clock.lap("going to a cursor in another epoch")
    print(memory())


def epoch(arguments: argparse.Namespace) -> None:
    """Draw every batch of an epoch under the limit; each pair must come once."""
    limit_memory(arguments.limit_megabytes)
    store = open_synthetic(Path(arguments.inside))
    clock = Clock()
    stream = BatchStream(store, batch_tokens=BATCH_TOKENS, seed=1)
    pairs = tokens = 0
    say("drawing an epoch")
    for _ in range(stream.batches_in_epoch(0)):
        batch = next(stream)
        pairs += len(batch.source_ids)
        tokens += int(np.count_nonzero(batch.source_ids)) + int(np.count_nonzero(batch.target_output_ids))
    wanted = int(store.source_lengths.sum(dtype=np.int64) + store.target_lengths.sum(dtype=np.int64))
    clock.lap(f"{stream.batches_in_epoch(0):,} batches, {pairs:,} pairs, {tokens:,} tokens")
    print("every pair once" if (pairs, tokens) == (len(store), wanted) else "WRONG COUNT")
    print(memory())


def training(arguments: argparse.Namespace) -> None:
    """Make some updates of a small Transformer under the limit."""
    limit_memory(arguments.limit_megabytes)
    from nmt.backend import session

    say("starting TensorFlow")
    session.start()
    from nmt.architectures import TransformerArchitecture
    from nmt.models.contract import Vocabularies
    from nmt.models.transformer import Transformer
    from nmt.training.optimization import build_adam
    from nmt.training.update import Updater

    clock = Clock()
    store = open_synthetic(Path(arguments.inside))
    size = arguments.vocabulary_size
    model = Transformer(Vocabularies(size, size, shared=True), TransformerArchitecture(**SETTINGS), seed=1)
    optimizer = build_adam(learning_rate=1e-3, beta_1=0.9, beta_2=0.98, epsilon=1e-9)
    updater = Updater(model, optimizer, label_smoothing=0.1, clip_norm=1.0)
    with BatchStream(store, batch_tokens=1024, seed=1) as batches:
        for number in range(1, arguments.updates + 1):
            say(f"update {number} of {arguments.updates}")
            result = updater.update([next(batches)], 1e-3)
    clock.lap(f"{arguments.updates} updates, the last: {result}")
    print(memory())


def write_store(directory: Path, arguments: argparse.Namespace) -> int:
    """Lay down a store of random tokens with lengths like those of sentences; returns its size in bytes."""
    pairs, mean_tokens = arguments.pairs, arguments.mean_tokens
    words = [f"w{number}" for number in range(arguments.vocabulary_size)]
    text = TextPair.learn(
        WhitespaceTokenizer, words, words, joint=True, vocabulary_size=arguments.vocabulary_size, minimum_count=1
    )
    text.save(directory / "text")
    for name in ("source", "target"):
        with (directory / name).open("wb") as file:
            file.truncate(5 * mean_tokens * pairs)
    corpus = Corpus(directory / "source", directory / "target")
    settings = stores._settings(corpus, text, MAX_LENGTH, NO_FILTERS, keep_text=False)
    folder = stores._place(directory / "store", settings)
    folder.mkdir(parents=True)
    generator = np.random.default_rng(1)
    sides = {}
    for side in ("source", "target"):
        block, repeats, checksum = _random_side(generator, arguments), pairs // arguments.repeated, 0
        with (folder / f"{side}.records").open("wb") as records, (folder / f"{side}.lengths").open("wb") as lengths:
            for _ in range(repeats):
                records.write(block.records)
                lengths.write(block.lengths)
                checksum = zlib.crc32(block.lengths, checksum)
        dtypes = {"token_dtype": token_dtype(text.source).str, "length_dtype": length_dtype(MAX_LENGTH).str}
        sides[side] = {"pairs": pairs, "tokens": repeats * block.tokens, **dtypes, "lengths_crc32": checksum}
    manifest = {
        "settings": settings,
        "sides": sides,
        "report": vars(CorpusReport(pairs, pairs, 0, 0, 0, MAX_LENGTH)),
        "content_hash": "",
    }
    (folder / stores.MANIFEST).write_text(json.dumps(manifest))
    return sum(path.stat().st_size for path in folder.iterdir())


def _random_side(generator: np.random.Generator, arguments: argparse.Namespace) -> EncodedSide:
    lengths = generator.lognormal(np.log(arguments.mean_tokens) - 0.125, 0.5, arguments.repeated).round()
    lengths = np.clip(lengths, 2, MAX_LENGTH).astype(np.uint16)
    ids = generator.integers(4, arguments.vocabulary_size, int(lengths.sum(dtype=np.int64))).astype(np.uint16)
    records = map(record_of, map(np.ndarray.tobytes, np.split(ids, np.cumsum(lengths[:-1], dtype=np.int64))))
    return EncodedSide(lengths.tobytes(), b"".join(records), len(ids))


def open_synthetic(directory: Path) -> TokenStore:
    """Open what `write_store` has laid down, as a training does."""
    text = TextPair.load(directory / "text")
    paths = directory / "source", directory / "target"
    return open_store(directory / "store", *paths, text=text, max_length=MAX_LENGTH)


def limit_memory(megabytes: int | None) -> None:
    """Refuse this process more address space from here on: `ulimit -v`."""
    if megabytes is not None:
        resource.setrlimit(resource.RLIMIT_AS, (megabytes * 2**20, megabytes * 2**20))


def memory() -> str:
    """Return what the system says of this process: the most address space it had, and its own memory, in MiB."""
    place = Path("/proc/self/status")
    if not place.exists():
        return "this system does not say how much memory a process holds"
    status = dict(line.split(":", 1) for line in place.read_text().splitlines())
    names = {"VmPeak": "address space, peak", "VmHWM": "resident, peak", "RssAnon": "anonymous, now"}
    return ", ".join(f"{text} {int(status[name].split()[0]) // 1024:,} MiB" for name, text in names.items())


class Clock:
    """Prints how long one thing after another took."""

    def __init__(self) -> None:
        self._started = self._last = time.perf_counter()

    def lap(self, what: str) -> None:
        """Print the seconds since the last call."""
        now = time.perf_counter()
        print(f"{now - self._last:8.3f} s  {what}", flush=True)
        self._last = now

    def total(self) -> None:
        """Print the seconds since the beginning."""
        print(f"{time.perf_counter() - self._started:8.3f} s  in all, after imports", flush=True)


if __name__ == "__main__":
    main()
