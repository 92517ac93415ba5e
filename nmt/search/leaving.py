"""Sentences leave a batch when they are done, so that a step computes only those that are not."""

from __future__ import annotations

from typing import TypeVar

import keras
from keras import ops

from nmt.search.result import SearchResult
from nmt.types import Tensor

LEAVING_SHARE = 0.125
"""The share of the sentences in a batch that leave together: taking the rows of all others costs about as much as a
step saves by so many fewer."""

Rows = TypeVar("Rows")


def let_leave(
    live: Tensor, rows: Rows, found: SearchResult, result: SearchResult, *, sentences: Tensor, early: bool
) -> tuple[Rows, SearchResult]:
    """Take the sentences that are done from the batch, if they are many, or all.

    Args:
        live: (b,) bool, the sentences that are not done.
        rows: A nest of tensors that begin with b.
        found: What was found so far for the b sentences, t tokens each.
        result: What was found for the B sentences of the beginning, as far as they have left.
        sentences: (b,) int32, the places of the b sentences in `result`.
        early: Whether some may leave while others stay.

    Returns:
        The rows that stay, and the result with what left.
    """
    count = ops.sum(ops.cast(live, "int32"))
    size = ops.shape(live)[0]
    most = ops.cast(ops.cast(size, "float32") * (1.0 - LEAVING_SHARE), "int32") if early else 0

    def leave() -> tuple[Rows, SearchResult]:
        (kept,) = ops.nonzero(live)
        stay = keras.tree.map_structure(lambda leaf: ops.take(leaf, kept, axis=0), rows)
        return stay, write_result(result, found, sentences)

    return ops.cond(count <= most, leave, lambda: (rows, result))


def empty_result(batch_size: int | Tensor, num_hypotheses: int) -> SearchResult:
    """Nothing found yet for B sentences."""
    shape = (batch_size, num_hypotheses)
    nothing = ops.full(shape, -float("inf"), dtype="float32")
    return SearchResult(ops.zeros((*shape, 0), dtype="int32"), nothing, nothing, ops.zeros(shape, dtype="int32"))


def write_result(result: SearchResult, found: SearchResult, sentences: Tensor) -> SearchResult:
    """Put what was found for some sentences in its place.

    Args:
        result: Of B sentences, up to t tokens each.
        found: Of b of them, t tokens each.
        sentences: (b,) int32.
    """
    missing = ops.shape(found.token_ids)[2] - ops.shape(result.token_ids)[2]
    padding = ops.zeros((*ops.shape(result.token_ids)[:2], missing), dtype="int32")
    longer = result._replace(token_ids=ops.concatenate([result.token_ids, padding], axis=2))
    places = sentences[:, None]
    return SearchResult(*(ops.scatter_update(old, places, new) for old, new in zip(longer, found, strict=True)))
