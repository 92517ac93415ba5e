"""Where a layer lies among the layers it was called with, and what Keras is doing at the moment.

The only module that reads these internals of Keras 3: the nodes that symbolic calls leave behind, the scope in
which a `.keras` file is loaded, and the layer whose call is running.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import keras
from keras.src.backend.common import global_state

Step = str | int
"""The name of a layer within a Functional or Sequential model, or the place of a layer within any other layer."""


def connected_layers(starts: Iterable[Any]) -> Iterator[keras.Layer]:
    """Yield once every layer that is connected with some symbolic tensors or layers: first what they depend on.

    Args:
        starts: symbolic tensors, or layers that were called with some.
    """
    nodes = [node for start in starts for node in _nodes_of(start)]
    yield from _layers_of((*_walk(nodes, backwards=True), *_walk(nodes, backwards=False)))


def layers_before(starts: Iterable[Any]) -> list[list[keras.Layer]]:
    """Return the layers that each symbolic tensor, or each call of each layer, depends on, the nearest first.

    Args:
        starts: symbolic tensors, or layers that were called with some.
    """
    nodes = [node for start in starts for node in _nodes_of(start)]
    return [list(_layers_of(_walk([node], backwards=True))) for node in nodes]


def steps_between(layer: keras.Layer, target: keras.Layer) -> list[Step] | None:
    """Return the steps down from a layer to one that it owns: [] for itself, None where it does not own it."""
    if layer is target:
        return []
    for step, child in _children(layer):
        below = steps_between(child, target)
        if below is not None:
            return [step, *below]
    return None


def follow(layer: keras.Layer, steps: Iterable[Step]) -> keras.Layer | None:
    """Return the layer that the steps lead to, or None where there is none."""
    for step in steps:
        child = dict(_children(layer)).get(step)
        if child is None:
            return None
        layer = child
    return layer


def running_layer() -> keras.Layer | None:
    """Return the outermost layer whose call is running, or None."""
    context = global_state.get_global_attribute("current_call_ctx")
    return None if context is None else context.entry_layer


def shared_layers() -> dict[Any, keras.Layer] | None:
    """Return the objects that the `.keras` file being loaded shares, by their id there; None where none is loaded."""
    return global_state.get_global_attribute("shared_objects/id_to_obj_map")


def is_sharing() -> bool:
    """Return whether a `.keras` file is being written, which keeps what several layers share."""
    return global_state.get_global_attribute("shared_objects/id_to_config_map") is not None


def _nodes_of(start: Any) -> list[Any]:
    if isinstance(start, keras.Layer):
        return list(start._inbound_nodes)
    history = getattr(start, "_keras_history", None)
    if history is None or history.operation is None:
        return []
    return [history.operation._inbound_nodes[history.node_index]]


def _layers_of(nodes: Iterable[Any]) -> Iterator[keras.Layer]:
    """Yield once every layer that was called at some nodes, in their order."""
    found: set[int] = set()
    for node in nodes:
        if isinstance(node.operation, keras.Layer) and id(node.operation) not in found:
            found.add(id(node.operation))
            yield node.operation


def _walk(nodes: list[Any], *, backwards: bool) -> Iterator[Any]:
    """Yield the nodes and all that they follow from, or all that are connected with them, the nearest first."""
    queue, seen = deque(nodes), set(nodes)
    while queue:
        node = queue.popleft()
        yield node
        neighbours = list(node.parent_nodes)
        if not backwards:
            neighbours += [other for other in node.operation._outbound_nodes if node in other.parent_nodes]
        fresh = [other for other in dict.fromkeys(neighbours) if other not in seen]
        seen.update(fresh)
        queue.extend(fresh)


def _children(layer: keras.Layer) -> list[tuple[Step, keras.Layer]]:
    """Return the layers in a layer with the step that leads there again in a copy of it.

    Copies of Functional and Sequential models keep names; elsewhere automatic names differ, and order stays.
    """
    children = layer._flatten_layers(include_self=False, recursive=False)
    if isinstance(layer, keras.Sequential) or hasattr(layer, "_nodes_by_depth"):
        return [(child.name, child) for child in children]
    return list(enumerate(children))
