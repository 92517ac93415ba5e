"""The scripts that languages are written in, and those of text: to notice what cannot be the language that is said."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

_SAME = {"CJK": "HAN", "IDEOGRAPHIC": "HAN", "HIRAGANA": "KANA", "KATAKANA": "KANA", "KATAKANA-HIRAGANA": "KANA"}

_LANGUAGES = {
    "LATIN": "en de fr es it pt nl sv da no nb nn fi et lv lt pl cs sk sl hr hu ro tr vi id ms sw ca eu gl ga cy is mt "
    "sq af eo la tl eng deu ger fra fre spa ita por nld dut swe dan fin pol ces cze hun ron rum tur vie ind",
    "CYRILLIC": "ru uk be bg mk rus ukr bel bul mkd mac",
    "HAN": "zh zho chi cmn yue wuu zt",
    "HAN KANA": "ja jpn",
    "HANGUL": "ko kor",
    "GREEK": "el ell gre",
    "ARABIC": "ar fa ur ps ara fas per urd pus",
    "HEBREW": "he yi heb yid",
    "DEVANAGARI": "hi mr ne hin mar nep",
    "BENGALI": "bn as ben asm",
    "THAI": "th tha",
    "LAO": "lo lao",
    "KHMER": "km khm",
    "MYANMAR": "my mya bur",
    "GEORGIAN": "ka kat geo",
    "ARMENIAN": "hy hye arm",
    "ETHIOPIC": "am ti amh tir",
    "TAMIL": "ta tam",
    "TELUGU": "te tel",
}
"""Codes of ISO 639-1, -2 and -3, by their scripts as the names of characters begin; those that have several are left
out (Serbian, Kazakh, Uzbek), and nothing is said of them."""

_CODES = {
    "latn": "LATIN", "cyrl": "CYRILLIC", "hans": "HAN", "hant": "HAN", "hani": "HAN", "jpan": "HAN KANA",
    "kore": "HANGUL", "hang": "HANGUL", "grek": "GREEK", "arab": "ARABIC", "hebr": "HEBREW", "deva": "DEVANAGARI",
    "beng": "BENGALI", "thai": "THAI",
}  # fmt: skip
"""Codes of ISO 15924, which decide where a language code has one: zh_Latn."""

_BY_LANGUAGE = {language: scripts for scripts, languages in _LANGUAGES.items() for language in languages.split()}
_FEWEST_LETTERS = 20
_LEAST_SHARE = 0.2


def scripts_of_language(language: str) -> frozenset[str]:
    """Return the scripts of a language code such as `ja`, `zh-TW` or `srp_Cyrl`; none where that is not known."""
    first, *others = re.split(r"[^a-z0-9]+", language.lower())
    named = [_CODES[part] for part in others if part in _CODES]
    return frozenset((named[0] if named else _BY_LANGUAGE.get(first, "")).split())


def foreign_script(lines: Iterable[str], language: str) -> str | None:
    """Return the script that most of some text is in, if that cannot be the language; None if all is well or unknown.

    Args:
        lines: the text.
        language: its code, as it is said.
    """
    expected, found = scripts_of_language(language), Counter[str]()
    for character, count in Counter("".join(lines)).items():
        if character.isalpha():
            name = unicodedata.name(character, "UNKNOWN").split()[0]
            found[_SAME.get(name, name)] += count
    letters = found.total()
    if not expected or letters < _FEWEST_LETTERS or sum(found[name] for name in expected) >= _LEAST_SHARE * letters:
        return None
    return found.most_common(1)[0][0]


def in_words(script: str) -> str:
    """Return the name of a script as text has it."""
    return {"HAN": "Chinese characters", "KANA": "kana"}.get(script, f"{script.capitalize()} letters")
