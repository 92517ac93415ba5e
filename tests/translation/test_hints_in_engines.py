"""Hints in both engines: the ids that a model reads, the translations of Keras and CTranslate2, and what is refused."""

import logging

import numpy as np
import pytest
from keras import ops

from nmt.config import Config, SearchSettings
from nmt.control.controls import NO_CONTROL, Control, read_record
from nmt.control.glossary import Glossary, Report, Term
from nmt.control.hints import HintFinder, log_hints, with_hints
from nmt.errors import ConfigError, DataError
from nmt.export.ctranslate2_export import SamplePair, export_ctranslate2
from nmt.inference.translator import OpenedModel, Translator, vocabularies_of
from nmt.models.contract import build_model
from nmt.text import BOS_ID, EOS_ID, SPECIAL_TOKENS, TextPair, Vocabulary, WhitespaceTokenizer
from nmt.text.hints import HINT_MARKS
from nmt.translation.ctranslate2_engine import CTranslate2Translator
from tests import tiny

pytestmark = pytest.mark.usefixtures("eagerly")

LINES = ["uno dos", "tres", "dos uno Tres dos", "", "uno"]
HINTS = {"uno dos": "four", "dos": "two", "tres": "three three"}


def words(*sides):
    return [WhitespaceTokenizer(Vocabulary([*SPECIAL_TOKENS, *side.split()])) for side in sides]


@pytest.fixture(scope="module")
def opened():
    source, target = words("uno dos tres Tres two three four", "one two three four")
    text = TextPair(source, target, joint=False).with_hint_marks()
    files = {"source": "s", "target": "t"}
    data = {"source_language": "es", "target_language": "en", "train": {**files, "alignment": "a"}, "validation": files}
    data["variation"] = {"tags": 0.1}
    model = {**tiny.TRANSFORMER, "tie_embeddings": "target_output"}
    config = Config.model_validate({"model_directory": "run", "data": data, "model": model})
    built = build_model(vocabularies_of(text), seed=3, **config.model.model_dump())
    tiny.scatter_weights(built, seed=4, spread=0.3)
    return OpenedModel(config, text, built, "update-00000007", "raw")


def by_hand(opened, source_ids, target):
    ids = [*opened.text.target.encode(target), EOS_ID]
    log_probs = ops.log_softmax(opened.model((np.array([source_ids]), np.array([[BOS_ID, *ids[:-1]]]))))[0]
    return sum(float(log_probs[place, token_id]) for place, token_id in enumerate(ids))


def test_both_engines_read_a_line_with_its_hints(opened, tmp_path):
    with tiny.run_eagerly():
        export_ctranslate2(
            opened, tmp_path / "out", [SamplePair([4, 5], [6, 4]), SamplePair([6], [5, 5])], quantization="float32"
        )
    ours, theirs = Translator.of(opened), CTranslate2Translator.load(tmp_path / "out", threads=1)
    controls = with_hints(None, HINTS, len(LINES))
    for each in (ours, theirs):
        each.search = SearchSettings(max_length=5, beam_size=3)
    ours.search = theirs.search
    one, other = (each.n_best(LINES, 1, controls=controls) for each in (ours, theirs))
    first, second, done = (opened.text.source.tags[mark] for mark in HINT_MARKS)
    uno, dos, tres, capital, two, three, four = range(4, 11)
    read = [
        [first, uno, dos, second, four, done],
        [first, tres, second, three, three, done],
        [first, dos, second, two, done, uno, first, capital, second, three, three, done, first, dos, second, two, done],
        [],
        [uno],
    ]
    for (mine,), (its,), ids in zip(one, other, read, strict=True):
        assert mine.text == its.text
        assert np.isclose(its.log_prob, mine.log_prob, atol=1e-4)
        if ids:
            assert np.isclose(mine.log_prob, by_hand(opened, [*ids, EOS_ID], mine.text), atol=1e-4)
    plain = ours.n_best(LINES, 1)
    assert plain[4] == one[4]  # of a line without terms nothing changes
    assert any(before[0].log_prob != after[0].log_prob for before, after in zip(plain, one, strict=True))
    assert ours.translate(LINES, hints=HINTS) == [each.text for (each,) in one]
    assert ours.translate(LINES, hints=[HINTS] * 5) == theirs.translate(LINES, hints=HINTS)
    assert ours.translate(["uno"], hints={"dos": "two"}, controls=[Control(hints=(("uno", "four", True),))]) == [
        ours.translate(["uno"], hints={"uno": "four"})[0]
    ]


