"""How long saving blocks training, and how long restoring takes, beside what this machine can do at best.

    python benchmarks/checkpoints.py
    python benchmarks/checkpoints.py --average

A Transformer of 60 million parameters with the two moments of Adam; with --average also a moving average. Each round
saves in the background, waits for the disk, and restores into other values, the files still in the page cache. Printed
beside the times: the bytes, a copy of as many bytes in memory, and their SHA-256 on one core.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from collections.abc import Callable

import numpy as np
from smoke import add_smoke, say

from nmt.backend import session

SETTINGS = {
    "hidden_size": 512,
    "ffn_size": 2048,
    "num_heads": 8,
    "num_encoder_layers": 6,
    "num_decoder_layers": 6,
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "ffn_dropout": 0.1,
    "norm": "pre",
    "tie_embeddings": "all",
}
"""The base model of Vaswani et al. (2017), three-way tied."""

VOCABULARY_SIZE = 31_000

SMOKE_SETTINGS = {
    **SETTINGS, "hidden_size": 16, "ffn_size": 24, "num_heads": 2, "num_encoder_layers": 1, "num_decoder_layers": 1,
}  # fmt: skip


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--average", action="store_true", help="keep a moving average too")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", default=None, help="where to write; a temporary directory unless given")
    parser.add_argument("--threads", type=int, default=None)
    add_smoke(parser)
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    arguments = parse()
    say("starting TensorFlow")
    session.start(threads=arguments.threads)
    from nmt.architectures import TransformerArchitecture
    from nmt.checkpoint.manager import CheckpointManager
    from nmt.checkpoint.weights import load_weights
    from nmt.models.contract import Vocabularies
    from nmt.models.transformer import Transformer
    from nmt.training.optimization import EmaWeights, build_adam

    settings, size = (SMOKE_SETTINGS, 50) if arguments.smoke else (SETTINGS, VOCABULARY_SIZE)
    model = Transformer(Vocabularies(size, size, shared=True), TransformerArchitecture(**settings), seed=1)
    optimizer = build_adam(learning_rate=1e-3, beta_1=0.9, beta_2=0.98, epsilon=1e-9)
    optimizer.build(model.trainable_variables)
    average = EmaWeights(model, 0.999).variables if arguments.average else None
    parameters = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    size = 4 * parameters * (4 if arguments.average else 3)
    print(f"{parameters:,} parameters, {size / 1e6:,.0f} MB")
    with (
        tempfile.TemporaryDirectory(dir=arguments.directory) as directory,
        CheckpointManager(directory, keep_last=1) as manager,
    ):
        manager.restore(model, optimizer, average)  # finds nothing, but takes the memory for saving, as a run does
        manager.wait()
        for update in range(1, 2 if arguments.smoke else arguments.rounds + 1):
            say(f"round {update}")
            saved = {"model": model, "optimizer": optimizer, "ema": average}
            blocked = timed(lambda: manager.save(update, **saved, background=True))  # noqa: B023
            written = timed(manager.wait)
            spoil(model, optimizer)
            restored = timed(lambda: manager.restore(model, optimizer, average))
            loaded = timed(lambda: load_weights(directory, model))
            print(
                f"saving blocks {blocked}, writing goes on for {written}; restoring {restored}, "
                f"weights alone {loaded}; {at_best(size, block=2**20 if arguments.smoke else 2**27)}"
            )


def spoil(model, optimizer) -> None:  # noqa: ANN001
    """Give every variable another value, so that what is restored is known to have arrived."""
    for variable in [*model.trainable_variables, *optimizer.variables]:
        variable.assign(variable * 0)


def timed(action: Callable[[], object]) -> str:
    """Run something; return its wall and its processor time."""
    wall, processor = time.perf_counter(), time.process_time()
    action()
    return f"{time.perf_counter() - wall:.3f} s (processor {time.process_time() - processor:.3f} s)"


def at_best(size: int, *, block: int) -> str:
    """Return how long a copy and a hash of so many bytes take, from those of a smaller block."""
    bytes_of_block = np.ones(block, np.uint8)
    copy, digest = (
        min(_seconds(action) for _ in range(3)) * size / block
        for action in (bytes_of_block.copy, lambda: hashlib.sha256(bytes_of_block))
    )
    return f"a copy of it {copy:.3f} s, its SHA-256 on one core {digest:.3f} s"


def _seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
