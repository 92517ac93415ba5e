"""Vocabularies of words and characters: extended, compared, and read from elsewhere."""

import io
from functools import partial

import pytest
import sentencepiece

from nmt.errors import ConfigError, DataError
from nmt.text import (
    SPECIAL_TOKENS,
    CharacterTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    Vocabulary,
    WhitespaceTokenizer,
)
from nmt.text.pair import compare_vocabularies


def words(*tokens):
    return WhitespaceTokenizer(Vocabulary([*SPECIAL_TOKENS, *tokens]))


def test_missing_words_are_appended_by_frequency():
    old = words("the", "hotel")
    lines = ["a room the room", "room a bar <s> hotel", "zoo"]
    assert old.extend(lines).vocabulary.tokens[4:] == ("the", "hotel", "room", "a", "\\<s>", "bar", "zoo")
    assert old.extend(lines, minimum_count=2).vocabulary.tokens[6:] == ("room", "a")
    assert old.extend(lines, max_new_tokens=1).vocabulary.tokens[6:] == ("room",)
    assert old.extend(["the hotel"]) is old
    with pytest.raises(DataError, match="needs text to learn from, got only empty lines"):
        old.extend(["", " "])


def test_missing_characters_are_appended():
    old = CharacterTokenizer(Vocabulary([*SPECIAL_TOKENS, "a", "b"]))
    extended = old.extend(["ab ▁", "ßa ß"])
    assert extended.vocabulary.tokens[4:6] == ("a", "b")
    assert extended.decode(extended.encode("ab ß▁")) == "ab ß▁"
    assert extended.extend(["ab"]) is extended


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
    assert WhitespaceTokenizer.adopt(plain).vocabulary.tokens[4:] == ("hotel", "a\\u0020b")
    pairs["whitespace"].source.vocabulary.save(own)
    assert WhitespaceTokenizer.adopt(own).fingerprint == pairs["whitespace"].source.fingerprint
    pairs["character"].source.vocabulary.save(own)
    assert CharacterTokenizer.adopt(own).with_normalization("nfkc").fingerprint == pairs["character"].source.fingerprint
    model = tmp_path / "m.model"
    model.write_bytes(pairs["bpe"].source.model)
    assert SentencePieceTokenizer.adopt(model).fingerprint == pairs["bpe"].source.fingerprint


@pytest.mark.parametrize(
    "content",
    [
        "<unk>\n<pad>\n<s>\n</s>\nhotel\nthe\n",  # Joey NMT
        "<blank>\n<s>\n</s>\nhotel\nthe\n",  # OpenNMT-tf
        "<unk>\t0\n<s>\t0\n</s>\t0\nhotel\t-3.1\nthe\t-1e-05\n",  # SentencePiece
        "<pad>\t0\n<unk>\t0\n<s>\t0\n</s>\t0\nhotel\t-0\nthe\t-1\n",
        "\ufeffhotel\nthe\n<unk>\n",  # an editor of Windows
    ],
)
def test_special_tokens_of_a_list_from_elsewhere_become_ours(tmp_path, content):
    path = tmp_path / "list"
    path.write_text(content, encoding="utf-8")
    assert WhitespaceTokenizer.adopt(path).vocabulary.tokens == (*SPECIAL_TOKENS, "hotel", "the")


IDS = {
    "default": {},
    "padded": {"unk_id": 0, "pad_id": 1, "bos_id": 2, "eos_id": 3},
    "last": {"unk_id": 0, "bos_id": -1, "eos_id": 1, "pad_id": 2},
    "renamed": {"pad_id": 3, "pad_piece": "[PAD]", "unk_piece": "[UNK]", "bos_piece": "[BOS]", "eos_piece": "[EOS]"},
    "user-defined": {"pad_id": -1, "user_defined_symbols": ["<pad>", "<de>"]},
    "control": {"pad_piece": "[PAD]", "pad_id": 3, "control_symbols": ["<pad>"], "bos_piece": "[BOS]"},
    "ours": {"pad_id": 0, "unk_id": 1, "bos_id": 2, "eos_id": 3},
}


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
@pytest.mark.parametrize("ids", IDS)
def test_a_model_is_adopted_whatever_its_special_ids_are(tmp_path, target_lines, ids, model_type):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(target_lines), model_writer=model, vocab_size=100, hard_vocab_limit=False,
        minloglevel=3, model_type=model_type, **IDS[ids],
    )  # fmt: skip
    path = tmp_path / "their.model"
    path.write_bytes(model.getvalue())
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    ours = SentencePieceTokenizer.adopt(path)
    assert ours.vocabulary.tokens[:4] == SPECIAL_TOKENS
    for line in target_lines[:50]:
        assert ours.tokens(ours.encode(line)) == theirs.encode(line, out_type=str)
        assert ours.decode(ours.encode(line)) == line
    for token in SPECIAL_TOKENS:
        assert not {0, 2, 3} & set(ours.encode(f"a {token} b"))
    assert ("<de>" in ours.tokens(ours.encode("a<de>b"))) == (ids == "user-defined")


@pytest.mark.parametrize(
    ("content", "read", "message"),
    [
        (b"", WhitespaceTokenizer.adopt, "list: a vocabulary must have a token a line, got an empty file"),
        (b"hotel 12\n", WhitespaceTokenizer.adopt, "list: each line must be a word, got 'hotel 12'"),
        (b"a\n\nb\n", WhitespaceTokenizer.adopt, "list: each line must be a word, got ''"),
        (b"<unk>\n<s>\n", WhitespaceTokenizer.adopt, "list: a vocabulary must have a token a line, got an empty file"),
        (b"a\nb\na\n", WhitespaceTokenizer.adopt, "list: a vocabulary must not repeat a token, got 'a'"),
        (b"ab\n", CharacterTokenizer.adopt, "list: each line must be one character, got 'ab'"),
        (b"\xff\n", CharacterTokenizer.adopt, "list: not valid UTF-8"),
        (b"ab\n", SentencePieceTokenizer.adopt, "list: not a SentencePiece model"),
    ],
)
def test_lists_that_do_not_fit_are_refused(tmp_path, content, read, message):
    path = tmp_path / "list"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(path)


def test_pieces_without_their_model_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"my\.vocab: lists pieces, .*: give the \.model file beside it"):
        SentencePieceTokenizer.adopt(tmp_path / "my.vocab")


def test_a_tokenizer_of_ones_own_needs_no_more_than_it_can(tmp_path):
    class Own(Tokenizer):
        type = "own"
        encode = decode = with_normalization = load = None

    for deed in (partial(Own.learn, ["a"]), partial(Own().extend, ["a"]), partial(Own.adopt, tmp_path)):
        with pytest.raises(ConfigError, match="a tokenizer of type own cannot be"):
            deed()
