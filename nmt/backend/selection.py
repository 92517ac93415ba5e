"""Selecting rows by a mask or by their number, which has no fixed shape and so no `keras.ops` form."""

from __future__ import annotations

import tensorflow as tf

from nmt.types import PAD_ID, Tensor


def select_rows(values: Tensor, mask: Tensor) -> Tensor:
    """Return the rows of values (B, T, ...) where mask (B, T) is True, as (N, ...)."""
    return tf.boolean_mask(values, mask)


def cut_rows(ids: Tensor, parts: int) -> list[Tensor]:
    """Cut ids (B, T) into parts (ceil(B / parts), T), in order; the last ones are filled up with rows of padding.

    Parts of one size need one set of compiled kernels, and batches of B and of B + 1 rows may share it.
    """
    if parts == 1:
        return [ids]
    missing = -tf.shape(ids)[0] % parts
    return tf.split(tf.pad(ids, [[0, missing], [0, 0]], constant_values=PAD_ID), parts)
