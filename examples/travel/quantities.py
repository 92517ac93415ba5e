"""Numbers, clock times, dates and prices: the word lists of the grammar that are computed rather than written."""

from __future__ import annotations

from collections.abc import Iterable


def _words(text: str) -> list[str]:
    return text.split()


ENGLISH_UNITS = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
ENGLISH_TENS = _words("_ _ twenty thirty forty fifty sixty seventy eighty ninety")
ENGLISH_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
SPANISH_UNITS = _words(
    "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis diecisiete "
    "dieciocho diecinueve veinte veintiuno veintidós veintitrés veinticuatro veinticinco veintiséis veintisiete "
    "veintiocho veintinueve"
)
SPANISH_TENS = _words("_ _ _ treinta cuarenta cincuenta sesenta setenta ochenta noventa")
SPANISH_HUNDREDS = _words(
    "_ ciento doscientos trescientos cuatrocientos quinientos seiscientos setecientos ochocientos novecientos"
)


def spanish(number: int) -> str:
    """Spell a number from 0 to 999 in Spanish, as one counts (*veintiuno*)."""
    hundreds, rest = divmod(number, 100)
    if number == 100:
        return "cien"
    if hundreds:
        return SPANISH_HUNDREDS[hundreds] + (f" {spanish(rest)}" if rest else "")
    if rest < 30:
        return SPANISH_UNITS[rest]
    tens, units = divmod(rest, 10)
    return SPANISH_TENS[tens] + (f" y {SPANISH_UNITS[units]}" if units else "")


def spanish_before_masculine(number: int) -> str:
    """Spell a number as it stands before a masculine noun: *un*, *veintiún*, *treinta y un*."""
    words = spanish(number)
    if words.endswith("veintiuno"):
        return words.removesuffix("veintiuno") + "veintiún"
    return words[:-1] if words.endswith("uno") else words


def english(number: int) -> str:
    """Spell a number from 0 to 999 in British English: *two hundred and fourteen*."""
    hundreds, rest = divmod(number, 100)
    if hundreds:
        return f"{ENGLISH_UNITS[hundreds]} hundred" + (f" and {english(rest)}" if rest else "")
    if rest < 20:
        return ENGLISH_UNITS[rest]
    tens, units = divmod(rest, 10)
    return ENGLISH_TENS[tens] + (f"-{ENGLISH_UNITS[units]}" if units else "")


def english_ordinal(number: int) -> str:
    """Spell an ordinal from 1 to 99: *twenty-first*."""
    before, hyphen, last = english(number).rpartition("-")
    if last in ENGLISH_ORDINALS:
        return before + hyphen + ENGLISH_ORDINALS[last]
    return before + hyphen + (last[:-1] + "ieth" if last.endswith("y") else last + "th")


def computed_categories() -> dict[str, list[tuple[str, str]]]:
    """Return the computed categories: name to a list of (Spanish, English) texts."""
    rooms = [floor * 100 + door for floor in range(1, 8) for door in range(1, 31)]
    halves = [(f"{n},{cents:02d}", f"{n}.{cents:02d}") for n in range(2, 60) for cents in (20, 50, 75, 90)]
    return {
        "COUNT": [(spanish(n), english(n)) for n in range(2, 11)],
        "FEW": [(spanish(n), english(n)) for n in range(2, 5)],
        "MINUTES": [(spanish(n), english(n)) for n in (5, 10, 15, 20, 25, 30, 35, 40, 45, 50)],
        "DIGITAL": _same(f"{hour}:{minute:02d}" for hour in range(2, 24) for minute in range(5, 60, 5)),
        "ROOM_NUMBER": [*_same(map(str, rooms)), *[(spanish(n), english(n)) for n in rooms]],
        "EUROS": [(f"{spanish_before_masculine(n)} euros", f"{english(n)} euros") for n in [*range(2, 100), 100, 120]],
        "PRICE": [(f"{source} euros", f"{target} euros") for source, target in halves],
        "DAY_OF_MONTH": [(spanish(n), english_ordinal(n)) for n in range(2, 29)] + [("primero", "first")],
        "DAY_DIGITS": _same(str(n) for n in range(1, 29)),
        "DATE_RANGE": [
            (f"del {spanish(first)} al {spanish(last)}", f"from the {english_ordinal(first)} to the {last_target}")
            for first in range(2, 26)
            for last in range(first + 2, min(first + 12, 29))
            for last_target in [english_ordinal(last)]
        ],
        "PLATFORM": [(spanish(n), english(n)) for n in range(1, 13)],
        "LINE_NUMBER": _same(str(n) for n in range(1, 61)),
        "CLOTHES_SIZE": _same(str(n) for n in range(36, 49)),
        "GATE": _same(f"{letter}{n}" for letter in "ABCD" for n in range(1, 31)),
        "NOTE": [(spanish(n), english(n)) for n in (10, 20, 50)],
        "HOURS_APART": [(spanish(n), english(n)) for n in (4, 6, 8, 12)],
    }


def _same(texts: Iterable[str]) -> list[tuple[str, str]]:
    return [(text, text) for text in texts]
