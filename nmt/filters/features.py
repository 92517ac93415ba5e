r"""What is counted in a block of lines, all at once in NumPy: characters by kind, words, and 64-bit hashes.

A hash of a piece of text is Σ m(cᵢ) Pⁱ mod 2⁶⁴ over its characters cᵢ, where m mixes the bits of a code point: of all
pieces of a block it comes from one running sum (Karp and Rabin, 1987).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from enum import IntEnum
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nmt.corpora.split import is_part_of_letter
from nmt.data.sequences import GOLDEN, mixed
from nmt.text.marks import SCRIPT_NAMES, script_of

Array: TypeAlias = NDArray[Any]

CHARACTERS_LOOKED_AT = 2000
"""Of a line; its length is counted in full."""

_INVERSE = np.uint64(pow(int(GOLDEN), -1, 1 << 64))


class Kind(IntEnum):
    """Kinds of characters; a letter has the kind `FIRST_SCRIPT` + the place of its script in `SCRIPT_NAMES`.

    `MARK` is what is written on or beside a letter, such as the vowel signs of Hindi and Burmese.
    """

    SPACE = 0
    CONTROL = 1
    REPLACEMENT = 2
    INVISIBLE = 3
    UNASSIGNED = 4
    FULL_STOP = 5
    QUESTION = 6
    EXCLAMATION = 7
    OPENING = 8
    CLOSING = 9
    MARKUP = 10
    SIGN = 11
    ZERO = 12
    NINE = 21
    MARK = 22
    FIRST_SCRIPT = 23


TERMINAL = (Kind.FULL_STOP, Kind.QUESTION, Kind.EXCLAMATION)
_CLOSES_QUOTE = np.array([ord(sign) for sign in "\"'”’»›“‘"])

NUM_KINDS = Kind.FIRST_SCRIPT + len(SCRIPT_NAMES)
_UNKNOWN, _UPPER, _LOWER = 0xFF, 0x100, 0x200
_SIGNS = {
    **dict.fromkeys(".。．।۔…", Kind.FULL_STOP),
    **dict.fromkeys("?？؟\u037e", Kind.QUESTION),
    **dict.fromkeys("!！", Kind.EXCLAMATION),
    **dict.fromkeys("([{（［【", Kind.OPENING),
    **dict.fromkeys(")]}）］】", Kind.CLOSING),
    **dict.fromkeys("<>&@\\/", Kind.MARKUP),
    **dict.fromkeys("\u200c\u200d", Kind.SIGN),  # join letters or keep them apart, in Persian and Hindi
    "\ufffd": Kind.REPLACEMENT,
}


def _kind_of(code: int) -> int:
    """The kind of a character, and whether it is upper or lower case."""
    character = chr(code)
    category = unicodedata.category(character)
    if character in _SIGNS:
        return _SIGNS[character]
    if character.isspace():
        return Kind.SPACE
    if category == "Nd":
        return Kind.ZERO + unicodedata.digit(character)
    if category[0] == "L":
        case = _UPPER if category in ("Lu", "Lt") else _LOWER if category == "Ll" else 0
        return case | Kind.FIRST_SCRIPT + SCRIPT_NAMES.index(script_of(character))
    if category in ("Mn", "Mc") and not unicodedata.name(character, "").startswith("VARIATION SELECTOR"):
        return Kind.MARK  # the others frame signs, or choose how an emoji looks
    kinds = {"Cc": Kind.CONTROL, "Cf": Kind.INVISIBLE, "Co": Kind.UNASSIGNED, "Cn": Kind.UNASSIGNED}
    return kinds.get(category, Kind.SIGN)


class _Kinds:
    """What is known of each code point, found out when it is first met."""

    def __init__(self) -> None:
        self._kinds = np.full(0x110000, _UNKNOWN, np.uint16)
        self._letters = np.full(0x110000, 2, np.uint8)

    def kinds(self, codes: Array) -> Array:
        """(C,) kinds and cases of code points (C,)."""
        found = self._kinds[codes]
        if (unknown := found == _UNKNOWN).any():
            for code in np.unique(codes[unknown]).tolist():
                self._kinds[code] = _kind_of(code)
            found = self._kinds[codes]
        return found

    def letters(self, codes: Array) -> Array:
        """(C,) whether code points are part of letters, as near lines have them."""
        found = self._letters[codes]
        if (unknown := found == 2).any():
            for code in np.unique(codes[unknown]).tolist():
                self._letters[code] = is_part_of_letter(chr(code))
            found = self._letters[codes]
        return found.astype(bool)


_KINDS = _Kinds()


class _Powers:
    """Powers of an odd number modulo 2⁶⁴, as many as were ever asked for."""

    def __init__(self, base: np.uint64) -> None:
        self._base, self._powers = base, np.ones(1, np.uint64)

    def __call__(self, count: int) -> Array:
        if len(self._powers) < count:
            factors = np.full(2 * count, self._base, np.uint64)
            factors[0] = 1
            self._powers = np.cumprod(factors)
        return self._powers[:count]


_POWERS, _INVERSES = _Powers(GOLDEN), _Powers(_INVERSE)


def _segment_hashes(codes: Array, starts: Array, stops: Array) -> Array:
    """Hashes of pieces `codes[start:stop]`, 0 for empty ones."""
    terms = mixed(codes.astype(np.uint64) + GOLDEN) * _POWERS(len(codes))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms)])
    return mixed((sums[stops] - sums[starts]) * _INVERSES(len(codes) + 1)[starts])


def _codes(text: str) -> Array:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


class Lines:
    """Some lines of one side, and what is counted in them.

    N lines have C characters, line feeds counted, and W words, which are between spaces.

    Attributes:
        lines: the text.
        lengths: (N,) characters of the whole line.
        codes: (C,) code points; `kinds`: (C,) what they are; `line_of`: (C,) their lines.
        counts: (N, K) characters of each kind.
        word_starts, word_stops: (W,) places of words in `codes`; `word_lines`: (W,) their lines.
        num_words: (N,).
    """

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = lines
        self.lengths = np.fromiter(map(len, lines), np.int64, len(lines))
        self._texts = [line[:CHARACTERS_LOOKED_AT] for line in lines]
        self.codes = _codes("\n".join([*self._texts, ""]))
        found = _KINDS.kinds(self.codes)
        self.kinds, self.is_upper, self.is_lower = found & 0xFF, found & _UPPER > 0, found & _LOWER > 0
        sizes = np.minimum(self.lengths, CHARACTERS_LOOKED_AT) + 1
        self.ends = np.cumsum(sizes) - 1
        self.line_of = np.repeat(np.arange(len(lines)), sizes)
        keys = self.line_of * NUM_KINDS + self.kinds
        self.counts = np.bincount(keys, minlength=len(lines) * NUM_KINDS).reshape(len(lines), NUM_KINDS)
        is_space = np.concatenate([[True], self.kinds == Kind.SPACE])
        self.word_starts = np.flatnonzero(is_space[:-1] & ~is_space[1:])
        self.word_stops = np.flatnonzero(~is_space[:-1] & is_space[1:])
        self.word_lines = self.line_of[self.word_starts]
        self.num_words = np.bincount(self.word_lines, minlength=len(lines))

    def __len__(self) -> int:
        return len(self.lines)

    @cached_property
    def hashes(self) -> Array:
        """(N,) of whole lines."""
        cut = _segment_hashes(self.codes, np.concatenate([[0], self.ends[:-1] + 1]), self.ends)
        for row in np.flatnonzero(self.lengths > CHARACTERS_LOOKED_AT).tolist():
            codes = _codes(self.lines[row])
            cut[row] = _segment_hashes(codes, np.array([0]), np.array([len(codes)]))[0]
        return cut

    @cached_property
    def near_hashes(self) -> Array:
        """(N,) hashes of the letters alone, without case and accents: equal for near lines; 0 if there are none."""
        codes = _codes(unicodedata.normalize("NFKD", "\n".join([*self._texts, ""]).casefold()))
        kept = _KINDS.letters(codes)
        stops = np.cumsum(kept)[codes == 10]
        starts = np.concatenate([[0], stops[:-1]])
        return np.where(stops > starts, _segment_hashes(codes[kept], starts, stops), np.uint64(0))

    @cached_property
    def words(self) -> Array:
        """(W,) hashes of words."""
        return _segment_hashes(self.codes, self.word_starts, self.word_stops)

    @cached_property
    def longest_words(self) -> Array:
        """(N,) characters of the longest word."""
        longest = np.zeros(len(self), np.int64)
        np.maximum.at(longest, self.word_lines, self.word_stops - self.word_starts)
        return longest

    @cached_property
    def final_kinds(self) -> Array:
        """(N,) the kind that lines end in, behind quotes, if that ends sentences; 1 for what words are of; else 0."""
        found = np.zeros(len(self), np.int64)
        rows = np.flatnonzero(self.num_words)
        last = self.word_stops[np.cumsum(self.num_words)[rows] - 1] - 1
        closes = np.isin(self.codes[last], _CLOSES_QUOTE) | (self.kinds[last] == Kind.CLOSING)
        kinds = self.kinds[np.maximum(last - closes, 0)]
        found[rows] = np.where(np.isin(kinds, TERMINAL), kinds, (kinds >= Kind.ZERO) & ~closes)
        return found

    @property
    def ends_in_punctuation(self) -> Array:
        """(N,) whether lines end in a sign that ends sentences."""
        return self.final_kinds > 1

    @property
    def letters(self) -> Array:
        """(N,) letters of any script."""
        return self.counts[:, Kind.FIRST_SCRIPT :].sum(axis=1)

    @property
    def alphabetic(self) -> Array:
        """(N,) letters and the marks on them, which are half of a word in some scripts."""
        return self.letters + self.count(Kind.MARK)

    def count(self, *kinds: int) -> Array:
        """(N,) characters of some kinds."""
        return self.counts[:, list(kinds)].sum(axis=1)

    def lines_with(self, is_place: Array, places: Array | None = None) -> Array:
        """(N,) how many of the places in `codes`, or of those given, are marked in each line."""
        lines = self.line_of if places is None else places
        return np.bincount(lines[: len(is_place)][is_place], minlength=len(self))

    def ngrams(self, order: int) -> tuple[Array, Array]:
        """Hashes of all n-grams of words, and their lines."""
        count = len(self.words) - order + 1
        if count <= 0:
            return np.zeros(0, np.uint64), np.zeros(0, np.int64)
        total = np.zeros(count, np.uint64)
        for place in range(order):
            total = total * GOLDEN + self.words[place : place + count]
        whole = self.word_lines[:count] == self.word_lines[order - 1 :]
        return mixed(total[whole]), self.word_lines[:count][whole]

    def repeats(self, values: Array, lines: Array, *, period: int, times: int) -> Array:
        """(N,) whether a pattern of `period` values stands so many times in a row."""
        equal = (values[period:] == values[:-period]) & (lines[period:] == lines[:-period])
        length = period * (times - 1)
        sums = np.concatenate([[0], np.cumsum(equal)])
        if len(sums) <= length:
            return np.zeros(len(self), bool)
        found = sums[length:] - sums[:-length] == length
        return self.lines_with(found, lines) > 0
