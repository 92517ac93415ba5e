"""How a mixture of many corpora scales: its start, its memory, and the batches that it gives.

    python benchmarks/mixtures.py [--corpora 20] [--pairs 10000000] [--batches 20000] [DIRECTORY]

The corpora are made pairs, encoded already; the sizes of the corpora differ by a factor of 20. No model is trained.
"""

import argparse
import json
import resource
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
from smoke import add_smoke, say

from nmt.data.sequences import record_of
from nmt.data.store import _open_folder
from nmt.streams import MixedCorpus, MixtureCursor, MixtureStream, Stage

BLOCK = 50_000
"""Pairs that are made; a corpus holds them again and again."""

BATCH_TOKENS = 4096


def write_store(folder: Path, pairs: int) -> None:
    """Write a store of sentences of 3 to 60 tokens, as `open_store` would have."""
    generator, sides = np.random.default_rng(1), {}
    folder.mkdir(parents=True)
    lengths = np.clip(generator.gamma(4.0, 6.0, BLOCK), 3, 60).astype(np.uint16)
    for side in ("source", "target"):
        ids = generator.integers(4, 8000, int(lengths.sum()), dtype=np.uint16)
        records = b"".join(record_of(part.tobytes()) for part in np.split(ids, np.cumsum(lengths)[:-1]))
        repeats, rest = divmod(pairs, BLOCK)
        part = int(lengths[:rest].sum()) * 2 + rest * 4
        with (folder / f"{side}.records").open("wb") as file:
            for _ in range(repeats):
                file.write(records)
            file.write(records[:part])
        content = np.concatenate([*[lengths] * repeats, lengths[:rest]]).tobytes()
        (folder / f"{side}.lengths").write_bytes(content)
        described = {"token_dtype": "<u2", "length_dtype": "<u2", "lengths_crc32": zlib.crc32(content)}
        sides[side] = described | {"pairs": pairs, "tokens": 0}
    names = ("pairs_read", "kept", "dropped_empty", "dropped_nul", "dropped_too_long", "max_length")
    report = dict(zip(names, (pairs, pairs, 0, 0, 0, 100), strict=True))
    manifest = {"sides": sides, "report": report, "content_hash": folder.name, "settings": {}}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def peak() -> float:
    """Megabytes of memory that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Make the corpora and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?", type=Path)
    parser.add_argument("--corpora", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=10_000_000)
    parser.add_argument("--batches", type=int, default=20_000)
    add_smoke(parser)
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.corpora, arguments.pairs, arguments.batches = 3, 6000, 100
    with tempfile.TemporaryDirectory(dir=arguments.directory) as place:
        shares = np.linspace(1, 20, arguments.corpora)
        sizes = (shares / shares.sum() * arguments.pairs).astype(int).tolist()
        say("writing the stores")
        for number, size in enumerate(sizes):
            write_store(Path(place) / f"c{number}", size)
        say("drawing batches")
        measure(Path(place), sizes, arguments.batches)


def measure(place: Path, sizes: list[int], batches: int) -> None:
    """Open the stores, draw batches, and go back to a place as a run that goes on does."""
    before, started = peak(), time.perf_counter()
    corpora = [MixedCorpus(f"c{number}", _open_folder(place / f"c{number}")) for number in range(len(sizes))]
    print(f"{len(sizes)} corpora, {sum(sizes):,} pairs; opened in {time.perf_counter() - started:.2f} s")
    stages = [
        Stage("1", tuple(size ** (1 / 5) for size in sizes), updates=batches // 2),
        Stage("2", tuple(float(size) for size in sizes)),
    ]
    started = time.perf_counter()
    stream = MixtureStream(corpora, stages, batch_tokens=BATCH_TOKENS, seed=1)
    next(stream)
    print(f"first batch: {time.perf_counter() - started:.2f} s (a round of 2^20 pairs is planned)")
    started, pairs, slowest, begun = time.process_time(), 0, 0.0, time.process_time()
    for _ in range(batches):
        pairs += len(next(stream).source_ids)
        slowest, begun = max(slowest, time.process_time() - begun), time.process_time()
    seconds = time.process_time() - started
    print(f"per second of one core: {batches / seconds:,.0f} batches, {pairs / seconds:,.0f} pairs")
    print(f"the slowest batch took {slowest:.2f} s of it: there a round was planned")
    cursor = stream.cursor
    wanted = next(stream)
    print(f"cursor: {json.dumps(cursor._asdict())}")
    started = time.perf_counter()
    again = MixtureStream(corpora, stages, batch_tokens=BATCH_TOKENS, seed=1)
    again.seek(MixtureCursor(*cursor))
    same = all(np.array_equal(*sides) for sides in zip(next(again), wanted, strict=True))
    print(f"gone on from there in {time.perf_counter() - started:.2f} s, the same batch: {same}")
    print(f"memory: {peak():,.0f} MB at most, of which {before:,.0f} MB before the corpora were opened")


if __name__ == "__main__":
    main()
