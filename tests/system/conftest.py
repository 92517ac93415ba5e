"""A small run that several workers or devices share, and the same run of one."""

import json
import random
from pathlib import Path

import pytest
import tensorflow as tf

from nmt.cli.main import main

WORDS = ("uno", "dos", "tres", "rojo", "azul", "gato", "perro")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """The path of a config without dropout, whose updates take three batches of four an epoch."""
    folder, generator = tmp_path_factory.mktemp("workers"), random.Random(3)
    files = {}
    for name, count in (("train", 60), ("validation", 3)):
        lines = [" ".join(generator.choices(WORDS, k=generator.randint(1, 6))) for _ in range(count)]
        files[name] = {"source": f"{folder}/{name}.es", "target": f"{folder}/{name}.en"}
        for path in files[name].values():
            Path(path).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    values = {
        "model_directory": f"{folder}/run",
        "data": {"source_language": "es", "target_language": "en", "tokenizer": {"type": "whitespace"}, **files},
        "model": {
            "type": "transformer", "hidden_size": 16, "ffn_size": 24, "num_heads": 2, "num_encoder_layers": 1,
            "num_decoder_layers": 1, "dropout": 0.0, "attention_dropout": 0.0, "ffn_dropout": 0.0,
        },
        "training": {
            "batch_tokens": 101, "effective_batch_tokens": 303, "max_updates": 100000, "validate_every_updates": 2,
            "save_every_updates": 2, "keep_last": 99, "log_every_updates": 5, "ema_decay": 0.9, "tensorboard": False,
            "sample_translations": 0, "precision": "float32", "schedule": {"type": "constant"},
            "optimizer": {"type": "sgd", "learning_rate": 0.5, "clip_norm": 0.5},  # Adam makes much of what is nothing
        },
    }  # fmt: skip
    path = folder / "config.yaml"
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


@pytest.fixture
def train_alone(config):
    """Train without distribution in this process, step by step; return the exit status."""

    def train_alone(*settings):
        tf.config.run_functions_eagerly(True)
        try:
            return main(["train", str(config), *(word for setting in settings for word in ("--set", setting))])
        finally:
            tf.config.run_functions_eagerly(False)

    return train_alone
