"""Peak memory of a training step beside what `nmt train` expects, by batch size and vocabulary size.

    MULTI30K=/path/to/corpus python benchmarks/memory.py configs/multi30k_de_en_transformer.yaml

One process a cell, so that memory is its own. Batches are random token ids in pairs of `--length` tokens; the peak is
that of the whole process, TensorFlow and Keras included. The status is 1 where more was needed than expected, or the
estimate is more than a quarter above.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from smoke import CONFIG, TINY, add_smoke, say

if TYPE_CHECKING:
    from nmt.config import Config
    from nmt.models.contract import Seq2Seq

MEBIBYTE = 2**20
UPDATES = 3
MOST_ABOVE = 1.25
"""Expected to peak; less than 1 is a training that is killed, more refuses those that would fit."""

PROCESS = Path("/proc/self/status")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default=CONFIG, help="as for nmt train; its data is not read")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--batch-tokens", type=int, nargs="+", default=[1024, 2048, 4096, 8192, 16384])
    parser.add_argument("--vocabulary-size", type=int, nargs="+", default=[8000, 32000], help="V of both sides")
    parser.add_argument("--length", type=int, default=32, help="tokens of each source and target")
    add_smoke(parser)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.overrides, arguments.batch_tokens, arguments.vocabulary_size = TINY, [256], [300]
    return arguments


def main() -> None:
    """Measure every cell in a process of its own and print a table."""
    arguments = parse()
    if arguments.one:
        measure(arguments)
        return
    print("| V | batch tokens | pairs x tokens | before the model | peak | expected | expected / peak |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    ratios = []
    for size in arguments.vocabulary_size:
        for tokens in arguments.batch_tokens:
            say(f"{size:,} tokens in the vocabulary, batches of {tokens:,}")
            row = in_a_process(arguments, size, tokens)
            print(
                f"| {size:,} | {tokens:,} | {row['sentences']} x {arguments.length} | {row['before']:,.0f} MiB "
                f"| {row['peak']:,.0f} MiB | {row['need']:,.0f} MiB | {row['need'] / row['peak']:.2f} |",
                flush=True,
            )
            ratios.append(row["need"] / row["peak"])
    if not arguments.smoke and not all(1.0 <= ratio <= MOST_ABOVE for ratio in ratios):
        raise SystemExit(f"expected / peak must be 1 to {MOST_ABOVE}: calibrate nmt/training/batch_size.py anew")


def in_a_process(arguments: argparse.Namespace, vocabulary_size: int, batch_tokens: int) -> dict[str, float]:
    """Measure one cell in a fresh process."""
    overrides = [f"--set={each}" for each in arguments.overrides]
    sizes = ["--vocabulary-size", vocabulary_size, "--batch-tokens", batch_tokens, "--length", arguments.length]
    command = [sys.executable, __file__, arguments.config, "--one", *overrides, *(str(each) for each in sizes)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(arguments: argparse.Namespace) -> None:
    """Build a model, make some updates, and print what memory that took as one line of JSON."""
    from nmt.config import load
    from nmt.recipes.train import batch_parts, start_session

    (size,), (batch_tokens,) = arguments.vocabulary_size, arguments.batch_tokens
    config = load([arguments.config], [*arguments.overrides, f"training.batch_tokens={batch_tokens}"])
    start_session(config)
    import numpy as np

    from nmt.backend.products import settle_precision
    from nmt.data import Batch
    from nmt.models.contract import Vocabularies, build_model
    from nmt.recipes.training_run import assemble_updater

    training = config.training
    config = config.with_training(precision=settle_precision(training.precision, compile=training.compile))
    parts = batch_parts(config, batch_tokens)
    before = memory("VmRSS")
    model = build_model(Vocabularies(size, size, shared=True), seed=config.seed, **config.model.model_dump())
    updater = assemble_updater(config, model, parts=parts)
    shape = (batch_tokens // arguments.length, arguments.length)
    generator = np.random.default_rng(1)
    for _ in range(UPDATES):
        batch = Batch(*(generator.integers(4, size, shape).astype("int32") for _ in range(3)))
        updater.update([batch], 1e-4)
    need = expected(config, model, shape, parts=parts)
    print(json.dumps({"sentences": shape[0], "before": before, "peak": memory("VmHWM"), "need": need}))


def expected(config: Config, model: Seq2Seq, shape: tuple[int, int], *, parts: int) -> float:
    """Return what a step was expected to need at most, in MiB, with so many pairs of so many tokens on both sides."""
    from nmt.backend.machine import RamLimit
    from nmt.training.batch_size import TrainingRam

    pairs, length = shape
    sizes = {"pairs": pairs, "source_length": length, "target_length": length}
    ram = TrainingRam(config, model, RamLimit(), **sizes, alone=True)
    return ram.needed(config.training.settled_batch_tokens, parts) / MEBIBYTE


def memory(name: str) -> float:
    """Return a figure of this process in MiB: `VmRSS` is what it holds in memory, `VmHWM` the most it ever held.

    `ru_maxrss` would begin with the peak of the process that started this one, so it stands in only where there is no
    `/proc`, for both.
    """
    if not PROCESS.exists():
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MEBIBYTE
    line = next(line for line in PROCESS.read_text(encoding="ascii").splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024 / MEBIBYTE


if __name__ == "__main__":
    main()
