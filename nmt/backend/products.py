"""Matrix products of layers, in float32, or in bfloat16 inside a block that asks for it.

A product in bfloat16 rounds its two factors and its result to 8 significant bits; the sums within it are float32.
Everything between products is up to the layers: what leaves a product stays in its type until it meets a sum, a norm
or a softmax.

The loss over the vocabulary is the last product, from hidden vectors, without ever holding all logits. Logits, softmax
and their gradient are passed over several times in a plain graph, each pass N x V numbers that no cache holds. Here
rows go through in blocks that fit the cache, and each block's gradients are computed while its logits are at hand: the
logits of a batch never exist, nor does their gradient.
"""

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeAlias

import tensorflow as tf

from nmt.backend.kernels import drop, kept_scale, unflattened
from nmt.backend.machine import text_of
from nmt.errors import ConfigError
from nmt.types import Tensor

FLOAT32, BFLOAT16 = "float32", "bfloat16"

Gradient: TypeAlias = Callable[[Tensor], tuple[Tensor, ...]]
"""From the gradient by the outputs to those by rows, kernel and bias."""

_TYPE: ContextVar[str] = ContextVar("type of factors", default=FLOAT32)


@contextmanager
def products_in(precision: str) -> Iterator[None]:
    """Let layers that are called, or traced, in the block multiply in this precision.

    Args:
        precision: `float32` or `bfloat16`.
    """
    token = _TYPE.set(precision)
    try:
        yield
    finally:
        _TYPE.reset(token)


def factor_type(weights: Tensor) -> tf.DType:
    """Return the type that products with these weights are computed in here: their own if it is not float32."""
    return tf.as_dtype(_TYPE.get()) if weights.dtype == tf.float32 else weights.dtype


def linear(
    inputs: Tensor, kernel: Tensor, bias: Tensor, *, relu: bool = False, rate: float = 0.0, seed: Tensor | None = None
) -> Tensor:
    """Multiply by a matrix and add a bias, on the rows of one matrix, so that TensorFlow fuses product and sum.

    With dropout, its own gradient spares a pass: what was dropped and what was cut off below 0 are both 0 afterwards,
    so that one look tells which elements have a gradient; its scale goes into the small matrices beside it.

    Args:
        inputs: (..., I).
        kernel: (I, O).
        bias: (O,).
        relu: whether what is negative becomes 0.
        rate: share of what `relu` leaves that is dropped (see `drop`); 0 drops nothing.
        seed: of what is dropped, two integers (2,).

    Returns:
        (..., O), in the type of products.
    """

    @tf.custom_gradient
    def product(rows: Tensor, kernel: Tensor, bias: Tensor) -> tuple[Tensor, Gradient]:
        outputs = tf.nn.bias_add(tf.matmul(rows, kernel), bias)
        outputs = tf.nn.relu(outputs) if relu else outputs
        outputs = drop(outputs, rate, seed) if rate else outputs

        def gradient(upstream: Tensor) -> tuple[Tensor, ...]:
            if relu:
                upstream = tf.raw_ops.ReluGrad(gradients=upstream, features=outputs)
            # The bias's is a product too: its sums are float32, while TensorFlow's own gradient of a bias adds up
            # thousands of rows in bfloat16 and loses small numbers; in float32 it is faster.
            ones = tf.ones((1, tf.shape(rows)[0]), upstream.dtype)
            small = [tf.matmul(rows, upstream, transpose_a=True), tf.matmul(ones, upstream)[0]]
            if not rate:
                return tf.matmul(upstream, kernel, transpose_b=True), *small
            scale = tf.constant(kept_scale(rate), kernel.dtype)
            return tf.matmul(upstream, kernel * scale, transpose_b=True), *(each * scale for each in small)

        return outputs, gradient

    tensors = [tf.convert_to_tensor(tensor) for tensor in (inputs, kernel, bias)]
    inputs, kernel, bias = (tf.cast(tensor, factor_type(tensors[1])) for tensor in tensors)
    outputs = product(tf.reshape(inputs, (-1, kernel.shape[0])), kernel, bias)
    return unflattened(outputs, inputs)


_PROCESSOR_FLAGS = {"avx512_bf16", "amx_bf16"}
_PROCESSOR_FILE = Path("/proc/cpuinfo")
_LEAST_COMPUTE_CAPABILITY = (8, 0)
"""Of the first NVIDIA GPUs with instructions for bfloat16."""


