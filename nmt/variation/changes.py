"""The kinds of variation: functions from a pair of lines to another pair, by chance.

Each takes the pair, a generator of random numbers and the two languages. What cannot be changed comes back as it is:
nothing has another case in a script without cases, and a change that a translation has to follow is made on both sides
or on none.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from random import Random
from typing import TypeAlias

from nmt.text.marks import script_of

Pair: TypeAlias = tuple[str, str]
"""Source and target."""

Languages: TypeAlias = tuple[str, str]
"""Of source and target, as codes."""

Change: TypeAlias = Callable[[Pair, Random, Languages], Pair]
"""A kind of variation."""

_UNSPACED = {"HAN", "KANA", "THAI", "LAO", "KHMER", "MYANMAR"}
"""Scripts that have no spaces between words."""


def upper_case(pair: Pair, chance: Random, languages: Languages) -> Pair:
    """Write both sides in capitals."""
    return _on_both(pair, languages, _capitals)


def title_case(pair: Pair, chance: Random, languages: Languages) -> Pair:
    """Begin each word of both sides with a capital; the rest of a word stays as it is."""
    return _on_both(pair, languages, lambda text, language: re.sub(r"(?<!\S)\W*\w", _capitals_of(language), text))


def _on_both(pair: Pair, languages: Languages, change: Callable[[str, str], str]) -> Pair:
    """Change the case of both sides, if both are in scripts that have cases."""
    if not all(map(_has_cases, pair)):
        return pair
    source, target = (change(text, language) for text, language in zip(pair, languages, strict=True))
    return source, target


def _has_cases(text: str) -> bool:
    """Whether letters of a line have two cases. Georgian capitals are for headings, and few fonts have them."""
    return any(
        letter.lower() != letter.upper() and unicodedata.category(letter) in ("Lu", "Ll") and not _is_georgian(letter)
        for letter in text
    )


def _is_georgian(letter: str) -> bool:
    return "\u10a0" <= letter <= "\u10ff" or "\u1c90" <= letter <= "\u1cbf"


def _capitals(text: str, language: str) -> str:
    if language.lower().split("-")[0].split("_")[0] in ("tr", "az", "tur", "aze"):
        text = text.replace("i", "İ")  # Turkish has an i with a dot in both cases
    return "".join(letter if _is_georgian(letter) else letter.upper() for letter in text)


def _capitals_of(language: str) -> Callable[[re.Match[str]], str]:
    return lambda match: _capitals(match[0], language)


_FINAL = re.compile(r"\s*(?:\.|!|\?|…|。|！|？|．|।|۔|؟)+\s*$")
_FULL_STOPS = {"HAN": "。", "KANA": "。", "DEVANAGARI": "।", "BENGALI": "।"}


def final_punctuation(pair: Pair, chance: Random, languages: Languages) -> Pair:
    """Drop what ends both sentences, or end both by a full stop if nothing does; if one alone ends, both stay."""
    found = [_FINAL.search(text) for text in pair]
    if all(found):
        source, target = (_FINAL.sub("", text) for text in pair)
        return (source, target) if source.strip() and target.strip() else pair
    # A line that ends in anything but a letter, a mark on one or a digit, say a colon, is no sentence without its end.
    lines = [text.rstrip() for text in pair]
    if any(found) or not all(line and unicodedata.category(line[-1])[0] in "LMN" for line in lines):
        return pair
    if any(_script_at_end(line) in ("THAI", "LAO") for line in lines):  # which have no full stop
        return pair
    source, target = (line + _FULL_STOPS.get(_script_at_end(line), ".") for line in lines)
    return source, target


def _script_at_end(line: str) -> str:
    letters = [letter for letter in line[-20:] if letter.isalpha()]
    return script_of(letters[-1]) if letters else ""


_QWERTY = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_QWERTZ = ("qwertzuiop", "asdfghjkl", "yxcvbnm")
_AZERTY = ("azertyuiop", "qsdfghjklm", "wxcvbn")
_LAYOUTS = {**dict.fromkeys(("de", "cs", "sk", "hu", "sl", "hr", "lb"), _QWERTZ), "fr": _AZERTY}
_CYRILLIC = ("йцукенгшщзхъ", "фывапролджэ", "ячсмитьбю")


def _neighbours(*rows: str) -> dict[str, str]:
    """For each key the letters beside, above and below it; each row is moved right by half a key or so."""
    places = {(row, column): letter for row, letters in enumerate(rows) for column, letter in enumerate(letters)}
    around = ((0, -1), (0, 1), (-1, 0), (-1, 1), (1, -1), (1, 0))
    return {
        letter: "".join(places[row + down, column + right] for down, right in around
                        if (row + down, column + right) in places)
        for (row, column), letter in places.items()
    }  # fmt: skip


_KEYS = {layout: _neighbours(*layout) | _neighbours(*_CYRILLIC) for layout in (_QWERTY, _QWERTZ, _AZERTY)}
_TYPED_OTHERWISE = {"HAN", "KANA", "HANGUL"}
_LETTERS_A_TYPO = 20


def typos(pair: Pair, chance: Random, languages: Languages) -> Pair:
    """Mistype letters of the source: one, or up to one in 20.

    A letter becomes a neighbour on the keyboard (of the language for Latin letters, and of Russian for Cyrillic ones),
    gets one beside it, is doubled, left out or changes places with the next one. Letters of other scripts have no
    neighbours here, and what is typed by an input method (Chinese, Japanese, Korean) stays as it is.
    """
    source, target = pair
    keys = _KEYS[_LAYOUTS.get(re.split("[-_]", languages[0].lower())[0], _QWERTY)]
    letters = list(source)
    # A letter of one sign after another: no accent is moved from its letter.
    places = [
        place for place, letter in enumerate(letters)
        if letter.isalpha() and script_of(letter) not in _TYPED_OTHERWISE
        and not any(map(unicodedata.combining, "".join(letters[place + 1 : place + 3])))
    ]  # fmt: skip
    if len(places) < 2:
        return pair
    count = chance.randint(1, max(1, len(places) // _LETTERS_A_TYPO))
    for place in sorted(chance.sample(places, count)):
        letter = letters[place]
        if not letter:  # it has changed places with one before
            continue
        beside = keys.get(letter.lower(), "")
        kinds = ("double", "drop", "swap", *(("replace", "replace", "insert") if beside else ()))
        kind = chance.choice(kinds)
        if kind == "swap" and place + 1 < len(letters) and source[place + 1].isalpha():
            letters[place], letters[place + 1] = source[place + 1] + letter, ""
        elif kind in ("replace", "insert"):
            other = chance.choice(beside)
            other = other.upper() if letter.isupper() else other
            letters[place] = other if kind == "replace" else letter + other
        else:
            letters[place] = "" if kind == "drop" else letter * 2
    changed = "".join(letters)
    return (changed, target) if changed.strip() else pair


def white_space(pair: Pair, chance: Random, languages: Languages) -> Pair:
    """Leave out a space of the source, or put one into a word."""
    source, target = pair
    spaces = [place for place, sign in enumerate(source) if sign == " "]
    within = [place for place in range(1, len(source)) if source[place - 1 : place + 1].isalnum()]
    if not spaces and not within:
        return pair
    if spaces and (not within or chance.random() < 0.5):
        place = chance.choice(spaces)
        return source[:place] + source[place + 1 :], target
    place = chance.choice(within)
    return f"{source[:place]} {source[place:]}", target


_DROPPED_WORDS = 0.1
_SWAP_DISTANCE = 3


def word_dropout(pair: Pair, chance: Random, languages: Languages) -> Pair:
    """Leave out a word of the source, and each other one with probability 0.1; of a single word nothing."""
    source, target = pair
    words = source.split()
    if len(words) < 2:
        return pair
    first = chance.randrange(len(words))
    kept = [word for place, word in enumerate(words) if (chance.random() >= _DROPPED_WORDS) & (place != first)]
    return " ".join(kept or [words[first - 1]]), target


def word_swap(pair: Pair, chance: Random, languages: Languages) -> Pair:
    """Exchange two words of the source that are at most 3 words apart (the distance of Lample et al. 2018)."""
    source, target = pair
    words = source.split()
    if len(words) < 2:
        return pair
    first = chance.randrange(len(words) - 1)
    second = chance.randint(first + 1, min(first + _SWAP_DISTANCE, len(words) - 1))
    words[first], words[second] = words[second], words[first]
    return " ".join(words), target


_NOISE_WORDS, _NOISE_LETTERS = 6, (2, 5)
_NOISE_RANGES = ((0x21, 0x7E), (0xA1, 0x24F), (0x370, 0x3FF), (0x410, 0x44F), (0x2010, 0x27BF), (0x4E00, 0x9FA5))
"""Printable ASCII, which half of the words are of; accented Latin, Greek, Cyrillic, symbols and Chinese."""


def noise(pair: Pair, chance: Random, languages: Languages) -> Pair:
    """Put a line that means nothing in the place of both sides, so that the model learns to copy it."""
    words = []
    for _ in range(chance.randint(1, _NOISE_WORDS)):
        first, last = _NOISE_RANGES[0] if chance.random() < 0.5 else chance.choice(_NOISE_RANGES)
        letters = [chr(chance.randint(first, last)) for _ in range(chance.randint(*_NOISE_LETTERS))]
        words.append("".join(letter for letter in letters if letter.isprintable() and not letter.isspace()))
    line = " ".join(word for word in words if word) or "?"
    return line, line


MERGED = 4
"""So many lines become one at most."""


def merge(pairs: Sequence[Pair]) -> Pair:
    """Join pairs that follow one another into one; of all kinds only this one takes several."""
    source, target = (_joined([pair[side].strip() for pair in pairs]) for side in (0, 1))
    return source, target


def _joined(lines: Sequence[str]) -> str:
    text = lines[0]
    for line in lines[1:]:
        text += ("" if _script_at_end(text) in _UNSPACED else " ") + line
    return text
