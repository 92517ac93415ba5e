"""Checkpoints made of others: the mean of several, one for another vocabulary, one of other weight ties.

From arrays to arrays, without Keras and without the disk.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from nmt.checkpoint.folder import checkpoint_name
from nmt.checkpoint.manifest import VALIDATION, Contents, Tie, slot_variable
from nmt.errors import CheckpointError

SAME_FACTS = {"tokenizers": "tokenizers", "data_hash": "text"}
"""Facts that a run cannot change, and what they are about. Its config may: a longer run has another hash of it."""


def average_contents(checkpoints: Iterable[Contents], shares: Sequence[float] = ()) -> Contents:
    """Return a checkpoint whose weights are the mean of those of others, variable by variable.

    See Junczys-Dowmunt et al. (2016, arXiv:1605.04809), section 2.2. Each tied variable is one variable in every
    checkpoint, and is averaged once. The mean is computed in float64.

    Args:
        checkpoints: at least one; what is averaged are their `model` arrays. They are taken one after another, so that
            one at a time is in memory, besides the sum.
        shares: of each in the mean, which add up to 1: checkpoints of several runs then, whose corpora may differ and
            whose tokenizers and ties may not. Equal, and of one run, unless given.

    Returns:
        The mean in float32, with the update and the facts of the newest one, or of the last if shares are given;
        without score, state, moving average and optimizer, which belong to none of them any more.

    Raises:
        CheckpointError: there is none, they do not belong together, or one holds values that are not finite.
    """
    known: list[Contents] = []  # without what takes memory
    sums: dict[str, np.ndarray] = {}
    for contents in checkpoints:  # enumerate would hold on to one while the next is read
        known.append(replace(contents, model={}, ema=None, optimizer=None, state={}))
        name, problems = checkpoint_name(contents.update), list(_differences(known[0], contents, same_text=not shares))
        if problems:
            first = checkpoint_name(known[0].update)
            raise CheckpointError(f"{name} cannot be averaged with {first}: {'; '.join(problems)}")
        broken = [path for path, array in contents.model.items() if not np.isfinite(array).all()]
        if broken:
            raise CheckpointError(f"{name} holds values that are not finite: {', '.join(broken)}: leave it out")
        _add(sums, contents, shares[len(known) - 1] if shares else 1.0)
        del contents  # the next one is read now
    if not known:
        raise CheckpointError("there must be a checkpoint to average, got none")
    newest, count = (known[-1], 1) if shares else (max(known, key=lambda one: one.update), len(known))
    facts = {name: fact for name, fact in newest.facts.items() if name != VALIDATION}
    means = {path: (total / count).astype(np.float32) for path, total in sums.items() if total.dtype.kind == "f"}
    return replace(newest, model=sums | means, score=None, optimizer_class=None, facts=facts)


def _add(sums: dict[str, np.ndarray], contents: Contents, share: float) -> None:
    """Add weights, times their share, to the sum of those before; whole numbers, such as counters, must be equal."""
    for path, array in contents.model.items():
        if path not in sums:  # a copy, since one array keeps the memory of its whole file
            sums[path] = array.astype(np.float64) * share if array.dtype.kind == "f" else array.astype(array.dtype)
        elif array.dtype.kind == "f":
            sums[path] += array * np.float64(share)
        elif not np.array_equal(sums[path], array):
            name = checkpoint_name(contents.update)
            raise CheckpointError(f"{name} cannot be averaged: {path} holds whole numbers that differ")


def _differences(first: Contents, other: Contents, *, same_text: bool) -> Iterator[str]:
    """Yield what shows that a checkpoint is of another model, or of another run."""
    before, now = first.variables, other.variables
    other_variables = [path for path in {**before, **now} if before.get(path) != now.get(path)]
    if other_variables:
        yield f"only one of them has {', '.join(other_variables)} of that shape and type"
    if _tied_roles(first.tie_groups) != _tied_roles(other.tie_groups):
        yield f"it ties {_names(other.tie_groups)}, not {_names(first.tie_groups)}"
    for key, what in SAME_FACTS.items() if same_text else [("tokenizers", "tokenizers")]:
        facts = (first.facts.get(key), other.facts.get(key))
        if None not in facts and facts[0] != facts[1]:
            yield f"it was trained with other {what}"


class RowMapping(NamedTuple):
    """Where the row of each token of a new vocabulary comes from.

    old_size: V before.
    origins: for each new token id, the old ids it comes from, one or more. Of one id the row is taken bit for bit, of
        several the mean of their rows.
    """

    old_size: int
    origins: tuple[tuple[int, ...], ...]

    def rows(self, old: np.ndarray) -> np.ndarray:
        """Compute the rows of the new vocabulary, (V, ...), from those of the old one; means in float64."""
        new = old[[origin[0] for origin in self.origins]]
        for token_id, origin in enumerate(self.origins):
            if len(origin) > 1:
                new[token_id] = old[list(origin)].mean(axis=0, dtype=np.float64)
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

    def arrays_of(part: Mapping[str, np.ndarray] | None) -> dict[str, np.ndarray] | None:
        return None if part is None else {name: _changed(name, part[name], contents, changed) for name in part}

    def reshaped(facts: dict[str, Any], path: str) -> dict[str, Any]:
        return {**facts, "shape": shapes[path]} if path in shapes else facts

    return replace(
        contents,
        model=arrays_of(contents.model) or {},
        ema=arrays_of(contents.ema),
        optimizer=arrays_of(contents.optimizer),
        tie_groups=tuple(reshaped(group, group["variable"]) for group in contents.tie_groups),
        variables={path: reshaped(facts, path) for path, facts in contents.variables.items()},
    )


def _mapping(path: str, contents: Contents, mappings: Mapping[str, RowMapping]) -> RowMapping | None:
    """Return what the rows of a variable follow in all of its roles; None if it has no token rows."""
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


def _changed(name: str, array: np.ndarray, contents: Contents, changed: Mapping[str, RowMapping]) -> np.ndarray:
    """Change a weight, an average or a slot `<slot>/<path>`, if its variable changes."""
    path = name if name in contents.model else slot_variable(name, contents.model)
    if path is None or path not in changed:
        return array
    if array.shape[:1] != (changed[path].old_size,):
        raise CheckpointError(
            f"{name} must have a row for each of the {changed[path].old_size} tokens of the old vocabulary, "
            f"got shape {array.shape}: the tokenizers are not those of this checkpoint"
        )
    return changed[path].rows(array)


ROLES = {
    "source": "source_embedding/embeddings",
    "target": "target_embedding/embeddings",
    "output": "output_projection/embeddings",
}
"""The rules that take the matrix of one role, and its role path."""

RULES = ("error", "average", *ROLES)
"""What may be said about a change of ties."""

MOMENTS = {"SGD": ("momentums",), "Adam": ("momentums", "velocities"), "AdamW": ("momentums", "velocities")}
"""Slots that are sums or means of gradients or of their squares, by class of the optimizers that a config can choose.

