"""The encoded corpus of a run: found again, shared with other runs, and never read twice."""

import builtins
import shutil
from collections import Counter

import pytest

from nmt.config import load
from nmt.data import corpus as corpus_module
from nmt.data import lines as lines_module
from nmt.recipes.build_vocabulary import build_vocabulary, find_text
from nmt.recipes.train import check_corpora, train
from nmt.recipes.training_run import open_training_stores
from nmt.streams.corpora import find_stores
from nmt.training.events import Reporter

SENTENCES = 15
"""Training pairs of `untrained_config`."""


class Heard(Reporter):
    """Keeps what it is told."""

    def __init__(self):
        self.events = []

    def on_encoding(self, event):
        self.events.append(event)


@pytest.fixture
def lines_read(monkeypatch):
    """The paths of the files that were read, as they are opened."""
    paths, read_lines = [], corpus_module.read_lines

    def watched(path):
        paths.append(str(path).rpartition("/")[2])
        return read_lines(path)

    monkeypatch.setattr(corpus_module, "read_lines", watched)
    return paths


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("tokenizer", ["type: whitespace", "type: sentencepiece, vocabulary_size: 60"])
def test_a_training_corpus_is_read_twice_and_once_for_a_vocabulary(untrained_config, tmp_path, monkeypatch, tokenizer):
    """Once to check it and to gather what tokenizers are learned from, once to encode it."""
    opened = Counter()

    def watched(path, *arguments, **options):
        opened[str(path).rpartition("/")[2]] += 1
        return builtins.open(path, *arguments, **options)

    monkeypatch.setattr(lines_module, "open", watched, raising=False)
    settings = [f"data.tokenizer={{{tokenizer}}}", "training.max_updates=1", "training.tensorboard=false"]
    build_vocabulary(load([untrained_config], [*settings, f"model_directory={tmp_path}/vocabulary"]))
    assert opened == {"train.es": 1, "train.en": 1}
    opened.clear()
    train(load([untrained_config], settings))
    assert (opened["train.es"], opened["train.en"]) == (2, 2)


def folders(directory):
    return sorted(path.name for path in directory.iterdir() if path.is_dir())


def test_a_corpus_is_known_to_be_right_once_it_is_encoded(untrained_config):
    config = load([untrained_config])
    assert find_text(config) is None
    text = build_vocabulary(config).text
    assert find_stores(config, text) is None
    heard = Heard()
    open_training_stores(config, text, reporters=[heard], total=check_corpora(config, fresh=True).train_pairs)
    assert find_stores(config, text) is not None
    assert [(event.pairs, event.total, event.remaining_seconds) for event in heard.events] == [
        (SENTENCES, SENTENCES, 0.0)
    ]


def test_another_run_with_the_same_tokenizers_finds_it(untrained_config, tmp_path, lines_read):
    shared = f"data.store_directory={tmp_path}/stores"
    first = load([untrained_config], [shared])
    store = open_training_stores(first, build_vocabulary(first).text)["train"]
    second = load([untrained_config], [shared, f"model_directory={tmp_path}/second"])
    (tmp_path / "second").mkdir()
    for path in (tmp_path / "run").glob("*o*.*"):
        if path.name != "config.yaml":
            shutil.copy(path, tmp_path / "second")
    lines_read.clear()
    assert find_stores(second, find_text(second)) is not None
    assert check_corpora(second, fresh=False).train_pairs is None
    heard = Heard()
    again = open_training_stores(second, build_vocabulary(second).text, reporters=[heard])["train"]
    assert (again.path, heard.events) == (store.path, [])
    assert lines_read == ["validation.es", "validation.en"]


@pytest.mark.parametrize("shared", [True, False])
def test_a_shared_directory_keeps_what_other_runs_need(untrained_config, tmp_path, shared):
    place = [f"data.store_directory={tmp_path}/stores"] if shared else []
    config = load([untrained_config], place)
    text = build_vocabulary(config).text
    first = open_training_stores(config, text)["train"]
    second = open_training_stores(load([untrained_config], [*place, "data.max_length=50"]), text)["train"]
    assert folders(second.path.parent) == sorted({first.path.name, second.path.name} if shared else {second.path.name})


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_limits_of_length_are_found_in_the_corpus_once(untrained_config, tmp_path):
    """Of 15 pairs every one is to be allowed; what a run was begun with stays, whatever its store would say."""
    (tmp_path / "train.en").write_text("one two three\n" * 14 + "four and many more\n", encoding="utf-8")
    (tmp_path / "train.es").write_text("uno dos tres\n" * 14 + "4\n", encoding="utf-8")
    for side in ("es", "en"):  # short, as what is not trained yet translates up to the limit
        (tmp_path / f"validation.{side}").write_text("1\n4\n", encoding="utf-8")
    own = "{beam_size: 1, max_length_offset: 0}"
    settings = ["data.tokenizer={type: character}", "training.batch_tokens=101", "training.tensorboard=false",
                "training.validate_every_updates=9"]  # fmt: skip
    untrained_config.write_text(
        untrained_config.read_text().replace("{beam_size: 1, min_length: 2, max_length: 9}", own)
    )
    train(load([untrained_config], [*settings, "training.max_updates=1"]))
    longest = len("four and many more") + 1
    search = load([tmp_path / "run/config.yaml"]).search
    assert (search.max_length_ratio, search.max_length) == (longest / 2, int(longest / 2 * 101))
    old = (tmp_path / "run/config.yaml").read_text().replace("max_length_ratio: 9.5", "max_length_ratio: 1.5")
    (tmp_path / "run/config.yaml").write_text(old)  # as a run of version 0.1.0 has it
    train(load([untrained_config], [*settings, "training.max_updates=2"]))
    search = load([tmp_path / "run/config.yaml"]).search
    assert (search.max_length_ratio, search.max_length) == (1.5, int(longest / 2 * 101))
