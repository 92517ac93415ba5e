"""Positions of tokens in a sequence."""

from __future__ import annotations

import math

from keras import ops

from nmt.types import Tensor


def sinusoidal_positions(start: Tensor, length: Tensor, hidden_size: int) -> Tensor:
    """Return the encodings of the positions start, start + 1, ..., as (length, D).

    Args:
        start: first position, counted from 0; an int or a scalar tensor.
        length: how many positions; an int or a scalar tensor.
        hidden_size: D, even.

    References:
        Vaswani et al. 2017, section 3.5. The sines fill the first half and the cosines the second, where the
        paper interleaves them: the same up to a fixed order of the dimensions.
    """
    half = hidden_size // 2
    frequencies = ops.exp(ops.arange(half, dtype="float32") * (-math.log(10000.0) / half))  # (D/2,)
    positions = ops.cast(start, "float32") + ops.cast(ops.arange(length), "float32")  # (length,)
    angles = positions[:, None] * frequencies[None, :]  # (length, D/2)
    return ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)
