"""What a search returns."""

from __future__ import annotations

from typing import NamedTuple

from keras import ops

from nmt.types import Tensor


class SearchResult(NamedTuple):
    """The hypotheses of every sentence, best first. N is the number asked for, K unless told otherwise.

    A hypothesis that does not exist (a small vocabulary has few continuations, or the logits were not numbers) comes
    after all others, with score and log probability −inf, length 0 and all PAD.
    """

    token_ids: Tensor
    """(B, N, T) int32: without BOS, with EOS, then PAD. T is the number of steps that the batch took."""
    scores: Tensor
    """(B, N) float32: log probability / length penalty."""
    log_probs: Tensor
    """(B, N) float32: sum of the log probabilities of all tokens, EOS among them."""
    lengths: Tensor
    """(B, N) int32: tokens, EOS counted."""


def tidy_result(result: SearchResult, *, pad_id: int) -> SearchResult:
    """The result with the hypotheses that do not exist blanked out, and PAD after the others."""
    exists = result.scores > -float("inf")
    places = ops.arange(ops.shape(result.token_ids)[2], dtype="int32")
    real = exists[:, :, None] & (places < result.lengths[:, :, None])  # (B, N, T)
    return SearchResult(
        token_ids=ops.where(real, result.token_ids, pad_id),
        scores=result.scores,
        log_probs=ops.where(exists, result.log_probs, -float("inf")),
        lengths=ops.where(exists, result.lengths, 0),
    )
