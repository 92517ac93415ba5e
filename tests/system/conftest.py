"""A small run that several workers or devices share, and the same run of one."""

import random

import pytest

from nmt.cli.main import main
from tests import tiny


@pytest.fixture(scope="module")
def step_by_step():
    """A module whose runs trace nothing, which takes seconds; `test_toy_task` stops a compiled run."""
    with tiny.run_eagerly():
        yield


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """The path of a config without dropout, whose updates take three batches of four an epoch."""
    folder, generator = tmp_path_factory.mktemp("workers"), random.Random(3)
    corpora = {name: tiny.copied_lines(generator, count) for name, count in (("train", 60), ("validation", 3))}
    model = {**tiny.TRANSFORMER, "hidden_size": 16, "ffn_size": 24}
    training = {
        "batch_tokens": 101, "effective_batch_tokens": 303, "max_updates": 100000, "validate_every_updates": 2,
        "save_every_updates": 2, "keep_last": 99, "log_every_updates": 5, "ema_decay": 0.9, "tensorboard": False,
        "sample_translations": 0, "precision": "float32", "schedule": {"type": "constant"},
        "optimizer": {"type": "sgd", "learning_rate": 0.5, "clip_norm": 0.5},  # Adam makes much of what is nothing
    }  # fmt: skip
    return tiny.write_config(
        folder, corpora, model=model, training=training, search={"beam_size": 1, "max_length": 5, "engine": "keras"}
    )


@pytest.fixture
def train_alone(config):
    """Train without distribution in this process, step by step; return the exit status."""

    def train_alone(*settings):
        with tiny.run_eagerly():
            return main(["train", str(config), *(word for setting in settings for word in ("--set", setting))])

    return train_alone
