"""The mean of several checkpoints of one run (Junczys-Dowmunt et al. 2016, arXiv:1605.04809, section 2.2).

Checkpoints are given one after another, so that one at a time is in memory, besides the sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from nmt.checkpoint.folder import checkpoint_name
from nmt.checkpoint.manifest import VALIDATION, Contents, check_listed
from nmt.errors import CheckpointError

SAME_FACTS = {"tokenizers": "tokenizers", "data_hash": "text"}
"""Facts that a run cannot change, and what they are about. Its config may: a longer run has another hash of it."""


def average_contents(checkpoints: Iterable[Contents]) -> Contents:
    """Return a checkpoint whose weights are the mean of those of others, variable by variable.

    Each tied variable is one variable in every checkpoint, and is averaged once. The mean is computed in float64.

    Args:
        checkpoints: at least one; what is averaged are their `model` arrays.

    Returns:
        The mean in float32, with the update and the facts of the newest one; without score, state, moving average and
        optimizer, which belong to none of them any more.

    Raises:
        CheckpointError: there is none, they do not belong together, or one holds values that are not finite.
    """
    first: Contents | None = None
    newest: Contents | None = None
    sums: dict[str, np.ndarray] = {}
    count = 0
    for contents in checkpoints:
        bare = replace(contents, model={}, ema=None, optimizer=None, state={})
        first = first or bare
        _check_together(first, bare)
        check_listed(contents)
        _check_finite(contents)
        _add(sums, contents)
        newest = bare if newest is None or bare.update > newest.update else newest
        count += 1
        del contents  # the next one is read now
    if newest is None:
        raise CheckpointError("there must be a checkpoint to average, got none")
    model = {path: _mean(total, count) for path, total in sums.items()}
    facts = {name: fact for name, fact in newest.facts.items() if name != VALIDATION}
    return replace(newest, model=model, score=None, optimizer_class=None, facts=facts)


def _check_together(first: Contents, other: Contents) -> None:
    """Refuse a checkpoint of another model, or of another run."""
    problems = [*_variable_problems(first.variables, other.variables)]
    if _ties(first) != _ties(other):
        problems.append(f"it ties {_tie_names(other)}, not {_tie_names(first)}")
    for key, what in SAME_FACTS.items():
        before, now = first.facts.get(key), other.facts.get(key)
        if before is not None and now is not None and before != now:
            problems.append(f"it was trained with other {what}")
    if problems:
        raise CheckpointError(
            f"{checkpoint_name(other.update)} cannot be averaged with {checkpoint_name(first.update)}: "
            + "; ".join(problems)
        )


def _variable_problems(first: Mapping[str, Mapping[str, Any]], other: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    yield from (f"it has no {path}" for path in first if path not in other)
    yield from (f"it alone has {path}" for path in other if path not in first)
    for path in first:
        if path in other and first[path] != other[path]:
            yield f"its {path} is {_described(other[path])}, not {_described(first[path])}"


def _described(variable: Mapping[str, Any]) -> str:
    return f"{variable['dtype']} of shape {tuple(variable['shape'])}"


def _ties(contents: Contents) -> set[tuple[str, frozenset[str]]]:
    return {(group["variable"], frozenset(group["roles"])) for group in contents.tie_groups}


def _tie_names(contents: Contents) -> str:
    return ", ".join(group["name"] for group in contents.tie_groups) or "nothing"


def _check_finite(contents: Contents) -> None:
    """Refuse numbers that would spoil the mean."""
    broken = [path for path, array in contents.model.items() if not np.isfinite(array).all()]
    if broken:
        raise CheckpointError(
            f"{checkpoint_name(contents.update)} holds values that are not finite: {', '.join(broken)}: leave it out"
        )


def _add(sums: dict[str, np.ndarray], contents: Contents) -> None:
    """Add weights to the sum of those before them; whole numbers, such as counters, must be equal."""
    for path, array in contents.model.items():
        if array.dtype.kind == "f":
            if path in sums:
                sums[path] += array
            else:
                sums[path] = array.astype(np.float64)
        elif not np.array_equal(sums.setdefault(path, array), array):
            raise CheckpointError(
                f"{checkpoint_name(contents.update)} cannot be averaged: {path} holds whole numbers that differ"
            )


def _mean(total: np.ndarray, count: int) -> np.ndarray:
    return (total / count).astype(np.float32) if total.dtype.kind == "f" else total
