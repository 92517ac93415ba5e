"""What workers tell each other before they train, and what they refuse."""

import pytest

from nmt.backend.replicas import Replicas
from nmt.config import load
from nmt.errors import ConfigError, DataError
from nmt.recipes import train, training_run
from nmt.recipes.start import accept, find_shared_text, invite
from nmt.text import TextPair, WhitespaceTokenizer


class Line(Replicas):
    """Two workers, of which one speaks and the other hears."""

    said = None

    def send_text(self, text):
        self.said = self.said or text
        return self.said


@pytest.fixture
def config(untrained_config):
    return load([untrained_config])


def pair(*words):
    return TextPair.learn(WhitespaceTokenizer, words, words, joint=True, vocabulary_size=None, minimum_count=1)


def test_the_chief_says_what_it_trains_on(config):
    line, facts = Line(), {"tokenizers": ["one", "other"], "data_hash": "data"}
    invite(line, config, facts, given="given")
    assert accept(line, given="given") == (config, facts)


def test_other_settings_than_the_chiefs_are_refused(config):
    line = Line()
    invite(line, config, {}, given="given")
    with pytest.raises(ConfigError, match="all workers must be started with the same settings, model_directory inclu"):
        accept(line, given="other")


def test_another_corpus_is_refused(config):
    tokenizers, line = pair("a", "b"), Line()
    tokenizers.save(config.model_directory)
    facts = {"tokenizers": tokenizers.fingerprints, "data_hash": "there"}
    invite(line, config, facts, given=train.config_hash(config))
    with pytest.raises(DataError, match="all workers must train on the same corpus"):
        training_run.follow(config, line, processes=1)


def test_the_tokenizers_must_be_the_chiefs(tmp_path):
    """An older run may have left others in a directory that is not shared, with as many tokens."""
    pair("a", "b").save(tmp_path)
    find_shared_text(tmp_path, tokenizers=pair("a", "b").fingerprints)
    for directory, expected in ((tmp_path, pair("b", "c")), (tmp_path / "missing", pair("a", "b"))):
        with pytest.raises(DataError, match="must be the same directory on all workers"):
            find_shared_text(directory, tokenizers=expected.fingerprints, patience=0.0)
