"""Parallel text as numbers: words, and which words of the two languages ever stand in one pair of sentences.

`Bitext` holds the words of all pairs as ids. `Cooccurrences` finds the word pairs that occur, each once, and writes for
every cell of every pair's matrix of words (I source by J target words) which of them it is. These matrices are much
larger than the text, so they lie in a temporary file, and an iteration of EM reads them a block at a time.
"""

from __future__ import annotations

import os
import re
import unicodedata
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import IO, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

BLOCK_CELLS = 1 << 20
"""Cells of matrices that are in memory at once, for each thread."""

MAX_WORD_PAIRS = 20_000_000
"""Word pairs that are kept, at most: finding them takes about 2 GB."""

# Written without spaces, and short words: each character is a word.
_IDEOGRAPHS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"


_PLAIN_WORDS = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")


@cache
def _rare_patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What finds characters that `_PLAIN_WORDS` does not know to be words, and a slower pattern that does."""
    # Of the first plane: of more, `re` would look at each character in turn.
    marks = "".join(filter(lambda character: unicodedata.category(character)[0] == "M", map(chr, range(1 << 16))))
    letters = rf"(?:[^\W{_IDEOGRAPHS}]|[{marks}])+"
    return re.compile(f"[{marks}{_IDEOGRAPHS}]"), re.compile(rf"{letters}(?:['’-]{letters})*|\S")


def cut(text: str) -> list[str]:
    """Cut raw text into words and punctuation.

    A word is a run of letters, digits, marks and underscores, also over a hyphen or apostrophe between two of them
    (*T-Shirt*, *don't*). Any other character that is no space, and each ideograph and kana, stands alone.
    """
    return _words(text).findall(text)


def cut_spans(text: str) -> list[tuple[int, int]]:
    """Return where the words of `cut` begin and end in the text, as offsets of characters."""
    return [match.span() for match in _words(text).finditer(text)]


def word_spans(text: str, *, tokenized: bool) -> list[tuple[int, int]]:
    """Return where the words that links count begin and end: those of `cut`, or what stands between spaces."""
    return cut_spans(text) if tokenized else [match.span() for match in re.finditer(r"\S+", text)]


def _words(text: str) -> re.Pattern[str]:
    """What finds the words of a text."""
    rare, words = _rare_patterns()
    return words if rare.search(text) else _PLAIN_WORDS


class Side(NamedTuple):
    """One side of parallel text.

    words: (V,) what each id stands for.
    ids: (W,) the words of all sentences on end, int32.
    starts: (N + 1,) where each sentence begins in `ids`, and their end.
    """

    words: list[str]
    ids: Array
    starts: Array

    @property
    def lengths(self) -> Array:
        """(N,) words per sentence."""
        return np.diff(self.starts)

    def rows(self, pairs: Array, length: int) -> Array:
        """The ids (B, length) of sentences that are all of one length."""
        return self.ids[self.starts[pairs][:, None] + np.arange(length)]


class Bitext(NamedTuple):
    """Parallel text as ids; pairs that cannot be aligned are without words on both sides.

    empty: pairs with a side that has no words.
    too_long: pairs with a side of more words than the limit.
    """

    source: Side
    target: Side
    empty: int
    too_long: int

    @property
    def flipped(self) -> Bitext:
        """The same with the sides exchanged."""
        return self._replace(source=self.target, target=self.source)


def encode(pairs: Iterable[tuple[Sequence[str], Sequence[str]]], *, max_length: int, keep_case: bool = False) -> Bitext:
    """Number the words of pairs of sentences.

    Args:
        pairs: the words of both sides.
        max_length: words a side beyond which a pair is left out, as matrices grow with the product of the lengths.
        keep_case: whether words that differ in case alone are different words.
    """
    vocabularies: tuple[dict[str, int], dict[str, int]] = ({}, {})
    ids, starts = (_Numbers(), _Numbers()), ([0], [0])
    empty = too_long = 0
    for pair in pairs:
        lengths = sorted(map(len, pair))
        empty += lengths[0] == 0
        too_long += lengths[0] > 0 and lengths[1] > max_length
        for side in range(2):
            if lengths[0] > 0 and lengths[1] <= max_length:
                known = vocabularies[side]
                words = pair[side] if keep_case else map(str.lower, pair[side])
                ids[side].extend(known.setdefault(word, len(known)) for word in words)
            starts[side].append(len(ids[side]))
    source, target = (
        Side(list(known), numbers.array(), np.array(begins, np.int64))
        for known, numbers, begins in zip(vocabularies, ids, starts, strict=True)
    )
    return Bitext(source, target, empty, too_long)


class _Numbers:
    """A growing array of int32."""

    def __init__(self) -> None:
        self._values = array("i")
        self.extend = self._values.extend

    def __len__(self) -> int:
        return len(self._values)

    def array(self) -> Array:
        return np.frombuffer(self._values, np.int32) if len(self) else np.zeros(0, np.int32)


class Group(NamedTuple):
    """Pairs (B,) whose source sentences all have I words and whose target sentences all have J."""

    pairs: Array
    source_length: int
    target_length: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """(B, I, J)."""
        return len(self.pairs), self.source_length, self.target_length

    @property
    def size(self) -> int:
        """Cells of all its matrices."""
        return len(self.pairs) * self.source_length * self.target_length


class Block(NamedTuple):
    """Groups that are in memory together.

    word_pairs: (U,) the word pairs that occur in them, by their places in the table, each once.
    cells: (C,) of each cell of each group in turn, which of `word_pairs` it is.
    """

    groups: list[Group]
    word_pairs: Array
    cells: Array

    def matrices(self, values: Array) -> Iterator[tuple[Group, Array]]:
        """Each group with its part of (C,) values as matrices (B, I, J)."""
        ends = np.cumsum([group.size for group in self.groups])
        for group, end in zip(self.groups, ends, strict=True):
            yield group, values[end - group.size : end].reshape(group.shape)


class Cooccurrences:
    """The word pairs of a bitext, and for each cell of its matrices which of them it is.

    Of more than `max_word_pairs` those with the weakest association are dropped: word pairs that are seldom together,
    compared with how often both words occur. The last place of the table stands for all that were dropped.

    Args:
        bitext: the words.
        file: an empty file on disk to keep the cells in.
        max_word_pairs: what bounds memory.

    Attributes:
        source, target: (E,) the words of each word pair, int32, in the order of source, then target.
        dropped: word pairs that were dropped; one that was dropped and then came again is counted twice.
    """

    def __init__(self, bitext: Bitext, file: IO[bytes], *, max_word_pairs: int = MAX_WORD_PAIRS) -> None:
        self.bitext, self._maximum = bitext, max_word_pairs
        self._width = len(bitext.target.words)
        self._blocks = list(_blocks(bitext))
        self.dropped = 0
        keys = self._find()
        self.source, self.target = ((keys // self._width).astype(np.int32), (keys % self._width).astype(np.int32))
        self._file = file
        self._sizes = [self._write(keys, groups) for groups in self._blocks]
        self._offsets = [0, *np.cumsum([4 * sum(sizes) for sizes in self._sizes]).tolist()]

    def __len__(self) -> int:
        return len(self.source)

    @property
    def num_blocks(self) -> int:
        """Blocks that an iteration goes through."""
        return len(self._blocks)

    def block(self, number: int) -> Block:
        """Read a block; several threads may."""
        raw = os.pread(self._file.fileno(), self._offsets[number + 1] - self._offsets[number], self._offsets[number])
        word_pairs, cells = np.split(np.frombuffer(raw, np.int32), [self._sizes[number][0]])
        return Block(self._blocks[number], word_pairs, cells)

    def _keys(self, groups: Sequence[Group]) -> Array:
        """The word pairs of all cells, (C,), each as one number."""
        source, target = self.bitext.source, self.bitext.target
        return np.concatenate(
            [
                (
                    source.rows(group.pairs, group.source_length)[:, :, None] * np.int64(self._width)
                    + target.rows(group.pairs, group.target_length)[:, None, :]
                ).ravel()
                for group in groups
            ]
        )

    def _find(self) -> Array:
        """All word pairs, sorted. Runs are merged when they are of like size, so that each is merged seldom."""
        runs: list[tuple[Array, Array]] = []
        for groups in self._blocks:
            runs.append(np.unique(self._keys(groups), return_counts=True))
            while len(runs) > 1 and len(runs[-2][0]) < 2 * len(runs[-1][0]):
                runs.append(self._prune(*_merged(runs.pop(), runs.pop())))
        while len(runs) > 1:
            runs.append(self._prune(*_merged(runs.pop(), runs.pop())))
        return runs[0][0] if runs else np.zeros(0, np.int64)

    def _prune(self, keys: Array, counts: Array) -> tuple[Array, Array]:
        if len(keys) <= self._maximum:
            return keys, counts
        frequencies = [np.bincount(side.ids, minlength=1).astype(np.float32) for side in self.bitext[:2]]
        association = counts.astype(np.float32) ** 2
        association /= frequencies[0][keys // self._width]
        association /= frequencies[1][keys % self._width]
        place = len(keys) - self._maximum // 2
        kept = association > np.partition(association, place)[place]
        self.dropped += len(keys) - int(kept.sum())
        return keys[kept], counts[kept]

    def _write(self, keys: Array, groups: Sequence[Group]) -> tuple[int, int]:
        found, cells = np.unique(self._keys(groups), return_inverse=True)
        places = np.searchsorted(keys, found)
        places[places == len(keys)] = 0
        places[keys[places] != found] = len(keys)
        self._file.write(places.astype(np.int32).tobytes())
        self._file.write(cells.astype(np.int32).tobytes())
        self._file.flush()
        return len(found), len(cells)


def _merged(one: tuple[Array, Array], other: tuple[Array, Array]) -> tuple[Array, Array]:
    keys, counts = (np.concatenate(both) for both in zip(one, other, strict=True))
    order = np.argsort(keys, kind="stable")
    keys, counts = keys[order], counts[order]
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    return keys[first], np.add.reduceat(counts, first)


def _blocks(bitext: Bitext) -> Iterator[list[Group]]:
    """All pairs with words, in groups of equal lengths, in blocks."""
    block: list[Group] = []
    for group in _groups(bitext):
        if block and sum(other.size for other in block) + group.size > BLOCK_CELLS:
            yield block
            block = []
        block.append(group)
    if block:
        yield block


def _groups(bitext: Bitext) -> Iterator[Group]:
    source_lengths, target_lengths = bitext.source.lengths, bitext.target.lengths
    order = np.lexsort((target_lengths, source_lengths))
    order = order[source_lengths[order] > 0]
    lengths = np.stack([source_lengths[order], target_lengths[order]], axis=1)
    changes = 1 + np.flatnonzero((lengths[1:] != lengths[:-1]).any(axis=1))
    for start, end in pairwise([0, *changes.tolist(), len(order)]):
        if start == end:
            continue
        source_length, target_length = map(int, lengths[start])
        step = max(1, BLOCK_CELLS // (source_length * target_length))
        for first in range(start, end, step):
            yield Group(order[first : min(end, first + step)], source_length, target_length)
