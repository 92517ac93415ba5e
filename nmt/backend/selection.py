"""Selecting rows by a mask, which has no fixed shape and so no `keras.ops` form."""

from __future__ import annotations

import tensorflow as tf

from nmt.types import Tensor


def select_rows(values: Tensor, mask: Tensor) -> Tensor:
    """Return the rows of values (B, T, ...) where mask (B, T) is True, as (N, ...)."""
    return tf.boolean_mask(values, mask)
