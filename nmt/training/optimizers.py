"""Optimizers: Keras's own, without their clipping and schedules, which belong to the update."""

from __future__ import annotations

from typing import TypeAlias

import keras

Optimizer: TypeAlias = keras.optimizers.Optimizer
"""Any optimizer of Keras."""


def build_adam(*, learning_rate: float, beta_1: float, beta_2: float, epsilon: float) -> Optimizer:
    """Return Adam (Kingma & Ba 2015, arXiv:1412.6980)."""
    return keras.optimizers.Adam(learning_rate, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon)


def build_adamw(
    *, learning_rate: float, beta_1: float, beta_2: float, epsilon: float, weight_decay: float
) -> Optimizer:
    """Return Adam with decoupled weight decay (Loshchilov & Hutter 2019); biases and norms do not decay."""
    optimizer = keras.optimizers.AdamW(
        learning_rate, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon, weight_decay=weight_decay
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def build_sgd(*, learning_rate: float, momentum: float, nesterov: bool) -> Optimizer:
    """Return stochastic gradient descent, with momentum where it is above 0."""
    return keras.optimizers.SGD(learning_rate, momentum=momentum, nesterov=nesterov)
