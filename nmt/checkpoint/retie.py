"""A checkpoint of a model with other weight ties: from arrays to arrays, without Keras and without the disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from nmt.checkpoint.folder import checkpoint_name
from nmt.checkpoint.manifest import Contents, slot_variable
from nmt.errors import CheckpointError

ROLES = {"source": "source_embedding", "target": "target_embedding", "output": "output_projection"}
"""The rules that take the matrix of one role, and how its role path begins."""

RULES = ("error", "average", *ROLES)
"""What may be said about a change of ties."""

MOMENTS = {
    "SGD": ("momentums",),
    "Adam": ("momentums", "velocities"),
    "AdamW": ("momentums", "velocities"),
}
"""Slots that are sums or means of gradients or of their squares, by class of the optimizers that a config can choose.

The name of a slot alone decides nothing: `momentums` of ScheduleFreeAdamW are a copy of the weights.
"""

Group = Mapping[str, Any]
"""A tie group as the manifest has it: name, roles, variable, shape."""

Combine = Callable[[str, Mapping[str, np.ndarray]], np.ndarray]
"""How the distinct old arrays of a merged variable, by their old role path, become one; with its new role path."""


class Merged(NamedTuple):
    """Variables that became one.

    group: name of the tie group that they form now.
    variables: their role paths before.
    largest_difference: between two of their values at the same place.
    """

    group: str
    variables: tuple[str, ...]
    largest_difference: float


class Split(NamedTuple):
    """A variable that became several.

    group: name of the tie group that it was.
    variables: their role paths now.
    """

    group: str
    variables: tuple[str, ...]


class TieChange(NamedTuple):
    """What became of the ties of a checkpoint.

    rule: one of `RULES`.
    merged, split: what was merged and split.
    """

    rule: str
    merged: tuple[Merged, ...]
    split: tuple[Split, ...]

    def describe(self) -> str:
        """One line for logs."""
        parts = [f"{group} was split into copies ({', '.join(paths)})" for group, paths in self.split]
        how = "their average" if self.rule == "average" else f"the matrix of {self.rule}"
        parts += [
            f"{', '.join(merged.variables)} were merged into {merged.group}, as {how}; "
            f"they differed by up to {merged.largest_difference:.3g}"
            for merged in self.merged
        ]
        return "; ".join(parts)


class Retied(NamedTuple):
    """A checkpoint with other ties, and what was changed; None where the ties were the same."""

    contents: Contents
    change: TieChange | None


def check_rule(rule: str) -> None:
    """Refuse a rule that there is not.

    Raises:
        CheckpointError: listing those there are.
    """
    if rule not in RULES:
        raise CheckpointError(f"on_tie_change must be one of {', '.join(RULES)}, got {rule}")


def retie(contents: Contents, groups: Sequence[Group], rule: str) -> Retied:
    """Return what a checkpoint would keep, were its weights tied in another way.

    Each role of the checkpoint first gets the array behind it; then the wanted groups are formed.

    - Values, and their moving average: what a group merges becomes the mean of the distinct old matrices, each
      counted once however many roles it played (`average`), or the matrix of one role (`source`, `target`,
      `output`). What is split is copied.
    - Slots of the optimizer: on splitting copied, on merging added, whatever the rule. The gradient of a merged
      variable is the sum of its roles' gradients, so first moments add up exactly. Second moments are added too, an
      approximation: (a + b)^2 = a^2 + b^2 + 2ab, and the mean of 2ab was never kept. It is near 0 where the roles'
      gradients have nothing to do with each other. Where the gradients of n roles are equal, the sum is an n-th of
      the true moment and updates are larger by sqrt(n) until it has adapted; where they oppose each other, smaller.
      Only the moments of `MOMENTS` are merged: any other slot may mean something else.
    - What belongs to no variable, such as `iterations`, stays.

    Args:
        contents: a checkpoint; it is left as it is.
        groups: all ties that the result shall have, as the manifest keeps them.
        rule: one of `RULES`; `error` admits no change.

    Returns:
        The checkpoint under the names and groups wanted, and a report.

    Raises:
        CheckpointError: the ties differ and the rule is `error`, or names a role that is not in each group that is
            merged; the matrices to merge differ in shape; the optimizer keeps slots of them that cannot be added; or
            a group has a role that the checkpoint does not have.
    """
    check_rule(rule)
    if _role_sets(contents.tie_groups) == _role_sets(groups):
        return Retied(contents, None)
    source = checkpoint_name(contents.update)
    before = _canonical_paths(contents.variables, contents.tie_groups)
    missing = [role for group in groups for role in group["roles"] if role not in before]
    if missing:
        raise CheckpointError(f"{source} does not fit: it has no {', '.join(missing)}, which the model ties")
    after = _canonical_paths(before, groups)
    origins: dict[str, list[str]] = {}  # the old variables that each new one comes from, each once
    for role, path in after.items():
        origins[path] = list(dict.fromkeys([*origins.get(path, ()), before[role]]))
    merging = [group for group in groups if len(origins[group["variable"]]) > 1]
    _refuse_rule(contents, groups, merging, rule, source)
    merged = tuple(_merged(contents, group, origins[group["variable"]], source) for group in merging)
    taken = {after[role]: before[role] for role in before if _plays(role, rule)}

    def combine(path: str, parts: Mapping[str, np.ndarray]) -> np.ndarray:
        return parts[taken[path]] if path in taken else _combined(np.mean, parts)

    # What has no average, because it is not trained, counts as its own.
    ema = None if contents.ema is None else {**contents.model, **contents.ema}
    averaged = [path for path, olds in origins.items() if set(olds) & set(contents.ema or ())]
    new_ema = None if ema is None else _regrouped(ema, {path: origins[path] for path in averaged}, combine)
    result = replace(
        contents,
        model=_regrouped(contents.model, origins, combine),
        ema=new_ema,
        optimizer=None if contents.optimizer is None else _regrouped_slots(contents, origins, source),
        tie_groups=tuple(dict(group) for group in groups),
        variables={path: contents.variables[olds[0]] for path, olds in origins.items()},
    )
    return Retied(result, TieChange(rule, merged, _split(contents, after)))


def _canonical_paths(paths: Mapping[str, Any], groups: Sequence[Group]) -> dict[str, str]:
    """Return the canonical path of every role, in the order of `paths`, each followed by the roles tied to it.

    Args:
        paths: role paths, of variables or of all roles.
        groups: which roles are one variable.
    """
    roles = {group["variable"]: group["roles"] for group in groups}
    tied = {role: group["variable"] for group in groups for role in group["roles"]}
    return {role: tied.get(role, role) for path in paths for role in (path, *roles.get(path, ()))}


def _regrouped(
    arrays: Mapping[str, np.ndarray], origins: Mapping[str, Sequence[str]], combine: Combine
) -> dict[str, np.ndarray]:
    """Return the array of every new variable of which an old one is in `arrays`.

    Args:
        arrays: by old role path.
        origins: the old role paths that each new one comes from.
        combine: how several become one.
    """
    result = {}
    for path, olds in origins.items():
        parts = {old: arrays[old] for old in olds if old in arrays}
        if parts:
            result[path] = combine(path, parts) if len(parts) > 1 else next(iter(parts.values()))
    return result


def _regrouped_slots(contents: Contents, origins: Mapping[str, Sequence[str]], source: str) -> dict[str, np.ndarray]:
    """Return the slots of the new variables; a slot is called `<kind>/<role path>`, any other state as it likes."""
    kinds: dict[str, dict[str, np.ndarray]] = {}
    result: dict[str, np.ndarray] = {}
    for name, array in (contents.optimizer or {}).items():
        path = slot_variable(name, {old for olds in origins.values() for old in olds})
        if path is None:
            result[name] = array
        else:
            kinds.setdefault(name.removesuffix(f"/{path}"), {})[path] = array
    merged = {old for olds in origins.values() if len(olds) > 1 for old in olds}
    for kind, arrays in kinds.items():
        if merged & set(arrays) and kind not in MOMENTS.get(contents.optimizer_class or "", ()):
            raise CheckpointError(
                f"{source} keeps {kind} of {contents.optimizer_class or 'an unknown optimizer'}, which cannot be "
                "merged as the ties ask for: restore without the optimizer (a fresh one), or begin a new run with "
                "training.initialize_from"
            )
        regrouped = _regrouped(arrays, origins, lambda _, parts: _combined(np.sum, parts))
        result |= {f"{kind}/{path}": array for path, array in regrouped.items()}
    return result


def _combined(how: Callable[..., np.ndarray], parts: Mapping[str, np.ndarray]) -> np.ndarray:
    """Combine arrays in float64, and return their own type."""
    arrays = list(parts.values())
    return how(arrays, axis=0, dtype=np.float64).astype(arrays[0].dtype)


def _merged(contents: Contents, group: Group, olds: Sequence[str], source: str) -> Merged:
    """Say what is merged, and refuse what cannot be."""
    arrays = [contents.model[old] for old in olds]
    if len({array.shape for array in arrays}) > 1 or {array.dtype.kind for array in arrays} != {"f"}:
        found = ", ".join(f"{old} of {contents.model[old].shape} {contents.model[old].dtype}" for old in olds)
        raise CheckpointError(f"{source}: only floating-point matrices of one shape can be merged, got {found}")
    difference = reduce(np.maximum, arrays) - reduce(np.minimum, arrays)
    return Merged(group["name"], tuple(olds), float(np.max(difference, initial=0.0)))


def _split(contents: Contents, after: Mapping[str, str]) -> tuple[Split, ...]:
    news = {group["name"]: dict.fromkeys(after[role] for role in group["roles"]) for group in contents.tie_groups}
    return tuple(Split(name, tuple(paths)) for name, paths in news.items() if len(paths) > 1)


def _refuse_rule(contents: Contents, groups: Sequence[Group], merging: Sequence[Group], rule: str, source: str) -> None:
    roles = (name for name in ROLES if all(any(_plays(role, name) for role in group["roles"]) for group in merging))
    fitting = ", ".join(("average", *roles))
    if rule == "error":
        raise CheckpointError(
            f"{source} ties {_names(contents.tie_groups)}, but the model ties {_names(groups)}: build the model with "
            f"the tie_embeddings of the checkpoint, or admit the change with on_tie_change, one of {fitting}"
        )
    for group in merging:
        if rule in ROLES and not any(_plays(role, rule) for role in group["roles"]):
            raise CheckpointError(
                f"on_tie_change must name a role of {group['name']}, which is merged, got {rule}: try {fitting}"
            )


def _plays(role: str, rule: str) -> bool:
    """Return whether a role path is of the role that a rule names."""
    return rule in ROLES and role.split("/")[0] == ROLES[rule]


def _role_sets(groups: Sequence[Group]) -> set[frozenset[str]]:
    return {frozenset(group["roles"]) for group in groups}


def _names(groups: Sequence[Group]) -> str:
    return ", ".join(group["name"] for group in groups) or "nothing"
