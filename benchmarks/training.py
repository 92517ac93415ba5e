"""Speed of the training step on real batches, as a share of the matrix peak measured in the same process.

    MULTI30K=/path/to/corpus python benchmarks/training.py configs/multi30k_de_en_transformer.yaml

Prints real target tokens a second, the padded share, GFLOP/s and the peak of this machine in the precision of the run.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from statistics import median

import numpy as np
from smoke import CONFIG, TINY, add_smoke, say


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="*", default=[CONFIG], help="config files, as for nmt train")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--updates", type=int, default=30, help="updates that are timed, in each of three rounds")
    parser.add_argument("--warm-up", type=int, default=3, help="updates before, in which oneDNN makes kernels")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--whole", action="store_true", help="do not cut batches into parts")
    add_smoke(parser)
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.overrides, arguments.updates, arguments.warm_up = [*TINY, *arguments.overrides], 2, 1
    return arguments


def main() -> None:
    """Measure and print."""
    arguments = parse()
    from nmt.backend import session
    from nmt.config import load
    from nmt.recipes.train import batch_parts, start_session

    say("starting TensorFlow")
    config = load(arguments.config, arguments.overrides)
    if arguments.whole:
        session.start(threads=arguments.threads)
    else:
        start_session(config, threads=arguments.threads)
    from flops import forward_flops
    from machine import matrix_peak

    from nmt.backend.products import settle_precision
    from nmt.data import open_store
    from nmt.data.sequences import segmentations_of
    from nmt.inference.translator import vocabularies_of
    from nmt.models.contract import build_model
    from nmt.recipes.build_vocabulary import build_text
    from nmt.recipes.training_run import assemble_schedule, assemble_updater
    from nmt.streams import BatchStream

    training = config.training
    config = config.with_training(precision=settle_precision(training.precision, compile=training.compile))
    parts = batch_parts(config, training.settled_batch_tokens)
    say("learning the vocabulary")
    text = build_text(config)
    model = build_model(vocabularies_of(text), seed=config.seed, **config.model.model_dump())
    updater, schedule = assemble_updater(config, model, parts=parts), assemble_schedule(config)
    flops = forward_flops(model)
    train = config.data.train
    with tempfile.TemporaryDirectory() as directory:
        say("encoding the corpus")
        store = open_store(directory, *train.paths, text=text, max_length=config.data.max_length)
        stream = BatchStream(
            store,
            batch_tokens=config.training.settled_batch_tokens,
            seed=config.seed,
            segmentations=segmentations_of(text, config.data.subword_sampling),
        )
        with stream as batches:
            say(f"warming up: {arguments.warm_up} updates")
            for update in range(1, arguments.warm_up + 1):
                updater.update([next(batches)], schedule.learning_rate(update))
            rounds = []
            for number in range(1, 2 if arguments.smoke else 4):
                say(f"round {number}: the peak of matrix products")
                peak = matrix_peak(config.training.precision, side_by_side=parts, smoke=arguments.smoke)
                say(f"round {number}: {arguments.updates} updates")
                rounds.append((measure(updater, schedule, batches, arguments.updates), peak))
    report(config, flops, rounds)


def measure(updater, schedule, batches, updates: int) -> dict[str, float]:  # noqa: ANN001
    """Time some updates and count what was in them."""
    counts = {"source": 0, "target": 0, "source_cells": 0, "target_cells": 0, "waited": 0.0}
    started = time.perf_counter()
    for update in range(1, updates + 1):
        waiting = time.perf_counter()
        batch = next(batches)
        counts["waited"] += time.perf_counter() - waiting
        updater.update([batch], schedule.learning_rate(update))
        counts["source"] += np.count_nonzero(batch.source_ids)
        counts["target"] += np.count_nonzero(batch.target_output_ids)
        counts["source_cells"] += batch.source_ids.size
        counts["target_cells"] += batch.target_output_ids.size
    return counts | {"seconds": time.perf_counter() - started, "updates": updates}


def report(config, flops, rounds) -> None:  # noqa: ANN001
    """Print the median of the rounds and their spread."""
    shares, speeds, precision = [], [], config.training.precision
    for counts, peak in rounds:
        real = 3.0 * (flops.source * counts["source"] + flops.target * counts["target"]) / counts["seconds"]
        padded = 3.0 * (flops.source * counts["source_cells"] + flops.target * counts["target_cells"])
        padded /= counts["seconds"]
        cells = counts["source_cells"] + counts["target_cells"]
        share = real / peak
        shares.append(share)
        speeds.append(counts["target"] / counts["seconds"])
        print(
            f"{counts['target'] / counts['seconds']:,.0f} real target tokens/s  "
            f"{counts['seconds'] / counts['updates']:.3f} s an update  "
            f"padding {1 - (counts['source'] + counts['target']) / cells:.1%}  "
            f"{real / 1e9:.0f} GFLOP/s real, {padded / 1e9:.0f} padded  "
            f"peak {peak / 1e9:.0f} {precision}  share {share:.3f}  "
            f"waited for data {counts['waited'] / counts['seconds']:.2%}"
        )
    print(
        f"batch_tokens {config.training.batch_tokens}: median {median(speeds):,.0f} real target tokens/s, "
        f"{median(shares):.3f} of the {precision} peak ({min(shares):.3f} to {max(shares):.3f})"
    )


if __name__ == "__main__":
    main()
