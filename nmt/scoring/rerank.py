"""Sorting translations of a line by a weighted sum of features, the weights found by line search (Och 2003).

Och, "Minimum Error Rate Training in Statistical Machine Translation", section 4: along a line in the space of weights
the score of each translation is a line too, and which is best changes only where two of them cross. So BLEU of a corpus
is piecewise constant along it, and all its values can be computed, from the statistics that sacreBLEU counts.

Shapes: L lines, C translations of a line at most, D features, P = 10 statistics of BLEU.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nmt.errors import ConfigError, DataError
from nmt.scoring.evaluation import bleu_metric

Floats: TypeAlias = NDArray[np.float64]

MOST_FEATURES = 8
RESTARTS = 20
ORDER = 4

_NAME = re.compile(r"([^\s=]+)=")


class Candidate(NamedTuple):
    """A translation in an n-best list.

    text: of it.
    features: each a number, the search's own is `score`.
    written: what the list says of it: a JSON object, or the fields of a line of Moses.
    """

    text: str
    features: Mapping[str, float]
    written: Any


def read_moses(line: str, place: str) -> tuple[int, Candidate]:
    """Read `id ||| text ||| name= value value ||| score`; further fields are kept.

    A feature of several values has a name for each: `name.1`, `name.2`.

    Args:
        line: of the list.
        place: what an error names.

    Returns:
        The number of the source line, from 0, and the translation.

    Raises:
        DataError: it is no such line.
    """
    fields = [field.strip() for field in line.split("|||")]
    try:
        if len(fields) < 4:
            raise ValueError(f"{len(fields)} fields")
        number, values, name = int(fields[0]), dict[str, list[float]](), ""
        for word in fields[2].split():
            if match := _NAME.fullmatch(word):
                name = match[1]
            else:
                values.setdefault(name, []).append(float(word))
        features = {
            name if len(each) == 1 else f"{name}.{place}": value
            for name, each in values.items()
            for place, value in enumerate(each, 1)
        }
        return number, Candidate(fields[1], {**features, "score": float(fields[3])}, fields)
    except ValueError as error:
        raise DataError(
            f"{place} must be as in n-best lists of Moses, id ||| text ||| name= value ... ||| score, got {error}"
        ) from None


def features_of(record: Mapping[str, Any]) -> dict[str, float]:
    """Return all numbers that a JSON record of a translation holds."""
    return {name: value for name, value in record.items() if type(value) in (int, float)}


def matrix_of(candidates: Sequence[Sequence[Candidate]], names: Sequence[str]) -> Floats:
    """Return the features (L, C, D) of all translations; what is missing to C has NaN.

    Raises:
        ConfigError: there are none or too many features.
        DataError: a translation lacks one, or it is no finite number.
    """
    if not 1 <= len(names) <= MOST_FEATURES:
        raise ConfigError(f"a sum may have 1 to {MOST_FEATURES} features, got {len(names)}: {', '.join(names)}")
    matrix = np.full((len(candidates), max(map(len, candidates), default=0), len(names)), np.nan)
    for line, each in enumerate(candidates):
        for rank, candidate in enumerate(each):
            for place, name in enumerate(names):
                value = candidate.features.get(name, math.nan)
                if not math.isfinite(value):
                    there = ", ".join(candidate.features)
                    raise DataError(
                        f"translation {rank + 1} of line {line + 1} has no number as feature {name}: there are {there}"
                    )
                matrix[line, rank, place] = value
    return matrix


def order(matrix: Floats, weights: Floats | Sequence[float]) -> list[list[int]]:
    """Return the places of the translations of each line, best first; of equal ones the first stays the first."""
    sums = np.where(np.isnan(matrix[:, :, 0]), -np.inf, np.nan_to_num(matrix) @ np.asarray(weights))  # (L, C)
    ranked = np.argsort(-sums, axis=1, kind="stable")
    return [row[: int(count)].tolist() for row, count in zip(ranked, np.isfinite(sums).sum(axis=1), strict=True)]


def bleu_statistics(
    candidates: Sequence[Sequence[Candidate]], references: Sequence[Sequence[str]], *, tokenization: str
) -> Floats:
    """Count what BLEU is made of, for each translation, (L, C, P): matches, n-grams, both by order, and both lengths.

    Args:
        candidates: of each line.
        references: all lines of each reference.
        tokenization: how BLEU cuts text.
    """
    metric = bleu_metric(tokenization)
    width = max(map(len, candidates), default=0)
    statistics = np.zeros((len(candidates), max(width, 1), 2 * ORDER + 2))
    for line, each in enumerate(candidates):
        of_line = [[reference[line]] for reference in references]
        # A line without translations counts as an empty one.
        for rank, text in enumerate([candidate.text for candidate in each] or [""]):
            found = metric.corpus_score([text], of_line)
            statistics[line, rank] = [*found.counts, *found.totals, found.sys_len, found.ref_len]
    return statistics


def bleu_of(statistics: Floats) -> Floats:
    """Compute BLEU, 0 to 100, from sums of statistics (..., P), as sacreBLEU does: exponential smoothing.

    The k-th order without a match counts as if it had 1 / 2^k of one (Chen and Cherry 2014, method 3).
    """
    matches, totals = statistics[..., :ORDER], statistics[..., ORDER : 2 * ORDER]
    length, reference = statistics[..., -2], statistics[..., -1]
    missing = np.cumsum(matches == 0, axis=-1)
    smoothed = np.where(matches == 0, 0.5**missing, matches)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(smoothed / totals).mean(axis=-1)
        brevity = np.minimum(0.0, 1.0 - reference / length)
        scores = 100.0 * np.exp(logs + brevity)
    none = (totals == 0).any(axis=-1) | (matches == 0).all(axis=-1)
    return np.where(none, 0.0, scores)


def crossings(offsets: Floats, slopes: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Find which of the lines offset + x * slope are on top, from the left to the right.

    Args:
        offsets: (L, C) of C lines in each of L diagrams; -inf for one that is not there.
        slopes: (L, C).

    Returns:
        If K changes happen at most: where each happens, (L, K), inf for none; and which line is on top before the first
        and after each, (L, K + 1).
    """
    rows = np.arange(len(offsets))
    there = np.isfinite(offsets)
    # At -inf the line that rises least is on top; of parallels the highest, of equal ones the first.
    least = np.where(there, slopes, np.inf).min(axis=1, keepdims=True)
    current = np.where(there & (slopes == least), offsets, -np.inf).argmax(axis=1)
    places, tops, at = list[Floats](), [current], np.full(len(offsets), -np.inf)
    while True:
        rise = slopes - slopes[rows, current][:, None]
        steeper = there & (rise > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            meets = np.where(steeper, (offsets[rows, current][:, None] - offsets) / rise, np.inf)
        meets = np.maximum(meets, at[:, None])
        at = meets.min(axis=1)
        if not np.isfinite(at).any():
            break
        # Of those that meet it first the steepest goes on.
        steepest = np.where(steeper & (meets == at[:, None]), slopes, -np.inf).argmax(axis=1)
        current = np.where(np.isfinite(at), steepest, current)
        places.append(at)
        tops.append(current)
    return np.array(places).reshape(-1, len(offsets)).T, np.array(tops).T


class Best(NamedTuple):
    """The best place of a line in the space of weights, and BLEU there."""

    place: float
    bleu: float


def line_search(matrix: Floats, statistics: Floats, weights: Floats, direction: Floats) -> Best:
    """Find the x for which weights + x * direction has the highest BLEU, exactly.

    Args:
        matrix: (L, C, D), NaN for what is not there.
        statistics: (L, C, P).
        weights: (D,).
        direction: (D,).

    Returns:
        The middle of the best interval; of equal ones of the widest.
    """
    absent = np.isnan(matrix[:, :, 0])
    numbers = np.nan_to_num(matrix)
    places, tops = crossings(np.where(absent, -np.inf, numbers @ weights), numbers @ direction)
    counted = np.take_along_axis(statistics, tops[:, :, None], axis=1)  # (L, K + 1, P)
    changes = np.diff(counted, axis=1)[np.isfinite(places)]
    ends = places[np.isfinite(places)]
    by_place = np.argsort(ends, kind="stable")
    sums = counted[:, 0].sum(axis=0) + np.concatenate([np.zeros((1, counted.shape[2])), changes[by_place].cumsum(0)])
    bounds = np.concatenate([[-np.inf], ends[by_place], [np.inf]])
    widths = np.diff(bounds)
    scores = np.where(widths > 0, bleu_of(sums), -1.0)
    best = int(np.lexsort((widths, scores))[-1])
    left, right = bounds[best], bounds[best + 1]
    if not np.isfinite(left) and not np.isfinite(right):
        place = 0.0
    elif not np.isfinite(left) or not np.isfinite(right):
        inner = right if not np.isfinite(left) else left
        place = inner + (-1.0 if not np.isfinite(left) else 1.0) * max(1.0, abs(inner))
    else:
        place = (left + right) / 2
    return Best(float(place), float(scores[best]))


class Tuned(NamedTuple):
    """Weights that were found.

    weights: of each feature; the greatest has the size 1.
    bleu_before: of the first translations of the list, as it came.
    bleu_after: of the first ones by these weights.
    """

    weights: dict[str, float]
    bleu_before: float
    bleu_after: float


def tune(matrix: Floats, statistics: Floats, names: Sequence[str], *, seed: int = 1, restarts: int = RESTARTS) -> Tuned:
    """Find the weights with the highest BLEU of a development set.

    From each of some starts, the best step along any coordinate is taken until none helps. The first start is each
    feature alone; others are drawn.

    Args:
        matrix: (L, C, D), see `matrix_of`.
        statistics: (L, C, P), see `bleu_statistics`.
        names: of the features.
        seed: of the starts.
        restarts: how many are drawn.

    Raises:
        DataError: there is no line with two translations that differ in any feature.
    """
    size = matrix.shape[2]
    present = ~np.isnan(matrix)
    means = np.nansum(matrix, axis=1, keepdims=True) / np.maximum(present.sum(axis=1, keepdims=True), 1)
    deviations = np.sqrt(np.nansum((matrix - means) ** 2, axis=(0, 1)) / max(present[:, :, 0].sum(), 1))
    if not (deviations > 0).any():
        raise DataError("weights can be found only if translations of a line differ, got none that do")
    scales = np.where(deviations > 0, deviations, 1.0)
    scaled = matrix / scales
    generator = np.random.default_rng(seed)
    starts = [*np.eye(size), *generator.uniform(-1.0, 1.0, (restarts, size))]
    found = [_climb(scaled, statistics, start) for start in starts]
    best, score = max(found, key=lambda each: each[1])
    weights = best / scales
    weights = weights / np.abs(weights).max()
    before = bleu_of(statistics[:, 0].sum(axis=0))
    return Tuned(dict(zip(names, weights.tolist(), strict=True)), float(before), score)


def _climb(matrix: Floats, statistics: Floats, weights: Floats) -> tuple[Floats, float]:
    """Return the weights that steps along coordinates lead to, and BLEU by them."""
    score = bleu_by(matrix, statistics, weights)
    while True:
        steps = [(line_search(matrix, statistics, weights, axis), axis) for axis in np.eye(len(weights))]
        best, axis = max(steps, key=lambda step: step[0].bleu)
        candidate = weights + best.place * axis
        reached = bleu_by(matrix, statistics, candidate) if candidate.any() else score
        if reached <= score + 1e-9:
            return weights, score
        weights, score = candidate / np.abs(candidate).max(), reached


def bleu_by(matrix: Floats, statistics: Floats, weights: Floats) -> float:
    """Compute BLEU of the first translations by some weights."""
    firsts = [ranks[0] if ranks else 0 for ranks in order(matrix, weights)]
    return float(bleu_of(statistics[np.arange(len(firsts)), firsts].sum(axis=0)))


def parse_weights(text: str) -> dict[str, float]:
    """Read `score=0.7,length=0.3`.

    Raises:
        ConfigError: it is not of this form.
    """
    try:
        pairs = [part.split("=") for part in text.split(",")]
        return {name.strip(): float(value) for name, value in pairs}
    except ValueError:
        raise ConfigError(f"weights are a file or of the form score=0.7,length=0.3, got {text}") from None
