"""What a training is said to take before it begins."""

import re

import pytest

from nmt.config import load
from nmt.data import Corpus
from nmt.recipes import forecast
from nmt.recipes.build_vocabulary import build_text
from nmt.recipes.forecast import measured_speed, memory_needed


def test_memory_is_that_of_the_estimate_with_a_vocabulary_or_without(untrained_config):
    config = load(untrained_config)
    text = build_text(config)
    words = memory_needed(config, text, (10, 12), 100)
    size = config.training.settled_batch_tokens
    assert re.match(rf"memory: batches of {size:,} tokens need about [\d.]+ [GM]iB", words)
    assert "not known before the vocabulary is built" in memory_needed(
        load(untrained_config, ["data.tokenizer={type: character, vocabulary_size: null}"]), None, (10, 12), 100
    )
    assert "batches are chosen by what there is" in memory_needed(
        load(untrained_config, ["training.batch_tokens=auto"]), text, (10, 12), 100
    )


@pytest.mark.slow
def test_speed_is_measured_beside_the_run(untrained_config, tmp_path, eagerly, monkeypatch):
    monkeypatch.setattr(forecast, "UPDATES", 4)
    monkeypatch.setattr(forecast, "_WARMING_UP", 2)
    config = load(untrained_config, [f"model_directory={tmp_path / 'run'}", "training.max_updates=3600"])
    pairs = list(Corpus.of(config.data, "train").pairs())
    words = measured_speed(config, [*pairs, ("", "x")], build_text(config))
    assert re.search(r"speed: [\d.]+ s an update, [\d,]+ target tokens per second, in updates 2 to 4: ", words)
    assert not (tmp_path / "run").exists()
