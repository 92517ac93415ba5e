"""Vocabularies of words and characters: extended, compared, and read from elsewhere."""

import pytest

from nmt.errors import DataError
from nmt.text import SPECIAL_TOKENS, CharacterTokenizer, Vocabulary, WhitespaceTokenizer
from nmt.text.extension import (
    adopt_character,
    adopt_sentencepiece,
    adopt_whitespace,
    compare_vocabularies,
    extend_character,
    extend_whitespace,
)


def words(*tokens):
    return WhitespaceTokenizer(Vocabulary([*SPECIAL_TOKENS, *tokens]))


def test_missing_words_are_appended_by_frequency():
    old = words("the", "hotel")
    lines = ["a room the room", "room a bar <s> hotel", "zoo"]
    assert extend_whitespace(old, lines).vocabulary.tokens[4:] == ("the", "hotel", "room", "a", "\\<s>", "bar", "zoo")
    assert extend_whitespace(old, lines, minimum_count=2).vocabulary.tokens[6:] == ("room", "a")
    assert extend_whitespace(old, lines, max_new_tokens=1).vocabulary.tokens[6:] == ("room",)
    assert extend_whitespace(old, ["the hotel"]) is old
    with pytest.raises(DataError, match="needs text to learn from, got only empty lines"):
        extend_whitespace(old, ["", " "])


def test_missing_characters_are_appended():
    old = CharacterTokenizer(Vocabulary([*SPECIAL_TOKENS, "a", "b"]))
    extended = extend_character(old, ["ab ▁", "ßa ß"])
    assert extended.vocabulary.tokens[4:6] == ("a", "b")
    assert extended.decode(extended.encode("ab ß▁")) == "ab ß▁"
    assert extend_character(extended, ["ab"]) is extended


def test_every_token_is_traced_back():
    difference = compare_vocabularies(words("the", "hotel", "bar"), words("bar", "zoo", "the"))
    assert difference.origins == ((0,), (1,), (2,), (3,), (6,), (1,), (4,))
    assert (difference.old_size, difference.new_size, difference.kept, difference.moved) == (7, 7, 6, 2)
    assert difference.added == {"zoo": ["<unk>"]}
    assert difference.dropped == ["hotel"]


def test_pieces_are_traced_back_to_their_cut(pairs):
    unigram, bpe = pairs["unigram"].source, pairs["bpe"].source
    difference = compare_vocabularies(unigram, bpe)
    assert difference.added
    for token_id, token in enumerate(bpe.vocabulary.tokens):
        pieces = unigram.tokens(difference.origins[token_id])
        assert "".join(pieces) == token or "<unk>" in pieces
        assert difference.added.get(token, [token]) == pieces
    assert difference.kept + len(difference.added) == difference.new_size


def test_an_empty_cut_comes_from_all_ordinary_tokens(monkeypatch):
    old = words("the", "hotel")
    monkeypatch.setattr(old, "cut", lambda token: [])
    assert compare_vocabularies(old, words("zoo")).origins[4:] == ((4, 5),)


def test_lists_from_elsewhere_are_read(tmp_path, pairs):
    plain, own = tmp_path / "plain.txt", tmp_path / "vocabulary.txt"
    plain.write_text("hotel\r\na\\u0020b\n", encoding="utf-8")
    assert adopt_whitespace(plain).vocabulary.tokens[4:] == ("hotel", "a\\u0020b")
    pairs["whitespace"].source.vocabulary.save(own)
    assert adopt_whitespace(own).fingerprint == pairs["whitespace"].source.fingerprint
    pairs["character"].source.vocabulary.save(own)
    assert adopt_character(own).with_normalization("nfkc").fingerprint == pairs["character"].source.fingerprint
    model = tmp_path / "m.model"
    model.write_bytes(pairs["bpe"].source.model)
    assert adopt_sentencepiece(model).fingerprint == pairs["bpe"].source.fingerprint


@pytest.mark.parametrize(
    ("content", "read", "message"),
    [
        (b"", adopt_whitespace, "list: a vocabulary must have a token a line, got an empty file"),
        (b"hotel 12\n", adopt_whitespace, "list: each line must be a word, got 'hotel 12'"),
        (b"a\n\nb\n", adopt_whitespace, "list: each line must be a word, got ''"),
        (
            b"<unk>\n<s>\na\n",
            adopt_whitespace,
            "must not repeat a token, got '<unk>'.* a list of tokens has no special",
        ),
        (b"ab\n", adopt_character, "list: each line must be one character, got 'ab'"),
        (b"\xff\n", adopt_character, "list: not valid UTF-8"),
        (b"ab\n", adopt_sentencepiece, "list: not a SentencePiece model"),
    ],
)
def test_lists_that_do_not_fit_are_refused(tmp_path, content, read, message):
    path = tmp_path / "list"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(path)
