"""How translations are written."""

import json

from nmt.control.controls import Control, Record
from nmt.inference.translator import Translation
from nmt.tasks.translate import TranslatedLine
from nmt.terminal.formats import WRITERS, as_jsonl, as_text, as_tsv
from nmt.terminal.translation_options import Format
from nmt.translation.flags import Flag

BEST = Translation("a\tb", -0.5, -1.25, 2, True, ("a", "b"), (-1.0, -0.25), (Flag.COPY,), {"b": False})
SECOND = Translation("c\u2028d\x85", -0.75, -2.0, 5)


def line(*translations, wanted=3):
    return 7, TranslatedLine(Record("quelle\u2028x", rest={"id": "q-7"}), translations), wanted


def test_text_has_as_many_lines_as_were_asked_for():
    assert as_text(*line(BEST, SECOND)) == "a\tb\nc\u2028d\x85\n\n"
    assert as_text(*line(BEST, wanted=1)) == "a\tb\n"


def test_tsv_has_a_row_a_translation():
    assert as_tsv(*line(BEST, SECOND)) == "7\t1\t-0.500000\ta b\n7\t2\t-0.750000\tc\u2028d\x85\n"


def test_jsonl_is_one_line_for_every_reader():
    text = as_jsonl(*line(BEST, SECOND))
    assert len(text.splitlines()) == 1
    assert json.loads(text) == {
        "line": 7,
        "id": "q-7",
        "source": "quelle\u2028x",
        "translations": [
            {
                "text": "a\tb", "score": -0.5, "log_prob": -1.25, "num_tokens": 2,
                "tokens": ["a", "b"], "token_scores": [-1.0, -0.25], "flags": ["copy"], "constraints": {"b": False},
            },
            {"text": "c\u2028d\x85", "score": -0.75, "log_prob": -2.0, "num_tokens": 5, "flags": []},
        ],
        "engine": "keras",
    }  # fmt: skip


def test_the_engine_is_that_of_the_best_translation():
    """A second search by another engine may have found the others."""
    for engines in (("keras", "ctranslate2"), ("ctranslate2", "keras")):
        both = [each._replace(engine=engine) for each, engine in zip((BEST, SECOND), engines, strict=True)]
        assert json.loads(as_jsonl(*line(*both)))["engine"] == engines[0]


def test_a_line_without_a_translation_says_why():
    for control, flag in ((Control(avoid=("one",)), "unsatisfied"), (Control(), "failed")):
        assert json.loads(as_jsonl(1, TranslatedLine(Record("eins", control), []), 1))["flags"] == [flag]


def test_every_format_has_a_writer():
    assert set(WRITERS) == set(Format)
