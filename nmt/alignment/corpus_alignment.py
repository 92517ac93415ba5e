"""The alignment of a corpus: both directions, the links that follow from them, and a table of word translations."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from nmt.alignment.bitext import MAX_WORD_PAIRS, Array, Bitext, Cooccurrences, encode
from nmt.alignment.links import SYMMETRIZATIONS, Links
from nmt.alignment.models import NO_LINK, Aligner, Report
from nmt.errors import DataError

ITERATIONS = 5
"""Of EM, for each model."""

MAX_LENGTH = 100
"""Words a side beyond which a pair is not aligned."""

LEXICAL_FLOOR = 0.001
"""A word pair is in the lexical table if one of its two probabilities is so high."""


class Translation(NamedTuple):
    """A word pair, P(target word | source word) and P(source word | target word)."""

    source: str
    target: str
    target_given_source: float
    source_given_target: float


class Direction(NamedTuple):
    """What was learned of one direction.

    links: (W,) for each generated word the place of its given word, or NO_LINK.
    probabilities: (E,) P(generated | given) of each word pair.
    perplexity: of the generated words, at the start of the last iteration.
    """

    links: Array
    probabilities: Array
    perplexity: float


class Alignment(NamedTuple):
    """An aligned corpus.

    bitext: its words.
    word_pairs: (2, E) source and target word of each word pair.
    dropped: word pairs that were left out to bound memory.
    forward: with the target generated from the source.
    backward: with the source generated from the target.
    """

    bitext: Bitext
    word_pairs: Array
    dropped: int
    forward: Direction
    backward: Direction

    def links(self, symmetrization: str = "grow-diag-final-and") -> Iterator[Links]:
        """The links of each pair, in order; none for a pair that was not aligned.

        Args:
            symmetrization: one of `SYMMETRIZATIONS`.
        """
        symmetrize = SYMMETRIZATIONS[symmetrization]
        source_spans, target_spans = (pairwise(side.starts.tolist()) for side in self.bitext[:2])
        for source_span, target_span in zip(source_spans, target_spans, strict=True):
            forward = enumerate(self.forward.links[slice(*target_span)].tolist())
            backward = enumerate(self.backward.links[slice(*source_span)].tolist())
            yield symmetrize(
                {(i, j) for j, i in forward if i != NO_LINK}, {(i, j) for i, j in backward if j != NO_LINK}
            )

    def lexical_table(self) -> Iterator[Translation]:
        """Word pairs by how probably they translate each other, in the order in which their words first occur."""
        given_source, given_target = self.forward.probabilities, self.backward.probabilities
        for place in np.flatnonzero(np.maximum(given_source, given_target) >= LEXICAL_FLOOR).tolist():
            source, target = self.word_pairs[:, place].tolist()
            yield Translation(
                self.bitext.source.words[source],
                self.bitext.target.words[target],
                float(given_source[place]),
                float(given_target[place]),
            )


def align(
    pairs: Iterable[tuple[Sequence[str], Sequence[str]]],
    *,
    model1_iterations: int = ITERATIONS,
    hmm_iterations: int = ITERATIONS,
    max_length: int = MAX_LENGTH,
    keep_case: bool = False,
    max_word_pairs: int = MAX_WORD_PAIRS,
    threads: int = 1,
    report: Report = str,
) -> Alignment:
    """Align the words of a corpus.

    Args:
        pairs: the words of both sides of each pair.
        model1_iterations: of EM with Model 1.
        hmm_iterations: of EM with the HMM that follows; 0 aligns by Model 1.
        max_length: words a side beyond which a pair is not aligned.
        keep_case: whether words that differ in case alone are different words.
        max_word_pairs: what bounds memory: word pairs that are kept.
        threads: how many to use; the result is the same.
        report: is told a line about each iteration.

    Raises:
        DataError: no pair can be aligned.
    """
    bitext = encode(pairs, max_length=max_length, keep_case=keep_case)
    if not len(bitext.source.ids):
        raise DataError(
            f"a corpus must have a pair of lines with words on both sides, got {bitext.empty:,} with an empty side and "
            f"{bitext.too_long:,} with more than {max_length} words"
        )
    report(
        f"{len(bitext.source.starts) - 1:,} pairs, {len(bitext.source.ids):,} source and {len(bitext.target.ids):,} "
        "target words"
    )
    with tempfile.TemporaryFile() as file:
        table = Cooccurrences(bitext, file, max_word_pairs=max_word_pairs)
        directions = []
        for flipped in (False, True):
            aligner = Aligner(table, flipped=flipped, threads=threads)
            perplexity = aligner.train(
                model1_iterations=model1_iterations, hmm_iterations=hmm_iterations, report=report
            )
            directions.append(Direction(aligner.links(), aligner.probabilities(), perplexity))
        return Alignment(bitext, np.stack([table.source, table.target]), table.dropped, *directions)
