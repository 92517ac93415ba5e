"""Glossaries: what a file says, where the terms stand in a text, and what a report counts."""

import itertools
import logging
import random

import pytest

from nmt.control.controls import Control, Controls
from nmt.control.glossary import Glossary, Placed, Report, Term
from nmt.control.phrases import Phrase, Text, folded, is_word
from nmt.errors import DataError
from nmt.text import CharacterTokenizer
from nmt.text.tokenizer import normalized


def written(tmp_path, text):
    path = tmp_path / "terms.tsv"
    path.write_bytes(text.encode())
    return path


def test_a_file_has_a_term_a_line(tmp_path):
    path = written(
        tmp_path,
        "\ufeff# animals\n\nHund\tdog\r\nKatze \t cat | kitty\nWaren\tgoods\tcase\nWaren\tgoods\tcase\n"
        "waren\twere\nHaribo\niPhone\t\tcase\nUnd|oder\tand|or\n",
    )
    assert Glossary.read(path).terms == (
        Term("Hund", ("dog",)),
        Term("Katze", ("cat", "kitty")),
        Term("Waren", ("goods",), match_case=True),
        Term("waren", ("were",)),
        Term("Haribo"),
        Term("iPhone", match_case=True),
        Term("Und|oder", ("and|or",)),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Hund\tdog\n\tcat\n", r"terms.tsv, line 2: must be a term, a tab, its translation, .* got '\\tcat'"),
        ("Hund\tdog\tcase\tdog\n", r"line 1: must be a term, a tab, its translation, and at most a tab and flags"),
        ("Hund\tdog\tcases\n", r"line 1: a flag must be case, got 'cases'"),
        ("Hut | Kappe\n", r"line 1: a term to keep has no alternatives, got 'Hut \| Kappe': write each in a line"),
        ("\n\nHund\tdog |\n", r"line 3: there must be text on both sides of \|, got 'dog |'"),
        (
            "Hund\tdog\n# -\nHUND\thound\n",
            r"line 3: 'HUND' must have its translations in one line, got 'dog \| Dog' in line 1 and 'hound \| Hound' "
            "here: write them as 'a | b'",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_line(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        Glossary.read(written(tmp_path, text))


def test_a_file_must_be_utf_8(tmp_path):
    path = tmp_path / "terms.tsv"
    path.write_bytes("Bär\tbear\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"terms.tsv: not valid UTF-8 \(byte 1\)"):
        Glossary.read(path)


def test_a_translation_in_small_letters_may_begin_with_a_capital_and_no_other():
    assert Term("Hund", ("dog", "big dog")).required == "dog | big dog | Dog | Big dog"
    assert Term("Telefon", ("iPhone",)).required == "iPhone"
    assert Term("nginx").required == "nginx"


def test_each_place_of_a_term_is_asked_for_and_the_longest_comes_first():
    glossary = Glossary(
        [Term("Hund", ("Dog",)), Term("der große Hund", ("The Dane",)), Term("Waren", ("Goods",), True), Term("ABC")]
    )
    lines = ["Der  große Hund, ein Hund und HUND", "Waren waren da: abc", "", "Hunde, Hu\u0301nd, abcd"]
    controls, found = glossary.controls(lines)
    assert controls == [
        Control(terms=("The Dane", "Dog", "Dog")),
        Control(terms=("Goods", "ABC")),
        Control(),
        Control(),
    ]
    assert [[term.source for term in terms] for terms in found] == [
        ["der große Hund", "Hund", "Hund"],
        ["Waren", "ABC"],
        [],
        [],
    ]


def test_text_is_compared_as_the_source_tokenizer_normalises_it():
    glossary = Glossary([Term("Cafe\u0301", ("Coffee",))])
    assert glossary.found("Caf\u00e9") == ()
    composed = glossary.with_normalization(lambda text: normalized(text, "nfc"))
    assert composed.found("ein Caf\u00e9") == composed.found("ein Cafe\u0301") == glossary.terms


def places(text, phrase):
    """Where a phrase stands in a text as whole words, by characters."""
    for start in range(len(text) - len(phrase) + 1):
        end = start + len(phrase)
        before, after = text[:start][-1:], text[end:][:1]
        continues = (before and is_word(before) and is_word(phrase[0])) or (
            after and is_word(after) and is_word(phrase[-1])
        )
        if text[start:end] == phrase and not continues:
            yield start, end


def random_text(generator, longest):
    return " ".join("".join(generator.choices("aAb\u0301-  ", k=generator.randint(1, longest))).split())


@pytest.mark.parametrize("seed", range(5))
def test_terms_of_random_lines_are_those_found_character_by_character(seed):
    generator = random.Random(seed)
    num_found = 0
    for _ in range(200):
        sources = {random_text(generator, 4) for _ in range(6)} - {""}
        terms = {}
        for source in sorted(sources):
            match_case = generator.random() < 0.3
            terms.setdefault((source if match_case else folded(source), match_case), Term(source, ("x",), match_case))
        line = random_text(generator, 16)
        at = {}
        for term in sorted(terms.values(), key=lambda term: not term.match_case):
            exact = term.match_case
            for place in places(line if exact else folded(line), term.source if exact else folded(term.source)):
                at.setdefault(place, term)
        free, expected = [True] * len(line), {}
        for start, end in sorted(at, key=lambda place: (place[0] - place[1], place[0])):
            if all(free[start:end]):
                free[start:end] = [False] * (end - start)
                expected[start] = at[start, end]
        found = Glossary(terms.values()).found(line)
        assert found == tuple(expected[start] for start in sorted(expected)), line
        num_found += len(found)
    assert num_found > 100


def most_disjoint(spans):
    """How many of some places share nothing at most, by trying all choices."""
    for count in range(len(spans), 0, -1):
        for chosen in itertools.combinations(sorted(spans), count):
            if all(one[1] <= other[0] for one, other in itertools.pairwise(chosen)):
                return count
    return 0


@pytest.mark.parametrize("seed", range(5))
def test_terms_of_random_translations_are_counted_as_by_trying_and_as_the_search_does(seed):
    generator = random.Random(seed)
    num_exact = 0
    for _ in range(400):
        targets = sorted({random_text(generator, 3) for _ in range(2)} - {""}) or ["A"]
        term, times = Term("x", tuple(targets)), generator.randint(1, 3)
        translation = random_text(generator, 14)
        ((found, exact, _),) = Report().add([[term] * times], [translation])
        at = {place for target in term.alternatives for place in places(translation, target)}
        assert (found, exact) == (times, min(times, most_disjoint(at))), (translation, term)
        automaton = Text(map(Phrase, term.alternatives), times)
        state = automaton.start
        for character in translation:
            state = automaton.step(state, character)
        assert automaton.may_end(state) == (exact == times), (translation, term)
        num_exact += exact
    assert num_exact > 100


@pytest.mark.parametrize(
    ("target", "translation", "expected"),
    [
        ("dog", "a dog", (1, 1, 0)),
        ("dog", "Dogs", (1, 0, 1)),
        ("dog", "DOG", (1, 0, 1)),
        ("dog", "dogmatic", (1, 0, 0)),
        ("dog", "doing", (1, 0, 0)),
        ("city", "cities", (1, 0, 1)),
        ("child", "the children", (1, 0, 1)),
        ("child", "chill, chilly", (1, 0, 1)),  # a guess: the page says so
        ("child", "china", (1, 0, 0)),
        ("an", "any and ant", (1, 0, 0)),
        ("big dog", "bigger dogs", (1, 0, 1)),
        ("big dog", "dogs big", (1, 0, 0)),
        ("C++", "C--", (1, 0, 0)),
    ],
)
def test_a_changed_word_begins_as_the_term_and_is_little_longer(target, translation, expected):
    assert Report().add([[Term("x", (target,))]], [translation]) == [expected]


def test_terms_with_the_same_translation_need_a_place_each():
    report = Report()
    dog, hound, cat = Term("Hund", ("dog",)), Term("Köter", ("dog",)), Term("Katze", ("cat",))
    placed = report.add([[dog, hound, cat], [], [hound]], ["a dog, dogs and cats", "cat", "dog"])
    assert placed == [Placed(3, 1, 2), Placed(), Placed(1, 1, 0)]
    assert report.total == (4, 2, 2)
    assert report.by_term == {dog: (1, 1, 0), hound: (2, 1, 1), cat: (1, 0, 1)}
    assert Report().add([[Term("x", ("A B C", "B", "C"))] * 2], ["A B C"]) == [Placed(2, 2, 0)]


def test_a_report_says_what_is_not_placed(caplog):
    caplog.set_level(logging.INFO)
    report = Report()
    report.log()
    dog, cat, name = Term("Hund", ("dog", "hound")), Term("Katze", ("cat",)), Term("Rex")
    report.add([[dog, dog, name], [cat], []], ["Dogs", "Cat", "x"])
    report.log()
    assert [" ".join(record.message.split()) for record in caplog.records] == [
        "glossary: none of its terms is in the text (a tab parts a term and its translation)",
        "glossary: 4 terms found in 2 of 3 lines: 1 placed (25.0%), 1 inflected, 2 not placed",
        "Hund → dog | hound: 2 of 2 not placed, 1 of them inflected",
        "Rex → Rex: 1 of 1 not placed, 0 of them inflected",
    ]


def test_a_term_that_the_vocabulary_cannot_spell_is_named_once_and_not_asked_for(caplog):
    vocabulary = Controls(CharacterTokenizer.learn(["dog a"], vocabulary_size=None, minimum_count=1))
    glossary = Glossary([Term("Hund", ("dog",)), Term("Katze", ("cat",)), Term("Igel", ("hedgehog", "god"))])
    controls, found = glossary.controls(["Hund Katze Igel", "Katze"], vocabulary)
    assert controls == [Control(terms=("dog | Dog", "hedgehog | god | Hedgehog | God")), Control()]
    assert [len(terms) for terms in found] == [3, 1]
    assert [record.message for record in caplog.records] == [
        "the glossary cannot ask for the translation of 'Katze': 'cat | Cat' cannot be spelled by the tokens of the "
        "model"
    ]
