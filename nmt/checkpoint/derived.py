"""Checkpoints made of others: the mean of several, and one for another vocabulary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nmt.checkpoint.folder import checkpoint_name
from nmt.checkpoint.manifest import VALIDATION, Contents, check_listed, slot_variable
from nmt.errors import CheckpointError

SAME_FACTS = {"tokenizers": "tokenizers", "data_hash": "text"}
"""Facts that a run cannot change, and what they are about. Its config may: a longer run has another hash of it."""


def average_contents(checkpoints: Iterable[Contents]) -> Contents:
    """Return a checkpoint whose weights are the mean of those of others, variable by variable.

    See Junczys-Dowmunt et al. (2016, arXiv:1605.04809), section 2.2. Each tied variable is one variable in every
    checkpoint, and is averaged once. The mean is computed in float64.

    Args:
        checkpoints: at least one; what is averaged are their `model` arrays. They are taken one after another, so that
            one at a time is in memory, besides the sum.

    Returns:
        The mean in float32, with the update and the facts of the newest one; without score, state, moving average and
        optimizer, which belong to none of them any more.

    Raises:
        CheckpointError: there is none, they do not belong together, or one holds values that are not finite.
    """
    known: list[Contents] = []  # without what takes memory
    sums: dict[str, np.ndarray] = {}
    for contents in checkpoints:
        known.append(replace(contents, model={}, ema=None, optimizer=None, state={}))
        name, problems = checkpoint_name(contents.update), list(_differences(known[0], contents))
        if problems:
            first = checkpoint_name(known[0].update)
            raise CheckpointError(f"{name} cannot be averaged with {first}: {'; '.join(problems)}")
        check_listed(contents)
        broken = [path for path, array in contents.model.items() if not np.isfinite(array).all()]
        if broken:
            raise CheckpointError(f"{name} holds values that are not finite: {', '.join(broken)}: leave it out")
        _add(sums, contents)
        del contents  # the next one is read now
    if not known:
        raise CheckpointError("there must be a checkpoint to average, got none")
    newest = max(known, key=lambda one: one.update)
    model = {
        path: (total / len(known)).astype(np.float32) if total.dtype.kind == "f" else total
        for path, total in sums.items()
    }
    facts = {name: fact for name, fact in newest.facts.items() if name != VALIDATION}
    return replace(newest, model=model, score=None, optimizer_class=None, facts=facts)


def _differences(first: Contents, other: Contents) -> Iterator[str]:
    """Yield what shows that a checkpoint is of another model, or of another run."""
    before, now = first.variables, other.variables
    yield from (f"it has no {path}" for path in before if path not in now)
    yield from (f"it alone has {path}" for path in now if path not in before)
    for path in before:
        if path in now and before[path] != now[path]:
            found, wanted = (f"{v[path]['dtype']} of shape {tuple(v[path]['shape'])}" for v in (now, before))
            yield f"its {path} is {found}, not {wanted}"
    if _ties(first) != _ties(other):
        found, wanted = (", ".join(g["name"] for g in one.tie_groups) or "nothing" for one in (other, first))
        yield f"it ties {found}, not {wanted}"
    for key, what in SAME_FACTS.items():
        facts = (first.facts.get(key), other.facts.get(key))
        if None not in facts and facts[0] != facts[1]:
            yield f"it was trained with other {what}"


def _ties(contents: Contents) -> set[tuple[str, frozenset[str]]]:
    return {(group["variable"], frozenset(group["roles"])) for group in contents.tie_groups}


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


@dataclass(frozen=True)
class RowMapping:
    """Where the row of each token of a new vocabulary comes from.

    old_size: V before.
    origins: for each new token id, the old ids it comes from. Of one id the row is taken bit for bit, of several
        the mean of their rows.

    Raises:
        CheckpointError: a token comes from nothing, or from an id that the old vocabulary does not have.
    """

    old_size: int
    origins: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        for token_id, origin in enumerate(self.origins):
            if not origin or min(origin) < 0 or max(origin) >= self.old_size:
                raise CheckpointError(
                    f"token {token_id} must come from old ids 0 to {self.old_size - 1}, got {list(origin)[:5]}"
                )

    def rows(self, old: np.ndarray) -> np.ndarray:
        """Compute the rows of the new vocabulary, (V, ...), from those of the old one; means in float64."""
        new = old[[origin[0] for origin in self.origins]]
        means: dict[tuple[int, ...], np.ndarray] = {}
        for token_id, origin in enumerate(self.origins):
            if len(origin) > 1:
                if origin not in means:
                    means[origin] = old[list(origin)].mean(axis=0, dtype=np.float64).astype(old.dtype)
                new[token_id] = means[origin]
        return new


def change_vocabulary(contents: Contents, mappings: Mapping[str, RowMapping]) -> Contents:
    """Carry a checkpoint over to new vocabularies; everything that has no token rows stays as it is.

    One rule holds for weights, their moving average and every slot of the optimizer: a token that remained keeps its
    rows, and a new one gets the mean of the rows of the tokens it was cut into before. So an average stays the average
    of what the weights were, and moments stay those of the gradients that these tokens got; the mean of second moments
    is an approximation. A tied variable is changed once, and stays tied.

    Args:
        contents: of a checkpoint; it is not changed.
        mappings: by side, `source` and `target`; a side without one keeps its vocabulary.

    Raises:
        CheckpointError: the rows are not those of the old vocabulary, or a variable that is tied across both sides
            would need two vocabularies.
    """
    mapping_of = {path: _mapping(path, contents, mappings) for path in contents.model}
    changed = {path: mapping for path, mapping in mapping_of.items() if mapping is not None}
    shapes = {path: [len(mapping.origins), *contents.model[path].shape[1:]] for path, mapping in changed.items()}
    return replace(
        contents,
        model=_changed_arrays(contents.model, changed),
        ema=None if contents.ema is None else _changed_arrays(contents.ema, changed),
        optimizer=None if contents.optimizer is None else _changed_slots(contents, changed),
        tie_groups=tuple(_reshaped(group, shapes.get(group["variable"])) for group in contents.tie_groups),
        variables={path: _reshaped(facts, shapes.get(path)) for path, facts in contents.variables.items()},
    )


def _mapping(path: str, contents: Contents, mappings: Mapping[str, RowMapping]) -> RowMapping | None:
    """Return what the rows of a variable follow in all of its roles; None where it has no token rows."""
    from nmt.models.contract import TOKEN_ROWS  # Keras, which a mean needs only once it is written

    roles: Sequence[str] = next((g["roles"] for g in contents.tie_groups if g["variable"] == path), [path])
    sides = [TOKEN_ROWS.get(role) for role in roles]
    wanted = [None if side is None else mappings.get(side) for side in sides]
    if any(mapping != wanted[0] for mapping in wanted):
        raise CheckpointError(
            f"{' and '.join(roles)} are one variable, so both vocabularies must change alike: give both sides one "
            "joint vocabulary, or untie them first"
        )
    return wanted[0]


def _changed_arrays(arrays: Mapping[str, np.ndarray], changed: Mapping[str, RowMapping]) -> dict[str, np.ndarray]:
    return {path: _changed(path, array, changed[path]) if path in changed else array for path, array in arrays.items()}


def _changed_slots(contents: Contents, changed: Mapping[str, RowMapping]) -> dict[str, np.ndarray]:
    """Change the slots `<slot>/<path>` of the variables that changed."""
    slots: dict[str, np.ndarray] = {}
    for name, array in (contents.optimizer or {}).items():
        path = slot_variable(name, contents.model)
        if path is not None and path in changed:
            if array.shape != contents.model[path].shape:
                raise CheckpointError(
                    f"optimizer slot {name} must be of shape {contents.model[path].shape} as its variable, "
                    f"got {array.shape}: start a new optimizer with training.initialize_from"
                )
            array = _changed(name, array, changed[path])
        slots[name] = array
    return slots


def _changed(name: str, array: np.ndarray, mapping: RowMapping) -> np.ndarray:
    if array.shape[:1] != (mapping.old_size,):
        raise CheckpointError(
            f"{name} must have a row for each of the {mapping.old_size} tokens of the old vocabulary, "
            f"got shape {array.shape}: the tokenizers are not those of this checkpoint"
        )
    return mapping.rows(array)


def _reshaped(facts: dict[str, Any], shape: list[int] | None) -> dict[str, Any]:
    return facts if shape is None else {**facts, "shape": shape}