@pytest.mark.parametrize("case", [False, True])
def test_a_hint_of_a_line_comes_before_that_of_the_file_for_the_same_term(case):
    finder = HintFinder(str, Glossary([Term("Uno", ("one",), case), Term("dos", ("two",))]))
    control = finder.asked("Uno dos", Control(hints=(("uno", "four", False),)))
    assert control.hints == (("uno", "four", False), ("dos", "two", False))
    assert [term.targets for term in finder.placed("Uno dos", control)] == [("four",), ("two",)]


def test_a_model_without_hints_refuses_them(opened):
    text = TextPair(*words("uno dos", "one two"), joint=False)
    model = build_model(vocabularies_of(text), seed=3, **opened.config.model.model_dump())
    translator = Translator(model, text, SearchSettings(max_length=3, beam_size=1))
    with pytest.raises(ConfigError, match=r"hints need a model that was trained with them.*--glossary"):
        translator.translate(["nada"], hints={"uno": "one"})  # whether they are there or not
    for wrong, said in ([{}, {}], "hints for each line, got 2 for 1"), ({"uno": " "}, "terms with their translations"):
        with pytest.raises(ConfigError, match=said):
            with_hints(None, wrong, 1)
    with pytest.raises(ConfigError, match="controls for each line, got 2 for 1"):
        with_hints([NO_CONTROL] * 2, {}, 1)


def test_terms_are_found_as_those_of_a_glossary(caplog):
    doors = [Term("Tür", ("door",), match_case=True), Term("tür", ("gate",))]
    glossary = Glossary([Term("haus", ("house", "home")), *doors, Term("Rom")])
    finder = HintFinder(str.strip, glossary)
    asked = finder.asked("Haus, Haustür, Tür und tür in Rom", Control(hints=(("in", "of", False),)))
    assert asked.hints == (
        ("in", "of", False),
        ("haus", "house", False),
        ("Tür", "door", True),
        ("tür", "gate", False),
        ("Rom", "Rom", False),
    )
    line = "  Haus, Haustür, Tür und tür in Rom"
    assert finder.line(line, asked) == (
        "", "Haus", "house", ", Haustür, ", "Tür", "door", " und ", "tür", "gate", " ", "in", "of", " ",
        "Rom", "Rom", "",
    )  # fmt: skip
    assert [term.source for term in finder.placed(line, asked)] == ["haus", "Tür", "tür", "in", "Rom"]
    assert (finder.line("Haus", NO_CONTROL), finder.placed("Haus", NO_CONTROL)) == ("Haus", ())
    report = Report()
    report.add([finder.placed(line, asked), ()], ["House, doors of Rom", "x"])
    with caplog.at_level(logging.INFO):
        log_hints(report)
        log_hints(Report())
    assert caplog.messages == [
        "hints: 5 placed in 1 of 2 lines: 3 stand in the translations (60.0%), 1 inflected, 1 do not",
        "hints: none of their terms is in the text",
    ]


def test_a_record_has_hints_of_its_own():
    asked = Control(hints=(("a", "b", True),))
    record = read_record('{"source": "x", "hints": {"Haus": "house"}, "id": 3}', asked, place="line 1")
    assert (record.control.hints, record.rest) == ((("Haus", "house", False), ("a", "b", True)), {"id": 3})
    for wrong in ('["a"]', '{"a": 3}', '{"a": " "}'):
        with pytest.raises(DataError, match='line 1: "hints" must be an object of terms with their translations'):
            read_record(f'{{"source": "x", "hints": {wrong}}}', asked, place="line 1")
