"""Finding the length penalty with which a model translates best, from one n-best list of a validation set."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nmt.config import write
from nmt.config.loader import load_trained
from nmt.directory.model_directory import parse_run_reference
from nmt.inference.members import find_members, open_translator, warn_of_no_tag
from nmt.scoring import evaluation as scoring
from nmt.scoring.rerank import Candidate, bleu_of, bleu_statistics
from nmt.settings.section import CONFIG_NAME
from nmt.tasks.evaluate import EvaluationSet, read_test_set, tokenization_of
from nmt.text.marks import joined
from nmt.translation.line_translator import Progress, Tally, Translation
from nmt.types import PathLike

OFFSETS = (5.0, 0.0)
"""Of the length in the penalty: Wu et al. (2016), and a power of the length."""

EXPONENTS = tuple(step / 10 for step in range(21))

GRID = tuple(product(OFFSETS, EXPONENTS))

COMMON = (0.0, 1.0)
"""The default of new runs, which is searched with in any case: a list promises more of strong penalties than a search
keeps, since it holds no translation that only they would have gone on with."""

LEAST_LIST = 10
"""Translations of each line that are compared, at least: those of a narrow beam differ little in length."""

CLEAR_GAIN = 0.1
"""BLEU that another penalty has to gain; what gains less may lose it on another text."""


class Point(NamedTuple):
    """A length penalty, and what the translations are worth that it puts first.

    bleu: of them.
    ratio: their tokens, as BLEU counts them, per token of the reference.
    """

    offset: float
    exponent: float
    bleu: float
    ratio: float


class Searched(NamedTuple):
    """A length penalty, and BLEU of a search with it."""

    point: Point
    bleu: float


class TunedSearch(NamedTuple):
    """What was found for a model.

    present: with the settings of the run.
    others: the best of each formula by the list, and the default, if they are not the present one.
    best: of these; `present` if none gains `CLEAR_GAIN`.
    points: of all penalties, from the list.
    num_translations: of each line in the list, at most.
    """

    present: Searched
    others: list[Searched]
    best: Searched
    points: list[Point]
    num_translations: int


class PreparedTuning(NamedTuple):
    """A model and a validation set that were found.

    test_set: what is translated.
    num_lines: that are translated in all, each counted as often as it is.
    run: takes `threads` and `progress`, as that of `PreparedEvaluation`.
    """

    test_set: EvaluationSet
    num_lines: int
    run: Callable[..., TunedSearch]


def prepare_tuning(
    directory: PathLike,
    *others: PathLike,
    source: PathLike | None = None,
    references: Sequence[PathLike] = (),
    checkpoint: str | None = None,
    weights: str | None = None,
    overrides: Sequence[str] = (),
    member_weights: Sequence[float] | None = None,
    log_linear: bool = False,
    tag: str | None = None,
) -> PreparedTuning:
    """Read a validation set, and refuse what can be refused before TensorFlow starts; see `prepare_evaluation`.

    Args:
        directory: the model directory, or a checkpoint in it.
        others: of models that translate together with the first.
        source: text to translate; with `references` in place of the validation set of the model's config.
        references: its translations, a file each.
        checkpoint: `best`, `latest` or `update-N`.
        weights: `ema` or `raw`.
        overrides: settings of the form "search.beam_size=4".
        member_weights: of each model in their mean.
        log_linear: whether that is the mean of log probabilities.
        tag: of each line of `source`; the validation sets of the config have their own.

    Raises:
        NMTError: as `find_members`; or there is no validation set, or its files do not fit.
    """
    which: dict[str, Any] = {"checkpoint": checkpoint, "weights": weights, "overrides": overrides}
    found = find_members([directory, *others], member_weights=member_weights, **which)
    config = found[0].config
    chosen = read_test_set(config, source=source, references=references, part="validation", tag=tag)
    warn_of_no_tag(found if source is not None and tag is None else ())
    cut, segmentation = tokenization_of(config, chosen), config.data.segmentation
    chosen = chosen._replace(references=[[joined(line, segmentation) for line in each] for each in chosen.references])

    def run(*, threads: int | None = None, progress: Progress | None = None) -> TunedSearch:
        """Translate the set once for the list, once as before and once with each penalty that promises most."""
        translator, _ = open_translator(found, threads=threads, member_weights=member_weights, log_linear=log_linear)
        search, lines = translator.search, chosen.source_lines
        size = max(LEAST_LIST, search.beam_size)
        size += -size % search.diverse_groups
        lists = translator.n_best(
            lines, size, beam_size=size, progress=progress, tally=Tally(), controls=chosen.controls
        )
        grid = list(GRID)
        grid.append((search.length_penalty_offset, search.length_penalty))
        *points, present = points_of(lists, chosen.references, grid, tokenization=cut)
        of_formulas = [max((each for each in points if each.offset == offset), key=_bleu) for offset in OFFSETS]
        promising = {each[:2]: each for each in (*of_formulas, points[GRID.index(COMMON)])}
        promising.pop(present[:2], None)

        def searched(point: Point, tally: Tally) -> Searched:
            changes = {"length_penalty_offset": point.offset, "length_penalty": point.exponent}
            translator.search = search.model_copy(update=changes)
            hypotheses = translator.translate(lines, progress=progress, tally=tally, controls=chosen.controls)
            return Searched(point, scoring.evaluate_lines(hypotheses, *chosen.references, tokenization=cut).bleu.score)

        of_search = Tally()  # what is odd about translations is said once
        before = searched(present, of_search)
        of_search.report()
        others = [searched(point, Tally()) for point in promising.values()]
        best = max(others, key=_bleu)
        return TunedSearch(before, others, best if best.bleu >= before.bleu + CLEAR_GAIN else before, points, size)

    return PreparedTuning(chosen, (2 + len(OFFSETS) + 1) * len(chosen.source_lines), run)


def _bleu(found: Point | Searched) -> float:
    return found.bleu


def points_of(
    lists: Sequence[Sequence[Translation]],
    references: Sequence[Sequence[str]],
    grid: Sequence[tuple[float, float]],
    *,
    tokenization: str,
) -> list[Point]:
    """Score the translations that each penalty puts first.

    Args:
        lists: translations of each line.
        references: all lines of each reference.
        grid: offsets and exponents.
        tokenization: how BLEU cuts text.
    """
    candidates = [[Candidate(each.text, {}, None) for each in line] for line in lists]
    statistics = bleu_statistics(candidates, references, tokenization=tokenization)  # (L, C, P)
    shape = statistics.shape[:2]
    log_probs, lengths = np.full(shape, -np.inf), np.ones(shape)
    for row, line in enumerate(lists):
        log_probs[row, : len(line)] = [each.log_prob for each in line]
        lengths[row, : len(line)] = [max(each.num_tokens, 1) for each in line]
    return [_point(log_probs, lengths, statistics, *formula) for formula in grid]


def _point(
    log_probs: NDArray[np.float64],
    lengths: NDArray[np.float64],
    statistics: NDArray[np.float64],
    offset: float,
    exponent: float,
) -> Point:
    penalties = ((offset + lengths) / (offset + 1)) ** exponent
    first = (log_probs / penalties).argmax(axis=1)
    sums = statistics[np.arange(len(first)), first].sum(axis=0)
    return Point(offset, exponent, float(bleu_of(sums)), float(sums[-2] / max(sums[-1], 1)))


def write_search(directory: PathLike, best: Point) -> None:
    """Write a length penalty into the settings of a model directory, by which it is searched from then on.

    Raises:
        NMTError: the settings cannot be read or written.
    """
    path = Path(parse_run_reference(os.fspath(directory))[0]) / CONFIG_NAME
    config = load_trained(path)
    changes = {"length_penalty_offset": best.offset, "length_penalty": best.exponent}
    write(config.model_copy(update={"search": config.search.model_copy(update=changes)}), path)
