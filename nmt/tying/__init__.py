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
    if isinstance(value, keras.Variable):
        yield path, value
    elif id(value) not in above:
        yield path, value
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
