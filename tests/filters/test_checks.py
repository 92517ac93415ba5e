"""The table of checks, and what a command line makes of it."""

from pathlib import Path

import numpy as np
import pytest

from nmt.errors import ConfigError
from nmt.filters.checks import CHECKS, DROP, OPUSCLEANER_NAMES, Block, found_by, settled_checks
from nmt.filters.features import Lines

PAGE = Path(__file__).parents[2] / "docs/data.md"


def test_the_page_has_each_check_with_its_action_and_threshold():
    rows = {
        cells[0].strip("` "): [cell.strip() for cell in cells[1:]]
        for cells in (line.strip("|").split("|") for line in PAGE.read_text("utf-8").splitlines())
        if len(cells) == 5
    }
    assert len(CHECKS) >= 25
    names = {ours: theirs for theirs, ours in OPUSCLEANER_NAMES.items()}
    for check in CHECKS:
        other, action, threshold, _ = rows[check.name]
        assert other == (f"`{names[check.name]}`" if check.name in names else "")
        assert action == check.action
        assert threshold == ("" if check.threshold is None else f"{check.threshold:g} {check.unit}")


def test_a_change_sets_a_threshold_or_an_action_by_any_name():
    checks = settled_checks(["src_trg_ratio=2.5", "duplicates=drop", "HtmlTagFilter=off", "WordAlignFilter=0.2"])
    assert checks["LengthRatioFilter"].threshold == 2.5
    assert checks["Duplicates"].action == DROP
    assert "HtmlTagFilter" not in checks
    assert checks["WordAlignFilter"].action == DROP
    assert "WordAlignFilter" not in settled_checks()
    for wrong in ("Length", "LengthFilter", "LengthFilter=many", "Duplicates=2", "LengthFilter=inf", "LengthFilter=-1"):
        with pytest.raises(ConfigError, match="--check"):
            settled_checks([wrong])
    with pytest.raises(ConfigError, match=r"or a number from 2 of times in a row .*, got 1"):
        settled_checks(["RepetitionFilter=1"])
    assert settled_checks(["SimilarityFilter=1"])["SimilarityFilter"].threshold == 1
    for wrong in ("1.5", "inf", "70", "-0.1"):
        with pytest.raises(ConfigError, match=rf"or a share from 0 to 1 of words of the longer .*, got {wrong}"):
            settled_checks([f"SimilarityFilter={wrong}"])


def found(source, target, *changes, languages=("", ""), ratio=1.0):
    block = Block((Lines(source), Lines(target)), languages, ratio)
    return {name: np.flatnonzero(rows).tolist() for name, rows in found_by(settled_checks(changes), block).items()}


def test_languages_without_spaces_are_not_taken_for_long_words():
    chinese = ["我们昨天在海边的小餐馆吃了鱼，然后坐公共汽车回到了旅馆，因为天气不好，所以没有去博物馆参观展览。" * 2]
    hits = found(
        chinese, ["We ate fish at the sea, and did not go to the museum for the weather was bad."] * 1, ratio=0.8
    )
    assert not any(hits[name] for name in ("LongWordFilter", "LengthFilter", "CharacterScoreFilter", "EncodingFilter"))
    assert found(chinese * 1, ["x y"], languages=("de", "en"))["CharacterScoreFilter"] == [0]


@pytest.mark.parametrize(
    "line",
    ["मैं भी घर में ही हूँ।", "हिंदी में भी लिखिए।", "လူတိုင်းသည် တူညီ လွတ်လပ်သော ဂုဏ်သိက္ခာဖြင့် လည်းကောင်း။", "আমি বাড়িতে আছি, ২০২৪ সালে।"],
)
def test_vowel_signs_are_part_of_words(line):
    """In these scripts they are half of what is written, and no letters to Unicode."""
    hits = found([line], ["I am at home, in 2024."], languages=("", "en"))
    assert not hits["AlphabetRatioFilter"]
    assert not hits["AverageWordLengthFilter"]
    assert Lines(["मैं भी", "I love it ❤️", "5️⃣"]).final_kinds.tolist() == [1, 0, 0]  # how an emoji looks is no mark


@pytest.mark.parametrize(
    ("source", "target", "check"),
    [
        ("Élan vital à l'été", "Vital force in summer", "EncodingFilter"),
        ("Uno y dos", "2 men", "NonZeroNumeralsFilter"),
        ("SIM-карта и IT-компания", "SIM card and IT company", "MixedScriptFilter"),
        ("¿ sí , no ?", "yes , no ?", "AverageWordLengthFilter"),
        ("Paris", "Paris", "SimilarityFilter"),
        ("a < b & c > d", "a < b & c > d", "HtmlTagFilter"),
        ("Er sagte: „Ja.“", "He said: “Yes.”", "FinalPunctuationFilter"),
        ("می‌خواهم بروم", "I want to go", "InvisibleCharacterFilter"),
        ("¡Sí!", "Yes, of course", "LengthRatioFilter"),
        ("USA", "usa is a country", "UppercaseFilter"),
    ],
)
def test_what_is_right_is_left_alone(source, target, check):
    assert found([source], [target])[check] == []


def test_the_usual_ratio_decides_which_one_is_not():
    source, target = ["x" * 30 + " y"], ["xyz " * 40]
    assert found(source, target)["LengthRatioFilter"] == [0]
    assert found(source, target, ratio=3.0)["LengthRatioFilter"] == []
