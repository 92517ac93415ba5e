"""Subword regularization: in each epoch the text of a pair may be cut in another way.

Kudo (2018, arXiv:1804.10959) draws a segmentation x of a sentence in proportion to P(x)^alpha. Here the draw is made
for each piece of the best segmentation by itself: a piece stays, or falls into smaller ones. So a token store keeps one
segmentation, and sampling costs one search in a table for each token. What it leaves out are the segmentations with a
piece across a boundary of the best one; they are rare.

Chance is a function of seed, epoch, sequence and place alone. So the lengths of all sequences of an epoch are known
before it begins, whoever draws which of them later, and batches are planned without a guess; and a run that goes on
cuts as it would have done. SentencePiece's own sampling cannot be repeated.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nmt.data.sequences import Sequences, TokenSequences
from nmt.text.pair import TextPair
from nmt.text.segmentations import Segmentations, segmentations

_SEQUENCES_AT_A_TIME = 2**13
"""So many are measured at a time: a few megabytes of temporary arrays."""


class SampledSequences:
    """The N sequences of one side of a corpus, cut anew in each epoch.

    None becomes longer than the longest of the corpus is in its best segmentation: what would goes beyond that is left
    whole, by chance. So the longest pair, which limits of length and memory are about, stays the longest.

    Args:
        sequences: in their best segmentation.
        table: the cuts of each piece.
        seed: integers of 0 or more, other ones for each side and each run.
    """

    def __init__(self, sequences: Sequences, table: Segmentations, *, seed: Sequence[int]) -> None:
        self._sequences = sequences
        self._table = table
        self._seed = tuple(seed)
        self._longest = int(sequences.lengths.max())

    def lengths(self, epoch: int) -> np.ndarray:
        """Tokens of each sequence in an epoch, (N,); a pass over the whole corpus."""
        lengths = np.empty_like(self._sequences.lengths)
        for start in range(0, len(lengths), _SEQUENCES_AT_A_TIME):
            indices = np.arange(start, min(start + _SEQUENCES_AT_A_TIME, len(lengths)))
            lengths[indices] = self._lengths_of(*self._cuts(indices, epoch))
        return lengths

    def draw(self, indices: np.ndarray, *, epoch: int) -> TokenSequences:
        """Some of the sequences, (B,) of them, as they are cut in an epoch."""
        rows, cuts = self._cuts(indices, epoch)
        starts, sizes = self._table.offsets[cuts], self._table.sizes[cuts]
        places = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        offsets = np.zeros(len(indices) + 1, np.int64)
        np.cumsum(self._lengths_of(rows, cuts), out=offsets[1:])
        return TokenSequences(self._table.token_ids[np.repeat(starts, sizes) + places], offsets)

    def _lengths_of(self, rows: np.ndarray, cuts: np.ndarray) -> np.ndarray:
        """Tokens of each row, (B,) int64; every row has a token at least, its EOS."""
        return np.add.reduceat(self._table.sizes[cuts], np.flatnonzero(np.diff(rows, prepend=-1)))

    def _cuts(self, indices: np.ndarray, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The cut of each token of some sequences in an epoch: its row of B, rising, and the number of the cut."""
        padded, mask = self._sequences.padded(indices)
        rows, columns = np.nonzero(mask)
        token_ids = padded[mask]
        draws, order = np.random.SeedSequence([*self._seed, epoch]).generate_state(2, np.uint64)
        places = (indices[rows].astype(np.uint64) << np.uint64(32)) | columns.astype(np.uint64)
        cuts = self._table.draw(token_ids, _uniform(draws, places))
        too_long = np.flatnonzero((self._lengths_of(rows, cuts) > self._longest)[rows])
        if len(too_long):
            chance = _uniform(order, places[too_long])
            whole = too_long[self._beyond(rows[too_long], self._table.sizes[cuts[too_long]], chance)]
            cuts[whole] = self._table.bounds[token_ids[whole]]
        return rows, cuts

    def _beyond(self, rows: np.ndarray, sizes: np.ndarray, chance: np.ndarray) -> np.ndarray:
        """Which cuts of too long rows have to be taken back: in the order of chance, they stay while there is room."""
        order = np.lexsort((chance, rows))
        _, begins, lengths = np.unique(rows, return_index=True, return_counts=True)
        used = np.cumsum(sizes[order] - 1)
        used -= np.repeat(used[begins] - (sizes[order] - 1)[begins], lengths)
        return order[used > np.repeat(self._longest - lengths, lengths)]


def _uniform(seed: np.uint64, places: np.ndarray) -> np.ndarray:
    """Return numbers in [0, 1), (n,): of the generator SplitMix64 those at n places (Steele, Lea and Flood 2014)."""
    state = seed + places * np.uint64(0x9E3779B97F4A7C15)  # modulo 2^64
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((state ^ (state >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53


def segmentations_of(text: TextPair, alpha: float | None) -> tuple[Segmentations, Segmentations] | None:
    """List the cuts of the pieces of source and target; None where the best segmentation is always to be used.

    Raises:
        ConfigError: a tokenizer is not a unigram model of SentencePiece.
    """
    if alpha is None:
        return None
    source = segmentations(text.source, alpha=alpha)
    return source, source if text.joint else segmentations(text.target, alpha=alpha)
