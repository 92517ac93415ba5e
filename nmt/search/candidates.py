"""The best next tokens of a row of logits, without a sort or a softmax of the whole vocabulary."""

from __future__ import annotations

import math
from typing import NamedTuple

from keras import ops

from nmt.types import Tensor

_SMALLEST_BLOCKED_VOCABULARY = 512
"""Below this size a plain top-k is as fast."""


class TopTokens(NamedTuple):
    """The best tokens of every row, best first; of equal ones, the lower id first."""

    log_probs: Tensor
    """(..., C) float32, normalised over the whole vocabulary."""
    token_ids: Tensor
    """(..., C) int32."""
    log_normalizers: Tensor
    """(..., 1) float32: what has to be subtracted from a logit of the row to make it a log probability."""


def top_tokens(logits: Tensor, count: int) -> TopTokens:
    """Finds the `count` best tokens of every row and their log probabilities.

    A top-k over a long row is slow on a processor (4.5 ms for 320 rows of 8,000). The rows are cut into blocks
    instead: the best `count` tokens lie in the `count` blocks with the greatest maxima, so one cheap reduction leaves
    two short top-k (1.3 ms). The maxima also serve the normaliser, which is subtracted from the few tokens found.

    Args:
        logits: (R, V) float32, V static.
        count: C, tokens a row; at most V.

    Returns:
        The tokens, C a row.
    """
    size = block_size(logits.shape[-1], count)
    if size is None:
        best, token_ids = ops.top_k(logits, count)
    else:
        best, token_ids = _top_k_in_blocks(logits, count, size)
    # One pass for the normaliser: it is known from any logit and its probability, and that of the best is not small.
    greatest = ops.take_along_axis(ops.softmax(logits), token_ids[:, :1], axis=1)
    log_normalizers = best[:, :1] - ops.log(greatest)
    return TopTokens(best - log_normalizers, token_ids, log_normalizers)


def block_size(vocabulary_size: int, count: int) -> int | None:
    """Tokens a block: a divisor of the vocabulary near the best size, else that (with padding); None for no blocks."""
    if vocabulary_size < max(_SMALLEST_BLOCKED_VOCABULARY, 16 * count):
        return None
    # count·size + V/size elements are sorted: least at sqrt(V/count); a longer block is reduced at higher speed.
    best_size = 1.5 * math.sqrt(vocabulary_size / count)
    sizes = range(math.ceil(best_size / 2), math.floor(best_size * 2) + 1)
    divisors = [size for size in sizes if vocabulary_size % size == 0]
    return min(divisors, key=lambda size: abs(math.log(size / best_size)), default=round(best_size))


def _top_k_in_blocks(logits: Tensor, count: int, size: int) -> tuple[Tensor, Tensor]:
    """Top-k of every row through the maxima of its blocks.

    Args:
        logits: (R, V).
        count: C.
        size: Tokens a block.

    Returns:
        Values and ids, (R, C) each, in the order of `ops.top_k`.
    """
    num_rows, vocabulary_size = ops.shape(logits)[0], logits.shape[-1]
    num_blocks = -(-vocabulary_size // size)
    if num_blocks * size > vocabulary_size:
        padding = ops.full((num_rows, num_blocks * size - vocabulary_size), -float("inf"), dtype=logits.dtype)
        logits = ops.concatenate([logits, padding], axis=-1)
    blocks = ops.reshape(logits, (num_rows * num_blocks, size))
    maxima = ops.reshape(ops.max(blocks, axis=-1), (num_rows, num_blocks))
    _, chosen = ops.top_k(maxima, count, sorted=False)
    # In rising order, so that of equal logits the lower id wins, as in a top-k over the row.
    chosen = ops.sort(chosen, axis=-1)  # (R, C)
    rows = ops.arange(num_rows, dtype="int32")[:, None]  # (R, 1)
    survivors = ops.take(blocks, chosen + rows * num_blocks, axis=0)  # (R, C, size)
    best, places = ops.top_k(ops.reshape(survivors, (num_rows, count * size)), count)
    block_of_best = ops.take(ops.reshape(chosen, (-1,)), places // size + rows * count, axis=0)
    token_ids = block_of_best * size + places % size
    # A row that is no number has no order: keep padding out of what a model will look up.
    return best, ops.minimum(token_ids, vocabulary_size - 1)
