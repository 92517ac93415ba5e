"""A while loop whose variables may grow, which `keras.ops.while_loop` cannot express."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from nmt.types import Tensor


def while_loop(
    condition: Callable[[Any], Tensor],
    body: Callable[[Any], Any],
    loop_variables: Any,
) -> Any:
    """Repeat `body` as long as `condition` holds.

    While TensorFlow traces a graph this is one `tf.while_loop`, and a variable may change its size along any axis
    from one turn to the next: an axis whose size `body` changes becomes unknown, all others stay static. These axes
    are found by tracing `body`, which is therefore traced up to three times and has to be free of side effects.
    Run eagerly, or on another backend, it is a plain Python loop.

    Args:
        condition: maps the loop variables to a scalar boolean.
        body: maps the loop variables to new ones, in the same nest, each of the same dtype and rank.
        loop_variables: a nest (tuples, named tuples, lists, dictionaries) of tensors.

    Returns:
        The loop variables for which `condition` no longer holds.
    """
    if _tracing_tensorflow():
        return _graph_loop(condition, body, loop_variables)
    return python_loop(condition, body, loop_variables)


def python_loop(condition: Callable[[Any], Tensor], body: Callable[[Any], Any], loop_variables: Any) -> Any:
    """The twin of the compiled loop: the same turns, one after another, in Python."""
    while bool(condition(loop_variables)):
        loop_variables = body(loop_variables)
    return loop_variables


def _tracing_tensorflow() -> bool:
    """Whether a TensorFlow graph is being traced right now."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.executing_eagerly()


class _ShapesGrewError(Exception):
    """The body changes sizes that were taken for the same at every turn."""


def _graph_loop(condition: Callable[[Any], Tensor], body: Callable[[Any], Any], loop_variables: Any) -> Any:
    """`tf.while_loop` with a shape invariant for every variable: the most specific one that `body` maps to itself.

    At first all sizes are taken for constant; where tracing shows otherwise, it begins anew.
    """
    import tensorflow as tf

    loop_variables = tf.nest.map_structure(tf.convert_to_tensor, loop_variables)
    specs = tf.nest.map_structure(lambda tensor: tf.TensorSpec(tensor.shape, tensor.dtype), loop_variables)
    while True:
        relaxed = specs

        def checked_body(variables: Any, specs: Any = specs) -> tuple[Any]:
            nonlocal relaxed
            outputs = body(variables)
            relaxed = _relaxed(specs, outputs)
            if tf.nest.flatten(relaxed) != tf.nest.flatten(specs):
                raise _ShapesGrewError
            return (outputs,)

        try:
            (result,) = tf.while_loop(
                condition,
                checked_body,
                (loop_variables,),
                shape_invariants=(tf.nest.map_structure(lambda spec: spec.shape, specs),),
                parallel_iterations=1,
            )
        except _ShapesGrewError:
            specs = relaxed
        else:
            return result


def _relaxed(specs: Any, outputs: Any) -> Any:
    """The specs with every size unknown in which the outputs differ."""
    import tensorflow as tf

    tf.nest.assert_same_structure(specs, outputs)
    return tf.nest.map_structure(
        lambda spec, output: tf.TensorSpec(spec.shape.most_specific_compatible_shape(output.shape), spec.dtype),
        specs,
        outputs,
    )
