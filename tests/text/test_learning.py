import unicodedata

import pytest
from sentencepiece import SentencePieceProcessor

from nmt.errors import ConfigError, DataError
from nmt.text import SPECIAL_TOKENS, CharacterTokenizer, SentencePieceTokenizer, TextPair, WhitespaceTokenizer
from nmt.text.tokenizer import normalized

SOURCE = ["b a a c", "a b"]
TARGET = ["x a", "x <s>"]


def ordinary_tokens(tokenizer):
    return list(tokenizer.vocabulary.tokens[len(SPECIAL_TOKENS) :])


def test_words_are_ranked_by_frequency_then_by_spelling():
    pair = TextPair.learn(WhitespaceTokenizer, SOURCE, TARGET, joint=False, vocabulary_size=None, minimum_count=1)
    assert ordinary_tokens(pair.source) == ["a", "b", "c"]
    assert ordinary_tokens(pair.target) == ["x", "\\<s>", "a"]


def test_a_joint_vocabulary_counts_both_sides():
    pair = TextPair.learn(WhitespaceTokenizer, SOURCE, TARGET, joint=True, vocabulary_size=None, minimum_count=1)
    assert pair.source.vocabulary is pair.target.vocabulary
    assert ordinary_tokens(pair.source) == ["a", "b", "x", "\\<s>", "c"]


def test_vocabulary_size_is_an_upper_bound_that_counts_special_tokens():
    pair = TextPair.learn(WhitespaceTokenizer, SOURCE, TARGET, joint=True, vocabulary_size=6, minimum_count=1)
    assert ordinary_tokens(pair.source) == ["a", "b"]
    assert pair.source.decode(pair.source.encode("a c b")) == "a <unk> b"


def test_minimum_count_drops_rare_tokens():
    pair = TextPair.learn(WhitespaceTokenizer, SOURCE, TARGET, joint=True, vocabulary_size=None, minimum_count=2)
    assert ordinary_tokens(pair.source) == ["a", "b", "x"]


def test_characters_are_ranked_by_frequency():
    pair = TextPair.learn(CharacterTokenizer, ["ab a"], ["zz"], joint=False, vocabulary_size=None, minimum_count=1)
    assert ordinary_tokens(pair.source) == ["a", "b", "▁"]
    assert ordinary_tokens(pair.target) == ["z"]


def test_sentencepiece_is_joint_or_one_a_side(pairs):
    assert pairs["unigram"].source is pairs["unigram"].target
    assert pairs["two forms"].source.vocabulary.tokens == pairs["two forms"].target.vocabulary.tokens
    assert pairs["bpe"].source.vocabulary.tokens != pairs["bpe"].target.vocabulary.tokens


def test_lines_may_come_from_iterators():
    settings = {"model_type": "bpe", "joint": True, "vocabulary_size": 20, "character_coverage": 1.0, "seed": 1}
    pair = TextPair.learn(SentencePieceTokenizer, iter(SOURCE), iter(TARGET), **settings)
    assert pair.source.decode(pair.source.encode("x a b c")) == "x a b c"


@pytest.mark.parametrize("kind", [WhitespaceTokenizer, CharacterTokenizer])
def test_settings_that_leave_nothing_are_refused(kind):
    with pytest.raises(ConfigError, match="vocabulary_size must be more than the 4 special tokens, got 4"):
        TextPair.learn(kind, SOURCE, TARGET, joint=True, vocabulary_size=4, minimum_count=1)
    with pytest.raises(DataError, match="no token occurs minimum_count = 50 times"):
        TextPair.learn(kind, SOURCE, TARGET, joint=True, vocabulary_size=None, minimum_count=50)
    with pytest.raises(DataError, match="needs text to learn from"):
        TextPair.learn(kind, SOURCE, [""], joint=False, vocabulary_size=None, minimum_count=1)


TARGETS = {
    "Chinese": "你好，我喜欢车，是吗？（是）",
    "Persian": "می‌خواهم",
    "signs": "10² … ½ ™ ﬁ",
    "Japanese": "「ｶﾀｶﾅ」　全角！",
    "French": "« Ça va\u00a0? »",
    "Hindi": "क्‍ष",
    "Thai": "น้ำ",
    "Korean": "안녕하세요？",
}


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("line", TARGETS.values(), ids=TARGETS.keys())
def test_a_target_comes_back_as_it_was_and_a_source_is_folded(line, joint):
    settings = {"model_type": "unigram", "vocabulary_size": 90, "character_coverage": 1.0, "seed": 1}
    pair = TextPair.learn(SentencePieceTokenizer, [line, "a b"], [line, "a b"], joint=joint, **settings)
    assert pair.target.decode(pair.target.encode(line)) == line
    assert pair.source.encode(line) == pair.source.encode(normalized(line, "nfkc"))
    assert pair.target.encode(unicodedata.normalize("NFD", line)) == pair.target.encode(line)


def test_a_joint_pair_of_two_forms_is_two_files_with_the_same_pieces(pairs):
    pair = pairs["two forms"]
    assert pair.joint
    assert pair.source.fingerprint != pair.target.fingerprint
    assert pair.source.vocabulary.fingerprint == pair.target.vocabulary.fingerprint
    processors = [SentencePieceProcessor(model_proto=side.model) for side in (pair.source, pair.target)]
    scores = [[each.get_score(i) for i in range(each.get_piece_size())] for each in processors]
    assert scores[0] == scores[1]
    assert processors[0].encode("Ｈotel…") == pair.source.encode("Hotel...")  # the file alone folds


@pytest.mark.parametrize("kind", [WhitespaceTokenizer, CharacterTokenizer])
def test_words_and_characters_are_normalised_too_where_that_is_asked_for(kind):
    settings = {"joint": True, "vocabulary_size": None, "minimum_count": 1}
    pair = TextPair.learn(kind, ["Ｈi…"], ["e\u0301\t½"], **settings)
    assert pair.target.decode(pair.target.encode("e\u0301  ½")) == "é ½"
    assert pair.source.decode(pair.source.encode("Hi…")) == "Hi..."
    asked = TextPair.learn(kind, ["Ｈi…"], ["e\u0301\t½"], normalization=(None, None), **settings)
    assert asked.source.decode(asked.source.encode("Ｈi…")) == "Ｈi…"


def test_white_space_that_means_something_is_no_white_space():
    assert normalized(" a\u00a0?\t\u3000b\u2009c \r\v d\u2028 ", "nfc") == "a\u00a0? \u3000b\u2009c d"
