"""What two logical CPU devices make of an update, beside what one makes: `python -m tests.training.two_devices`.

`test_distribution.py` runs it. The devices have to be set up before TensorFlow starts, so this needs a process of its
own. Prints one JSON object.
"""

import json
import os
import sys
import tempfile

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

from nmt.backend.replicas import Replicas, open_replicas  # noqa: E402
from nmt.checkpoint.manager import CheckpointManager  # noqa: E402
from nmt.checkpoint.weights import random_state  # noqa: E402
from nmt.data.batches import EMPTY_BATCH, Batch  # noqa: E402
from nmt.training.optimization import EmaWeights, build_adam, build_adamw  # noqa: E402
from nmt.training.update import Updater  # noqa: E402
from nmt.tying import named_variables, verify_ties  # noqa: E402
from tests import tiny  # noqa: E402

BOTH, ONE = open_replicas("mirrored"), Replicas()


def make_batch(lengths, seed):
    """Random ids with repeats; pairs of lengths of source and target, EOS counted."""
    generator = np.random.default_rng(seed)
    source, output = (np.zeros((len(lengths), max(side)), "int32") for side in zip(*lengths, strict=True))
    for row, pair in enumerate(lengths):
        for ids, length in zip((source, output), pair, strict=True):
            ids[row, :length] = [*generator.integers(4, 11, length - 1), 3]
    shifted = np.concatenate([np.full((len(output), 1), 2, "int32"), output[:, :-1]], axis=1)
    return Batch(source, np.where(output == 0, 0, shifted).astype("int32"), output)


BATCHES = [make_batch([(3, 4), (5, 6)], 1), make_batch([(2, 3), (4, 2), (3, 1)], 2), make_batch([(6, 5)], 3)]


def make_updater(replicas, settings, dropout=0.0, build_optimizer=build_adam, precision="float32", **optimizer):
    with replicas.scope():
        model = tiny.build(tiny.with_dropout(settings, dropout))
        optimizer = build_optimizer(learning_rate=0.1, beta_1=0.9, beta_2=0.98, epsilon=1e-6, **optimizer)
        average = EmaWeights(model, 0.9)
    settings = {"label_smoothing": 0.1, "clip_norm": 0.05, "precision": precision}
    updater = Updater(model, optimizer, ema=average, replicas=replicas, **settings)
    verify_ties(model, model.declared_ties(), optimizer)
    return updater


def values_of(updater):
    parts = {**named_variables(updater.model), **{f"average/{k}": v for k, v in updater.ema.variables.items()}}
    return {path: keras.ops.convert_to_numpy(variable).copy() for path, variable in parts.items()}


def largest_difference(one, other):
    return max(float(np.max(np.abs(value - other[path]))) for path, value in one.items())


def copies_differ(updater):
    """Whether the copies of a variable on the two devices are not the same to the last bit."""
    return any(
        not np.array_equal(*(copy.numpy() for copy in variable.value.values))
        for variable in named_variables(updater.model).values()
    )


def compare(one, both, batches_of_one, batches_of_both, updates):
    """Make the same updates on one device, step by step, and on two; return how far apart they end."""
    before = values_of(one)
    with tiny.run_eagerly():
        results_of_one = [one.update(batches_of_one, 0.01) for _ in range(updates)]
    results = list(zip(results_of_one, [both.update(batches_of_both, 0.01) for _ in range(updates)], strict=True))
    return {
        "results": [[list(map(float, result)) for result in pair] for pair in results],
        "weights": largest_difference(values_of(one), values_of(both)),
        "moved": largest_difference(before, values_of(one)),
        "copies_differ": copies_differ(both),
    }


def main():
    report = {"replicas": BOTH.count, "tokens": [int((batch.target_output_ids != 0).sum()) for batch in BATCHES]}
    one, both = make_updater(ONE, tiny.TRANSFORMER), make_updater(BOTH, tiny.TRANSFORMER)
    report["transformer"] = compare(one, both, BATCHES[:2], BATCHES[:2], 3)
    # The rest is the same code, without the seconds that a trace takes; `test_mirrored` sums compiled micro-batches.
    tf.config.run_functions_eagerly(True)
    report["three batches"] = compare(one, both, BATCHES, [*BATCHES, EMPTY_BATCH], 2)
    with tempfile.TemporaryDirectory() as folder, CheckpointManager(folder) as checkpoints:
        checkpoints.save(5, model=both.model, optimizer=both.optimizer, ema=both.ema.variables)
        saved = values_of(both)
        both.model.output_bias.assign(np.full(11, np.nan, "float32"))
        before = values_of(both)
        skipped = [both.update(batches, 0.01) for batches in (BATCHES[:2], [*BATCHES, EMPTY_BATCH])]
        same = all(np.array_equal(value, before[path], equal_nan=True) for path, value in values_of(both).items())
        report["not finite"] = {"applied": [result.applied for result in skipped], "unchanged": same}
        other = make_updater(ONE, tiny.TRANSFORMER)
        checkpoints.restore(other.model, other.optimizer, other.ema.variables)
        checkpoints.restore(both.model, both.optimizer, both.ema.variables)
    at_once = [largest_difference(saved, values_of(updater)) for updater in (other, both)]
    report["resumed"] = {"at once": at_once, **compare(other, both, BATCHES[:2], BATCHES[:2], 1)}
    decay = {"build_optimizer": build_adamw, "weight_decay": 0.1}
    one, both = make_updater(ONE, tiny.RNN, **decay), make_updater(BOTH, tiny.RNN, **decay)
    report["rnn"] = compare(one, both, BATCHES[:2], BATCHES[:2], 2)
    one, both = make_updater(ONE, tiny.TRANSFORMER, dropout=0.3), make_updater(BOTH, tiny.TRANSFORMER, dropout=0.3)
    losses = [one.update(BATCHES[:1], 0.0).loss, both.update([BATCHES[0], BATCHES[0]], 0.0).loss]
    same_seeds = random_state(one.model) == random_state(both.model)
    report["dropout"] = {"losses": losses, "same_seeds": same_seeds, "seeds": random_state(both.model)}
    cases = [(ONE, "float32"), (ONE, "bfloat16"), (BOTH, "bfloat16")]
    updaters = [make_updater(replicas, tiny.TRANSFORMER, precision=precision) for replicas, precision in cases]
    report["bfloat16"] = [updater.update(BATCHES[:2], 0.01).loss for updater in updaters]
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main()
