"""Minimum Bayes risk decoding: of several translations of a line, the one that is most like all the others.

Kumar and Byrne (2004) choose the candidate whose utility is highest in expectation over what the model believes;
Eikema and Aziz (2022) estimate the expectation by samples, which serve as references. Utilities are sentence scores, 0
to 100, equal to those of sacreBLEU, of all pairs at once: the n-grams of the strings of one line are few enough to be
numbered, so that clipped matches of all pairs are sums of matrix products.

Shapes: C candidates (or hypotheses), R references, U strings, G different n-grams of an order, N orders.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib import import_module
from itertools import product
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nmt.errors import ConfigError, DataError
from nmt.scoring.evaluation import DEFAULT_TOKENIZATION, bleu_metric

Floats: TypeAlias = NDArray[np.floating[Any]]
Integers: TypeAlias = NDArray[np.integer[Any]]
Numbers: TypeAlias = Floats | Integers

Utility: TypeAlias = Callable[[Sequence[str], Sequence[str]], Floats]
"""Scores each hypothesis by each reference, higher is better: (C, R)."""

ExpectedUtility: TypeAlias = Callable[[Sequence[str], Sequence[str], Floats], Floats]
"""The mean utility of hypotheses over references, each of which has a weight; the weights sum to 1: (C,)."""

CHARACTER_ORDER = 6
"""Longest n-grams of characters in chrF, as Popović (2015) found best."""

RECALL_WEIGHT = 2**2
"""The square of chrF's beta: recall counts twice as much as precision."""

BLEU_ORDER = 4

TIE = 1e-9
"""Expected utilities that differ by less are equal: sums of equal terms differ by their order."""

_PUNCTUATION = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")


class Decision(NamedTuple):
    """The candidate that is chosen.

    chosen: its number among the candidates, from 0.
    expected_utility: its own.
    expected_utilities: of all candidates, (C,).
    """

    chosen: int
    expected_utility: float
    expected_utilities: Floats


def choose(
    candidates: Sequence[str],
    references: Sequence[str] | None = None,
    *,
    weights: Sequence[float] | None = None,
    utility: ExpectedUtility | str = "chrf",
) -> Decision:
    """Choose the candidate whose utility is the highest in expectation; of equal ones the first.

    Args:
        candidates: translations of one line; each of a set of samples as often as it was drawn.
        references: likely translations of the line; the candidates themselves unless given. Each is then compared with
            itself as well, as in Eikema and Aziz (2022), so that what was drawn often counts more.
        weights: how much each reference counts, such as its probability; any scale, equal ones unless given.
        utility: from `expected_utility_of`, or what it is called there.

    Raises:
        ConfigError: there is no such utility, or it fails.
        DataError: there are no candidates or no references, or the weights do not fit the references.
    """
    expected_utility = expected_utility_of(utility) if isinstance(utility, str) else utility
    references = candidates if references is None else references
    given = np.ones(len(references)) if weights is None else np.asarray(weights, np.float64)
    if not candidates or given.shape != (len(references),) or given.min(initial=0) < 0 or given.sum() <= 0:
        raise DataError(
            "a line must have candidates, references and a weight for each reference, none negative and not all 0, got "
            f"{len(candidates)}, {len(references)} and {given.tolist()}"
        )
    # Samples repeat: each string is looked at once.
    hypotheses, which = _distinct(candidates)
    distinct, places = _distinct(references)
    weight_of = np.bincount(places, given) / given.sum()
    expected = expected_utility(hypotheses, distinct, weight_of)[which]
    chosen = int(np.argmax(expected >= expected.max() - TIE))
    return Decision(chosen, float(expected[chosen]), expected)


def expected_utility_of(
    name: str, *, tokenization: str = DEFAULT_TOKENIZATION, aggregate: bool = False
) -> ExpectedUtility:
    """Return the expected utility of a name.

    Args:
        name: "chrf", "chrf++", "bleu", or "module:function" for a utility of one's own. That function takes a list of
            hypotheses and a list of as many references and returns a score for each pair, higher is better. The module
            is looked for where Python looks, and in the current folder.
        tokenization: how BLEU cuts text, a name that sacreBLEU knows.
        aggregate: whether the references of chrF are made one, see `aggregate_chrf`.

    Raises:
        ConfigError: there is no such utility or tokenisation, or no such function, or the utility cannot aggregate.
    """
    word_order = {"chrf": 0, "chrf++": 2}.get(name)
    if aggregate:
        if word_order is None:
            raise ConfigError(f"references can be aggregated for chrf and chrf++, not for {name}: leave it out")
        return partial(aggregate_chrf, word_order=word_order)
    utility: Utility
    if word_order is not None:
        utility = partial(chrf, word_order=word_order)
    elif name == "bleu":
        bleu_metric(tokenization)  # what it needs is missed now
        utility = partial(sentence_bleu, tokenization=tokenization)
    elif ":" in name:
        utility = _own_utility(name)
    else:
        raise ConfigError(f"the utility must be chrf, chrf++, bleu or module:function, got {name}")
    return lambda hypotheses, references, weights: (utility(hypotheses, references) * weights).sum(axis=1)


