"""What is asked of the words of a translation, before a search: what contradicts itself, and what a text has."""

import pytest

from nmt.control.controls import Control, Controls
from nmt.errors import ConfigError
from nmt.text import CharacterTokenizer

CONTROLS = Controls(CharacterTokenizer.learn(["single room, Room ROOM (x) -"], vocabulary_size=None, minimum_count=1))


@pytest.mark.parametrize(
    ("control", "message"),
    [
        (Control(("single room",), ("room",)), "'single room' must appear, but 'room', which stands in it, must not"),
        (Control(("room",), ("single", "room")), "'room' must appear, but 'room', which stands in it"),
        (Control(("single room | room",), ("room",)), "'single room | room' must appear, but 'room'"),
        (Control(("room",), ("oo",), part_words=True), "'room' must appear, but 'oo'"),
        (Control(("room",), ("ROOM",), ignore_case=True), "'room' must appear, but 'ROOM'"),
        (Control(terms=("room",), avoid=("room",)), "'room' must appear, but 'room'"),
        (Control(avoid=("room",), prefix="single room "), "the prefix 'single room ' has 'room'"),
        (Control(("dog",)), "'dog' cannot be spelled"),
        (Control(("room",), ("  ",)), "a phrase must have characters"),
    ],
)
def test_what_contradicts_itself_is_refused_with_both_phrases(control, message):
    with pytest.raises(ConfigError, match=message):
        CONTROLS.check(control)


@pytest.mark.parametrize(
    "control",
    [
        Control(("single room",), ("oo", "ingle")),
        Control(("room",), ("single room",)),
        Control(("single | room",), ("room",)),
        Control(("room",), ("Room", "ROOM")),
        Control(terms=("room",), avoid=("rooms",), part_words=True),
        Control(avoid=("room",), prefix="single room"),  # may go on within the word
        Control(("x)",), ("x x",)),
    ],
)
def test_what_can_be_is_not_refused(control):
    CONTROLS.check(control)


def test_glossary_terms_stay_whole_words_with_their_case():
    asked = Control(require=("ROOM",), terms=("x",), part_words=True, ignore_case=True)
    assert CONTROLS.met(asked, "some rooms (x)") == {"ROOM": True, "x": True}
    assert CONTROLS.met(asked, "some rooms (xx)") == {"ROOM": True, "x": False}
    assert CONTROLS.met(asked, "some rows X") == {"ROOM": False, "x": False}
    assert CONTROLS.met(Control(), "anything") == {}
    assert CONTROLS.met(Control(("x", "x"), terms=("x",)), "one x") == {"x": False}
