"""Tokenizers are built for the settings they serve, and never under a model that needs others."""

import io
import logging
import re
import shutil
from functools import partial
from pathlib import Path

import pytest
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

from nmt.config import load
from nmt.data import Corpus
from nmt.data.lines import read_lines
from nmt.doctor.doubts import report_changed_targets, report_marks, report_unknown_in_store
from nmt.errors import ConfigError, DataError
from nmt.recipes.build_vocabulary import build_text, build_vocabulary, find_text, save_text
from nmt.recipes.train import check_config, check_corpora, train
from nmt.recipes.training_run import open_training_stores
from nmt.text import SPECIAL_TOKENS, SentencePieceTokenizer, TextPair

SMALL = "data.tokenizer={type: whitespace, vocabulary_size: 7}"
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


@pytest.mark.parametrize(
    "name", ["tokenizer.model", "vocabulary.target.txt", "config.yaml", "metrics.jsonl", "train.log"]
)
def test_a_file_that_somebody_else_put_into_a_new_directory_is_not_replaced(untrained_config, name):
    config = load(untrained_config)
    place = Path(config.model_directory) / name
    place.parent.mkdir()
    place.write_text("seed: 1  # mine\n", encoding="utf-8")
    for deed in (build_vocabulary, partial(build_vocabulary, overwrite=True), train):
        with pytest.raises(ConfigError, match=rf"holds {re.escape(name)}, which nmt did not write and would replace"):
            deed(config)
    assert place.read_text(encoding="utf-8") == "seed: 1  # mine\n"
    assert [path.name for path in place.parent.iterdir()] == [name]


def test_a_tokenizer_that_somebody_put_in_the_place_of_ours_is_not_replaced(untrained_config):
    config = load(untrained_config, ["data.tokenizer={type: sentencepiece, vocabulary_size: 30, joint: false}"])
    build_vocabulary(config)
    place = Path(config.model_directory) / "tokenizer.source.model"
    place.write_bytes(place.with_name("tokenizer.target.model").read_bytes())
    other = load(untrained_config, ["data.tokenizer={type: sentencepiece, vocabulary_size: 29}"])
    with pytest.raises(ConfigError, match=r"holds tokenizer\.source\.model, tokenizer\.target\.model, vocabulary"):
        build_vocabulary(other)


def test_a_finished_model_is_taken_as_it_is_whatever_its_special_ids_are(untrained_config, tmp_path, caplog):
    model = io.BytesIO()
    lines = (untrained_config.parent / "train.en").read_text("utf-8").splitlines()
    SentencePieceTrainer.train(
        sentence_iterator=iter([*lines, "A B C"]), model_writer=model, vocab_size=33, hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc_cf", bos_piece="[BOS]", pad_id=-1, minloglevel=3,
    )  # fmt: skip
    path = tmp_path / "my.model"
    path.write_bytes(model.getvalue())
    config = load(untrained_config, [f"data.tokenizer={{type: sentencepiece, model: {path}}}"])
    with caplog.at_level("INFO"):
        text = build_text(config)
    assert "my.model as it is, with its own normalisation" in caplog.text
    theirs = SentencePieceProcessor(model_proto=model.getvalue())
    assert text.source is text.target or text.source.fingerprint == text.target.fingerprint
    assert text.target.vocabulary.tokens[:4] == SPECIAL_TOKENS
    for line in (*lines, "ONE two"):
        pieces = theirs.encode(line, out_type=str)
        assert text.target.tokens(text.target.encode(line)) == pieces
        assert text.target.decode(text.target.encode(line)) == line.lower()
    two = load(untrained_config, [f"data.tokenizer={{type: sentencepiece, model: [{path}, {path}], joint: false}}"])
    assert not build_text(two).joint
    with pytest.raises(ConfigError, match=r"data.tokenizer.model must be one path if joint is true, got 2"):
        load(untrained_config, [f"data.tokenizer={{type: sentencepiece, model: [{path}, {path}]}}"])


