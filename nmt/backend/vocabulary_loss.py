"""The loss over the vocabulary, from hidden vectors, without ever holding all logits.

Logits, softmax and their gradient are passed over several times in a plain graph, each pass N x V numbers that no
cache holds. Here rows go through in blocks that fit the cache, and each block's gradients are computed while its
logits are at hand: the logits of a batch never exist, nor does their gradient.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from nmt.backend.products import factor_type
from nmt.types import Tensor

LEAST_ROWS = 64
_STEP_ROWS = 32
"""Blocks have a multiple of so many rows, the last one filled up: the number of real tokens is another in every batch,
and for each number of rows oneDNN would compile four products anew."""

BLOCK_BYTES = 2**24
"""Size of the logits in a block, about what a last-level cache holds."""

_LEAST_PROBABILITY = 1e-37
"""What a probability that underflows counts as: the loss of one token ends at 85 nats; gradients are not cut."""


def summed_losses(
    hidden: Tensor, embeddings: Tensor, bias: Tensor, targets: Tensor, *, label_smoothing: float
) -> tuple[Tensor, Tensor]:
    """Sum -log softmax(hidden . embeddings^T + bias)[target] over rows, with label smoothing and without.

    With label smoothing e the target distribution is (1 - e) one-hot + e / V (Szegedy et al. 2016, section 7).
    Its cross-entropy is that of the one-hot plus e times (target logit - mean logit), and both of these are dot
    products with the hidden vector, so that smoothing costs no further pass over the vocabulary.

    Args:
        hidden: (N, E).
        embeddings: (V, E).
        bias: (V,).
        targets: ids (N,).
        label_smoothing: e, in [0, 1).

    Returns:
        Two scalars: the loss with smoothing, differentiable by the first three, and without, a constant.
    """
    targets = tf.convert_to_tensor(targets)

    @tf.custom_gradient
    def losses(hidden: Tensor, embeddings: Tensor, bias: Tensor) -> tuple[tuple[Tensor, Tensor], Callable[..., Any]]:
        sums, gradients = _losses_and_gradients(hidden, embeddings, bias, targets, label_smoothing)
        return sums, lambda upstream, _: tuple(gradient * upstream for gradient in gradients)

    smoothed, plain = losses(*(tf.convert_to_tensor(tensor) for tensor in (hidden, embeddings, bias)))
    return smoothed, tf.stop_gradient(plain)


def _losses_and_gradients(
    hidden: Tensor, embeddings: Tensor, bias: Tensor, targets: Tensor, label_smoothing: float
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
    """Return the summed losses, and the gradients of the smoothed one by hidden, embeddings and bias.

    The bias is one more column of the matrix, for which each row has a one: what adds it up or sums its gradient is
    then part of a product that there is anyway.
    """
    count, size, kind = tf.shape(hidden)[0], hidden.shape[1], factor_type(embeddings)
    most = max(BLOCK_BYTES // (kind.size * embeddings.shape[0]), LEAST_ROWS) // _STEP_ROWS * _STEP_ROWS
    blocks = tf.maximum((count + most - 1) // most, 1)
    steps = blocks * _STEP_ROWS
    rows = tf.maximum((count + steps - 1) // steps, 1) * _STEP_ROWS  # blocks of equal size, little more than is needed
    hidden = tf.concat([hidden, tf.ones((count, 1), hidden.dtype)], axis=1)  # (N, E + 1)
    embeddings = tf.concat([embeddings, bias[:, None]], axis=1)  # (V, E + 1)
    filling = blocks * rows - count
    factors, matrix = tf.pad(tf.cast(hidden, kind), [[0, filling], [0, 0]]), tf.cast(embeddings, kind)
    vectors, targets_of_rows = matrix[:, :size], tf.pad(targets, [[0, filling]])

    def turn(
        block: Tensor, total: Tensor, by_hidden: tf.TensorArray, by_embeddings: Tensor
    ) -> tuple[Tensor, Tensor, tf.TensorArray, Tensor]:
        start = block * rows
        part = factors[start : start + rows]  # rows that fill up are 0, with 0 for the bias
        probabilities = tf.nn.softmax(tf.matmul(part, matrix, transpose_b=True))
        right = tf.gather(probabilities, targets_of_rows[start : start + rows], axis=1, batch_dims=1)
        right = tf.where(tf.range(start, start + rows) < count, tf.cast(right, hidden.dtype), 1.0)
        of_hidden = tf.cast(tf.matmul(probabilities, vectors), hidden.dtype)
        of_embeddings = tf.cast(tf.matmul(probabilities, part, transpose_a=True), hidden.dtype)
        return (
            block + 1,
            total - tf.reduce_sum(tf.math.log(tf.maximum(right, _LEAST_PROBABILITY))),
            by_hidden.write(block, of_hidden),
            by_embeddings + of_embeddings,
        )

    # The logits of the targets and the mean logits come off row by row, which spares passes over all probabilities.
    spread = label_smoothing / embeddings.shape[0]
    summed, of_targets = tf.reduce_sum(hidden, axis=0), tf.gather(embeddings, targets)  # (E + 1,), (N, E + 1)
    means = tf.reduce_mean(embeddings, axis=0)  # (E + 1,)
    array = tf.TensorArray(hidden.dtype, size=blocks, element_shape=[None, size], infer_shape=False)
    start = (tf.constant(0), tf.zeros([], hidden.dtype), array, tf.zeros_like(embeddings) - spread * summed)
    _, plain, by_hidden, by_embeddings = tf.while_loop(
        lambda block, *_: block < blocks, turn, start, parallel_iterations=1
    )
    by_embeddings = tf.tensor_scatter_nd_sub(by_embeddings, targets[:, None], (1.0 - label_smoothing) * hidden)
    smoothed = plain + label_smoothing * (tf.reduce_sum(hidden * of_targets) - tf.reduce_sum(summed * means))
    return (smoothed, plain), (
        by_hidden.concat()[:count] - (1.0 - label_smoothing) * of_targets[:, :size] - label_smoothing * means[:size],
        by_embeddings[:, :size],
        by_embeddings[:, size],
    )
