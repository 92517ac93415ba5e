"""A checkpoint for another vocabulary: the rows of tokens follow their tokens, in everything that has such rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nmt.checkpoint.manifest import Contents, slot_variable
from nmt.errors import CheckpointError
from nmt.models.contract import TOKEN_ROWS


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
