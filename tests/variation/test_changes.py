from random import Random

import pytest

from nmt.errors import ConfigError
from nmt.kinds import VARIATIONS
from nmt.variation import Changes, rates_of
from nmt.variation.changes import merge

PAIR = ("Wo ist der Bahnhof?", "Where is the station?")
THAI = ("สถานีอยู่ที่ไหน", "駅はどこですか。")


def change(word, pair, *, seed=1, languages=("de", "en")):
    return VARIATIONS[word](pair, Random(seed), languages)


@pytest.mark.parametrize(
    ("word", "pair", "languages", "expected"),
    [
        ("upper_case", PAIR, ("de", "en"), ("WO IST DER BAHNHOF?", "WHERE IS THE STATION?")),
        ("upper_case", ("istasyon", "station"), ("tr", "en"), ("İSTASYON", "STATION")),
        ("upper_case", ("groß", "big"), ("de", "en"), ("GROSS", "BIG")),
        ("title_case", PAIR, ("de", "en"), ("Wo Ist Der Bahnhof?", "Where Is The Station?")),
        ("title_case", ("«el tren» de McDonald", "it's McDonald's train"), ("es", "en"),
         ("«El Tren» De McDonald", "It's McDonald's Train")),
        ("final_punctuation", PAIR, ("de", "en"), ("Wo ist der Bahnhof", "Where is the station")),
        ("final_punctuation", ("Où est-il ?", "駅です。"), ("fr", "ja"), ("Où est-il", "駅です")),
        ("final_punctuation", ("Guten Tag", "駅"), ("de", "ja"), ("Guten Tag.", "駅。")),
        ("final_punctuation", ("Good day", "मैं घर में हूँ"), ("en", "hi"), ("Good day.", "मैं घर में हूँ।")),
        ("final_punctuation", ("Guten Tag.", "Good day"), ("de", "en"), ("Guten Tag.", "Good day")),
        ("final_punctuation", ("Preise:", "Prices:"), ("de", "en"), ("Preise:", "Prices:")),
        ("final_punctuation", ("?!", "?"), ("de", "en"), ("?!", "?")),
    ],
)  # fmt: skip
def test_what_becomes_of_a_pair(word, pair, languages, expected):
    assert change(word, pair, languages=languages) == expected


@pytest.mark.parametrize("word", ["upper_case", "title_case"])
@pytest.mark.parametrize("pair", [THAI, ("สถานี", "station"), ("Bahnhof", "駅"), ("სადგური", "station"), ("12", "12")])
def test_nothing_has_another_case_unless_both_scripts_have_cases(word, pair):
    assert change(word, pair) == pair


@pytest.mark.parametrize("word", ["typos", "white_space", "word_dropout", "word_swap"])
def test_what_people_mistype_is_on_the_source_alone(word):
    changed = {change(word, PAIR, seed=seed) for seed in range(50)}
    assert len(changed) > 3
    assert {target for _, target in changed} == {PAIR[1]}
    assert all(source.strip() for source, _ in changed)


def distance(one, other):
    """Levenshtein's, by the recurrence."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        before, row = row, [i]
        for j, right in enumerate(other, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (left != right)))
    return row[-1]


@pytest.mark.parametrize(("line", "least"), [("Wo ist der Bahnhof?", 1), ("Где находится вокзал", 1)])
def test_a_short_line_has_one_typo(line, least):
    for seed in range(200):
        assert distance(line, change("typos", (line, "x"), seed=seed)[0]) <= 2  # letters that change places: 2


@pytest.mark.parametrize(
    ("language", "line", "beside"),
    [("en", "zz", "asx"), ("de", "zz", "tughj"), ("fr", "zz", "aqseù"), ("ru", "фф", "йцячы")],
)
def test_a_wrong_letter_is_a_neighbour_on_the_keyboard(language, line, beside):
    changed = {change("typos", (line, "x"), seed=seed, languages=(language, "en"))[0] for seed in range(300)}
    others = {letter for text in changed for letter in text} - {*line}
    assert others
    assert others <= {*beside}


@pytest.mark.parametrize("line", ["駅はどこですか", "기차역", "12 ?", ""])
def test_what_an_input_method_types_has_no_typos(line):
    assert {change("typos", (line, "x"), seed=seed)[0] for seed in range(20)} == {line}


def test_words_are_dropped_and_swapped_whole():
    words = ["one", "two", "three", "four", "five", "six"]
    for seed in range(100):
        dropped = change("word_dropout", (" ".join(words), "x"), seed=seed)[0].split()
        assert 0 < len(dropped) < 6
        assert dropped == [word for word in words if word in dropped]
        swapped = change("word_swap", (" ".join(words), "x"), seed=seed)[0].split()
        moved = [place for place in range(6) if swapped[place] != words[place]]
        assert sorted(swapped) == sorted(words)
        assert len(moved) == 2
        assert moved[1] - moved[0] <= 3
    for word in ("word_dropout", "word_swap"):
        assert change(word, ("one", "x")) == ("one", "x")


def test_white_space_is_lost_or_added_once():
    for seed in range(100):
        line = change("white_space", PAIR, seed=seed)[0]
        assert line.replace(" ", "") == PAIR[0].replace(" ", "")
        assert abs(len(line) - len(PAIR[0])) == 1


def test_noise_is_the_same_on_both_sides():
    lines = [change("noise", PAIR, seed=seed) for seed in range(200)]
    assert all(source == target and source.strip() and source.isprintable() for source, target in lines)
    assert {len(source.split()) for source, _ in lines} == {1, 2, 3, 4, 5, 6}


def test_merged_lines_have_a_space_between_them_where_the_script_has_spaces():
    assert merge([(" Ja.", "はい。"), ("Nein. ", "いいえ。"), ("Gut", "よい")]) == (
        "Ja. Nein. Gut",
        "はい。いいえ。よい",
    )


def test_rates_of_a_command_line():
    assert rates_of(["typos:0.25", "upper_case"]) == {"typos": 0.25, "upper_case": 1.0}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["typo:0.1"], "--with typo: must be merge, .*: did you mean typos"),
        (["typos:2"], "--with typos:2: must be a kind with a rate from 0 to 1"),
        (["typos:"], "--with typos:: must be"),
        (["typos:x"], "--with typos:x: must be"),
        (["typos:nan"], "--with typos:nan: must be"),
        (["typos", "typos:0.1"], "--with typos must be given once"),
    ],
)
def test_rates_that_cannot_be(given, message):
    with pytest.raises(ConfigError, match=message):
        rates_of(given)


@pytest.mark.parametrize("wrong", ["one text", ("source", None), None])
def test_a_kind_of_ones_own_that_gives_no_pair_is_named(monkeypatch, wrong):
    monkeypatch.setattr(VARIATIONS, "built", {**VARIATIONS.built, "own": lambda pair, chance, languages: wrong})
    changes = Changes({"own": 1.0}, seed=(1,), languages=("es", "en"))
    with pytest.raises(ConfigError, match=r"data\.variation own must return source and target, two texts, got"):
        changes.changed(("uno", "one"), ["own"], 3)


def test_a_line_feed_of_a_kind_of_ones_own_is_a_space(monkeypatch):
    own = lambda pair, chance, languages: [f"{text}\n{text}" for text in pair]  # noqa: E731
    monkeypatch.setattr(VARIATIONS, "built", {**VARIATIONS.built, "own": own})
    changes = Changes({"own": 1.0}, seed=(1,), languages=("es", "en"))
    assert changes.changed(("uno", "one"), ["own"], 3) == ("uno uno", "one one")
