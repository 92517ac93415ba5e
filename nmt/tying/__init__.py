"""Weight tying of any Keras model: which variables play several roles, and the proof that they still do."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras

from nmt.errors import CheckpointError


def variable_roles(model: keras.Layer) -> dict[str, keras.Variable]:
    """Return the variable behind every role path, tied variables under each of their paths.

    Raises:
        CheckpointError: one path leads to two variables.
    """
    return _by_path(model, keras.Variable)


def named_layers(model: keras.Layer) -> dict[str, keras.Layer]:
    """Return a model and every layer in it once, each by the first path that leads to it; the model's own is "".

    Raises:
        CheckpointError: one path leads to two layers.
    """
    return _once(_by_path(model, keras.Layer))


def named_variables(model: keras.Layer) -> dict[str, keras.Variable]:
    """Return every weight of a model once, by its canonical role path.

    States of seed generators and of metrics are not weights.

    Raises:
        CheckpointError: one path leads to two variables.
    """
    return _once(variable_roles(model))


def _by_path(model: keras.Layer, kind: type) -> dict[str, Any]:
    """Return everything of a kind below a model by its path; keys of mappings can make one path out of two."""
    found: dict[str, Any] = {}
    for path, value in _walk(model, "", ()):
        if isinstance(value, kind) and found.setdefault(path, value) is not value:
            raise CheckpointError(
                f"a role path must lead to one {kind.__name__.lower()}, but {path!r} leads to two of this model: give "
                "them other keys or names"
            )
    return found


def _once(roles: Mapping[str, Any]) -> dict[str, Any]:
    """Return every value once, by its first path."""
    first: dict[int, str] = {}
    for path, value in roles.items():
        first.setdefault(id(value), path)
    return {path: roles[path] for path in first.values()}


def _walk(value: Any, path: str, above: tuple[int, ...]) -> Iterator[tuple[str, keras.Variable | keras.Layer]]:
    """Yield (path, layer or variable) for `value` and everything below it, in order of creation."""
    if id(value) in above:
        return
    yield path, value
    if isinstance(value, keras.Layer):
        for name, child in _children(value):
            yield from _walk(child, f"{path}/{name}" if path else name, (*above, id(value)))


def _children(layer: keras.Layer) -> Iterator[tuple[str, keras.Variable | keras.Layer]]:
    """Yield what a layer owns: public attributes by their name, then whatever else Keras tracks by its own name."""
    weights = {id(weight) for weight in layer.weights}
    calls = _calls(layer)
    named: set[int] = set()
    taken: set[str] = set()
    for attribute, value in vars(layer).items():
        if attribute.startswith("_") or isinstance(layer, keras.Sequential):
            continue
        for name, child in _leaves(attribute, value):
            if not isinstance(child, keras.Variable) or id(child) in weights:
                named.add(id(child))
                taken.add(attribute)
                yield from _each_call(name, child, calls)
    sublayers = layer._flatten_layers(include_self=False, recursive=False)
    variables = (v for v in (*layer._trainable_variables, *layer._non_trainable_variables) if id(v) in weights)
    for child in (*sublayers, *variables):
        if id(child) not in named:
            named.add(id(child))
            yield from _each_call(_unused_name(child.name, taken), child, calls)


def _each_call(name: str, child: Any, calls: Mapping[int, int]) -> Iterator[tuple[str, Any]]:
    """Yield a child once for every call of it: the first by its name alone, the others with their number."""
    yield name, child
    for number in range(2, calls.get(id(child), 1) + 1):
        yield f"{name}@{number}", child


def _calls(layer: keras.Layer) -> Mapping[int, int]:
    """Count how often a Functional or Sequential model calls each of its layers, by the identity of the layer.

    A layer also has nodes from calls in other models; a model keeps those of its own graph by depth.
    """
    if isinstance(layer, keras.Sequential):
        return Counter(id(child) for child in layer.layers)
    nodes = [node for nodes in getattr(layer, "_nodes_by_depth", {}).values() for node in nodes]
    return Counter(id(node.operation) for node in nodes)


def _unused_name(name: str, taken: set[str]) -> str:
    """Return a name that no sibling has yet, and take it: two private layers of one name must not become one path."""
    unused, count = name, 1
    while unused in taken:
        count += 1
        unused = f"{name}_{count}"
    taken.add(unused)
    return unused


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield (path, layer or variable) for an attribute, which may be a container of them."""
    if isinstance(value, keras.Layer | keras.Variable):
        yield path, value
    elif isinstance(value, Mapping | list | tuple):
        for key, child in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _leaves(f"{path}/{key}", child)


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
            role is, and how it is named, says `variable_roles`.
    """
    variables = variable_roles(model)
    roles: dict[int, list[str]] = {}
    for path, variable in variables.items():
        roles.setdefault(id(variable), []).append(path)
    tied = [tuple(paths) for paths in roles.values() if len(paths) > 1]
    # A group is named by the owners of its roles; if several variables of these owners are tied, by the whole roles.
    names = ["=".join(path.rpartition("/")[0] or path for path in paths) for paths in tied]
    groups = []
    for name, paths in zip(names, tied, strict=True):
        unique = name if names.count(name) == 1 else "=".join(paths)
        groups.append(TieGroup(unique, paths, paths[0], tuple(variables[paths[0]].shape)))
    return groups


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
    problems = []
    for group in (group for roles, group in wanted.items() if roles not in found):
        missing = [path for path in group.roles if path not in variables]
        count = len({id(variables[path]) for path in group.roles if path in variables})
        is_not = f"the model has no {', '.join(missing)}" if missing else f"it is {count}"
        problems.append(f"{group.name} must be one variable, but {is_not}")
    problems += [
        f"{group.name} is one variable but must not be" for roles, group in found.items() if roles not in wanted
    ]
    # An optimizer that scales the loss leaves the slots to another.
    while (inner := getattr(optimizer, "inner_optimizer", None)) is not None:
        optimizer = inner
    trained = optimizer._trainable_variables if optimizer is not None and optimizer.built else None
    for group in found.values():
        variable = variables[group.variable]
        counted = sum(other is variable for other in model.trainable_variables)
        if variable.trainable and counted != 1:
            problems.append(f"{group.name} is counted {counted} times among the trainable variables")
        slots = counted if trained is None else sum(other is variable for other in trained)
        if trained is not None and (slots > 1 or slots < counted):
            problems.append(f"{group.name} has {slots} slots in the optimizer instead of {min(counted, 1)}")
    if problems:
        raise CheckpointError("weight ties do not hold: " + "; ".join(problems))
