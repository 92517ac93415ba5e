"""Random masks for dropout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import tensorflow as tf

from nmt.types import Tensor

_LEVELS = 2**16
_ALIGNMENT = 64
"""Windows begin at multiples of so many elements, so that TensorFlow takes them without a copy."""

_SLACK = 0.25
"""How much longer a row of random numbers is than what is to be cut from it, as a share."""

_MOST = 2.0**27
"""Elements of a row, at most."""


class MaskRow:
    """One long row of random bits, of which all masks of a training step are windows at random places.

    Drawing is what dropout costs on a processor, more than the products it follows; this draws once where each layer
    drew for itself. Each mask by itself is what it would be: independent bits. Two masks of a step may share bits, at a
    distance that is drawn anew in each step.

    Args:
        length: elements of the longest mask that windows serve, a float scalar; longer ones are drawn by themselves.
        seed: two integers, (2,).
    """

    def __init__(self, length: Tensor, seed: Tensor) -> None:
        length = tf.minimum(tf.cast(length, tf.float32) * (1.0 + _SLACK), _MOST)
        self.length = (tf.cast(length, tf.int32) // _ALIGNMENT + 1) * _ALIGNMENT
        self.seed = seed
        self._rows: dict[tuple[float, str, int], Tensor] = {}

    def mask(self, size: Tensor, rate: float, seed: Tensor, dtype: tf.DType) -> Tensor:
        """Return `size` elements of a mask; see `drop`."""
        key = (rate, dtype.name, id(tf.compat.v1.get_default_graph()))  # a layer may be traced elsewhere to be built
        if key not in self._rows:
            self._rows[key] = _draw(self.length, rate, self.seed, dtype)
        row = self._rows[key]

        def window() -> Tensor:
            places = (self.length - size) // _ALIGNMENT + 1
            place = tf.random.stateless_uniform([], seed, 0, places, tf.int32)
            return tf.slice(row, [place * _ALIGNMENT], [size])

        return tf.cond(size <= self.length, window, lambda: _draw(size, rate, seed, dtype))


_ROW: ContextVar[MaskRow | None] = ContextVar("row of masks", default=None)


@contextmanager
def shared_masks(length: Tensor, seed: Tensor) -> Iterator[None]:
    """Let all dropout that is computed, or traced, in the block take its masks from one `MaskRow`."""
    token = _ROW.set(MaskRow(length, tf.cast(seed, tf.int32)))
    try:
        yield
    finally:
        _ROW.reset(token)


def drop(inputs: Tensor, rate: float, seed: Tensor) -> Tensor:
    """Zero a share of the inputs and scale up the rest (inverted dropout, Srivastava et al. 2014).

    The generator's 32 random bits decide on two inputs, 16 bits each, where Keras spends 32 on each. The rate is so
    rounded to a multiple of 1/65536.

    Args:
        inputs: floating, of any shape.
        rate: share to zero, in (0, 1).
        seed: two integers, (2,).

    Returns:
        A tensor of the shape and type of `inputs`.
    """
    inputs = tf.convert_to_tensor(inputs)
    seed, size, row = tf.cast(seed, tf.int32), tf.size(inputs), _ROW.get()
    mask = _draw(size, rate, seed, inputs.dtype) if row is None else row.mask(size, rate, seed, inputs.dtype)
    return tf.ensure_shape(inputs * tf.reshape(mask, tf.shape(inputs)), inputs.shape)


def kept_scale(rate: float) -> float:
    """Return what `drop` multiplies by what it keeps."""
    return _LEVELS / (_LEVELS - round(rate * _LEVELS))


def _draw(size: Tensor, rate: float, seed: Tensor, dtype: tf.DType) -> Tensor:
    """Draw a mask of `size` elements, each 0 with a probability of `rate`, else 1 / (1 - rate)."""
    threshold = round(rate * _LEVELS)
    words = tf.random.stateless_uniform([(size + 1) // 2], seed, None, None, tf.int32)  # full range
    bits = tf.reshape(tf.bitcast(words, tf.uint16), [-1])[:size]
    return tf.where(bits >= threshold, tf.constant(kept_scale(rate), dtype), tf.zeros([], dtype))
