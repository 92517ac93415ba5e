"""Taking other beams of every sentence, the one gather that a search repeats at each step for each tensor."""

from __future__ import annotations

import keras
from keras import ops

from nmt.types import Tensor


def gather_beams(values: Tensor, beams: Tensor) -> Tensor:
    """Take, in every sentence, the rows that `beams` names.

    Args:
        values: (B, N, ...).
        beams: (B, M) int32, each in [0, N).

    Returns:
        (B, M, ...), where `[b, m]` is `values[b, beams[b, m]]`.
    """
    if keras.backend.backend() != "tensorflow":
        return gather_beams_twin(values, beams)
    import tensorflow as tf

    return tf.gather(values, beams, axis=1, batch_dims=1)


def gather_beams_twin(values: Tensor, beams: Tensor) -> Tensor:
    """`gather_beams` in `keras.ops`: one take from all rows of all sentences. Several times as many operations."""
    batch_size, num_rows, *rest = ops.shape(values)
    rows = ops.reshape(values, (batch_size * num_rows, *rest))
    first_rows = ops.arange(batch_size, dtype="int32")[:, None] * num_rows  # (B, 1)
    return ops.take(rows, first_rows + beams, axis=0)
