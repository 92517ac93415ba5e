"""Weight tying of any Keras model: which variables play several roles, and the proof that they still do.

A *role path* is how the owner of a layer calls it, attribute by attribute: `source_embedding/embeddings`,
`encoder_blocks/0/self_attention/query_key_value/kernel`. It is ours, not Keras's: automatic layer names count up
within a process, and positions shift when a tie changes. A variable that several paths lead to is tied; the
first path in order of creation is its canonical name, under which checkpoints store it, once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras

from nmt.errors import CheckpointError


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


def variable_roles(model: keras.Layer) -> dict[str, keras.Variable]:
    """Return the variable behind every role path, tied variables under each of their paths."""
    return {path: value for path, value in _walk(model, "", ()) if isinstance(value, keras.Variable)}


def named_layers(model: keras.Layer) -> dict[str, keras.Layer]:
    """Return a model and every layer in it once, each by the first path that leads to it; the model's own is ""."""
    named: dict[str, keras.Layer] = {}
    seen: set[int] = set()
    for path, value in _walk(model, "", ()):
        if isinstance(value, keras.Layer) and id(value) not in seen:
            seen.add(id(value))
            named[path] = value
    return named


def named_variables(model: keras.Layer) -> dict[str, keras.Variable]:
    """Return every weight of a model once, by its canonical role path.

    States of seed generators and of metrics are not weights.
    """
    named: dict[str, keras.Variable] = {}
    seen: set[int] = set()
    for path, variable in variable_roles(model).items():
        if id(variable) not in seen:
            seen.add(id(variable))
            named[path] = variable
    return named


def tie_groups(model: keras.Layer) -> list[TieGroup]:
    """List the variables that play several roles, in order of their creation."""
    roles: dict[int, list[str]] = {}
    variables: dict[int, keras.Variable] = {}
    for path, variable in variable_roles(model).items():
        roles.setdefault(id(variable), []).append(path)
        variables[id(variable)] = variable
    return [
        TieGroup("=".join(_owner(path) for path in paths), tuple(paths), paths[0], tuple(variables[key].shape))
        for key, paths in roles.items()
        if len(paths) > 1
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
        slots = sum(other is variable for other in optimizer._trainable_variables)
        if slots != counted:
            problems.append(f"{group.name} has {slots} slots in the optimizer instead of {counted}")
    return problems


def _owner(path: str) -> str:
    return path.rpartition("/")[0] or path


def _walk(value: Any, path: str, above: tuple[int, ...]) -> Iterator[tuple[str, keras.Variable | keras.Layer]]:
    """Yield (path, layer or variable) for `value` and everything below it, in order of creation."""
    if isinstance(value, keras.Variable):
        yield path, value
    elif isinstance(value, keras.Layer) and id(value) not in above:
        yield path, value
        for name, child in _children(value):
            yield from _walk(child, f"{path}/{name}" if path else name, (*above, id(value)))
    elif isinstance(value, Mapping):
        for key, child in value.items():
            yield from _walk(child, f"{path}/{key}", above)
    elif isinstance(value, list | tuple):
        for index, child in enumerate(value):
            yield from _walk(child, f"{path}/{index}", above)


def _children(layer: keras.Layer) -> Iterator[tuple[str, Any]]:
    """Yield what a layer owns: public attributes by their name, then whatever else Keras tracks by its own name."""
    weights = {id(weight) for weight in layer.weights}
    named: set[int] = set()
    taken: set[str] = set()
    for name, value in vars(layer).items():
        if name.startswith("_") or isinstance(layer, keras.Sequential):
            continue
        leaves = [leaf for leaf in _leaves(value) if not isinstance(leaf, keras.Variable) or id(leaf) in weights]
        if leaves:
            named.update(id(leaf) for leaf in leaves)
            taken.add(name)
            yield name, value
    sublayers = layer._flatten_layers(include_self=False, recursive=False)
    variables = (v for v in (*layer._trainable_variables, *layer._non_trainable_variables) if id(v) in weights)
    for child in (*sublayers, *variables):
        if id(child) not in named:
            named.add(id(child))
            yield _unused_name(child.name, taken), child


def _unused_name(name: str, taken: set[str]) -> str:
    """Return a name that no sibling has yet, and take it: two private layers of one name must not become one path."""
    unused, count = name, 1
    while unused in taken:
        count += 1
        unused = f"{name}_{count}"
    taken.add(unused)
    return unused


def _leaves(value: Any) -> Iterator[Any]:
    """Yield the layers and variables in an attribute, which may be a container of them."""
    if isinstance(value, keras.Layer | keras.Variable):
        yield value
    elif isinstance(value, Mapping):
        for child in value.values():
            yield from _leaves(child)
    elif isinstance(value, list | tuple):
        for child in value:
            yield from _leaves(child)
