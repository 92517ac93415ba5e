"""How many pairs of each corpus a mixture has drawn, and which: exact shares, and an order that takes no memory."""

from __future__ import annotations

import zlib
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import accumulate, pairwise
from math import ceil, lcm

import numpy as np

from nmt.data.sequences import GOLDEN, mixed
from nmt.errors import ConfigError

ROUND_PAIRS = 2**20
"""The most pairs that are planned together: some tens of megabytes, however large the corpora are."""

_MOST_COPIES = Fraction(1, 10)
"""Of the pairs of a round, those that a corpus has given before in the same one."""


@dataclass(frozen=True)
class Stage:
    """A part of a run that mixes corpora by certain weights.

    Attributes:
        name: for people.
        weights: of each corpus, 0 or more; their relations count.
        updates: after which the stage ends; None for no such end.
        epochs: passes through the corpus `of` after which it ends; None likewise.
        of: the number of that corpus.
    """

    name: str
    weights: tuple[float, ...]
    updates: int | None = None
    epochs: float | None = None
    of: int = 0

    @cached_property
    def _bounds(self) -> tuple[int, ...]:
        """Where the share of each corpus ends, in units of the last of them; the first is 0."""
        fractions = [Fraction(weight) for weight in self.weights]
        scale = lcm(*(fraction.denominator for fraction in fractions))
        return tuple(accumulate((int(fraction * scale) for fraction in fractions), initial=0))

    def upto(self, pairs: int) -> np.ndarray:
        """How many of the first pairs of the stage are of each corpus, (C,) int64; together they are all of them.

        The shares are laid one behind the other, and their ends are rounded. So at any number of pairs each corpus
        is within one pair of its exact share, and what a round takes of it depends on no round before.
        """
        *_, whole = self._bounds
        ends = [(2 * bound * pairs + whole) // (2 * whole) for bound in self._bounds]
        return np.diff(np.array(ends, dtype=np.int64))

    def round_pairs(self, sizes: Sequence[int], *, at_most: int = ROUND_PAIRS, at_least: int = 1) -> int:
        """Pairs of a round: as many as its corpora have, so that a round of corpora mixed by size is an epoch.

        Batches hold pairs of similar lengths of a round. So what a corpus gives several times in it comes several
        times in one batch, which then teaches less than its size says; a round is shorter if more than a tenth of it
        would be such copies.

        Args:
            sizes: pairs of each corpus, (C,).
            at_most: more are planned in several rounds.
            at_least: so many whatever copies there are, as fewer make batches of much padding.

        Raises:
            ConfigError: a corpus would not have a pair in each round.
        """
        shares = [end - start for start, end in pairwise(self._bounds)]
        whole, least = self._bounds[-1], min(share for share in shares if share)
        total = sum(size for size, share in zip(sizes, shares, strict=True) if share)
        if least * at_most < whole:
            raise ConfigError(
                f"stage {self.name}: the least weight must be a pair in {at_most:,} at least, got one in "
                f"{whole // least:,}: raise it, or set it to 0"
            )

        def has_many_copies(pairs: int) -> bool:
            given = [pairs * share // whole for share in shares]
            return sum(max(0, count - size) for count, size in zip(given, sizes, strict=True)) > _MOST_COPIES * pairs

        fitting = bisect_left(range(total + 1), True, key=has_many_copies) - 1
        return min(at_most, max(fitting, min(total, at_least), -(-whole // least)))

    def last_pair(self, sizes: Sequence[int]) -> int | None:
        """Pairs of the stage up to the one that fulfils its epochs; None if it does not end by them."""
        if self.epochs is None:
            return None
        wanted, share = self.wanted(sizes), self._bounds[self.of + 1] - self._bounds[self.of]
        pairs = 0
        while (lacking := wanted - int(self.upto(pairs)[self.of])) > 0:
            pairs += max(1, lacking * self._bounds[-1] // share)
        return pairs

    def wanted(self, sizes: Sequence[int]) -> int:
        """Pairs of the corpus `of` that fulfil the epochs."""
        return ceil(Fraction(self.epochs or 0.0).limit_denominator(10**6) * sizes[self.of])


class EndlessOrder:
    """The order in which a corpus is passed through without end: each epoch has every pair once, in its own order.

    Whichever places are asked for, they are computed at once and nothing is kept: each epoch is a permutation by a key
    (a Feistel network, which Luby and Rackoff 1988 show to be like a random one; what leads out of the corpus is
    led on until it is within, Black and Rogaway 2002, "Ciphers with arbitrary finite domains", section 3).

    Args:
        size: N, pairs of the corpus.
        seed: of the run.
        name: of the corpus; others are in other orders.

    Attributes:
        key: a number made of the name.
    """

    _TURNS = 4

    def __init__(self, size: int, *, seed: int, name: str) -> None:
        self._size = size
        self.key = zlib.crc32(name.encode())
        self._seed = np.random.SeedSequence([seed, self.key]).generate_state(1, np.uint64)[0]
        bits = max(2, (size - 1).bit_length())
        self._low_bits = np.uint64(bits // 2)
        self._low, self._high = (np.uint64((1 << part) - 1) for part in (bits // 2, bits - bits // 2))

    def pairs_at(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The pairs at places of the endless order, (n,) of 0 or more, and their epochs, from 0; (n,) int64 each."""
        epochs, within = np.divmod(places.astype(np.int64), self._size)
        keys = mixed(self._seed + epochs.astype(np.uint64) * GOLDEN)
        pairs = self._permuted(within.astype(np.uint64), keys)
        outside = np.flatnonzero(pairs >= self._size)
        while len(outside):
            pairs[outside] = self._permuted(pairs[outside], keys[outside])
            outside = outside[pairs[outside] >= self._size]
        return pairs.astype(np.int64), epochs

    def _permuted(self, values: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """Permute numbers of as many bits as N - 1 has, (n,) uint64: each half is changed by what the other is."""
        low, high = values & self._low, values >> self._low_bits
        for turn in range(self._TURNS):
            salt = keys + np.uint64(2 * turn + 1)
            low = low ^ (mixed((high ^ salt) * GOLDEN) & self._low)
            high = high ^ (mixed((low ^ ~salt) * GOLDEN) & self._high)
        return (high << self._low_bits) | low
