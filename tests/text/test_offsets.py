"""Where tokens stand in raw text, with every tokenizer and every normalisation."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmt.errors import ConfigError
from nmt.text import SPECIAL_TOKENS, CharacterTokenizer, SentencePieceTokenizer, Vocabulary, WhitespaceTokenizer
from nmt.text.offsets import is_space, raw_spans, token_spans

LINES = ["a casa é ½ grande", "la casa de la playa, ﬁn.", "¿dónde está la casa?"] * 4
FORMS = [None, "none", "nfc", "nfkc"]
PARTS = [*"ab .é\t\r\u00a0▁漢🎉½ﬁ\u0301\u200b\u00ad\u3000", "e\u0301", "\u1112\u1161\u11ab", "<unk>"]
TEXT = st.lists(st.sampled_from(PARTS), max_size=12).map("".join)


@pytest.fixture(scope="module")
def tokenizers():
    vocabulary = Vocabulary([*SPECIAL_TOKENS, "a", "b"])
    how = {"model_type": "unigram", "character_coverage": 1.0, "seed": 1}
    pieces = [
        SentencePieceTokenizer.learn(LINES, vocabulary_size=40 + 256 * fallback, byte_fallback=fallback, **how)
        for fallback in (False, True)
    ]
    kinds = [WhitespaceTokenizer(vocabulary), CharacterTokenizer(vocabulary), *pieces]
    return [kind.with_normalization(form) for kind in kinds for form in FORMS]


def visible(text):
    return "".join(character for character in text if not is_space(character))


@settings(max_examples=150)
@given(TEXT)
def test_a_span_normalises_to_its_token(tokenizers, line):
    for tokenizer in tokenizers:
        spans, pieces = tokenizer.spans(line), tokenizer.pieces(line)
        assert len(spans) == len(tokenizer.encode(line)) == len(pieces)
        assert visible(b"".join(pieces).decode()) == visible(tokenizer.normalized(line))
        for (start, end), piece in zip(spans, pieces, strict=True):
            token, text = visible(piece.decode("utf-8", "ignore")), visible(tokenizer.normalized(line[start:end]))
            assert 0 <= start <= end <= len(line)
            assert token in text  # equal, unless one character became several tokens
            assert bool(visible(line[start:end])) >= bool(token)


def test_a_character_that_became_several_is_in_the_span_of_each():
    spans = raw_spans([(0, 2), (2, 5)], "x1⁄2y", "x½y", lambda text: text.replace("½", "1⁄2"))
    assert spans == [(0, 2), (1, 3)]


def test_several_characters_that_became_one_are_in_its_span_together():
    line = "  una cafe\u0301\tfrí\u00ado "
    tokenizer = WhitespaceTokenizer(Vocabulary(SPECIAL_TOKENS)).with_normalization("nfkc")
    assert [line[start:end] for start, end in tokenizer.spans(line)] == ["una", "cafe\u0301", "frí\u00ado"]


def test_bytes_of_a_character_all_have_it():
    pieces = [b" ", b"a", *(bytes([byte]) for byte in "漢".encode()), b"b ", b" ", b"c"]
    assert token_spans(pieces, "a漢b c") == [(0, 0), (0, 1), (1, 2), (1, 2), (1, 2), (2, 3), (4, 4), (4, 5)]
    for wrong in ("a漢b", "a漢b cc"):
        with pytest.raises(ConfigError, match="than the text that they are said to make up"):
            token_spans(pieces, wrong)
