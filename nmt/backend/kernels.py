"""Kernels of TensorFlow for what `keras.ops` does in many passes over memory, or with a copy more than is needed.

New memory is dear: its pages cost more time than copying.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from nmt.types import Tensor


def adam_step(
    optimizer: keras.optimizers.Adam, gradient: Tensor, variable: keras.Variable | tf.Variable, learning_rate: Tensor
) -> None:
    """Update a variable and its two moments in place, in one pass (Kingma & Ba 2015, end of section 2).

    Keras's `Adam.update_step` takes a dozen passes.

    Args:
        optimizer: keeps the moments of the variable.
        gradient: dense, of the variable's shape.
        variable: the weights; inside `optimizer.apply` Keras gives TensorFlow's own variable.
        learning_rate: a scalar.
    """
    index = optimizer._get_variable_index(variable)
    tf.raw_ops.ResourceApplyAdam(
        var=_handle(variable),
        m=_handle(optimizer._momentums[index]),
        v=_handle(optimizer._velocities[index]),
        grad=gradient,
        **_adam_numbers(optimizer, learning_rate, variable.dtype),
    )


class AdamInOnePass:
    """What makes a Keras Adam one that steps by `adam_step`: to be named before it among the bases of a class."""

    update_step = adam_step
    _numbers: dict[tf.DType, dict[str, Tensor]] | None = None

    def _backend_update_step(self, grads: Any, trainable_variables: Any, learning_rate: Any) -> None:
        """Update all variables; what their operations have in common is traced once for them."""
        self._numbers = None if tf.distribute.has_strategy() else {}
        try:
            super()._backend_update_step(grads, trainable_variables, learning_rate)  # type: ignore[misc]
        finally:
            self._numbers = None


def _adam_numbers(optimizer: keras.optimizers.Adam, learning_rate: Tensor, dtype: tf.DType) -> dict[str, Tensor]:
    """Return what a step of Adam has in common for all variables of a type."""
    kept = optimizer._numbers
    if kept is not None and dtype in kept:
        return kept[dtype]
    numbers = (optimizer.beta_1, optimizer.beta_2, optimizer.epsilon, optimizer.iterations + 1, learning_rate)
    beta_1, beta_2, epsilon, step, rate = (tf.cast(number, dtype) for number in numbers)
    powers = {"beta1_power": tf.pow(beta_1, step), "beta2_power": tf.pow(beta_2, step)}
    found = {**powers, "lr": rate, "beta1": beta_1, "beta2": beta_2, "epsilon": epsilon}
    if kept is not None:
        kept[dtype] = found
    return found


def move_towards(variable: keras.Variable, target: Tensor, share: Tensor) -> None:
    """Move a variable by a share, a scalar, of its distance to a target of the same shape, in place."""
    delta = tf.convert_to_tensor(variable) - target
    tf.raw_ops.ResourceApplyGradientDescent(var=_handle(variable), alpha=share, delta=delta)


def copied(variable: keras.Variable) -> Tensor:
    """Return the value of a variable as it is now; what is read without a copy follows an assignment in place."""
    return tf.raw_ops.DeepCopy(x=tf.convert_to_tensor(variable))


def softmax(logits: Tensor) -> Tensor:
    """Return the softmax over the last axis, of any shape.

    Keras's own warns if that axis has one place, as it has in the first step of a decoder.
    """
    return tf.nn.softmax(logits)


def sum_of_squares(tensors: list[Tensor]) -> Tensor:
    """Return the sum of the squares of all elements of tensors of any shapes, a scalar; each is read once."""
    return 2.0 * tf.add_n([tf.nn.l2_loss(tensor) for tensor in tensors])


def _handle(variable: keras.Variable | tf.Variable) -> Tensor:
    return variable.value.handle if isinstance(variable, keras.Variable) else variable.handle


def array_view(variable: keras.Variable) -> np.ndarray:
    """Return the value of a variable to be read at once, without a copy if it lies in main memory.

    An update that comes later may or may not be seen in it.

    Returns:
        An array of the shape and type of the variable, which must not be written to.
    """
    tensor = tf.convert_to_tensor(variable.value)
    try:
        return np.asarray(memoryview(tensor))
    except (TypeError, ValueError, BufferError):  # of a type that Python has no word for, such as bfloat16
        return np.asarray(tensor.numpy())


def assign_array(variable: keras.Variable, array: np.ndarray) -> None:
    """Give a variable a copy of an array's values, in its own type.

    Args:
        variable: of any floating or integer type.
        array: of the same shape.
    """
    values = tf.raw_ops.DeepCopy(x=array)  # `tf.convert_to_tensor` would copy twice
    variable.value.assign(tf.cast(values, variable.dtype))


def unflattened(rows: Tensor, like: Tensor) -> Tensor:
    """Return rows (N, O) with the leading axes of a tensor (..., I) of as many vectors, as (..., O).

    With one unknown axis the new shape is a constant, where a step of a search would else compute it fifty times.
    """
    leading, size = like.shape[:-1], rows.shape[-1]
    columns = tf.shape(rows)[-1] if size is None else size
    if leading.rank is not None and sum(axis is None for axis in leading) <= 1:
        return tf.reshape(rows, [*(-1 if axis is None else axis for axis in leading), columns])
    shaped = tf.reshape(rows, tf.concat([tf.shape(like)[:-1], [columns]], 0))
    return tf.ensure_shape(shaped, (*leading, size))


def layer_norm(inputs: Tensor, gamma: Tensor, beta: Tensor, epsilon: float) -> Tensor:
    """Normalise the last axis to mean 0 and variance 1, then scale and shift (Ba et al. 2016).

    Derived step by step, the gradient passes over the inputs a dozen times; in closed form it takes half of that, and
    its sums are matrix products.

    Args:
        inputs: (..., D).
        gamma: (D,).
        beta: (D,).
        epsilon: added to the variance.

    Returns:
        (..., D).
    """
    inputs, gamma, beta = (tf.convert_to_tensor(tensor) for tensor in (inputs, gamma, beta))
    rows = _layer_norm(tf.reshape(inputs, (-1, gamma.shape[0])), gamma, beta, tf.constant(epsilon, inputs.dtype))
    return unflattened(rows, inputs)


@tf.custom_gradient
def _layer_norm(
    rows: Tensor, gamma: Tensor, beta: Tensor, epsilon: Tensor
) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, Tensor, Tensor, None]]]:
    """Do it for rows (N, D)."""
    deviations = rows - tf.reduce_mean(rows, axis=-1, keepdims=True)
    variances = tf.reduce_mean(deviations * deviations, axis=-1, keepdims=True)
    scales = tf.math.rsqrt(variances + epsilon)  # (N, 1)
    normed = deviations * scales

    def gradient(upstream: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        along = upstream * normed
        shares = gamma[:, None] / gamma.shape[0]
        by_rows = upstream * gamma - tf.matmul(upstream, shares) - normed * tf.matmul(along, shares)
        ones = tf.ones((1, tf.shape(rows)[0]), rows.dtype)
        return by_rows * scales, tf.matmul(ones, along)[0], tf.matmul(ones, upstream)[0], None

    return normed * gamma + beta, gradient


_LEVELS = 2**16
_ALIGNMENT = 64
"""Windows begin at multiples of so many elements, so that TensorFlow takes them without a copy."""

_SLACK = 0.25
"""How much longer a row of random numbers is than what is to be cut from it, as a share."""

_MOST = 2.0**27
"""Elements of a row, at most."""


def _draw(size: Tensor, rate: float, seed: Tensor, dtype: tf.DType) -> Tensor:
    """Draw a mask of `size` elements, each 0 with a probability of `rate`, else 1 / (1 - rate)."""
    threshold = round(rate * _LEVELS)
    words = tf.random.stateless_uniform([(size + 1) // 2], seed, None, None, tf.int32)  # full range
    bits = tf.reshape(tf.bitcast(words, tf.uint16), [-1])[:size]
    return tf.where(bits >= threshold, tf.constant(kept_scale(rate), dtype), tf.zeros([], dtype))


_MASK: ContextVar[Callable[..., Tensor]] = ContextVar("what makes masks", default=_draw)


@contextmanager
def shared_masks(length: Tensor, seed: Tensor) -> Iterator[None]:
    """Let dropout that is computed, or traced, in the block take its masks as windows of one long row of random bits.

    Drawing is what dropout costs on a processor, more than the products it follows; this draws once where each layer
    drew for itself. Each mask by itself is what it would be: independent bits. Two masks of a step may share bits, at a
    distance that is drawn anew in each step.

    Args:
        length: elements of the longest mask that windows serve, a float scalar; longer ones are drawn by themselves.
        seed: two integers, (2,).
    """
    length = tf.minimum(tf.cast(length, tf.float32) * (1.0 + _SLACK), _MOST)
    length = (tf.cast(length, tf.int32) // _ALIGNMENT + 1) * _ALIGNMENT
    seed_of_row, rows = tf.cast(seed, tf.int32), dict[tuple[float, str], Tensor]()
    cuts: dict[tuple[float, str], Callable[..., Tensor]] = {}  # each traced once for its many masks
    here = nullcontext if tf.executing_eagerly() else tf.compat.v1.get_default_graph().as_default

    def mask(size: Tensor, rate: float, seed: Tensor, dtype: tf.DType) -> Tensor:
        kind = (rate, dtype.name)
        if kind not in rows:
            with here():  # a function or a loop that is traced inside takes it from here
                rows[kind] = _draw(length, rate, seed_of_row, dtype)
            cuts[kind] = tf.function(partial(_cut, rate=rate, dtype=dtype), autograph=False)
        return cuts[kind](tf.stop_gradient(rows[kind]), size, seed)

    token = _MASK.set(mask)
    try:
        yield
    finally:
        _MASK.reset(token)


def _cut(row: Tensor, size: Tensor, seed: Tensor, *, rate: float, dtype: tf.DType) -> Tensor:
    """Take a mask of `size` elements from a row of random bits at a random place, or draw it if the row is shorter."""

    def window() -> Tensor:
        places = (tf.size(row) - size) // _ALIGNMENT + 1
        place = tf.random.stateless_uniform([], seed, 0, places, tf.int32)
        return tf.slice(row, [place * _ALIGNMENT], [size])

    return tf.cond(size <= tf.size(row), window, lambda: _draw(size, rate, seed, dtype))


def drop(inputs: Tensor, rate: float, seed: Tensor) -> Tensor:
    """Zero a share of the inputs and scale up the rest (inverted dropout, Srivastava et al. 2014).

    The generator's 32 random bits decide on two inputs, 16 bits each, while Keras spends 32 on each. The rate is so
    rounded to a multiple of 1/65536.

    Args:
        inputs: floating, of any shape.
        rate: share to zero, in (0, 1).
        seed: two integers, (2,).

    Returns:
        A tensor of the shape and type of `inputs`.
    """
    inputs = tf.convert_to_tensor(inputs)
    mask = _MASK.get()(tf.size(inputs), rate, tf.cast(seed, tf.int32), inputs.dtype)
    return tf.ensure_shape(inputs * tf.reshape(mask, tf.shape(inputs)), inputs.shape)


def kept_scale(rate: float) -> float:
    """Return what `drop` multiplies by what it keeps."""
    return _LEVELS / (_LEVELS - round(rate * _LEVELS))
