"""Label smoothed cross-entropy, summed over real tokens."""

from __future__ import annotations

from typing import NamedTuple

from keras import ops

from nmt.backend.selection import select_rows
from nmt.backend.vocabulary_loss import summed_cross_entropy
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

    With label smoothing e the target distribution is (1 - e) one-hot + e / V (Szegedy et al. 2016, section 7).
    Its cross-entropy is that of the one-hot plus e times (target logit - mean logit), and both of these are dot
    products with the hidden vector, so that smoothing costs no further pass over the vocabulary.

    Args:
        model: what is trained.
        source_ids: (B, S).
        target_input_ids: (B, T), beginning with BOS.
        target_output_ids: (B, T), ending with EOS; padding does not count.
        label_smoothing: e, in [0, 1).
    """
    hidden = model.hidden(source_ids, target_input_ids, training=True)  # (B, T, E)
    mask = token_mask(target_output_ids)
    hidden, targets = select_rows(hidden, mask), select_rows(target_output_ids, mask)  # (N, E), (N,)
    embeddings = ops.convert_to_tensor(model.output_projection.embeddings)
    bias = ops.convert_to_tensor(model.output_bias)
    cross_entropy = summed_cross_entropy(hidden, embeddings, bias, targets)
    tokens = ops.cast(ops.shape(targets)[0], "float32")
    if label_smoothing == 0.0:
        return LossSums(cross_entropy, cross_entropy, tokens)
    target_logits = ops.sum(hidden * ops.take(embeddings, targets, axis=0)) + ops.sum(ops.take(bias, targets))
    mean_logits = ops.sum(ops.sum(hidden, axis=0) * ops.mean(embeddings, axis=0)) + tokens * ops.mean(bias)
    smoothed = cross_entropy + label_smoothing * (target_logits - mean_logits)
    return LossSums(smoothed, cross_entropy, tokens)


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
