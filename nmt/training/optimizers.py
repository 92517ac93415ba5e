"""Optimizers: Keras's own, without their clipping and schedules, which belong to the update."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

import keras
from keras import ops

from nmt.backend.kernels import apply_adam, move_towards
from nmt.tying import named_variables
from nmt.types import Tensor

Optimizer: TypeAlias = keras.optimizers.Optimizer
"""Any optimizer of Keras."""


def _fused_step(
    optimizer: keras.optimizers.Adam, gradient: Tensor, variable: keras.Variable, learning_rate: Tensor
) -> None:
    """Update a variable and its slots from its dense gradient; a method of the classes below."""
    index = optimizer._get_variable_index(variable)
    apply_adam(
        variable,
        optimizer._momentums[index],
        optimizer._velocities[index],
        gradient=gradient,
        step=optimizer.iterations + 1,
        learning_rate=learning_rate,
        beta_1=optimizer.beta_1,
        beta_2=optimizer.beta_2,
        epsilon=optimizer.epsilon,
    )


@keras.saving.register_keras_serializable(package="nmt")
class Adam(keras.optimizers.Adam):
    """Keras's Adam with one pass over memory a variable instead of a dozen; its slots are Keras's."""

    update_step = _fused_step


@keras.saving.register_keras_serializable(package="nmt")
class AdamW(keras.optimizers.AdamW):
    """Keras's AdamW, likewise."""

    update_step = _fused_step


def build_adam(*, learning_rate: float, beta_1: float, beta_2: float, epsilon: float) -> Optimizer:
    """Return Adam (Kingma & Ba 2015, arXiv:1412.6980)."""
    return Adam(learning_rate, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon, name="adam")


def build_adamw(
    *, learning_rate: float, beta_1: float, beta_2: float, epsilon: float, weight_decay: float
) -> Optimizer:
    """Return Adam with decoupled weight decay (Loshchilov & Hutter 2019); biases and norms do not decay."""
    optimizer = AdamW(
        learning_rate, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon, weight_decay=weight_decay, name="adamw"
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def build_sgd(*, learning_rate: float, momentum: float, nesterov: bool) -> Optimizer:
    """Return stochastic gradient descent, with momentum where it is above 0."""
    return keras.optimizers.SGD(learning_rate, momentum=momentum, nesterov=nesterov)


class EmaWeights:
    """Keeps average = d * average + (1 - d) * weights after every update (Polyak & Juditsky 1992).

    The first averages follow the weights more closely: d is at most (1 + u) / (10 + u) after u updates.

    Args:
        model: whose trainable weights are averaged, each variable once however many roles it plays.
        decay: d, in (0, 1).
    """

    def __init__(self, model: keras.Model, decay: float) -> None:
        self.decay = decay
        self._weights = {path: v for path, v in named_variables(model).items() if v.trainable}
        self.variables = {
            path: keras.Variable(ops.convert_to_tensor(variable), trainable=False, name="average")
            for path, variable in self._weights.items()
        }

    def is_young(self, update: int) -> bool:
        """Return whether d is still below `decay` after `update` updates: the weights themselves may be better then."""
        return (1.0 + update) / (10.0 + update) < self.decay

    def cut_short(self, update: int) -> str | None:
        """Return how much of its span the average has after `update` updates, in words; None where it can have all."""
        span = 1.0 / (1.0 - self.decay)
        if update >= span:
            return None
        return f"the moving average (of about the last {(10 + update) // 9:,} updates in place of {span:,.0f})"

    def update(self, count: Tensor) -> None:
        """Take in the weights after `count` updates, an integer scalar; part of the compiled step."""
        count = ops.cast(count, "float32")
        share = 1.0 - ops.minimum(self.decay, (1.0 + count) / (10.0 + count))
        for path, average in self.variables.items():
            move_towards(average, ops.convert_to_tensor(self._weights[path]), share)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Put the average in the place of the weights, and the weights back at the end."""
        kept = {path: ops.convert_to_numpy(variable).copy() for path, variable in self._weights.items()}
        try:
            for path, variable in self._weights.items():
                variable.assign(self.variables[path])
            yield
        finally:
            for path, variable in self._weights.items():
                variable.assign(kept[path])
