"""Optimizers: Keras's own, without their clipping and schedules, which belong to the update."""

from __future__ import annotations

from typing import TypeAlias

import keras

from nmt.backend.kernels import apply_adam
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
