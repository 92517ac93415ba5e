"""Which pairs stand together in a batch: few cells of padding, and a new mixture in each epoch.

All pairs are laid out in one order in which neighbours have similar lengths on both sides, and that order is cut into
batches. The order goes through strips of similar length of one side, and within a strip through the lengths of the
other, upwards in one strip and downwards in the next, so that no strip ends with a jump. What is random: which side
forms the strips, where strips begin, the direction, the order of pairs of equal lengths, the size of the first batch
(which moves all cuts after it), and the order of the batches.

What grows with the number of pairs N is kept narrow: a plan takes 4 bytes a pair (8 beyond 2^31 of them), and making it
16 more for the while. Work that needs more passes over the pairs in pieces.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nmt.errors import ConfigError

_PIECE_PAIRS = 2**18
"""As many pairs at a time are worked on: their temporary arrays stay in the processor's caches."""


@dataclass(frozen=True)
class BatchPlan:
    """The batches of one epoch.

    Attributes:
        pairs: (N,) int32 (int64 beyond 2^31 pairs), the indices of the pairs, batch after batch.
        bounds: (number of batches, 2) int64; batch i holds `pairs[bounds[i, 0]:bounds[i, 1]]`.
    """

    pairs: np.ndarray
    bounds: np.ndarray

    def __len__(self) -> int:
        """Number of batches."""
        return len(self.bounds)

    def __getitem__(self, batch: int) -> np.ndarray:
        """Indices of the pairs of one batch, (B,)."""
        start, end = self.bounds[batch]
        return self.pairs[start:end]


def plan_epoch(
    source_lengths: np.ndarray, target_lengths: np.ndarray, *, batch_tokens: int, seed: int, epoch: int
) -> BatchPlan:
    """Plan an epoch: each pair once, in batches of similar lengths, in random order; the same for the same arguments.

    Args:
        source_lengths: (N,) tokens of each source, EOS counted.
        target_lengths: (N,) tokens of each target, EOS counted.
        batch_tokens: no batch holds more padded tokens of its longer side.
        seed: of the run.
        epoch: which epoch, from 0.

    Raises:
        ConfigError: a pair alone is longer than `batch_tokens`.
    """
    check_fits(source_lengths, target_lengths, batch_tokens=batch_tokens)
    generator = np.random.default_rng([seed, epoch])
    pairs = _random_order(source_lengths, target_lengths, batch_tokens=batch_tokens, generator=generator)
    longest = np.maximum(source_lengths, target_lengths)
    bounds = cut(longest[pairs], batch_tokens=batch_tokens, first_share=1.0 - 0.5 * generator.random())
    return BatchPlan(pairs, bounds[generator.permutation(len(bounds))])


def plan_in_length_order(source_lengths: np.ndarray, target_lengths: np.ndarray, *, batch_tokens: int) -> BatchPlan:
    """Plan batches without chance, short pairs first; a pair longer than `batch_tokens` is a batch of its own."""
    longest = np.maximum(source_lengths, target_lengths)
    pairs = np.lexsort((target_lengths, source_lengths, longest))
    return BatchPlan(pairs, cut(longest[pairs], batch_tokens=batch_tokens, first_share=1.0))


def check_fits(source_lengths: np.ndarray, target_lengths: np.ndarray, *, batch_tokens: int) -> None:
    """Refuse a `batch_tokens` that cannot hold the longest pair.

    Raises:
        ConfigError: a pair alone is longer than `batch_tokens`.
    """
    longest = int(max(source_lengths.max(), target_lengths.max()))
    if longest > batch_tokens:
        raise ConfigError(
            f"batch_tokens must hold the longest pair, {longest} tokens with EOS, got {batch_tokens}: "
            "raise batch_tokens or lower max_length"
        )