def test_targets_that_cannot_come_back_are_counted_by_cause(caplog):
    lines = ["fine", "caf\u0065\u0301  ok", "a？b", "…", "ab▁"]
    settings = {"model_type": "unigram", "joint": True, "vocabulary_size": 60, "character_coverage": 1.0, "seed": 1}
    written = TextPair.learn(SentencePieceTokenizer, lines, lines, **settings).target
    folded = TextPair.learn(SentencePieceTokenizer, lines, lines, normalization=("nfkc", "nfkc"), **settings).target
    report_changed_targets(written, lines[:4])
    assert caplog.text == ""
    report_changed_targets(written, ["ab▁"])
    assert "1 with signs that the tokenizer uses itself, such as ▁" in caplog.text
    caplog.clear()
    report_changed_targets(folded, [*lines[:4], "日本"])
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warned[0] == "3 of 5 targets cannot be written by the model as they are:"
    assert "2 folded by normalisation" in warned[1]
    assert warned[2:4] == ["    'a？b' becomes 'a?b'", "    '…' becomes '...'"]
    assert "1 with unknown characters" in warned[4]
    caplog.clear()
    report_changed_targets(folded, ["fine"] * 999 + ["a？b"])
    assert {record.levelname for record in caplog.records} == set()
    with caplog.at_level("INFO"):
        report_changed_targets(folded, ["fine"] * 999 + ["a？b"])
    assert {record.levelname for record in caplog.records} == {"INFO"}


def test_one_file_for_both_sides_is_refused_for_new_runs_alone(untrained_config):
    """A run of version 0.1.0 that learned to copy goes on."""
    source = load(untrained_config).data.train.source
    same = [f"data.train.target={source}"]
    config = load(untrained_config, same)
    with pytest.raises(DataError, match=r"data\.train\.source and data\.train\.target must be two files"):
        build_vocabulary(config)
    with pytest.raises(DataError, match="must be two files"):
        check_config([untrained_config], same)
    with pytest.raises(DataError, match="must be two files"):
        check_corpora(config, fresh=True)
    assert check_corpora(config, fresh=False).train_pairs is None


def test_unknown_shares_and_a_vocabulary_that_is_smaller_than_asked_are_said(untrained_config, caplog):
    caplog.set_level(logging.INFO)
    config = load(untrained_config, ["data.tokenizer={type: whitespace, vocabulary_size: 7}"])
    build_vocabulary(config)
    build_vocabulary(config)  # finds it, and does not read the corpus again
    said = [record for record in caplog.records if "unknown tokens" in record.getMessage()]
    # Of the 13 words of five sentences, three are known, which are 3 + 2 + 2 of them.
    assert [record.levelname for record in said] == ["WARNING"]
    share = f"{6 / 13:.2%}"
    assert f"training corpus: {share} of the source, {share} of the target: the model can" in said[0].getMessage()
    caplog.clear()
    store = open_training_stores(config, find_text(config))["train"]
    report_unknown_in_store(store)
    assert caplog.messages == [said[0].getMessage()]
    source = ("data.train.source", untrained_config.parent / "other.es")
    source[1].write_text("nada\n" * len(list(read_lines(config.data.train.source))), encoding="utf-8")
    other = load(untrained_config, [SMALL, "=".join(map(str, source))])
    caplog.clear()
    report_unknown_in_store(open_training_stores(other, find_text(config))["train"])
    assert f"training corpus: 100.00% of the source, {share} of the target: " in caplog.text
    caplog.clear()
    build_text(load(untrained_config, ["data.tokenizer={type: sentencepiece, vocabulary_size: 32000}"]))
    (message,) = (message for message in caplog.messages if "allows" in message)
    assert message.startswith("data.tokenizer.vocabulary_size allows 32,000 tokens, but the corpus gives only ")


def test_a_corpus_that_was_cut_or_tokenised_is_told_once(untrained_config, caplog):
    folder = untrained_config.parent

    def report(config, *names):
        corpora = {name: getattr(config.data, name) for name in names}
        pairs = {name: list(Corpus(one.source, one.target).pairs()) for name, one in corpora.items()}
        report_marks(pairs, config.data.segmentation)

    report(load(untrained_config), "train", "validation")
    assert not caplog.records
    (folder / "train.en").write_text("fr@@ om here .\nhere\n" * 2, encoding="utf-8")
    (folder / "train.es").write_text("d@@ e aquí\naquí\n" * 2, encoding="utf-8")
    build_vocabulary(load(untrained_config))
    for words in (
        "50 % of the lines of data.train.source and 50 % of the lines of data.train.target look cut into pieces by bpe "
        "(`d@@ e aquí`): translations will be pieces",
        "set data.segmentation bpe in a new run",
        "50 % of the lines of data.train.target look tokenised (`rom here .`): translations will look so too",
    ):
        assert caplog.text.count(words) == 1
    caplog.clear()
    report(load(untrained_config, ["data.segmentation=bpe"]), "train")
    assert "look cut" not in caplog.text
    report(load(untrained_config, ["data.segmentation=bpe"]), "validation")
    assert "data.validation.target has no marks of data.segmentation bpe: cut all text in the same way" in caplog.text
