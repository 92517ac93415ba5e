"""Label smoothed cross-entropy, summed over real tokens."""

from __future__ import annotations

from typing import NamedTuple

from keras import ops

from nmt.backend.selection import select_rows
from nmt.backend.vocabulary_loss import summed_losses
from nmt.models.contract import Seq2Seq, token_mask
from nmt.types import Tensor


class LossSums(NamedTuple):
    """Sums over the real target tokens of a batch, scalars.

    smoothed: the loss that is minimised, in nats.
    cross_entropy: the same without label smoothing; perplexity is exp of its mean.
    tokens: how many real tokens, EOS counted, as float32.
    """

    smoothed: Tensor
    cross_entropy: Tensor
    tokens: Tensor


def loss_sums(
    model: Seq2Seq, source_ids: Tensor, target_input_ids: Tensor, target_output_ids: Tensor, *, label_smoothing: float
) -> LossSums:
    """Compute the training loss of a batch, with dropout.

    Args:
        model: what is trained.
        source_ids: (B, S).
        target_input_ids: (B, T), beginning with BOS.
        target_output_ids: (B, T), ending with EOS; padding does not count.
        label_smoothing: e, in [0, 1); see `summed_losses`.
    """
    hidden = model.hidden(source_ids, target_input_ids, training=True)  # (B, T, E)
    mask = token_mask(target_output_ids)
    hidden, targets = select_rows(hidden, mask), select_rows(target_output_ids, mask)  # (N, E), (N,)
    embeddings = model.output_projection.embeddings
    sums = summed_losses(hidden, embeddings, model.output_bias, targets, label_smoothing=label_smoothing)
    return LossSums(*sums, ops.cast(ops.shape(targets)[0], "float32"))


def plain_loss_sums(
    model: Seq2Seq, source_ids: Tensor, target_input_ids: Tensor, target_output_ids: Tensor, *, label_smoothing: float
) -> LossSums:
    """Compute what `loss_sums` computes in `keras.ops` alone, all logits at once.

    XLA needs it, since it cannot compile a selection of rows; arguments are those of `loss_sums`.
    """
    logits = model((source_ids, target_input_ids), training=True)  # (B, T, V)
    mask = ops.cast(token_mask(target_output_ids), logits.dtype)
    right = ops.take_along_axis(logits, target_output_ids[:, :, None], axis=2)[:, :, 0]  # (B, T)
    cross_entropy = ops.sum((ops.logsumexp(logits, axis=-1) - right) * mask)
    smoothed = cross_entropy + label_smoothing * ops.sum((right - ops.mean(logits, axis=-1)) * mask)
    return LossSums(smoothed, cross_entropy, ops.cast(ops.sum(mask), "float32"))
