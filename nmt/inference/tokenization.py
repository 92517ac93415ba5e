"""How sacreBLEU cuts text for BLEU: by the language, and where its code says nothing by the script of the references.

Where there are no spaces between words, 13a finds no words: whole lines are compared, and BLEU is 0. sacreBLEU cuts
Chinese into characters by its rule `zh`; elsewhere `char` is taken, since what else it has for such languages needs
MeCab or a download. Nothing heavy is imported here: the command line shows the default in its help.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

DEFAULT_TOKENIZATION = "13a"
"""Used where none is asked for and the language has spaces."""

_KNOWN_AT_FIRST = {"zh": "zh", "ja": "char", "th": "char", "lo": "char", "km": "char", "my": "char"}
"""The languages that version 0.1.0 knew to have no spaces."""

_LANGUAGES = _KNOWN_AT_FIRST | {
    **dict.fromkeys(("zho", "chi", "cmn", "yue", "wuu", "lzh", "hsn", "gan", "cjy", "zt", "zht", "zhs"), "zh"),
    **dict.fromkeys(("jpn", "tha", "lao", "khm", "mya", "bur", "bo", "bod", "tib", "dz", "dzo", "shn"), "char"),
}
"""Codes of ISO 639-1, -2 and -3 of languages without spaces, and some of other toolkits. Hakka and Min are missing,
which are often written in Latin letters: the script of the references decides."""

_SCRIPTS = {
    **dict.fromkeys(("hans", "hant", "hani", "hanb", "bopo"), "zh"),
    **dict.fromkeys(("jpan", "hira", "kana", "hrkt"), "char"),
    **dict.fromkeys(("thai", "laoo", "khmr", "mymr", "tibt", "lana", "tale", "talu", "bali", "java", "yiii"), "char"),
}
"""Codes of ISO 15924, of scripts without spaces; all others have some."""

_HAN, _KANA, _OTHER = "Han", "Japanese", "other"
_BLOCKS = (
    (0x0E00, 0x109F, _OTHER),  # Thai, Lao, Tibetan, Myanmar
    (0x1780, 0x17FF, _OTHER),  # Khmer
    (0x1950, 0x19DF, _OTHER),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF, _OTHER),  # Tai Tham
    (0x1B00, 0x1B7F, _OTHER),  # Balinese
    (0x2E80, 0x2FDF, _HAN),  # radicals
    (0x3005, 0x3007, _HAN),
    (0x3041, 0x30FF, _KANA),
    (0x3100, 0x312F, _HAN),  # Bopomofo
    (0x31F0, 0x31FF, _KANA),
    (0x3400, 0x4DBF, _HAN),
    (0x4E00, 0x9FFF, _HAN),
    (0xA000, 0xA4CF, _OTHER),  # Yi
    (0xA980, 0xA9FF, _OTHER),  # Javanese, Myanmar
    (0xAA00, 0xAA5F, _OTHER),  # Cham
    (0xAA60, 0xAA7F, _OTHER),  # Myanmar
    (0xF900, 0xFAFF, _HAN),
    (0xFF66, 0xFF9F, _KANA),  # of half width
    (0x20000, 0x3FFFF, _HAN),
)
"""First and last character of what is written without spaces (The Unicode Standard, `Blocks.txt`)."""

_STARTS = [first for first, _, _ in _BLOCKS]
_LINES_LOOKED_AT = 2000
_LEAST_SHARE = {False: 0.3, True: 0.05}
"""Share of letters of scripts without spaces that makes text such text, by whether spaces are few there: an English
text that quotes Chinese stays English, a Chinese one that is full of English terms stays Chinese."""

_LEAST_KANA = 0.1
_MOST_SPACES = 0.1
"""Spaces a letter above which words are separated, as by a segmenter: Chinese words have 1.6 letters, Thai ones 4.5."""


class Choice(NamedTuple):
    """A tokenisation, as sacreBLEU names it, and what there is to say about the choice, empty if nothing."""

    name: str
    remark: str = ""


class Writing(NamedTuple):
    """The tokenisation that suits some text, None where it has no letters, and whether spaces are few in it."""

    tokenization: str | None
    few_spaces: bool


def tokenization_of_language(language: str) -> str | None:
    """Return the tokenisation that suits a language code such as `zh`, `cmn_Hans` or `zh-TW`; None for others.

    A script decides where the code names one: `zh-Latn` has spaces.
    """
    first, *others = re.split(r"[^a-z0-9]+", language.lower())
    scripts = [part for part in others if len(part) == 4 and part.isalpha()]
    if scripts:
        return _SCRIPTS.get(scripts[0], DEFAULT_TOKENIZATION)
    return _LANGUAGES.get(first)


def earlier_tokenization(language: str) -> str:
    """Return the tokenisation that version 0.1.0 took for a language code: it knew six of two letters."""
    return _KNOWN_AT_FIRST.get(language.replace("_", "-").split("-")[0].lower(), DEFAULT_TOKENIZATION)


def writing_of(lines: Sequence[str]) -> Writing:
    """Look at the characters of text, or of lines spread evenly over it."""
    counts = Counter("".join(lines[:: max(1, len(lines) // _LINES_LOOKED_AT)]))
    scripts: Counter[str | None] = Counter()
    for character, count in counts.items():
        block = bisect_right(_STARTS, ord(character)) - 1
        if block >= 0 and ord(character) <= _BLOCKS[block][1]:
            scripts[_BLOCKS[block][2]] += count
        elif character.isalpha():
            scripts[None] += count
    letters = scripts.total()
    few_spaces = counts[" "] < _MOST_SPACES * letters
    if letters == 0:
        return Writing(None, few_spaces)
    if letters - scripts[None] < _LEAST_SHARE[few_spaces] * letters:
        return Writing(DEFAULT_TOKENIZATION, few_spaces)
    is_chinese = scripts[_HAN] > max(scripts[_OTHER], (1 / _LEAST_KANA - 1) * scripts[_KANA])
    return Writing("zh" if is_chinese else "char", few_spaces)


def choose_tokenization(references: Sequence[str], *, language: str | None = None) -> Choice:
    """Choose by the language, else by the script of the references.

    Args:
        references: in the language.
        language: its code, where one is known.
    """
    said, seen = None if language is None else tokenization_of_language(language), writing_of(references).tokenization
    if said is not None and said != DEFAULT_TOKENIZATION == seen:
        return Choice(said, f"BLEU cuts text by {said}, as suits {language}, but the references are in another script")
    if said is not None or seen is None or seen == DEFAULT_TOKENIZATION:
        return Choice(said or DEFAULT_TOKENIZATION)
    unknown = "no language is given" if language is None else f"the language {language} says nothing about it"
    return Choice(seen, f"BLEU cuts text by {seen}, as suits the script of the references: {unknown}")


def doubt_about(tokenization: str, references: Sequence[str]) -> str:
    """Return what is wrong with a tokenisation of text without spaces, empty if nothing."""
    suited, few_spaces = writing_of(references)
    if suited in (None, DEFAULT_TOKENIZATION, tokenization) or not few_spaces:
        return ""
    if tokenization not in (DEFAULT_TOKENIZATION, "intl", "none", "zh"):
        return ""
    return (
        f"BLEU cuts text by {tokenization}, which does not find the words of the references, where spaces are few: it "
        f"is too low, use {suited} (--tokenize of nmt evaluate, training.validation_tokenization of a new run)"
    )
