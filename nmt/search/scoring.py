"""The length penalty and the limits of length."""

from __future__ import annotations

from typing import NamedTuple

from keras import ops

from nmt.types import Tensor


class Limits(NamedTuple):
    """Least and greatest length of a hypothesis, EOS counted, BOS not; (B,) int32 each."""

    min_length: Tensor
    max_length: Tensor


def limits_per_sentence(min_length: int | Tensor, max_length: int | Tensor, batch_size: int | Tensor) -> Limits:
    """The limits of each sentence, from ints or (B,) tensors."""
    minimum, maximum = (
        ops.broadcast_to(ops.cast(ops.convert_to_tensor(limit), "int32"), (batch_size,))
        for limit in (min_length, max_length)
    )
    return Limits(minimum, maximum)


def penalty(length: Tensor, length_penalty: float) -> Tensor:
    """What a log probability is divided by: ((5 + length) / 6) ** length_penalty.

    Wu et al. (2016), "Google's Neural Machine Translation System", eq. 14, without its coverage term.

    Args:
        length: Tokens, EOS counted; any shape.
        length_penalty: The exponent, 0 or more; 0 turns it off.

    Returns:
        float32 in the shape of `length`, 1 or more for lengths of 1 or more.
    """
    return ops.power((5.0 + ops.cast(length, "float32")) / 6.0, length_penalty)
