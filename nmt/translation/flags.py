"""What is odd about a translation, told from the texts and what was asked; see "How a line was made" in docs/search.md.

A flag is a reason to look, no proof of an error. The thresholds are such that at most one in a thousand human
translations of Multi30k and of the travel corpus has a flag.
"""

import re
import unicodedata
from collections.abc import Sequence
from enum import StrEnum
from itertools import groupby

from nmt.control.phrases import UNSPACED, is_unspaced


class Flag(StrEnum):
    """Why a translation deserves a look.

    EMPTY: the source says something and the translation nothing.
    COPY: the translation is the source.
    RATIO: one is far longer than the other.
    REPETITION: words come several times in a row, more often than in the source.
    UNKNOWN: the source, or the translation, has tokens that the model knows only as UNK.
    SPLIT: the source was long and was translated in parts, cut at ends of sentences, as was asked for.
    UNREAD: the source has as many tokens as are read, or more: its end may be missing.
    CUT: the translation is as long as allowed.
    UNFINISHED: the translation did not end by itself.
    UNSATISFIED: the translation is not as asked; or there is none, because none could be as asked.
    FAILED: there is no translation, because the model's outputs were not numbers.
    PLACEHOLDER: the model did not write a placeholder, so that the alignment told its place, or too often.
    TAG: a tag stands where no alignment told, or has no partner in the source.
    """

    EMPTY = "empty"
    COPY = "copy"
    RATIO = "ratio"
    REPETITION = "repetition"
    UNKNOWN = "unknown"
    SPLIT = "split"
    UNREAD = "unread"
    CUT = "cut"
    UNFINISHED = "unfinished"
    UNSATISFIED = "unsatisfied"
    FAILED = "failed"
    PLACEHOLDER = "placeholder"
    TAG = "tag"


LENGTH_RATIO, LENGTH_OFFSET = 2.5, 20
"""Characters of the longer text at most: this often those of the shorter one, and so many more."""

COPIED_WORDS = 3
"""A copy has at least so many words in small letters: names, numbers and addresses are the same in both languages."""

LONGEST_REPEATED = 30
"""Words, or characters of scripts without spaces, of what may repeat itself."""

_UNIT = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+|[^\w\s]")
_UNSPACED_A_WORD = 3  # characters of a script without spaces that say about as much as a word


def flags_of(
    source: str,
    text: str,
    *,
    unknown: bool = False,
    unread: bool = False,
    cut: bool = False,
    finished: bool = True,
    satisfied: bool = True,
) -> tuple[Flag, ...]:
    """Return the flags of a translation, in the order of `Flag`.

    Args:
        source: the line.
        text: its translation, detokenised.
        unknown: whether the model has no other token than UNK for some of the source or of the translation.
        unread: whether the source has as many tokens as are read.
        cut: whether the translation has as many tokens as allowed.
        finished: whether it ended by itself.
        satisfied: whether it is as asked.
    """
    says_nothing = not text.strip()
    found = {
        Flag.EMPTY: bool(source.strip()) and says_nothing,
        Flag.COPY: is_copy(source, text),
        Flag.RATIO: not says_nothing and is_odd_ratio(source, text),
        Flag.REPETITION: is_repetitive(source, text),
        Flag.UNKNOWN: unknown,
        Flag.UNREAD: unread,
        Flag.CUT: cut,
        Flag.UNFINISHED: not finished,
        Flag.UNSATISFIED: not satisfied,
    }
    return tuple(flag for flag, is_set in found.items() if is_set)


def is_copy(source: str, text: str) -> bool:
    """Whether the translation is the source, whatever its case and spaces, and more than names and numbers."""
    if source.casefold().split() != text.casefold().split():
        return False
    words = [word for word in source.split() if not re.search(r"[\d@/]|\w\.\w", word)]
    units = [unit for word in words for unit in _UNIT.findall(word)]
    if source.isupper():
        units = [unit.lower() for unit in units]
    small = [unit for unit in units if unit[0].isalpha() and not unit[0].isupper()]
    unspaced = sum(map(is_unspaced, small))
    return len(small) - unspaced + unspaced / _UNSPACED_A_WORD >= COPIED_WORDS


def is_odd_ratio(source: str, text: str) -> bool:
    """Whether one text is far longer than the other; wide characters, as those of Chinese, count twice."""
    shorter, longer = sorted((_width(source), _width(text)))
    return longer > LENGTH_RATIO * shorter + LENGTH_OFFSET


def _width(text: str) -> int:
    text = " ".join(text.split())
    return len(text) if text.isascii() else sum(1 + (unicodedata.east_asian_width(each) in "WF") for each in text)


def is_repetitive(source: str, text: str) -> bool:
    """Whether words come several times in a row, more often than any in the source.

    Twice is enough for three words or more, or six characters of a script without spaces. Fewer have to come three
    times, or four: "very, very" is good English, and so is 研究研究 in Chinese.
    """
    units = _units(text)
    runs = {size: _times_in_a_row(units, size) for size in range(1, min(LONGEST_REPEATED, len(units) // 2) + 1)}
    short = 2 * _UNSPACED_A_WORD if any(map(is_unspaced, text)) else 3
    suspects = [times for size, times in runs.items() if times > 1 and times >= (2 if size >= short else 3)]
    if not suspects:
        return False
    units = _units(source)
    return max(suspects) > max((_times_in_a_row(units, size) for size in range(1, len(units) // 2 + 1)), default=1)


def _units(text: str) -> list[str]:
    """Words and signs, without case; each character of a script without spaces is a word."""
    return _UNIT.findall(text.lower())


def _times_in_a_row(units: Sequence[str], size: int) -> int:
    """How often some `size` units come in a row at most, if there is a word in them."""
    longest, place = 0, size
    for is_same, run in groupby(map(str.__eq__, units, units[size:])):
        length = len(list(run))
        if is_same and length > longest and any(unit[0].isalnum() for unit in units[place : place + size]):
            longest = length
        place += length
    return longest // size + 1
