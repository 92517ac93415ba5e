"""Fused kernels of TensorFlow for what a chain of `keras.ops` does in many passes over memory."""

from __future__ import annotations

import keras
import tensorflow as tf

from nmt.types import Tensor


def apply_adam(
    variable: keras.Variable | tf.Variable,
    mean: keras.Variable,
    variance: keras.Variable,
    *,
    gradient: Tensor,
    step: Tensor,
    learning_rate: Tensor,
    beta_1: float,
    beta_2: float,
    epsilon: float,
) -> None:
    """Update a variable and its two moments in place, in one pass (Kingma & Ba 2015, end of section 2).

    Args:
        variable: the weights; inside `optimizer.apply` Keras gives TensorFlow's own variable.
        mean: first moment, of the same shape.
        variance: second raw moment, of the same shape.
        gradient: of the same shape.
        step: number of this update, counted from 1, a scalar.
        learning_rate: a scalar.
        beta_1: decay of the first moment.
        beta_2: decay of the second moment.
        epsilon: added to the root of the variance.
    """
    step = tf.cast(step, variable.dtype)
    tf.raw_ops.ResourceApplyAdam(
        var=_handle(variable),
        m=_handle(mean),
        v=_handle(variance),
        beta1_power=tf.pow(tf.cast(beta_1, variable.dtype), step),
        beta2_power=tf.pow(tf.cast(beta_2, variable.dtype), step),
        lr=tf.cast(learning_rate, variable.dtype),
        beta1=tf.cast(beta_1, variable.dtype),
        beta2=tf.cast(beta_2, variable.dtype),
        epsilon=tf.cast(epsilon, variable.dtype),
        grad=gradient,
    )


def move_towards(variable: keras.Variable, target: Tensor, share: Tensor) -> None:
    """Move a variable by a share, a scalar, of its distance to a target of the same shape, in place."""
    delta = tf.convert_to_tensor(variable) - target
    tf.raw_ops.ResourceApplyGradientDescent(var=_handle(variable), alpha=share, delta=delta)


def softmax(logits: Tensor) -> Tensor:
    """Return the softmax over the last axis, of any shape.

    Keras's own warns where that axis has one place, as it has in the first step of a decoder.
    """
    return tf.nn.softmax(logits) if keras.backend.backend() == "tensorflow" else keras.ops.softmax(logits)


def sum_of_squares(tensors: list[Tensor]) -> Tensor:
    """Return the sum of the squares of all elements of tensors of any shapes, a scalar; each is read once."""
    return 2.0 * tf.add_n([tf.nn.l2_loss(tensor) for tensor in tensors])


def _handle(variable: keras.Variable | tf.Variable) -> Tensor:
    return variable.value.handle if isinstance(variable, keras.Variable) else variable.handle
