"""What is odd about a translation."""

import pytest

from nmt.control.controls import Control, Controls
from nmt.text import Vocabulary, WhitespaceTokenizer
from nmt.translation.flags import Flag, flags_of

LONG = "the quick brown fox jumps over the lazy dog "


@pytest.mark.parametrize(
    ("source", "text", "flags"),
    [
        ("Zwei Hunde spielen.", "Two dogs are playing.", ()),
        ("", "", ()),
        ("Ja.", " ", ("empty",)),
        # A copy is more than names and numbers.
        ("Zwei alte Hunde spielen im Gras.", "zwei alte  Hunde spielen im Gras.", ("copy",)),
        ("ZWEI HUNDE SPIELEN", "ZWEI HUNDE SPIELEN", ("copy",)),
        ("两只狗在草地上玩耍。", "两只狗在草地上玩耍。", ("copy",)),
        ("Zagreb", "Zagreb", ()),
        ("Ludwig van Beethoven", "Ludwig van Beethoven", ()),
        ("东京", "东京", ()),
        ("42", "42", ()),
        ("https://example.org/so/eine/kleine/seite", "https://example.org/so/eine/kleine/seite", ()),
        # Lengths, in characters; short texts may differ more.
        ("Ja.", "Yes, that is so.", ()),
        (LONG, LONG[:5], ("ratio",)),
        (LONG[:5], LONG, ("ratio",)),
        ("敏捷的棕色狐狸跳过那只懒狗", LONG, ()),
        # Words in a row, unless the source has them too.
        ("Er singt.", "He sings very, very well.", ()),
        ("Ein roter Pulli.", "A red red red sweater.", ("repetition",)),
        ("Ein Junge rutscht.", "A boy is sliding over a railing over a railing.", ("repetition",)),
        ("Eine Gruppe.", "A group of some of some of some.", ("repetition",)),
        ("Hoch hoch hoch!", "Up up up!", ()),
        ("Na ja ...", "Well ...", ()),
        ("They study.", "他们研究研究。", ()),
        ("They study.", "他们在研究室里在研究室里。", ()),
        ("They study there.", "他们在大学研究室在大学研究室。", ("repetition",)),
    ],
)
def test_flags_of_texts(source, text, flags):
    assert flags_of(source, text) == flags


def test_what_the_search_knows_is_flagged_in_the_order_of_the_flags():
    known = {"satisfied": False, "finished": False, "cut": True, "unread": True, "unknown": True}
    assert flags_of("Ja.", "Yes.", **known) == (
        Flag.UNKNOWN, Flag.UNREAD, Flag.CUT, Flag.UNFINISHED, Flag.UNSATISFIED,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("control", "text", "met", "keeps"),
    [
        (Control(), "one two", {}, True),
        (Control(require=("two", "six | one")), "one two", {"two": True, "six | one": True}, True),
        (Control(require=("two", "two")), "one two three", {"two": False}, True),
        (Control(require=("two", "two")), "two two", {"two": True}, True),
        (Control(require=("two",)), "one twofold", {"two": False}, True),
        (Control(avoid=("six", "two")), "one two", {}, False),
        (Control(avoid=("two",)), "one twofold", {}, True),
        (Control(prefix="one t"), "one two", {}, True),
        (Control(prefix="one "), "onetwo", {}, False),
        (Control(prefix="one two three"), "one two", {}, False),
    ],
)
def test_finished_texts_are_checked_by_the_automata_of_the_search(control, text, met, keeps):
    words = ["<pad>", "<unk>", "<s>", "</s>", "one", "two", "three", "six", "twofold", "onetwo"]
    controls = Controls(WhitespaceTokenizer(Vocabulary(words)))
    assert controls.met(control, text) == met
    assert controls.keeps(control, text) == keeps
