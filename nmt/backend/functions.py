"""Compiling functions and differentiating them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from nmt.types import Tensor


class Spec(NamedTuple):
    """Shape and type of an argument; None is a size that differs from call to call."""

    shape: tuple[int | None, ...]
    dtype: str


def compile_function(
    function: Callable[..., Any], signature: Sequence[Spec], *, xla: bool = False
) -> Callable[..., Any]:
    """Compile a function of tensors into one graph.

    Args:
        function: takes and returns nests of tensors.
        signature: one `Spec` an argument; the function is traced once, for all shapes.
        xla: compile with XLA too, anew for each shape; on a processor this has been twice as slow.

    Returns:
        The compiled function.
    """
    specs = [tf.TensorSpec(spec.shape, spec.dtype) for spec in signature]
    return tf.function(function, input_signature=specs, autograph=False, jit_compile=xla or None)


def value_and_gradients(
    function: Callable[[], tuple[Tensor, Any]], variables: Sequence[keras.Variable]
) -> tuple[Tensor, Any, list[Tensor]]:
    """Evaluate a function and differentiate its first result.

    Args:
        function: takes nothing and returns a scalar and anything else.
        variables: what to differentiate by.

    Returns:
        The scalar, the rest, and one dense gradient a variable. An embedding's gradient arrives as slices with
        repeated ids, which neither Keras's global norm nor its Adam adds up: here it is summed into a matrix.
    """
    values = [variable.value for variable in variables]
    with tf.GradientTape() as tape:
        value, rest = function()
    gradients = tape.gradient(value, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return value, rest, [tf.convert_to_tensor(gradient) for gradient in gradients]


def if_then(condition: Tensor, action: Callable[[], None]) -> None:
    """Run an action with side effects where a scalar condition holds, inside a compiled function too."""

    def taken() -> Tensor:
        action()
        return tf.constant(True)

    tf.cond(condition, taken, lambda: tf.constant(False))
