"""How a run is judged while it is trained."""

import logging

import pytest

from nmt.config import load
from nmt.data import Corpus
from nmt.errors import ConfigError
from nmt.inference.translator import Translator, vocabularies_of
from nmt.models.contract import build_model
from nmt.recipes.build_vocabulary import build_text
from nmt.recipes.validation import Validator, settle_tokenization, validation_tokenization


def validation_pairs(config):
    corpus = config.data.validation
    return list(Corpus(corpus.paths[0], corpus.paths[1]).pairs())


def settle(config):
    return settle_tokenization(config, validation_pairs(config))


@pytest.mark.usefixtures("eagerly")
def test_a_model_that_has_just_begun_to_learn_may_repeat_itself(untrained_config, caplog):
    """Who translates is told of translations that reach their limit; who trains reads their number, and no warning."""
    caplog.set_level(logging.WARNING)
    config = load([untrained_config], ["search.min_length=2", "search.max_length=2"])
    text = build_text(config)
    model = build_model(vocabularies_of(text), seed=1, **config.model.model_dump())
    caplog.clear()
    validation = Validator(config, model, text, validation_pairs(config))()
    assert validation.loss > 0.0
    assert validation.cut_lines == 2
    assert not caplog.records
    Translator(model, text, config.search).translate(["uno"])
    assert "as long as allowed" in caplog.text


@pytest.mark.usefixtures("eagerly")
def test_groups_of_a_beam_take_no_part(untrained_config):
    """They give up the best for variety, and the beam of a validation need not hold them."""
    config = load([untrained_config], ["search.beam_size=4", "search.diverse_groups=2", "search.max_length=5"])
    text = build_text(config)
    model = build_model(vocabularies_of(text), seed=1, **config.model.model_dump())
    plain = load([untrained_config], ["search.max_length=5"])
    one, other = (Validator(each, model, text, validation_pairs(each))() for each in (config, plain))
    assert (one.bleu, one.samples) == (other.bleu, other.samples)


CHINESE = "你好，我喜欢车，是吗？"


@pytest.fixture
def chinese_config(untrained_config):
    """The path of a config whose validation corpus is translated into Chinese."""
    (untrained_config.parent / "validation.en").write_text(f"{CHINESE}\n{CHINESE}\n", encoding="utf-8")
    return untrained_config


def test_references_that_no_translation_can_reach_are_said(untrained_config, caplog):
    (untrained_config.parent / "validation.en").write_text("one two three\n\n", encoding="utf-8")
    settle(load([untrained_config]))
    assert [message.split(":")[0] for message in caplog.messages] == ["data.validation"] * 2
    assert "1 of 2 lines of the target are empty" in caplog.messages[0]
    assert "has four tokens, as it cuts them: the loss decides which checkpoint is the best" in caplog.messages[1]


def test_words_of_the_validation_corpus_that_are_unknown_are_said(untrained_config, caplog):
    config = load([untrained_config], ["data.tokenizer={type: whitespace}"])
    text = build_text(config)
    model = build_model(vocabularies_of(text), seed=1, **config.model.model_dump())
    (untrained_config.parent / "validation.en").write_text("new words\none two\n", encoding="utf-8")
    Validator(config, model, text, validation_pairs(config))
    assert "unknown tokens in the validation corpus: 0.00% of the source, 50.00% of the target: the mo" in caplog.text


@pytest.mark.parametrize(
    ("language", "tokenization", "settled", "word"),
    [
        ("zho", "auto", "zh", ""),
        ("en", "auto", "zh", "as suits the script of the references: the language en says nothing"),
        ("zho", "char", "char", ""),
        ("zho", "intl", "intl", "data.validation: BLEU cuts text by intl, which does not find the words"),
        ("zho", "null", None, "data.validation: BLEU cuts text by 13a, which does not find the words"),
        ("zh", "null", None, ""),
    ],
)
def test_a_run_settles_how_bleu_cuts_text(chinese_config, caplog, language, tokenization, settled, word):
    wanted = [f"data.target_language={language}", f"training.validation_tokenization={tokenization}"]
    config = settle(load([chinese_config], wanted))
    assert config.training.validation_tokenization == settled
    assert word in caplog.text
    assert len(caplog.records) == (1 if word else 0)


def test_what_the_tokenisation_needs_is_missed_before_training(chinese_config, monkeypatch):
    monkeypatch.setattr("sacrebleu.tokenizers.tokenizer_ja_mecab.MeCab", None)
    with pytest.raises(ConfigError, match="ja-mecab of BLEU needs a package that is missing"):
        settle(load([chinese_config], ["training.validation_tokenization=ja-mecab"]))


def test_a_run_of_version_0_1_0_is_judged_as_before(chinese_config):
    """Its directory does not name a tokenisation, and its code `zho` meant 13a: scores of one run can be compared."""
    text = chinese_config.read_text(encoding="utf-8").replace("target_language: en", "target_language: zho")
    for version, tokenization in (("", "zh"), ("format_version: 1\n", "13a")):
        chinese_config.write_text(version + text, encoding="utf-8")
        assert validation_tokenization(load([chinese_config]), [CHINESE]) == tokenization


@pytest.mark.usefixtures("eagerly")
def test_unknown_reference_tokens_are_counted(untrained_config):
    """In `one two three` and `two three`, the word `three` is not known."""
    config = load([untrained_config], ["data.tokenizer={type: whitespace, vocabulary_size: 6}"])
    text = build_text(config)
    assert text.target.vocabulary.tokens[4:] == ("two", "one")
    model = build_model(vocabularies_of(text), seed=1, **config.model.model_dump())
    assert Validator(config, model, text, validation_pairs(config))().unknown_share == 2 / 5


@pytest.mark.usefixtures("eagerly")
def test_references_of_a_validation_are_joined(untrained_config):
    (untrained_config.parent / "validation.en").write_text("o@@ ne two\nth@@ ree\n", encoding="utf-8")
    config = load([untrained_config], ["data.segmentation=bpe", "search.max_length=3"])
    text = build_text(config)
    model = build_model(vocabularies_of(text), seed=1, **config.model.model_dump())
    samples = Validator(config, model, text, validation_pairs(config))().samples
    assert [sample.reference for sample in samples] == ["one two", "three"]