def settle_precision(precision: str, *, compile: str = "graph", resumed: bool = False) -> str:
    """Return `float32` or `bfloat16` for the setting `training.precision`.

    Args:
        precision: what it says; `auto` is bfloat16 on machines with instructions for it, but under XLA.
        compile: the setting `training.compile`.
        resumed: whether it is that of a run that goes on, so that it cannot be changed.

    Raises:
        ConfigError: it is bfloat16, and neither the processor nor, if there is one, the GPU has instructions for it,
            or what compiles the training step has none.
    """
    if precision == "auto":
        return BFLOAT16 if compile == "graph" and has_bfloat16_products() else FLOAT32
    if precision == BFLOAT16 and resumed and compile == "xla":
        raise ConfigError(
            "training.compile must be graph in a run that was begun in bfloat16, got xla: set it to graph, or begin "
            "another run with training.initialize_from"
        )
    if precision == BFLOAT16 and not has_bfloat16_products():
        raise ConfigError(
            "training.precision bfloat16 needs a processor with AVX512_BF16 or AMX_BF16, or GPUs of compute capability "
            "8.0 or higher, and this machine trains on none: "
            + (
                "go on with this run where there is one, or begin another with training.initialize_from"
                if resumed
                else "set training.precision to float32"
            )
        )
    return precision


def has_bfloat16_products() -> bool:
    """Return whether what training runs on, all GPUs or else the processor, has instructions for bfloat16."""
    if gpus := tf.config.list_physical_devices("GPU"):
        details = map(tf.config.experimental.get_device_details, gpus)
        return all(detail.get("compute_capability", ()) >= _LEAST_COMPUTE_CAPABILITY for detail in details)
    lines = text_of(_PROCESSOR_FILE).splitlines()
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return platform.machine() == "x86_64" and not _PROCESSOR_FLAGS.isdisjoint(flags)


LEAST_ROWS = 64
_STEP_ROWS = 32
"""Blocks have a multiple of so many rows, the last one filled up: the number of real tokens is another in every batch,
and for each number of rows oneDNN would compile four products anew."""

BLOCK_BYTES = 2**24
"""Size of the logits in a block, about what a last-level cache holds."""

_LEAST_PROBABILITY = 1e-37
"""What a probability that underflows counts as: the loss of one token ends at 85 nats; gradients are not cut."""


