import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmt.text import BOS_ID, EOS_ID, PAD_ID, SPECIAL_TOKENS, UNK_ID, CharacterTokenizer, Vocabulary, WhitespaceTokenizer

LINE_BREAKERS = ["\r", "\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"]


def test_text_comes_back(pair, source_lines, target_lines):
    for lines, tokenizer in ((source_lines, pair.source), (target_lines, pair.target)):
        for line in lines[:50]:
            assert tokenizer.decode(tokenizer.encode(line)) == line


def test_a_batch_gives_what_single_lines_give(pair, target_lines):
    lines = ["", *target_lines[:20], "unknown 日 character", " "]
    assert pair.target.encode_batch(lines) == [pair.target.encode(line) for line in lines]


def test_an_empty_line_has_no_tokens(pair):
    assert pair.source.encode("") == []
    assert pair.source.decode([]) == ""
    assert pair.source.encode_batch([]) == []


@pytest.mark.parametrize("special", SPECIAL_TOKENS)
def test_text_never_becomes_a_special_symbol(pair, special):
    for text in (special, f"the {special} hotel", f"{special}{special}", f"the{special}", f"\\{special} \\\\{special}"):
        assert not {PAD_ID, BOS_ID, EOS_ID} & set(pair.target.encode(text))


def test_special_ids_are_silent_and_the_unknown_one_shows(pair, target_lines):
    token_ids = pair.target.encode(target_lines[0])
    framed = [BOS_ID, *token_ids, EOS_ID, PAD_ID, PAD_ID]
    assert pair.target.decode(framed) == target_lines[0]
    assert pair.target.decode([UNK_ID]) == "<unk>"
    assert UNK_ID in pair.target.encode("日")


def test_ids_may_be_numpy_integers(pair, target_lines):
    token_ids = np.array(pair.target.encode(target_lines[1]), dtype=np.int32)
    assert pair.target.decode(token_ids) == target_lines[1]
    assert pair.target.tokens(token_ids) == [pair.target.vocabulary.token(int(i)) for i in token_ids]


def test_tokens_show_special_symbols(pair):
    assert pair.target.tokens([2, 1, 3, 0]) == ["<s>", "<unk>", "</s>", "<pad>"]


def test_every_id_is_within_the_vocabulary(pair, source_lines):
    used = {token_id for line in source_lines for token_id in pair.source.encode(line)}
    assert min(used) > EOS_ID
    assert max(used) < len(pair.source.vocabulary)


def test_a_line_that_holds_what_others_take_for_a_line_end_is_one_line(pair):
    for breaker in LINE_BREAKERS:
        tokens = pair.target.encode(f"the{breaker}hotel")
        assert "\n" not in pair.target.decode(tokens)
        assert len(tokens) > 0


def test_a_lone_surrogate_or_a_nul_does_not_stop_the_tokenizer(pair):
    for text in ("the \ud800 hotel", "the \0 hotel"):
        assert "hotel" in pair.target.decode(pair.target.encode(text))
        assert pair.target.encode_batch([text]) == [pair.target.encode(text)]


def test_whitespace_splits_at_spaces_and_tabs_only():
    tokens = ["a\u2028b", "c\xa0d", "e\x85f", "g\rh"]
    assert WhitespaceTokenizer.split("  " + " \t ".join(tokens) + "\t") == tokens


def whitespace_tokenizer(text):
    return WhitespaceTokenizer(Vocabulary([*SPECIAL_TOKENS, *sorted(set(WhitespaceTokenizer.split(text)))]))


@given(st.lists(st.sampled_from(["<s>", "\\<s>", "\\\\</s>", "<pad>", "<unk>", "x", "\\", "<s>x"]), max_size=6))
def test_whitespace_tokens_that_look_special_come_back(words):
    text = " ".join(words)
    tokenizer = whitespace_tokenizer(text)
    token_ids = tokenizer.encode(text)
    assert all(token_id > EOS_ID for token_id in token_ids)
    assert tokenizer.decode(token_ids) == text


@given(st.text(max_size=12))
def test_known_characters_come_back_exactly(text):
    tokenizer = CharacterTokenizer(Vocabulary([*SPECIAL_TOKENS, *sorted(set(CharacterTokenizer.split(text)))]))
    token_ids = tokenizer.encode(text)
    assert len(token_ids) == len(text)
    assert all(token_id > EOS_ID for token_id in token_ids)
    assert tokenizer.decode(token_ids) == text


def test_character_tokens_show_spaces(pairs):
    tokenizer = pairs["character"].target
    assert tokenizer.tokens(tokenizer.encode("I like")) == ["I", "▁", "l", "i", "k", "e"]


def test_the_symbol_for_a_space_can_itself_be_text():
    tokenizer = CharacterTokenizer(Vocabulary([*SPECIAL_TOKENS, "▁", "\\▁", "a"]))
    assert tokenizer.decode(tokenizer.encode("▁ a▁")) == "▁ a▁"