The name of a slot alone decides nothing: `momentums` of ScheduleFreeAdamW are a copy of the weights.
"""


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


def retie(contents: Contents, groups: Sequence[Tie], rule: str) -> tuple[Contents, TieChange | None]:
    """Return what a checkpoint would keep, were its weights tied in another way.

    Each role of the checkpoint first gets the array behind it; then the wanted groups are formed.

    - Values, and their moving average: what a group merges becomes the mean of the distinct old matrices, each
      counted once however many roles it played (`average`), or the matrix of one role (`source`, `target`,
      `output`). What is split is copied.
    - Slots of the optimizer: on splitting copied, on merging added, whatever the rule. The gradient of a merged
      variable is the sum of its roles' gradients, so first moments add up exactly. Second moments are added too, an
      approximation: (a + b)^2 = a^2 + b^2 + 2ab, and the mean of 2ab was never kept. It is near 0 if the roles'
      gradients have nothing to do with each other. If the gradients of n roles are equal, the sum is an n-th of
      the true moment and updates are larger by sqrt(n) until it has adapted; if they oppose each other, smaller.
      Only the moments of `MOMENTS` are merged: any other slot may mean something else.
    - What belongs to no variable, such as `iterations`, stays.

    Args:
        contents: a checkpoint; it is left as it is.
        groups: all ties that the result shall have, as the manifest keeps them.
        rule: one of `RULES`; `error` admits no change.

    Returns:
        The checkpoint under the names and groups wanted, and what was changed; None if the ties were the same.

    Raises:
        CheckpointError: there is no such rule; the ties differ and the rule is `error`, or names a role that is not in
            each group that is merged; the matrices to merge differ in shape; the optimizer keeps slots of them that
            cannot be added; or a group has a role that the checkpoint does not have.
    """
    if rule not in RULES:
        raise CheckpointError(f"on_tie_change must be one of {', '.join(RULES)}, got {rule}")
    if _tied_roles(contents.tie_groups) == _tied_roles(groups):
        return contents, None

    # Where each role's matrix lies before and after: a new variable comes from the old ones of all its roles, each
    # counted once, however many roles it played.
    source = checkpoint_name(contents.update)
    before = canonical_paths(contents.variables, contents.tie_groups)
    missing = [role for group in groups for role in group["roles"] if role not in before]
    if missing:
        raise CheckpointError(f"{source} does not fit: it has no {', '.join(missing)}, which the model ties")
    after = canonical_paths(before, groups)
    origins: dict[str, list[str]] = {}
    for role, path in after.items():
        origins[path] = list(dict.fromkeys([*origins.get(path, ()), before[role]]))

    # What is merged and what is split; refused here, before any array is computed.
    merging = [group for group in groups if len(origins[group["variable"]]) > 1]
    _refuse_rule(contents, groups, merging, rule, source)
    merged = tuple(_merged(contents, group, origins[group["variable"]], source) for group in merging)
    news = {group["name"]: dict.fromkeys(after[role] for role in group["roles"]) for group in contents.tie_groups}
    split = tuple(Split(name, tuple(paths)) for name, paths in news.items() if len(paths) > 1)

    # Values and their moving averages: the mean of those that are merged, or the matrix of one role; a split variable
    # shares its array, and what has no average, because it is not trained, counts as its own.
    role, ema = ROLES.get(rule, ""), None
    taken = {after[role]: before[role]} if role in after else {}
    if contents.ema is not None:
        averaged = {path: olds for path, olds in origins.items() if set(olds) & set(contents.ema)}
        ema = _regrouped({**contents.model, **contents.ema}, averaged, np.mean, taken)

    # The optimizer last, since gradients of merged roles add up whatever the rule for the values was.
    result = replace(
        contents,
        model=_regrouped(contents.model, origins, np.mean, taken),
        ema=ema,
        optimizer=None if contents.optimizer is None else _regrouped_slots(contents, origins, source),
        tie_groups=tuple(dict(group) for group in groups),
        variables={path: contents.variables[olds[0]] for path, olds in origins.items()},
    )
    return result, TieChange(rule, merged, split)


def canonical_paths(paths: Mapping[str, Any], groups: Sequence[Tie]) -> dict[str, str]:
    """Return the canonical path of every role, in the order of `paths`, each followed by the roles tied to it.

    Args:
        paths: role paths, of variables or of all roles.
        groups: which roles are one variable.
    """
    roles = {group["variable"]: group["roles"] for group in groups}
    tied = {role: group["variable"] for group in groups for role in group["roles"]}
    return {role: tied.get(role, role) for path in paths for role in (path, *roles.get(path, ()))}


def _regrouped(
    arrays: Mapping[str, np.ndarray],
    origins: Mapping[str, Sequence[str]],
    combine: Callable[..., np.ndarray],
    taken: Mapping[str, str],
) -> dict[str, np.ndarray]:
    """Return the array of every new variable of which an old one is in `arrays`.

    Args:
        arrays: by old role path.
        origins: the old role paths that each new one comes from.
        combine: makes several into one, in float64; the result is of their own type.
        taken: the one old role path that a new one comes from in place of those.
    """
    result = {}
    for path, olds in origins.items():
        parts = [arrays[old] for old in ([taken[path]] if path in taken else olds) if old in arrays]
        if len(parts) > 1:
            result[path] = combine(parts, axis=0, dtype=np.float64).astype(parts[0].dtype)
        elif parts:
            result[path] = parts[0]
    return result


def _regrouped_slots(contents: Contents, origins: Mapping[str, Sequence[str]], source: str) -> dict[str, np.ndarray]:
    """Return the slots of the new variables; a slot is called `<kind>/<role path>`, any other state as it likes."""
    # Slots by their kind and variable; what belongs to no variable stays as it is.
    kinds: dict[str, dict[str, np.ndarray]] = {}
    result: dict[str, np.ndarray] = {}
    for name, array in (contents.optimizer or {}).items():
        path = slot_variable(name, contents.variables)
        if path is None:
            result[name] = array
        else:
            kinds.setdefault(name.removesuffix(f"/{path}"), {})[path] = array

    # Each kind is regrouped as the variables are; to be added, its slots must be moments of gradients.
    merged = {old for olds in origins.values() if len(olds) > 1 for old in olds}
    for kind, arrays in kinds.items():
        if merged & set(arrays) and kind not in MOMENTS.get(contents.optimizer_class or "", ()):
            raise CheckpointError(
                f"{source} keeps {kind} of {contents.optimizer_class}, which cannot be merged as the ties ask for: "
                "restore without the optimizer (a fresh one), or begin a new run with training.initialize_from"
            )
        regrouped = _regrouped(arrays, origins, np.sum, {})
        result |= {f"{kind}/{path}": array for path, array in regrouped.items()}
    return result


def _merged(contents: Contents, group: Tie, olds: Sequence[str], source: str) -> Merged:
    """Say what is merged, and refuse what cannot be."""
    arrays = [contents.model[old] for old in olds]
    if len({array.shape for array in arrays}) > 1 or {array.dtype.kind for array in arrays} != {"f"}:
        found = ", ".join(f"{old} of {contents.model[old].shape} {contents.model[old].dtype}" for old in olds)
        raise CheckpointError(f"{source}: only floating-point matrices of one shape can be merged, got {found}")
    difference = reduce(np.maximum, arrays) - reduce(np.minimum, arrays)
    return Merged(group["name"], tuple(olds), float(np.max(difference, initial=0.0)))


def _refuse_rule(contents: Contents, groups: Sequence[Tie], merging: Sequence[Tie], rule: str, source: str) -> None:
    roles = [name for name, role in ROLES.items() if all(role in group["roles"] for group in merging)]
    fitting = ", ".join(("average", *roles))
    if rule == "error":
        raise CheckpointError(
            f"{source} ties {_names(contents.tie_groups)}, but the model ties {_names(groups)}: build the model with "
            f"the tie_embeddings of the checkpoint, or admit the change with on_tie_change, one of {fitting}"
        )
    for group in merging:
        if rule != "average" and ROLES[rule] not in group["roles"]:
            raise CheckpointError(
                f"on_tie_change must name a role of {group['name']}, which is merged, got {rule}: try {fitting}"
            )


def _names(groups: Sequence[Tie]) -> str:
    return ", ".join(group["name"] for group in groups) or "nothing"


def _tied_roles(groups: Sequence[Tie]) -> set[frozenset[str]]:
    return {frozenset(group["roles"]) for group in groups}
