"""Text that other programs cut or tokenised: it is known by its marks, and its words are found again."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmt.settings.data import DataSettings
from nmt.text.marks import SEGMENTATIONS, TOKENS, found_marks, joined, joined_side

PIECES = st.lists(st.text("abcé我#@.-", min_size=1, max_size=4), min_size=1, max_size=3)


def cut(words, segmentation):
    """Words as lists of pieces, written as the program of that name writes them."""
    join = {
        "bpe": "@@ ".join,
        "sentencepiece": lambda pieces: "▁" + " ".join(pieces),
        "wordpiece": " ##".join,
        "joiner": "￭ ".join,
        "none": "".join,
    }[segmentation]
    return " ".join(map(join, words))


@pytest.mark.parametrize("segmentation", SEGMENTATIONS)
@given(words=st.lists(PIECES, min_size=1, max_size=4))
def test_words_are_found_again(segmentation, words):
    words = [[piece.replace("#", "a").replace("@@", "b").rstrip("@") + "c" for piece in word] for word in words]
    assert joined(cut(words, segmentation), segmentation) == " ".join(map("".join, words))


@pytest.mark.parametrize(
    ("segmentation", "line", "words"),
    [
        ("bpe", "fr@@ om h@@", "from h"),
        ("sentencepiece", "▁我 喜欢 ▁ car s ▁", "我喜欢 cars"),
        ("wordpiece", "em ##bed ##ding # 1 ## a", "embedding # 1 ## a"),
        ("joiner", "( ￭we￭ ll ￭-￭ known￭ )", "(well-known)"),
    ],
)
def test_words_are_joined_as_those_programs_do(segmentation, line, words):
    assert joined(line, segmentation) == words
    assert joined_side(["a", line], segmentation) == [joined("a", segmentation), words]
    plain = ["no marks", "at all"]
    assert joined_side(plain, segmentation) is plain


@pytest.mark.parametrize("segmentation", SEGMENTATIONS[1:])
def test_text_that_was_cut_is_known(segmentation):
    pieces = cut([["fr", "om"], ["here"]], segmentation)
    texts = {"few": ["a plain line"] * 49 + [pieces], "some": [*["a plain line"] * 40, pieces, ""], "all": [pieces]}
    found = found_marks(texts)
    assert list(found) == [segmentation]
    start = f"2 % of the lines of some and 100 % of the lines of all look cut into pieces by {segmentation} (`"
    assert found[segmentation].startswith(start)


@pytest.mark.parametrize(
    "line",
    [
        "It is here .",
        "Well , yes",
        "They said &quot; no",
        "I don &apos;t",
        "I do n't",
        "They 're here",
        "a well @-@ known man",
        "我 喜欢 车 。",
        "fr@@ om h .",
    ],
)
def test_tokenised_text_is_known(line):
    found = found_marks({"text": [*["A plain line."] * 7, line]})[TOKENS]
    assert found.startswith("12 % of the lines of text look tokenised (`")
    assert TOKENS not in found_marks({"text": [*["A plain line."] * 9, line]})


@pytest.mark.parametrize(
    "line",
    [
        "Bonjour !",
        "Quoi ? « Rien » : non ; si",
        "Wait ...",
        "at 3.5 %, no. 4",
        "वह है ।",
        "a@b.c",
        "## Title",
        "#tag",
        "x_y",
        "",
    ],
)
def test_plain_text_is_left_in_peace(line):
    assert not found_marks({"text": [line]})


def test_settings_name_every_segmentation():
    assert get_args(DataSettings.model_fields["segmentation"].annotation) == SEGMENTATIONS
