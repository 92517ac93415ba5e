"""The loss over the vocabulary, from hidden vectors, without ever holding all logits.

Logits, softmax and their gradient are passed over several times in a plain graph, each pass N x V numbers that no
cache holds. Here rows go through in blocks that fit the cache, and each block's gradients are computed while its
logits are at hand: the logits of a batch never exist, nor does their gradient.
"""

from __future__ import annotations

from collections.abc import Callable

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


def summed_cross_entropy(hidden: Tensor, embeddings: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Sum -log softmax(hidden . embeddings^T + bias)[target] over rows, differentiable by the first three.

    Args:
        hidden: (N, E).
        embeddings: (V, E).
        bias: (V,).
        targets: ids (N,).

    Returns:
        A scalar.
    """
    targets = tf.convert_to_tensor(targets)

    @tf.custom_gradient
    def loss(hidden: Tensor, embeddings: Tensor, bias: Tensor) -> tuple[Tensor, Callable[..., tuple[Tensor, ...]]]:
        total, gradients = _loss_and_gradients(hidden, embeddings, bias, targets)
        return total, lambda upstream: tuple(gradient * upstream for gradient in gradients)

    return loss(tf.convert_to_tensor(hidden), tf.convert_to_tensor(embeddings), tf.convert_to_tensor(bias))


def _loss_and_gradients(
    hidden: Tensor, embeddings: Tensor, bias: Tensor, targets: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Return the summed loss and its gradients by hidden, embeddings and bias."""
    count, kind = tf.shape(hidden)[0], factor_type(embeddings)
    most = max(BLOCK_BYTES // (kind.size * embeddings.shape[0]), LEAST_ROWS) // _STEP_ROWS * _STEP_ROWS
    blocks = tf.maximum((count + most - 1) // most, 1)
    steps = blocks * _STEP_ROWS
    rows = tf.maximum((count + steps - 1) // steps, 1) * _STEP_ROWS  # blocks of equal size, little more than is needed
    filling = blocks * rows - count
    factors, matrix, shift = (tf.cast(tensor, kind) for tensor in (hidden, embeddings, bias))
    factors, targets_of_rows = tf.pad(factors, [[0, filling], [0, 0]]), tf.pad(targets, [[0, filling]])

    def turn(
        block: Tensor, total: Tensor, by_hidden: tf.TensorArray, by_embeddings: Tensor, by_bias: Tensor
    ) -> tuple[Tensor, Tensor, tf.TensorArray, Tensor, Tensor]:
        start = block * rows
        part, is_real = factors[start : start + rows], tf.range(start, start + rows) < count
        probabilities = tf.nn.softmax(tf.nn.bias_add(tf.matmul(part, matrix, transpose_b=True), shift))
        right = tf.gather(probabilities, targets_of_rows[start : start + rows], axis=1, batch_dims=1)
        right = tf.where(is_real, tf.cast(right, hidden.dtype), 1.0)
        products = (
            tf.matmul(probabilities, matrix),
            tf.matmul(probabilities, part, transpose_a=True),
            tf.matmul(tf.cast(is_real, kind)[None, :], probabilities)[0],  # a sum, faster and in float32 inside
        )
        of_hidden, of_embeddings, of_bias = (tf.cast(product, hidden.dtype) for product in products)
        return (
            block + 1,
            total - tf.reduce_sum(tf.math.log(tf.maximum(right, _LEAST_PROBABILITY))),
            by_hidden.write(block, of_hidden),
            by_embeddings + of_embeddings,
            by_bias + of_bias,
        )

    array = tf.TensorArray(hidden.dtype, size=blocks, element_shape=[None, hidden.shape[1]], infer_shape=False)
    start = (tf.constant(0), tf.zeros([], hidden.dtype), array, tf.zeros_like(embeddings), tf.zeros_like(bias))
    _, total, by_hidden, by_embeddings, by_bias = tf.while_loop(
        lambda block, *_: block < blocks, turn, start, parallel_iterations=1
    )
    # So far the gradients are those of the log normalisers. The logits of the targets come off row by row, which
    # spares a pass over all probabilities.
    return total, (
        by_hidden.concat()[:count] - tf.gather(embeddings, targets),
        tf.tensor_scatter_nd_sub(by_embeddings, targets[:, None], hidden),
        tf.tensor_scatter_nd_sub(by_bias, targets[:, None], tf.ones_like(hidden[:, 0])),
    )
