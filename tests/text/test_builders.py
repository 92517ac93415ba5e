import pytest

from nmt.errors import ConfigError, DataError
from nmt.text import SPECIAL_TOKENS, build_character, build_sentencepiece, build_whitespace

SOURCE = ["b a a c", "a b"]
TARGET = ["x a", "x <s>"]


def ordinary_tokens(tokenizer):
    return list(tokenizer.vocabulary.tokens[len(SPECIAL_TOKENS) :])


def test_words_are_ranked_by_frequency_then_by_spelling():
    pair = build_whitespace(SOURCE, TARGET, joint=False, vocabulary_size=None, minimum_count=1)
    assert ordinary_tokens(pair.source) == ["a", "b", "c"]
    assert ordinary_tokens(pair.target) == ["x", "\\<s>", "a"]


def test_a_joint_vocabulary_counts_both_sides():
    pair = build_whitespace(SOURCE, TARGET, joint=True, vocabulary_size=None, minimum_count=1)
    assert pair.source is pair.target
    assert ordinary_tokens(pair.source) == ["a", "b", "x", "\\<s>", "c"]


def test_vocabulary_size_is_an_upper_bound_that_counts_special_tokens():
    pair = build_whitespace(SOURCE, TARGET, joint=True, vocabulary_size=6, minimum_count=1)
    assert ordinary_tokens(pair.source) == ["a", "b"]
    assert pair.source.decode(pair.source.encode("a c b")) == "a <unk> b"


def test_minimum_count_drops_rare_tokens():
    pair = build_whitespace(SOURCE, TARGET, joint=True, vocabulary_size=None, minimum_count=2)
    assert ordinary_tokens(pair.source) == ["a", "b", "x"]


def test_characters_are_ranked_by_frequency():
    pair = build_character(["ab a"], ["zz"], joint=False, vocabulary_size=None, minimum_count=1)
    assert ordinary_tokens(pair.source) == ["a", "b", "▁"]
    assert ordinary_tokens(pair.target) == ["z"]


def test_sentencepiece_is_joint_or_one_a_side(pairs):
    assert pairs["unigram"].source is pairs["unigram"].target
    assert pairs["bpe"].source.vocabulary.tokens != pairs["bpe"].target.vocabulary.tokens


def test_lines_may_come_from_iterators():
    settings = {"model_type": "bpe", "joint": True, "vocabulary_size": 20, "character_coverage": 1.0, "seed": 1}
    pair = build_sentencepiece(iter(SOURCE), iter(TARGET), **settings)
    assert pair.source.decode(pair.source.encode("x a b c")) == "x a b c"


@pytest.mark.parametrize("build", [build_whitespace, build_character])
def test_settings_that_leave_nothing_are_refused(build):
    with pytest.raises(ConfigError, match="vocabulary_size must be more than the 4 special tokens, got 4"):
        build(SOURCE, TARGET, joint=True, vocabulary_size=4, minimum_count=1)
    with pytest.raises(DataError, match="no token occurs minimum_count = 50 times"):
        build(SOURCE, TARGET, joint=True, vocabulary_size=None, minimum_count=50)
    with pytest.raises(DataError, match="needs text to learn from"):
        build(SOURCE, [""], joint=False, vocabulary_size=None, minimum_count=1)
