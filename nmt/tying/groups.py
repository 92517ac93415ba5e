"""Weight tying of any Keras model: which variables play several roles, and the proof that they still do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import keras

from nmt.errors import CheckpointError
from nmt.tying.roles import variable_roles


class TieGroup(NamedTuple):
    """One variable in several roles.

    name: the roles, joined by "=".
    roles: role path of each role.
    variable: the canonical role path, the first of `roles`.
    shape: shape of the variable.
    """

    name: str
    roles: tuple[str, ...]
    variable: str
    shape: tuple[int, ...]


def tie_groups(model: keras.Layer) -> list[TieGroup]:
    """List the variables that play several roles, in order of their creation.

    Args:
        model: any Keras model whose variables exist: Functional, Sequential or subclassed, also nested. What a
            role is, and how it is named, says `nmt.tying.roles`.
    """
    roles: dict[int, list[str]] = {}
    variables: dict[int, keras.Variable] = {}
    for path, variable in variable_roles(model).items():
        roles.setdefault(id(variable), []).append(path)
        variables[id(variable)] = variable
    tied = {key: tuple(paths) for key, paths in roles.items() if len(paths) > 1}
    names = _names(list(tied.values()))
    return [
        TieGroup(name, paths, paths[0], tuple(variables[key].shape))
        for (key, paths), name in zip(tied.items(), names, strict=True)
    ]


def verify_ties(
    model: keras.Layer, groups: Sequence[TieGroup], optimizer: keras.optimizers.Optimizer | None = None
) -> None:
    """Prove that a model has exactly these ties.

    Each group must be one variable object, counted once among the trainable variables, with one slot of the
    optimizer; and no other variable may play several roles.

    Args:
        model: any Keras model whose variables exist.
        groups: what must be tied.
        optimizer: a built optimizer of the model, or None.

    Raises:
        CheckpointError: naming every group for which this does not hold.
    """
    found = {frozenset(group.roles): group for group in tie_groups(model)}
    wanted = {frozenset(group.roles): group for group in groups}
    variables = variable_roles(model)
    problems = [_difference(group, variables) for roles, group in wanted.items() if roles not in found]
    unwanted = [group for roles, group in found.items() if roles not in wanted]
    problems += [f"{group.name} is one variable but must not be" for group in unwanted]
    for group in found.values():
        problems += _count_problems(group, variables[group.variable], model, optimizer)
    if problems:
        raise CheckpointError("weight ties do not hold: " + "; ".join(problems))


def _difference(group: TieGroup, variables: Mapping[str, keras.Variable]) -> str:
    missing = [path for path in group.roles if path not in variables]
    if missing:
        return f"{group.name} must be one variable, but the model has no {', '.join(missing)}"
    count = len({id(variables[path]) for path in group.roles})
    return f"{group.name} must be one variable, but it is {count}"


def _count_problems(
    group: TieGroup, variable: keras.Variable, model: keras.Layer, optimizer: keras.optimizers.Optimizer | None
) -> list[str]:
    problems = []
    counted = sum(other is variable for other in model.trainable_variables)
    if variable.trainable and counted != 1:
        problems.append(f"{group.name} is counted {counted} times among the trainable variables")
    if optimizer is not None and optimizer.built:
        slots = sum(other is variable for other in _trained_by(optimizer))
        if slots > 1 or slots < counted:
            problems.append(f"{group.name} has {slots} slots in the optimizer instead of {min(counted, 1)}")
    return problems


def _trained_by(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """Return the variables that an optimizer has slots for; one that scales the loss leaves them to another."""
    inner = getattr(optimizer, "inner_optimizer", None)
    return optimizer._trainable_variables if inner is None else _trained_by(inner)


def _names(groups: Sequence[Sequence[str]]) -> list[str]:
    """Name groups by the owners of their roles; where several variables of the owners are tied, by the whole roles."""
    owners = ["=".join(path.rpartition("/")[0] or path for path in paths) for paths in groups]
    return [name if owners.count(name) == 1 else "=".join(paths) for name, paths in zip(owners, groups, strict=True)]
