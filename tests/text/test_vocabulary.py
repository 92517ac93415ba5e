import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmt.errors import DataError
from nmt.text.vocabulary import BOS_ID, EOS_ID, SPECIAL_TOKENS, UNK_ID, Vocabulary
from nmt.types import PAD_ID

ODD_TOKENS = ["a\rb", "\u2028", "\x85", "\x00", "\n", "\t", " ", "\\", "\\n", "\\u0041", "\ufeff", "\U000e0001", ""]


def test_special_tokens_have_their_fixed_ids():
    vocabulary = Vocabulary([*SPECIAL_TOKENS, "hotel"])
    assert [vocabulary.token(i) for i in (PAD_ID, UNK_ID, BOS_ID, EOS_ID)] == ["<pad>", "<unk>", "<s>", "</s>"]
    assert (PAD_ID, UNK_ID, BOS_ID, EOS_ID) == (0, 1, 2, 3)


def test_a_token_that_is_not_there_is_unknown():
    vocabulary = Vocabulary([*SPECIAL_TOKENS, "hotel"])
    assert vocabulary.id("hotel") == 4
    assert vocabulary.id("station") == UNK_ID


def test_an_id_that_is_not_there_is_refused():
    vocabulary = Vocabulary([*SPECIAL_TOKENS, "hotel"])
    for token_id in (-1, 5):
        with pytest.raises(IndexError):
            vocabulary.token(token_id)


def test_odd_tokens_survive_the_file_and_keep_it_one_line_a_token(tmp_path):
    vocabulary = Vocabulary([*SPECIAL_TOKENS, *ODD_TOKENS, "Zürich", "日本", "\ud800"])
    vocabulary.save(tmp_path / "vocabulary.txt")
    assert Vocabulary.load(tmp_path / "vocabulary.txt").tokens == vocabulary.tokens
    text = (tmp_path / "vocabulary.txt").read_text(encoding="utf-8")
    assert len(text.splitlines()) == len(vocabulary)  # splitlines breaks at everything that could be taken for a line
    assert "Zürich" in text


@given(st.lists(st.text(alphabet=st.characters(), max_size=4), unique=True, max_size=9))
def test_any_tokens_survive_the_file(tmp_path_factory, tokens):
    path = tmp_path_factory.mktemp("vocabulary") / "vocabulary.txt"
    vocabulary = Vocabulary([*SPECIAL_TOKENS, *(token for token in tokens if token not in SPECIAL_TOKENS)])
    vocabulary.save(path)
    loaded = Vocabulary.load(path)
    assert loaded.tokens == vocabulary.tokens
    assert loaded.fingerprint == vocabulary.fingerprint


def test_the_fingerprint_is_that_of_the_content():
    tokens = [*SPECIAL_TOKENS, "a", "b"]
    assert Vocabulary(tokens).fingerprint == Vocabulary(tuple(tokens)).fingerprint
    others = [[*SPECIAL_TOKENS, "b", "a"], [*SPECIAL_TOKENS, "ab"], [*SPECIAL_TOKENS, "a\nb"], [*SPECIAL_TOKENS, "a"]]
    assert len({Vocabulary(tokens).fingerprint for tokens in [tokens, *others]}) == 5


def test_special_tokens_must_come_first():
    with pytest.raises(DataError, match="must begin with <pad> <unk> <s> </s>, got <unk> <pad>"):
        Vocabulary(["<unk>", "<pad>"])


def test_a_repeated_token_is_refused():
    with pytest.raises(DataError, match="must not repeat a token, got 'x' as 4 and 6"):
        Vocabulary([*SPECIAL_TOKENS, "x", "y", "x"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello\nworld\n", "not a vocabulary: a vocabulary must begin with"),
        (b"<pad>\n<unk>\n<s>\n</s>\na\na\n", "not a vocabulary: a vocabulary must not repeat"),
        (b"<pad>\n\xff\n", "not valid UTF-8 \\(byte 6\\)"),
        (b"<pad>\n<unk>\n<s>\n</s>\n\\Uffffffff\n", "not a vocabulary"),
    ],
)
def test_a_file_that_is_no_vocabulary_is_named(tmp_path, content, message):
    path = tmp_path / "vocabulary.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=re.escape(str(path)) + ": " + message):
        Vocabulary.load(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=re.escape(str(tmp_path / "none.txt")) + ": cannot be read: No such file"):
        Vocabulary.load(tmp_path / "none.txt")


def test_a_directory_that_is_missing_is_named(tmp_path):
    with pytest.raises(DataError, match="cannot be written: No such file"):
        Vocabulary(SPECIAL_TOKENS).save(tmp_path / "none" / "vocabulary.txt")
