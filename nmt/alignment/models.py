"""Word alignment models: IBM Model 1 (Brown et al. 1993) and the HMM (Vogel et al. 1996), trained by EM.

A model explains the words of one sentence, the *generated* one (J words), by those of the other, the *given* one
(I words): each generated word comes from one given word or from none, the empty word. Both models have a table of
translation probabilities t(generated word | given word). Model 1 takes all given words for equally likely; the HMM
makes the position depend on that of the generated word before, by how far it jumps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np

from nmt.alignment.bitext import BLOCK_CELLS, Array, Block, Cooccurrences, Group

EMPTY_PROBABILITY = 0.2
"""That a word comes from the empty word."""

PRIOR = 0.1
"""The Dirichlet prior of translation probabilities, which keeps a rare word from explaining everything near it."""

UNIFORM_SHARE = 0.1
"""Of the probability of a jump, the part that is the same for all positions."""

FLOOR = 1e-7
"""Least translation probability; also that of word pairs that were dropped."""

SMALL_COUNT = 0.01
"""Is added to the count of each jump."""

NO_LINK = -1

Result = TypeVar("Result")

Report = Callable[[str], object]
"""Is told a line about each iteration."""


class Parameters(NamedTuple):
    """What a model has learned.

    translation: (E + 1,) t(generated | given) of each word pair; the last is for dropped ones. float32.
    empty: (V,) t(generated | empty word). float32.
    jumps: weights of jumps -M to M, at M + jump, by M = `max_length`; None for Model 1.
    starts: (M,) weights of the first position.
    """

    translation: Array
    empty: Array
    jumps: Array | None = None
    starts: Array | None = None


class Expected(NamedTuple):
    """Expected counts of one block.

    word_pairs, translation: (U,) places of word pairs in the table, each once, and their counts.
    generated, empty: (W,) generated words, and how probably each comes from the empty word.
    jumps, starts: as in `Parameters`.
    log_likelihood: of the generated words.
    """

    word_pairs: Array
    translation: Array
    generated: Array
    empty: Array
    jumps: Array
    starts: Array
    log_likelihood: float


class Posteriors(NamedTuple):
    """What a model believes about a group of pairs.

    links: (B, I, J) that generated word j comes from given word i.
    empty: (B, J) that it comes from the empty word.
    log_likelihood: of all generated words.
    jumps: (I + 1, I) expected transitions from position to position; the first row is of the start.
    """

    links: Array
    empty: Array
    log_likelihood: float
    jumps: Array | None = None


def model1_posteriors(translation: Array, empty: Array) -> Posteriors:
    """Posteriors of Model 1.

    Args:
        translation: (B, I, J) t(generated j | given i).
        empty: (B, J) t(generated j | empty word).
    """
    links = translation * ((1 - EMPTY_PROBABILITY) / translation.shape[1])
    empty = empty * EMPTY_PROBABILITY
    total = links.sum(axis=1) + empty
    return Posteriors(links / total[:, None], empty / total, float(np.log(total, dtype=np.float64).sum()))


def hmm_posteriors(translation: Array, empty: Array, transition: Array) -> Posteriors:
    """Posteriors of the HMM, by the forward-backward algorithm, for all pairs at once.

    A word that comes from the empty word leaves the position as it is (Och and Ney 2003, section 2.1.3). So a state
    is a position, 0 being the start, and how the last word came there, which only its own emission asks for.

    Args:
        translation: (B, I, J) t(generated j | given i).
        empty: (B, J) t(generated j | empty word).
        transition: (I + 1, I) from a position, or the start, to a position; rows add up to 1.
    """
    batch_size, given_length, length = translation.shape
    emission = np.ascontiguousarray(translation.transpose(2, 0, 1)) * np.float32(1 - EMPTY_PROBABILITY)  # (J, B, I)
    stay = np.float32(EMPTY_PROBABILITY) * empty.T[:, :, None]  # (J, B, 1)

    # Forward: where each pair is after j words, scaled to add up to 1.
    position = np.zeros((length + 1, batch_size, given_length + 1), np.float32)
    position[0, :, 0] = 1
    scale = np.empty((length, batch_size, 1), np.float32)
    for j in range(length):
        position[j + 1] = stay[j] * position[j]
        position[j + 1, :, 1:] += (position[j] @ transition) * emission[j]
        scale[j] = position[j + 1].sum(axis=1, keepdims=True)
        position[j + 1] /= scale[j]

    # Backward: the likelihood of the words after j by the position, scaled alike. `emission` and `stay` take it in.
    emission /= scale
    stay = stay / scale
    rest = np.ones((batch_size, given_length + 1), np.float32)
    by_empty = np.empty((length, batch_size), np.float32)
    for j in reversed(range(length)):
        emission[j] *= rest[:, 1:]
        rest = rest * stay[j]
        by_empty[j] = (position[j] * rest).sum(axis=1)
        rest += emission[j] @ transition.T
    before = position[:-1].reshape(-1, given_length + 1)
    links = (before @ transition).reshape(emission.shape) * emission
    jumps = (before.T @ emission.reshape(-1, given_length)) * transition
    return Posteriors(
        links.transpose(1, 2, 0), by_empty.T, float(np.log(scale, dtype=np.float64).sum()), jumps.astype(np.float64)
    )


def transitions(jumps: Array, starts: Array, length: int) -> Array:
    """The probabilities (I + 1, I) to go from the start, or from a position, to a position of a sentence of I words."""
    weights = np.concatenate([starts[None, :length], jumps[len(jumps) // 2 + _jumps(length)]])
    shares = weights / weights.sum(axis=1, keepdims=True)
    return (UNIFORM_SHARE / length + (1 - UNIFORM_SHARE) * shares).astype(np.float32)


def _jumps(length: int) -> Array:
    """(I, I) how far it is from a position to another."""
    return np.arange(length) - np.arange(length)[:, None]


class Aligner:
    """Trains the models of one direction, and aligns by them.

    Args:
        table: the word pairs.
        flipped: whether the target is given and the source generated; else the other way.
        threads: blocks that are worked on at once. The result does not depend on it.
    """

    def __init__(self, table: Cooccurrences, *, flipped: bool = False, threads: int = 1) -> None:
        self.table, self.flipped, self._threads = table, flipped, threads
        bitext = table.bitext.flipped if flipped else table.bitext
        self.given, self.generated = bitext.source, bitext.target
        self._owner = table.target if flipped else table.source
        self._longest = int(self.given.lengths.max(initial=1))
        self._row_sizes = np.bincount(self._owner, minlength=len(self.given.words))
        num_words = max(1, len(self.generated.words))
        self.parameters = Parameters(
            *(np.full(size, 1 / num_words, np.float32) for size in (len(table) + 1, num_words))
        )

    def train(self, *, model1_iterations: int, hmm_iterations: int, report: Report = str) -> float:
        """Iterations of EM: of Model 1, then of the HMM, which begins with its translation probabilities.

        Returns:
            The perplexity of the generated words at the start of the last iteration.
        """
        perplexity = float(len(self.generated.words))
        name = "target to source" if self.flipped else "source to target"
        for iteration in range(model1_iterations + hmm_iterations):
            if iteration == model1_iterations:
                jumps = 1 / (1 + np.abs(np.arange(-self._longest, self._longest + 1) - 1))
                self.parameters = self.parameters._replace(jumps=jumps, starts=jumps[self._longest + 1 :])
            model = "Model 1" if self.parameters.jumps is None else "HMM"
            perplexity = self._iterate()
            report(f"{name}, {model}, iteration {iteration + 1}: perplexity {perplexity:.2f}")
        return perplexity

    def _iterate(self) -> float:
        """One iteration of EM; returns the perplexity of the generated words by the parameters before it."""
        translation, empty = np.zeros(len(self.table) + 1), np.zeros(len(self.parameters.empty))
        jumps, starts, log_likelihood = np.zeros(2 * self._longest + 1), np.zeros(self._longest), 0.0
        for expected in self._over_blocks(self._expect):
            translation[expected.word_pairs] += expected.translation
            np.add.at(empty, expected.generated, expected.empty)
            jumps += expected.jumps
            starts += expected.starts
            log_likelihood += expected.log_likelihood
        empty = _relative(empty, np.full(len(empty), empty.sum()), np.full(len(empty), len(empty)))
        self.parameters = Parameters(self._translation_from(translation), empty, *self._jumps_from(jumps, starts))
        return float(np.exp(-log_likelihood / max(1, len(self.generated.ids))))

    def _over_blocks(self, work: Callable[[int], Result]) -> Iterator[Result]:
        """What the work makes of each block, in order, a few blocks ahead of who asks."""
        with ThreadPoolExecutor(self._threads) as executor:
            ahead: deque[Future[Result]] = deque()
            for number in range(self.table.num_blocks):
                ahead.append(executor.submit(work, number))
                if len(ahead) > 2 * self._threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _posteriors(self, block: Block) -> Iterator[tuple[Group, Array, Posteriors]]:
        """Each group of a block, its generated words (B, J) and its posteriors."""
        for group, translation in block.matrices(self.parameters.translation[block.word_pairs][block.cells]):
            given_length, length = group.source_length, group.target_length
            if self.flipped:
                translation = translation.transpose(0, 2, 1)
                given_length, length = length, given_length
            words = self.generated.rows(group.pairs, length)
            arguments = translation, self.parameters.empty[words]
            if self.parameters.jumps is None or self.parameters.starts is None:
                yield group, words, model1_posteriors(*arguments)
            else:
                matrix = transitions(self.parameters.jumps, self.parameters.starts, given_length)
                yield group, words, hmm_posteriors(*arguments, matrix)

    def _expect(self, number: int) -> Expected:
        block = self.table.block(number)
        links, words, empty = [], [], []
        jumps, starts, log_likelihood = np.zeros(2 * self._longest + 1), np.zeros(self._longest), 0.0
        for _, generated, found in self._posteriors(block):
            links.append((found.links.transpose(0, 2, 1) if self.flipped else found.links).ravel())
            words.append(generated.ravel())
            empty.append(found.empty.ravel())
            log_likelihood += found.log_likelihood
            if found.jumps is not None:
                length = found.jumps.shape[1]
                distances = (self._longest + _jumps(length)).ravel()
                jumps += np.bincount(distances, found.jumps[1:].ravel(), minlength=len(jumps))
                starts[:length] += found.jumps[0]
        translation = np.bincount(block.cells, np.concatenate(links), minlength=len(block.word_pairs))
        return Expected(
            block.word_pairs, translation, np.concatenate(words), np.concatenate(empty), jumps, starts, log_likelihood
        )

    def _translation_from(self, counts: Array) -> Array:
        """The translation probabilities (E + 1,) that follow from expected counts."""
        totals = np.bincount(self._owner, counts[:-1], minlength=len(self._row_sizes))
        translation = np.full(len(counts), FLOOR, np.float32)
        for start in range(0, len(self._owner), BLOCK_CELLS):
            owner = self._owner[start : start + BLOCK_CELLS]
            part = counts[start : start + len(owner)]
            translation[start : start + len(owner)] = _relative(part, totals[owner], self._row_sizes[owner])
        return translation

    def _jumps_from(self, jumps: Array, starts: Array) -> tuple[Array | None, Array | None]:
        if self.parameters.jumps is None:
            return None, None
        return jumps + SMALL_COUNT, starts + SMALL_COUNT

    def links(self) -> Array:
        """For each generated word, (W,) on end, the place of the given word it most probably comes from, or NO_LINK."""
        chosen = np.full(len(self.generated.ids), NO_LINK, np.int32)
        for places, best in self._over_blocks(self._choose):
            chosen[places] = best
        return chosen

    def _choose(self, number: int) -> tuple[Array, Array]:
        places, chosen = [], []
        for group, words, found in self._posteriors(self.table.block(number)):
            best = found.links.argmax(axis=1)
            probability = np.take_along_axis(found.links, best[:, None], axis=1)[:, 0]
            chosen.append(np.where(probability >= found.empty, best, NO_LINK).ravel())
            places.append((self.generated.starts[group.pairs][:, None] + np.arange(words.shape[1])).ravel())
        return np.concatenate(places), np.concatenate(chosen)

    def probabilities(self) -> Array:
        """(E,) t(generated | given), which add up to 1 for each given word."""
        values = np.where(self.parameters.translation[:-1] > FLOOR, self.parameters.translation[:-1], 0)
        totals = np.bincount(self._owner, values, minlength=len(self._row_sizes))
        return (values / np.maximum(totals, FLOOR)[self._owner]).astype(np.float32)


def _relative(counts: Array, totals: Array, sizes: Array) -> Array:
    """Probabilities from expected counts, by variational Bayes with a Dirichlet prior (Riley and Gildea 2012).

    Args:
        counts: of some outcomes.
        totals: of all outcomes together.
        sizes: how many outcomes there are.
    """
    probabilities = np.exp(digamma(counts + PRIOR) - digamma(totals + PRIOR * sizes))
    return np.maximum(probabilities, FLOOR).astype(np.float32)


def digamma(values: Array) -> Array:
    """The derivative of the logarithm of the gamma function, of positive numbers.

    By its asymptotic series (Abramowitz and Stegun 1964, 6.3.18) of numbers of 6 and above, which the recurrence
    6.3.5 leads to.
    """
    result, values = np.zeros_like(values), np.array(values, np.float64)
    for _ in range(6):
        result -= 1 / values
        values += 1
    inverse = 1 / values**2
    return result + np.log(values) - 0.5 / values - inverse * (1 / 12 - inverse * (1 / 120 - inverse / 252))
