"""A recurrence over time that can be differentiated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from nmt.backend.products import FLOAT32, products_in
from nmt.types import Tensor

Step = Callable[[Any, Any], Any]
"""Takes the carried nest and one position of the inputs; returns the next carried nest."""


def scan(step: Step, initial: Any, inputs: Any, *, reverse: bool = False) -> tuple[Any, Any]:
    """Carry a nest through time.

    While TensorFlow traces, the loop is one `tf.while_loop` whose carried tensors are loop variables;
    `keras.ops.scan` keeps them in arrays that are written and read at every turn.

    Args:
        step: maps (carried, position of the inputs) to the next carried nest, of the same shapes.
        initial: the carried nest before the first position.
        inputs: a nest of tensors (T, ...).
        reverse: go from the last position to the first; the results stay in the order of the inputs.

    Returns:
        The carried nest after each position, every leaf (T, ...), and the one after the last turn.
    """

    def float32_step(carried: Any, position: Any) -> Any:
        with products_in(FLOAT32):  # to round the matrices again at each turn would cost more than it saves
            return step(carried, position)

    if keras.backend.backend() == "tensorflow" and not tf.executing_eagerly():
        return _graph_scan(float32_step, initial, inputs, reverse)
    return plain_scan(float32_step, initial, inputs, reverse=reverse)


def plain_scan(step: Step, initial: Any, inputs: Any, *, reverse: bool = False) -> tuple[Any, Any]:
    """Do the same in a Python loop of `keras.ops`; see `scan`."""
    length = ops.shape(keras.tree.flatten(inputs)[0])[0]
    carried, results = initial, []
    for position in reversed(range(length)) if reverse else range(length):
        carried = step(carried, keras.tree.map_structure(lambda leaf, at=position: leaf[at], inputs))
        results.append(carried)
    if reverse:
        results.reverse()
    return keras.tree.map_structure(lambda *leaves: ops.stack(leaves), *results), carried


def _graph_scan(step: Step, initial: Any, inputs: Any, reverse: bool) -> tuple[Any, Any]:
    inputs = tf.nest.map_structure(tf.convert_to_tensor, inputs)
    initial = tf.nest.map_structure(tf.convert_to_tensor, initial)
    length = tf.shape(tf.nest.flatten(inputs)[0])[0]
    read = tf.nest.map_structure(lambda leaf: tf.TensorArray(leaf.dtype, size=length).unstack(leaf), inputs)
    written = [tf.TensorArray(leaf.dtype, size=length, element_shape=leaf.shape) for leaf in tf.nest.flatten(initial)]

    def turn(count: Tensor, carried: Any, written: list[tf.TensorArray]) -> tuple[Tensor, Any, list[tf.TensorArray]]:
        position = length - 1 - count if reverse else count
        carried = step(carried, tf.nest.map_structure(lambda array: array.read(position), read))
        leaves = tf.nest.flatten(carried)
        return count + 1, carried, [a.write(position, leaf) for a, leaf in zip(written, leaves, strict=True)]

    shapes = tf.nest.map_structure(lambda leaf: leaf.shape, initial)
    _, carried, written = tf.while_loop(
        lambda count, *_: count < length,
        turn,
        (tf.constant(0), initial, written),
        shape_invariants=(tf.TensorShape([]), shapes, [tf.TensorShape(None)] * len(written)),
        maximum_iterations=length,
    )
    return tf.nest.pack_sequence_as(initial, [array.stack() for array in written]), carried
