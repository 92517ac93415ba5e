"""Random masks for dropout."""

from __future__ import annotations

import tensorflow as tf

from nmt.types import Tensor

_LEVELS = 2**16


def drop(inputs: Tensor, rate: float, seed: Tensor) -> Tensor:
    """Zero a share of the inputs and scale up the rest (inverted dropout, Srivastava et al. 2014).

    The generator's 32 random bits decide on two inputs, 16 bits each, where Keras spends 32 on each: drawing is
    what dropout costs on a processor. The rate is so rounded to a multiple of 1/65536.

    Args:
        inputs: floating, of any shape.
        rate: share to zero, in (0, 1).
        seed: two integers, (2,).

    Returns:
        A tensor of the shape and type of `inputs`.
    """
    threshold = round(rate * _LEVELS)
    size = tf.size(inputs)
    words = tf.random.stateless_uniform([(size + 1) // 2], tf.cast(seed, tf.int32), None, None, tf.int32)  # full range
    bits = tf.reshape(tf.bitcast(words, tf.uint16), [-1])[:size]
    scale = tf.constant(_LEVELS / (_LEVELS - threshold), inputs.dtype)
    mask = tf.where(tf.reshape(bits, tf.shape(inputs)) >= threshold, scale, tf.zeros([], inputs.dtype))
    return tf.ensure_shape(inputs * mask, inputs.shape)