def summed_losses(
    hidden: Tensor,
    embeddings: Tensor,
    bias: Tensor,
    targets: Tensor,
    *,
    label_smoothing: float,
    weights: Tensor | None = None,
    trains_embeddings: bool = True,
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
        weights: (N,) constants by which the loss of each row is multiplied; None for 1.
        trains_embeddings: False if the matrix is frozen, so that its gradient, a product as large as that of the
            logits, is not computed.

    Returns:
        Two scalars: the loss with smoothing, differentiable by the first three, and without, a constant.
    """
    targets = tf.convert_to_tensor(targets)

    @tf.custom_gradient
    def losses(hidden: Tensor, embeddings: Tensor, bias: Tensor) -> tuple[tuple[Tensor, Tensor], Callable[..., Any]]:
        inputs = hidden, embeddings, bias, targets, weights
        sums, gradients = _losses_and_gradients(*inputs, label_smoothing, trains_embeddings)
        return sums, lambda upstream, _: tuple(None if each is None else each * upstream for each in gradients)

    smoothed, plain = losses(*(tf.convert_to_tensor(tensor) for tensor in (hidden, embeddings, bias)))
    return smoothed, tf.stop_gradient(plain)


def _weighed(hidden: Tensor, weights: Tensor, filling: Tensor, kind: tf.DType) -> tuple[Tensor, Tensor, Tensor]:
    """Multiply what each row adds to any sum: its vector (N, E + 1), also as a filled up factor, and its loss."""
    weighed = hidden * weights[:, None]
    factors = tf.pad(tf.cast(weighed, kind), [[0, filling], [0, 0]])
    return weighed, factors, tf.pad(weights, [[0, filling]])


def _losses_and_gradients(
    hidden: Tensor,
    embeddings: Tensor,
    bias: Tensor,
    targets: Tensor,
    weights: Tensor | None,
    label_smoothing: float,
    trains_embeddings: bool,
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor | None, Tensor]]:
    """Return the summed losses, and the gradients of the smoothed one by hidden, embeddings and bias.

    The bias is one more column of the matrix, for which each row has a one: what adds it up or sums its gradient is
    then part of a product that there is anyway. Of a frozen matrix this column is left, a product with a vector.
    """
    count, size, kind = tf.shape(hidden)[0], hidden.shape[1], factor_type(embeddings)
    most = max(BLOCK_BYTES // (kind.size * embeddings.shape[0]), LEAST_ROWS) // _STEP_ROWS * _STEP_ROWS
    steps = (blocks := tf.maximum((count + most - 1) // most, 1)) * _STEP_ROWS
    rows = tf.maximum((count + steps - 1) // steps, 1) * _STEP_ROWS  # blocks of equal size, little more than is needed
    hidden = tf.concat([hidden, tf.ones((count, 1), hidden.dtype)], axis=1)  # (N, E + 1)
    embeddings = tf.concat([embeddings, bias[:, None]], axis=1)  # (V, E + 1)
    filling = blocks * rows - count
    learned = slice(0 if trains_embeddings else size, None)  # columns of the matrix that have a gradient
    factors, matrix = tf.pad(tf.cast(hidden, kind), [[0, filling], [0, 0]]), tf.cast(embeddings, kind)
    vectors, targets_of_rows = matrix[:, :size], tf.pad(targets, [[0, filling]])
    weighed, weighed_factors, of_rows = (
        (hidden, factors, None) if weights is None else _weighed(hidden, weights, filling, kind)
    )

    def turn(block: Tensor, total: Tensor, by_hidden: tf.TensorArray, by_embeddings: Tensor) -> tuple[Any, ...]:
        start = block * rows
        part = factors[start : start + rows]  # rows that fill up are 0, with 0 for the bias
        probabilities = tf.nn.softmax(tf.matmul(part, matrix, transpose_b=True))
        right = tf.gather(probabilities, targets_of_rows[start : start + rows], axis=1, batch_dims=1)
        right = tf.where(tf.range(start, start + rows) < count, tf.cast(right, hidden.dtype), 1.0)
        of_hidden = tf.cast(tf.matmul(probabilities, vectors), hidden.dtype)
        added = tf.ensure_shape(weighed_factors[start : start + rows, learned], [None, by_all.shape[1]])
        of_embeddings = tf.cast(tf.matmul(probabilities, added, transpose_a=True), hidden.dtype)
        logs = tf.math.log(tf.maximum(right, _LEAST_PROBABILITY))
        return (
            block + 1,
            total - tf.reduce_sum(logs if of_rows is None else logs * of_rows[start : start + rows]),
            by_hidden.write(block, of_hidden),
            by_embeddings + of_embeddings,
        )

    # The logits of the targets and the mean logits come off row by row, which spares passes over all probabilities.
    spread = label_smoothing / embeddings.shape[0]
    summed, of_targets = tf.reduce_sum(weighed, axis=0), tf.gather(embeddings, targets)  # (E + 1,), (N, E + 1)
    means = tf.reduce_mean(embeddings, axis=0)  # (E + 1,)
    array = tf.TensorArray(hidden.dtype, size=blocks, element_shape=[None, size], infer_shape=False)
    by_all = tf.zeros_like(embeddings[:, learned]) - spread * summed[learned]
    start = (tf.constant(0), tf.zeros([], hidden.dtype), array, by_all)
    _, plain, by_hidden, by_embeddings = tf.while_loop(
        lambda block, *_: block < blocks, turn, start, parallel_iterations=1
    )
    of_right = (1.0 - label_smoothing) * weighed[:, learned]
    by_embeddings = tf.tensor_scatter_nd_sub(by_embeddings, targets[:, None], of_right)
    smoothed = plain + label_smoothing * (tf.reduce_sum(weighed * of_targets) - tf.reduce_sum(summed * means))
    of_hidden = by_hidden.concat()[:count] - (1.0 - label_smoothing) * of_targets[:, :size]
    of_hidden -= label_smoothing * means[:size]
    return (smoothed, plain), (
        of_hidden if weights is None else of_hidden * weights[:, None],
        by_embeddings[:, :size] if trains_embeddings else None,
        by_embeddings[:, -1],
    )
