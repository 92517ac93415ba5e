"""How well the words of each pair translate each other, by a statistical alignment of the corpus itself.

OpusFilter's WordAlignFilter takes the log probability of an aligner. Here it is the share of words that both directions
of an HMM link, times the share of neighbouring links that go on in the same order: pairs that do not belong together
have few links, and words in disorder have links that jump.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np

from nmt.alignment.bitext import cut
from nmt.alignment.corpus_alignment import align
from nmt.data.corpus import Corpus
from nmt.doctor.findings import blocks_of
from nmt.filters.features import Array

ITERATIONS = 3
"""Of EM, for each model."""

MOST_WORD_PAIRS = 5_000_000
"""That are kept, so that memory stays within about half a gigabyte."""

_LONGEST_STEP = 3
_FEWEST_LINKS = 3


def alignment_scores(corpus: Corpus, count: Callable[[int], object]) -> Array:
    """(N,) 0 to 1 for each pair of a corpus; 1 for what cannot be aligned, since a side is empty or very long.

    Args:
        corpus: is read once.
        count: told how many more pairs were read.
    """

    def words() -> Iterator[tuple[list[str], list[str]]]:
        for pairs in blocks_of(corpus, Counter()):
            yield from ((cut(source), cut(target)) for source, target in pairs)
            count(len(pairs))

    aligned = align(
        words(), model1_iterations=ITERATIONS, hmm_iterations=ITERATIONS, max_word_pairs=MOST_WORD_PAIRS
    )  # fmt: skip
    totals = aligned.bitext.source.lengths + aligned.bitext.target.lengths
    scores = np.ones(len(totals))
    for row, links in enumerate(aligned.links("intersection")):
        if not totals[row]:
            continue
        places = [target for _, target in sorted(links)]
        steps = [0 < after - before <= _LONGEST_STEP for before, after in pairwise(places)]
        order = sum(steps) / len(steps) if len(places) >= _FEWEST_LINKS else 1.0
        scores[row] = 2 * len(places) / totals[row] * order
    return scores
