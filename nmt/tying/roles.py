"""What every variable of a Keras model is used for: role paths.

A *role path* is how the owner of a layer calls it, attribute by attribute: `source_embedding/embeddings`,
`encoder_blocks/0/self_attention/query_key_value/kernel`. It is ours, not Keras's: automatic layer names count up
within a process, and positions shift when a tie changes. A variable that several paths lead to is tied; the
first path in order of creation is its canonical name, under which checkpoints store it, once.

What has no public attribute is named as Keras names it: the layers of Functional and Sequential models, and what
others keep privately. Give such layers a `name`, for an automatic one differs between two models made by the same
code. A layer that a Functional model calls several times, or a Sequential one lists several times, plays a role
each time. The first one is its plain path, the others are numbered in the order of the calls: `embedding/embeddings`
and `embedding@2/embeddings`, or `tower/dense/kernel` and `tower@2/dense/kernel` for a model called twice. So the
canonical name does not change when one more call is added, and copies, files and clones have the same roles.
How often the `call` of a layer or of a subclassed model uses what it owns cannot be seen: that is one role.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

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
