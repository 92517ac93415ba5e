"""Which pairs of a corpus repeat earlier ones, and what of validation and test it holds: by 64-bit hashes.

Two different pairs of ten million have one hash with a chance of 10¹⁴ / 2⁶⁵, or 3 in a million.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nmt.data.sequences import mixed
from nmt.filters.features import Array, Lines
from nmt.text.tokenizer import in_blocks

ORDER = 8
"""Words of the n-grams by which text of validation and test is found again."""

_PARTITIONS = 64
_SHIFT = np.uint64(58)
_HELD = 1 << 17
_RECORD = np.dtype([("key", "<u8"), ("number", "<u8")])
_TARGET = np.uint64(0xD6E8FEB86659FD93)


def pair_keys(source: Array, target: Array) -> Array:
    """(N,) hashes of pairs from those of their sides; 0, if a side has 0."""
    keys = mixed(source + _TARGET * target)
    return np.where((source == 0) | (target == 0), np.uint64(0), keys)


class Repeats:
    """Finds keys that came before, in files: each of 64 holds those with the same first bits, and fits into memory.

    Args:
        folder: for the files, 16 bytes a pair.
        name: of what is compared.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._paths = [folder / f"{name}.{partition:02}" for partition in range(_PARTITIONS)]
        self._held: list[Array] = []
        self._count, self._has_files = 0, False

    def add(self, keys: Array, first: int) -> None:
        """Take in the keys of the next pairs, of which the first has such a number; 0 is no key."""
        records = np.empty(len(keys), _RECORD)
        records["key"], records["number"] = keys, np.arange(first, first + len(keys), dtype=np.uint64)
        self._held.append(records[keys != 0])
        self._count += len(keys)
        if sum(map(len, self._held)) > _HELD:
            self._write()

    def _write(self) -> None:
        self._has_files, records = True, np.concatenate([np.zeros(0, _RECORD), *self._held])
        partitions = (records["key"] >> _SHIFT).astype(np.int64)
        order = np.argsort(partitions, kind="stable")
        stops = np.cumsum(np.bincount(partitions, minlength=_PARTITIONS))
        for path, part in zip(self._paths, np.split(records[order], stops[:-1]), strict=True):
            with path.open("ab") as file:
                file.write(part.tobytes())
        self._held = []

    def found(self) -> Array:
        """(N,) whether each pair has the key of an earlier one."""
        repeated = np.zeros(self._count, bool)
        for records in self._partitions():
            records = records[np.argsort(records["key"], kind="stable")]
            same = records["key"][1:] == records["key"][:-1]
            repeated[records["number"][1:][same]] = True
        return repeated

    def _partitions(self) -> Iterator[Array]:
        """All records, in parts of which no two have a key in common."""
        if not self._has_files:  # so few that they are still in memory
            yield np.concatenate([np.zeros(0, _RECORD), *self._held])
            return
        self._write()
        for path in filter(Path.exists, self._paths):
            yield np.fromfile(path, _RECORD)
            path.unlink()


class _Known:
    """Numbers that are looked for in a stream of others, and which were met."""

    def __init__(self, values: Array) -> None:
        self.values = np.unique(values)
        self.met = np.zeros(len(self.values), bool)

    def update(self, values: Array) -> Array:
        """(N,) whether each of the values is one of those."""
        if not len(self.values):
            return np.zeros(len(values), bool)
        places = np.minimum(np.searchsorted(self.values, values), len(self.values) - 1)
        found = self.values[places] == values
        self.met[places[found]] = True
        return found

    def share_met(self, values: Array) -> Array:
        """(N,) whether each of the values was met, all of which were looked for."""
        return self.met[np.searchsorted(self.values, values)]


class Shared(NamedTuple):
    """What of a set that judges a model is also trained on, in pairs.

    total: pairs of the set.
    exact: word for word.
    near: on both sides but for case, accents, digits and punctuation.
    ngrams: at least half of the 8-grams of a side.
    """

    total: int
    exact: Array
    near: Array
    ngrams: Array


class _Keys(NamedTuple):
    exact: Array
    near: Array
    ngrams: tuple[tuple[Array, Array], ...]


class Overlap:
    """Finds the pairs of validation and test in a training corpus; only what these hold is kept in memory.

    Args:
        judging: the pairs by the name of their set.
    """

    def __init__(self, judging: dict[str, Sequence[tuple[str, str]]]) -> None:
        self._sets = {name: _keys_of(pairs) for name, pairs in judging.items() if pairs}
        every = list(self._sets.values())
        self._exact = _Known(_joined(keys.exact for keys in every))
        self._near = _Known(_joined(keys.near for keys in every))
        self._ngrams = [_Known(_joined(keys.ngrams[side][0] for keys in every)) for side in (0, 1)]

    def update(self, sides: tuple[Lines, Lines], exact: Array, near: Array) -> Array:
        """Take in the next pairs of the training corpus.

        Args:
            sides: their lines.
            exact: (N,) keys of the pairs.
            near: (N,) likewise, of what near pairs have in common.

        Returns:
            (N,) which stand in a set, word for word or but for case, accents, digits and punctuation.
        """
        for known, side in zip(self._ngrams, sides, strict=True):
            if len(known.values):
                known.update(side.ngrams(ORDER)[0])
        return self._near.update(near) & (near != 0) | self._exact.update(exact)

    def shared(self) -> dict[str, Shared]:
        """What was found of each set."""
        found = {}
        for name, keys in self._sets.items():
            count, most = len(keys.exact), np.zeros(len(keys.exact), bool)
            for known, (grams, lines) in zip(self._ngrams, keys.ngrams, strict=True):
                totals = np.bincount(lines, minlength=count)
                met = np.bincount(lines, weights=known.share_met(grams), minlength=count)
                most |= (totals > 0) & (2 * met >= totals)
            near = (keys.near != 0) & self._near.share_met(keys.near)
            found[name] = Shared(count, self._exact.share_met(keys.exact), near, most)
        return found


def _joined(arrays: Iterable[Array]) -> Array:
    return np.concatenate([np.zeros(0, np.uint64), *arrays])


def _keys_of(pairs: Sequence[tuple[str, str]]) -> _Keys:
    """The keys and n-grams of a set, read in blocks."""
    exact, near, before = list[Array](), list[Array](), 0
    found: tuple[list[tuple[Array, Array]], list[tuple[Array, Array]]] = ([], [])
    for block in in_blocks(pairs):
        sides = [Lines(lines) for lines in zip(*block, strict=True)]
        exact.append(pair_keys(sides[0].hashes, sides[1].hashes))
        near.append(pair_keys(sides[0].near_hashes, sides[1].near_hashes))
        for side, lines in enumerate(sides):
            hashes, rows = lines.ngrams(ORDER)
            found[side].append((hashes, rows + before))
        before += len(block)
    ngrams = tuple(
        (_joined(hashes for hashes, _ in side), np.concatenate([rows for _, rows in side])) for side in found
    )
    return _Keys(_joined(exact), _joined(near), ngrams)