def cut(longest: np.ndarray, *, batch_tokens: int, first_share: float) -> np.ndarray:
    """Cut an order of pairs into batches, each as large as `batch_tokens` allows.

    Args:
        longest: (N,) tokens of the longer side of each pair, in order.
        batch_tokens: largest (number of pairs) * (longest pair) of a batch of more than one pair.
        first_share: size of the first batch, as a share of `batch_tokens`; it moves all cuts after it.

    Returns:
        (number of batches, 2) int64: begin and end of each batch.
    """
    ends: list[int] = []
    start, limit = 0, int(batch_tokens * first_share)
    while start < len(longest):
        window = longest[start : start + max(1, limit // int(longest[start]))]
        cells = np.maximum.accumulate(window) * np.arange(1, len(window) + 1)  # rises, so it can be searched
        start += max(1, int(np.searchsorted(cells, limit, side="right")))
        ends.append(start)
        limit = batch_tokens
    return np.stack([np.array([0, *ends[:-1]], dtype=np.int64), np.array(ends, dtype=np.int64)], axis=1)


def _random_order(
    source_lengths: np.ndarray, target_lengths: np.ndarray, *, batch_tokens: int, generator: np.random.Generator
) -> np.ndarray:
    """All pairs in one order in which neighbours have similar lengths, (N,)."""
    outer, inner = target_lengths, source_lengths
    if generator.random() < 0.5:
        outer, inner = inner, outer
    strip_of_length = _strips(outer, inner, batch_tokens=batch_tokens, phase=generator.random())
    width = int(inner.max()) + 1
    upwards = (strip_of_length + generator.integers(2)) % 2 == 0
    count = len(outer)
    shuffled = np.arange(count, dtype=np.int32 if count <= 2**31 else np.int64)
    generator.shuffle(shuffled)
    # Cell and place in one number: no two are equal, so any sort gives the same order on every machine, and the order
    # of pairs of one cell is that of the shuffle. Sorting numbers is faster than sorting indices, and half the memory.
    place_bits = np.int64(count.bit_length())
    keys = np.empty(count, dtype=np.int64)
    for piece in _pieces(count):
        pairs = shuffled[piece]
        strip, length = strip_of_length[outer[pairs]], inner[pairs].astype(np.int64)
        cell = strip * width + np.where(upwards[outer[pairs]], length, width - 1 - length)
        keys[piece] = (cell << place_bits) | np.arange(piece.start, piece.stop)
    keys.sort()
    order = np.empty_like(shuffled)
    for piece in _pieces(count):
        order[piece] = shuffled[keys[piece] & ((1 << place_bits) - 1)]
    return order


def _strips(outer: np.ndarray, inner: np.ndarray, *, batch_tokens: int, phase: float) -> np.ndarray:
    """The strip of each length of the outer side, (largest length + 1,); strips hold about the same number of tokens.

    Padding comes from the width of a strip on one side, and from the range of lengths within a batch on the other. With
    n batches the two balance near sqrt(n) strips; measured on image captions, sqrt(2 n) is best or nearly so for
    batches of 512 to 25,000 tokens.
    """
    tokens_of_length = np.zeros(int(outer.max()) + 1)
    for piece in _pieces(len(outer)):
        longest = np.maximum(outer[piece], inner[piece])
        tokens_of_length += np.bincount(outer[piece], weights=longest, minlength=len(tokens_of_length))
    total = tokens_of_length.sum()
    number_of_strips = max(1.0, np.sqrt(2.0 * total / batch_tokens))
    middle = np.cumsum(tokens_of_length) - tokens_of_length / 2.0
    strip = np.floor(middle / total * number_of_strips + phase).astype(np.int64)
    return np.unique(strip, return_inverse=True)[1]  # without gaps, so that neighbours run in opposite directions


def _pieces(count: int) -> Iterator[slice]:
    """Slices of a few pairs each, together all of them."""
    for start in range(0, count, _PIECE_PAIRS):
        yield slice(start, min(start + _PIECE_PAIRS, count))
