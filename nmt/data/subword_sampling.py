"""Subword regularization: each time a pair is trained on, its text may be cut in another way.

Kudo (2018, arXiv:1804.10959) draws a segmentation x of a sentence in proportion to P(x)^alpha. Here the draw is made
for each piece of the best segmentation by itself: a piece stays, or falls into smaller ones. So a token store keeps one
segmentation, sampling costs one search in a table for each token, and chance is that of a generator with a seed, where
SentencePiece's own sampling cannot be repeated. What it leaves out are the segmentations with a piece across a boundary
of the best one; they are rare.
"""

from __future__ import annotations

import numpy as np

from nmt.data.sequences import Sequences, TokenSequences
from nmt.text.pair import TextPair
from nmt.text.segmentations import Segmentations, segmentations

_SEQUENCES_MEASURED = 10_000


class SubwordSampler:
    """Draws other cuts of the sequences of one language.

    Args:
        table: the cuts of each piece.
    """

    def __init__(self, table: Segmentations) -> None:
        self._table = table

    def planned_lengths(self, sequences: Sequences, *, most: int) -> np.ndarray:
        """How long sequences should be taken to be, so that about five in six of the draws fit: (N,).

        That is the mean of what a sequence of L tokens becomes and one standard deviation of it, where mean and
        variance of a token are those of the first sequences. More would be padding in almost every batch.

        Args:
            sequences: in their best segmentation.
            most: what no length is taken beyond; at least that of the longest sequence.
        """
        count = min(len(sequences), _SEQUENCES_MEASURED)
        padded, mask = sequences.padded(np.arange(count))
        mean, variance = self._growth(padded[mask])
        lengths = np.arange(int(sequences.lengths.max()) + 1)
        planned = np.minimum(np.ceil(mean * lengths + np.sqrt(variance * lengths)), most)
        return planned.astype(np.uint16 if most < 2**16 else np.int32)[sequences.lengths]

    def draw(
        self, sequences: Sequences, indices: np.ndarray, *, longest: int, generator: np.random.Generator
    ) -> TokenSequences:
        """Cut some of the sequences anew.

        Args:
            sequences: in their best segmentation.
            indices: (B,) which of them.
            longest: tokens that a result may have. Of a longer one, cuts chosen by chance are taken back.
            generator: the chance.

        Returns:
            B sequences, none longer than `longest` unless it was so in its best segmentation.
        """
        padded, mask = sequences.padded(indices)
        token_ids, rows = padded[mask], np.nonzero(mask)[0]
        cuts = self._table.draw(token_ids, generator)
        cuts = self._within(longest, token_ids, rows, cuts, generator)
        starts, sizes = self._table.offsets[cuts], self._table.sizes[cuts]
        places = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        offsets = np.zeros(len(indices) + 1, np.int64)
        np.cumsum(np.bincount(rows, weights=sizes, minlength=len(indices)), out=offsets[1:])
        return TokenSequences(self._table.token_ids[np.repeat(starts, sizes) + places], offsets)

    def _within(
        self,
        longest: int,
        token_ids: np.ndarray,
        rows: np.ndarray,
        cuts: np.ndarray,
        generator: np.random.Generator,
    ) -> np.ndarray:
        """Take back what makes a row longer than allowed: in random order, cuts stay until there is no more room."""
        order = np.lexsort((generator.random(len(rows)), rows))  # row after row, as they are, and random within each
        added = self._table.sizes[cuts[order]] - 1
        lengths = np.bincount(rows)
        begins = np.cumsum(lengths) - lengths
        used = np.cumsum(added)
        used -= np.repeat(used[begins] - added[begins], lengths)
        too_long = order[used > np.repeat(longest - lengths, lengths)]
        cuts[too_long] = self._table.bounds[token_ids[too_long]]
        return cuts

    def _growth(self, token_ids: np.ndarray) -> tuple[float, float]:
        """Mean and variance of the tokens that one token becomes."""
        table = self._table
        mean_of_piece = np.bincount(table.pieces, weights=table.probabilities * table.sizes)
        square_of_piece = np.bincount(table.pieces, weights=table.probabilities * table.sizes**2)
        mean, square = mean_of_piece[token_ids].mean(), square_of_piece[token_ids].mean()
        return float(mean), float(square - mean**2)


def subword_samplers(text: TextPair, alpha: float | None) -> tuple[SubwordSampler, SubwordSampler] | None:
    """Build the samplers of source and target; None where the best segmentation is always to be used.

    Raises:
        ConfigError: a tokenizer is not a unigram model of SentencePiece.
    """
    if alpha is None:
        return None
    source = SubwordSampler(segmentations(text.source, alpha=alpha))
    return source, source if text.joint else SubwordSampler(segmentations(text.target, alpha=alpha))
