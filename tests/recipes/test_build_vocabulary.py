"""Tokenizers are built for the settings they serve, and never under a model that needs others."""

import shutil

import pytest

from nmt.config import load
from nmt.errors import ConfigError, DataError
from nmt.recipes.build_vocabulary import build_text, build_vocabulary, find_text, save_text
from nmt.text import TextPair

TOKENIZERS = {
    "{type: whitespace}": (13, 13),
    "{type: whitespace, joint: true, vocabulary_size: 10}": (10, 10),
    "{type: whitespace, minimum_count: 4}": (7, 7),
    "{type: character}": (17, 18),
    "{type: sentencepiece, vocabulary_size: 30}": (30, 30),
    "{type: sentencepiece, model_type: bpe, vocabulary_size: 28, joint: false}": (28, 28),
}


@pytest.mark.parametrize("settings", TOKENIZERS)
def test_every_kind_is_built_from_the_training_corpus(untrained_config, settings):
    config = load(untrained_config, [f"data.tokenizer={settings}"])
    text = build_text(config)
    assert text.joint is config.data.tokenizer.joint
    assert text.source.type == config.data.tokenizer.type
    sizes = (len(text.source.vocabulary), len(text.target.vocabulary))
    if text.source.type != "character":
        assert sizes <= TOKENIZERS[settings]
    assert text.target.decode(text.target.encode("two three")) == "two three"
    assert not (untrained_config.parent / "run").exists()


def test_it_is_built_once_and_anew_for_other_settings(untrained_config):
    config = load(untrained_config)
    assert find_text(config) is None
    built = build_vocabulary(config)
    assert built.built
    again = build_vocabulary(load(untrained_config, ["training.max_updates=5", "search.beam_size=2"]))
    assert not again.built
    assert again.text.source.fingerprint == built.text.source.fingerprint
    assert build_vocabulary(config, overwrite=True).built
    other = load(untrained_config, ["data.tokenizer.vocabulary_size=9"])
    assert find_text(other) is None
    assert len(build_vocabulary(other).text.source.vocabulary) == 9
    assert len(TextPair.load(config.model_directory).source.vocabulary) == 9


@pytest.mark.parametrize("place", ["nmt.recipes.build_vocabulary.write", "nmt.text.pair.write_file"])
def test_a_stop_in_between_leaves_no_tokenizers(untrained_config, monkeypatch, place):
    def stop(*arguments, **settings):
        raise KeyboardInterrupt

    config = load(untrained_config)
    other = load(untrained_config, ["data.tokenizer.vocabulary_size=9"])
    build_vocabulary(config)
    with monkeypatch.context() as patch:
        patch.setattr(place, stop)
        with pytest.raises(KeyboardInterrupt):
            save_text(other, build_text(other))
    assert find_text(config) is None
    assert find_text(other) is None
    assert len(build_vocabulary(other).text.source.vocabulary) == 9


def test_a_directory_that_cannot_be_written_is_named(untrained_config):
    config = load(untrained_config)
    text = build_text(config)
    (untrained_config.parent / "run").write_text("a file")
    with pytest.raises(DataError, match=r"run/tokenizer\.json: cannot be replaced: Not a directory"):
        save_text(config, text)


def test_tokenizers_put_there_by_hand_are_taken_as_they_are(untrained_config):
    config = load(untrained_config)
    by_hand = build_text(load(untrained_config, ["data.tokenizer.vocabulary_size=6"]))
    by_hand.save(config.model_directory)
    result = build_vocabulary(config)
    assert not result.built
    assert len(result.text.source.vocabulary) == 6


def test_a_model_keeps_its_tokenizers(trained_run, tmp_path):
    directory = tmp_path / "run"
    shutil.copytree(trained_run.directory, directory)
    config = load(directory / "config.yaml", [f"model_directory={directory}"])
    assert not build_vocabulary(config).built
    with pytest.raises(ConfigError, match="holds a trained model, which needs the vocabulary it has"):
        build_vocabulary(config, overwrite=True)


def test_sides_of_different_length_are_refused(untrained_config):
    with (untrained_config.parent / "train.en").open("a") as file:
        file.write("one more\n")
    with pytest.raises(DataError, match=r"got 15 lines in .*train\.es and 16 lines in .*train\.en"):
        build_vocabulary(load(untrained_config))
    assert not (untrained_config.parent / "run").exists()
