"""Where sentences end, and how a long line is split there and joined again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmt.text.sentences import join_sentences, sentence_starts, split_line


@pytest.mark.parametrize(
    "marked",
    [
        "Das ist gut. |Das auch! |Am 3. Mai kam Dr. Müller. |Er ging (z. B. heim). |„Ja?“ |Nein... |So … so.",
        "J. R. Smith came in 1990. |Then U.S. troops left. |It is 3.5 km. |No. |Mr. Bean did.",
        "He said: “Go!” |“No.” |(She went.) |Why?! |¿Qué? |¡Sí! |1. Step",
        "今天很好。|明天也好！ |「好吗？」|好。",
        "what? |Where! ... and so on. here",
        "यह अच्छा है। |वह भी। |هل هذا جيد؟ |نعم.",
        "no end",
        "",
    ],
)
def test_sentences_of_a_line(marked):
    line = marked.replace("|", "")
    starts = sentence_starts(line)
    assert "|".join(line[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)) == marked


def num_words(text):
    return len(text.split())


def test_parts_are_as_few_as_fit():
    line = "Aa bb. Cc dd ee. Ff gg hh ii jj kk ll. Mm nn. Oo."
    assert split_line(line, num_words, 5) == ["Aa bb. Cc dd ee.", "Ff gg hh ii jj kk ll.", "Mm nn. Oo."]
    assert split_line(line, num_words, 1) == ["Aa bb.", "Cc dd ee.", "Ff gg hh ii jj kk ll.", "Mm nn.", "Oo."]
    assert split_line(f" {line} ", num_words, 15) == [f" {line} "]
    assert split_line("aa bb cc, dd", num_words, 2) == ["aa bb cc, dd"]


@given(st.text(alphabet="aB. !?。\"'3(", max_size=30), st.integers(1, 5))
def test_nothing_is_lost_between_parts(line, limit):
    parts = split_line(line, num_words, limit)
    assert "".join("".join(parts).split()) == "".join(line.split())
    assert len(parts) == 1 or all(parts)


def test_parts_are_joined_as_their_script_is_written():
    assert join_sentences(["A b.", "", "C."]) == "A b. C."
    assert join_sentences(["好。", "不好。", "A."]) == "好。不好。A."
    assert join_sentences(["좋다.", "나쁘다."]) == "좋다. 나쁘다."
    assert join_sentences(["ดี", "ไม่ดี"]) == "ดี ไม่ดี"
