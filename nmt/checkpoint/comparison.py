"""What differs between two checkpoints, role by role, so that a tie that came or went hides nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nmt.checkpoint.contents import Contents


class ShapedRole(NamedTuple):
    """A role path that only one of two checkpoints has.

    name: the role path.
    shape: of its variable.
    """

    name: str
    shape: tuple[int, ...]


class ShapeChange(NamedTuple):
    """A role path whose variable has another shape.

    name: the role path.
    before: the shape in the first checkpoint.
    after: the shape in the second.
    """

    name: str
    before: tuple[int, ...]
    after: tuple[int, ...]


class ValueChange(NamedTuple):
    """A role path whose variable has other values.

    name: the role path.
    relative_norm: ||before - after|| / ||before||; None where that is no number, as `before` is zero or not finite.
    """

    name: str
    relative_norm: float | None


@dataclass(frozen=True)
class Difference:
    """What differs between two checkpoints, of weights as they are, without moving averages.

    added: only in the second.
    removed: only in the first.
    shapes_changed: of another shape.
    changed: of the same shape with other values, the largest change first.
    num_equal: variables of equal values.
    ties_added: names of tie groups of the second only.
    ties_removed: names of tie groups of the first only.
    same_tokenizers: whether both were trained with the same tokenizers; None where one does not say.
    """

    added: tuple[ShapedRole, ...]
    removed: tuple[ShapedRole, ...]
    shapes_changed: tuple[ShapeChange, ...]
    changed: tuple[ValueChange, ...]
    num_equal: int
    ties_added: tuple[str, ...]
    ties_removed: tuple[str, ...]
    same_tokenizers: bool | None


def compare(before: Contents, after: Contents) -> Difference:
    """Compare the weights and ties of two checkpoints.

    A variable is compared in each of its roles, but two variables only once: where both checkpoints tie the same
    roles, that is one comparison; where only one does, it is one for each variable of the other.
    """
    old, new = role_variables(before), role_variables(after)
    shapes_changed, changed, num_equal = [], [], 0
    for role, one, other in _pairs(old, new):
        first, second = before.model[one], after.model[other]
        if first.shape != second.shape:
            shapes_changed.append(ShapeChange(role, first.shape, second.shape))
        elif np.array_equal(first, second):
            num_equal += 1
        else:
            changed.append(ValueChange(role, relative_norm(first, second)))
    return Difference(
        added=tuple(ShapedRole(role, after.model[path].shape) for role, path in new.items() if role not in old),
        removed=tuple(ShapedRole(role, before.model[path].shape) for role, path in old.items() if role not in new),
        shapes_changed=tuple(shapes_changed),
        changed=tuple(sorted(changed, key=_largest_first)),
        num_equal=num_equal,
        ties_added=_only_in(after, before),
        ties_removed=_only_in(before, after),
        same_tokenizers=_same_tokenizers(before, after),
    )


def role_variables(contents: Contents) -> dict[str, str]:
    """Return the canonical role path behind every role path of a checkpoint, in the model's order."""
    roles = {group["variable"]: group["roles"] for group in contents.tie_groups}
    order = contents.variables or contents.model
    return {role: path for path in order for role in roles.get(path, (path,))}


def relative_norm(before: np.ndarray, after: np.ndarray) -> float | None:
    """Return ||before - after|| / ||before|| in float64, None where that is no finite number."""
    first = before.astype(np.float64).ravel()
    norm = float(np.linalg.norm(first))
    difference = float(np.linalg.norm(first - after.ravel()))
    return difference / norm if norm > 0 and math.isfinite(norm) and math.isfinite(difference) else None


def _pairs(old: dict[str, str], new: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield (role, variable before, variable after) for each pair of variables that share a role."""
    seen = set()
    for role, path in old.items():
        pair = (path, new.get(role))
        if pair[1] is not None and pair not in seen:
            seen.add(pair)
            yield role, path, new[role]


def _largest_first(change: ValueChange) -> float:
    return -math.inf if change.relative_norm is None else -change.relative_norm


def _only_in(contents: Contents, other: Contents) -> tuple[str, ...]:
    known = {frozenset(group["roles"]) for group in other.tie_groups}
    return tuple(group["name"] for group in contents.tie_groups if frozenset(group["roles"]) not in known)


def _same_tokenizers(before: Contents, after: Contents) -> bool | None:
    old, new = before.facts.get("tokenizers"), after.facts.get("tokenizers")
    return None if old is None or new is None else old == new