def chrf(hypotheses: Sequence[str], references: Sequence[str], *, word_order: int = 0) -> Floats:
    """Score each hypothesis by each reference with chrF2 (Popović 2015), as sacreBLEU does by its defaults: (C, R).

    Args:
        hypotheses: C detokenised translations.
        references: R likewise.
        word_order: longest n-grams of words; 2 is chrF++ (Popović 2017).
    """
    strings, places = _distinct([*hypotheses, *references])
    rows, columns = places[: len(hypotheses)], places[len(hypotheses) :]
    counts = _chrf_counts(strings, word_order)
    totals = np.stack([each.sum(axis=1) for each in counts])  # (N, U)
    matches = np.stack([_matches(each, rows, columns) for each in counts])  # (N, C, R)
    return _f_score(matches, totals[:, rows, None], totals[:, None, columns])


def aggregate_chrf(
    hypotheses: Sequence[str], references: Sequence[str], weights: Floats, *, word_order: int = 0
) -> Floats:
    """Score each hypothesis with chrF by one reference that has the mean n-gram counts of all: (C,).

    Its time is linear in the number of strings: reference aggregation of Vamvas and Sennrich (2024). It is near the
    mean of `chrf`, not equal to it.

    Args:
        hypotheses: C detokenised translations.
        references: R likewise.
        weights: (R,) how much each reference counts; they sum to 1.
        word_order: as for `chrf`.
    """
    strings, places = _distinct([*hypotheses, *references])
    rows, columns = places[: len(hypotheses)], places[len(hypotheses) :]
    counts = _chrf_counts(strings, word_order)
    means = [weights @ each[columns] for each in counts]  # N of (G,)
    matches = np.stack([np.minimum(each[rows], mean).sum(axis=1) for each, mean in zip(counts, means, strict=True)])
    totals = np.stack([each[rows].sum(axis=1) for each in counts])  # (N, C)
    return _f_score(matches, totals, np.stack([mean.sum() for mean in means])[:, None])


def sentence_bleu(
    hypotheses: Sequence[str], references: Sequence[str], *, tokenization: str = DEFAULT_TOKENIZATION
) -> Floats:
    """Score each hypothesis by each reference with BLEU, as `sentence_bleu` of sacreBLEU does by its defaults: (C, R).

    Orders that a hypothesis is too short for do not count; the k-th order without a match has the precision 1 / (2^k n)
    (Chen and Cherry 2014, method 3), with n the n-grams of that order in the hypothesis.

    Args:
        hypotheses: C detokenised translations.
        references: R likewise.
        tokenization: how text is cut, a name that sacreBLEU knows.

    Raises:
        ConfigError: the tokenisation cannot be used.
    """
    tokenize = bleu_metric(tokenization).tokenizer
    strings, places = _distinct([*hypotheses, *references])
    rows, columns = places[: len(hypotheses)], places[len(hypotheses) :]
    words = _numbered(tokenize(text.rstrip()).split() for text in strings)
    counts = _ngram_counts(words, BLEU_ORDER)
    matches = np.stack([_matches(each, rows, columns) for each in counts])  # (N, C, R)
    lengths = np.array([len(each) for each in words], np.float64)
    totals = np.maximum(lengths[rows] - np.arange(BLEU_ORDER)[:, None], 0)[..., None]  # (N, C, 1)

    smoothed = np.where(matches > 0, matches, 0.5 ** np.cumsum(matches == 0, axis=0))
    log_precisions = np.log(smoothed / np.maximum(totals, 1)) * (totals > 0)
    orders = np.maximum((totals > 0).sum(axis=0), 1)  # (C, 1)
    missing = lengths[columns] / np.maximum(lengths[rows], 1)[:, None]  # (C, R): reference over hypothesis
    log_brevity = np.minimum(1 - missing, 0)
    scores = 100 * np.exp(log_brevity + log_precisions.sum(axis=0) / orders)
    return np.where(matches[0] > 0, scores, 0.0)


def _own_utility(name: str) -> Utility:
    """Load a function of a user's own, and have it score all pairs of a line in one call."""
    module, _, attribute = name.partition(":")
    if (folder := os.getcwd()) not in sys.path:
        sys.path.append(folder)
    try:
        function = getattr(import_module(module), attribute)
    except Exception as error:
        raise ConfigError(
            f"the utility {name} cannot be loaded: {type(error).__name__}: {error} (looked for in {folder} and where "
            "Python looks)"
        ) from error

    def utility(hypotheses: Sequence[str], references: Sequence[str]) -> Floats:
        pairs = list(product(hypotheses, references))
        try:
            scores = np.asarray(function([pair[0] for pair in pairs], [pair[1] for pair in pairs]), np.float64)
        except Exception as error:
            raise ConfigError(f"the utility {name} fails: {type(error).__name__}: {error}") from error
        if scores.shape != (len(pairs),) or not np.isfinite(scores).all():
            raise ConfigError(
                f"the utility {name} must return a finite score for each of {len(pairs)} pairs, got an array of shape "
                f"{scores.shape} with {np.isfinite(scores).sum()} finite numbers"
            )
        return scores.reshape(len(hypotheses), len(references))

    return utility


