"""What weight tying saves: parameters, bytes on disk, state of the optimizer, peak memory and time of an update.

    python benchmarks/tying.py configs/multi30k_de_en_transformer.yaml --vocabulary-size 8000 32000

One process a model, so that memory is its own. Batches are random token ids of the config's `batch_tokens`. All is
float32, whatever the config says, so that the figures do not depend on what the processor has.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from memory import memory
from smoke import CONFIG, TINY, add_smoke, say

TIES = ("none", "source_target", "target_output", "all")
MEBIBYTE = 2**20
UPDATES = 5


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default=CONFIG, help="as for nmt train; its data is not read")
    parser.add_argument("--vocabulary-size", type=int, nargs="+", default=[8000], help="V of both sides")
    add_smoke(parser)
    parser.add_argument("--one", nargs=2, metavar=("TIES", "V"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure every setting in a process of its own and print a table."""
    arguments = parse()
    if arguments.one:
        measure(arguments, arguments.one[0], int(arguments.one[1]))
        return
    print("| V | tie_embeddings | parameters | weights | Adam's state | checkpoint | peak memory | update |")
    print("|--:|---|--:|--:|--:|--:|--:|--:|")
    for size in [300] if arguments.smoke else arguments.vocabulary_size:
        for ties in TIES[-1:] if arguments.smoke else TIES:
            say(f"{size:,} tokens, tie_embeddings {ties}")
            command = [sys.executable, __file__, arguments.config, *["--smoke"][: arguments.smoke]]
            command += ["--one", ties, str(size)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            row = json.loads(done.stdout.splitlines()[-1])
            print(
                f"| {size:,} | `{ties}` | {row['parameters']:,} | {row['weights']:.1f} MiB | {row['slots']:.1f} MiB "
                f"| {row['checkpoint']:.1f} MiB | {row['peak']:.0f} MiB | {row['seconds']:.2f} s |",
                flush=True,
            )


def measure(arguments: argparse.Namespace, ties: str, vocabulary_size: int) -> None:
    """Build a model, make some updates, save it, and print what that took as one line of JSON."""
    from nmt.backend import session

    session.start()
    from nmt.checkpoint.manager import CheckpointManager
    from nmt.config import load
    from nmt.data import Batch
    from nmt.models.contract import Vocabularies, build_model
    from nmt.recipes.training_run import assemble_updater
    from nmt.tying import verify_ties

    smoke = TINY if arguments.smoke else []
    config = load([arguments.config], [*smoke, f"model.tie_embeddings={ties}", "training.precision=float32"])
    vocabularies = Vocabularies(vocabulary_size, vocabulary_size, shared=True)
    model = build_model(vocabularies, seed=config.seed, **config.model.model_dump())
    updater = assemble_updater(config, model)
    length = 25
    generator = np.random.default_rng(1)
    shape = (config.training.batch_tokens // length, length)
    batch = Batch(*(generator.integers(4, vocabulary_size, shape).astype("int32") for _ in range(3)))
    updater.update([batch], 1e-4)
    seconds = []
    for _ in range(1 if arguments.smoke else UPDATES):
        started = time.perf_counter()
        updater.update([batch], 1e-4)
        seconds.append(time.perf_counter() - started)
    verify_ties(model, model.declared_ties(), updater.optimizer)
    peak = memory("VmHWM")
    with tempfile.TemporaryDirectory() as directory, CheckpointManager(directory) as manager:
        path = manager.save(1, model=model, optimizer=updater.optimizer)
        sizes = {file.name: file.stat().st_size for file in Path(path).iterdir()}
    print(
        json.dumps(
            {
                "parameters": model.count_params(),
                "weights": sizes["model.safetensors"] / MEBIBYTE,
                "slots": sizes["optimizer.safetensors"] / MEBIBYTE,
                "checkpoint": sum(sizes.values()) / MEBIBYTE,
                "peak": peak,
                "seconds": median(seconds),
            }
        )
    )


if __name__ == "__main__":
    main()
