"""Selecting rows by a mask or by bounds that are tensors, which has no fixed shape and so no `keras.ops` form."""

from __future__ import annotations

import tensorflow as tf

from nmt.types import Tensor


def select_rows(values: Tensor, mask: Tensor) -> Tensor:
    """Return the rows of values (B, T, ...) where mask (B, T) is True, as (N, ...)."""
    return tf.boolean_mask(values, mask)


def cut_rows(values: Tensor, parts: int) -> list[Tensor]:
    """Cut values (B, ...) into parts of nearly equal numbers of rows, in order; some have none where B < parts."""
    count = tf.shape(values)[0]
    return [values[part * count // parts : (part + 1) * count // parts] for part in range(parts)]