def _distinct(strings: Sequence[str]) -> tuple[list[str], Integers]:
    """Return the different strings in the order in which they come, and for each string its place among them."""
    place_of = {text: place for place, text in enumerate(dict.fromkeys(strings))}
    return list(place_of), np.array([place_of[text] for text in strings], np.int64)


def _numbered(sequences: Iterable[Sequence[str]]) -> list[Integers]:
    """Give each word a number."""
    number_of: dict[str, int] = {}
    return [np.array([number_of.setdefault(word, len(number_of)) for word in words], np.int64) for words in sequences]


def _chrf_counts(strings: Sequence[str], word_order: int) -> list[Integers]:
    """Count the n-grams of characters, spaces left out, and of words: for each order (U, G)."""
    characters = [
        np.frombuffer("".join(text.split()).encode("utf-32-le", "surrogatepass"), np.uint32) for text in strings
    ]
    counts = _ngram_counts(characters, CHARACTER_ORDER)
    if word_order:
        counts += _ngram_counts(_numbered(map(_chrf_words, strings)), word_order)
    return counts


def _chrf_words(text: str) -> list[str]:
    """Cut text into words as chrF++ does: one mark of punctuation comes off the end, else off the start."""
    words = []
    for word in text.split():
        if len(word) > 1 and word[-1] in _PUNCTUATION:
            words += [word[:-1], word[-1]]
        elif len(word) > 1 and word[0] in _PUNCTUATION:
            words += [word[0], word[1:]]
        else:
            words.append(word)
    return words


def _ngram_counts(sequences: Sequence[Integers], max_order: int) -> list[Integers]:
    """Count the n-grams of U sequences: for each order from 1 on (U, G)."""
    lengths = [len(each) for each in sequences]
    row_of = np.repeat(np.arange(len(sequences)), lengths)
    end_of = np.cumsum(lengths)[row_of]
    alphabet, symbols = np.unique(np.concatenate(sequences), return_inverse=True)
    starts, ngrams, counts = np.arange(len(symbols)), symbols, list[Integers]()
    for order in range(1, max_order + 1):
        if order > 1:
            # An n-gram is the one before it in length and one more symbol, unless its sequence ends there.
            inside = starts + order <= end_of[starts]
            starts = starts[inside]
            ngrams = ngrams[inside] * len(alphabet) + symbols[starts + order - 1]
            ngrams = np.unique(ngrams, return_inverse=True)[1]
        size = int(ngrams.max(initial=-1)) + 1
        flat = np.bincount(row_of[starts] * size + ngrams, minlength=len(sequences) * size)
        counts.append(flat.reshape(len(sequences), size).astype(np.int32))
    return counts


def _matches(counts: Integers, rows: Integers, columns: Integers) -> Integers:
    """Count the n-grams that two strings share, each as often as both have it: (C, R) from (U, G).

    min(a, b) is the number of thresholds t = 1, 2, ... that both reach, so this is a product of binary matrices. It is
    computed 64 n-grams at a time, as the bits of a word: faster than in floats, and BLAS would start threads for
    products that are too small to gain by them.
    """
    totals = counts.sum(axis=1)
    counts = counts[:, np.count_nonzero(counts, axis=0) > 1]  # most n-grams of many samples are of one string only
    most = counts.max(axis=0, initial=0)
    thresholds = range(1, int(most.max(initial=0)) + 1)
    reached = [counts[:, most >= threshold] >= threshold for threshold in thresholds]
    bits = np.packbits(np.concatenate([*reached, np.zeros((len(counts), 64), bool)], axis=1), axis=1)
    words = np.ascontiguousarray(bits[:, : bits.shape[1] // 8 * 8]).view(np.uint64).T  # the zeros fill the last one
    matches = np.zeros((len(rows), len(columns)), np.int32)
    for word in words:
        matches += np.bitwise_count(word[rows, None] & word[columns])
    return np.where(rows[:, None] == columns, totals[columns], matches)


def _f_score(matches: Numbers, hypothesis_totals: Numbers, reference_totals: Numbers) -> Floats:
    """Take the mean of precision and of recall over the orders that both sides have, and then F: 0 to 100.

    The first axis of all three is N.
    """
    both = (hypothesis_totals > 0) & (reference_totals > 0)
    orders = np.maximum(both.sum(axis=0), 1)
    # If a side has none, there are no matches either.
    precision = (matches / np.maximum(hypothesis_totals, 1)).sum(axis=0) / orders
    recall = np.divide(matches, reference_totals, out=np.zeros(both.shape), where=both).sum(axis=0) / orders
    denominator = RECALL_WEIGHT * precision + recall
    numerator = (1 + RECALL_WEIGHT) * precision * recall
    return 100 * np.divide(numerator, denominator, out=np.zeros_like(denominator), where=denominator > 0)
