"""Dropout that draws from one seed of the whole model."""

from __future__ import annotations

import keras

from nmt.backend.random import drop
from nmt.types import Tensor


class Dropout(keras.layers.Layer):
    """Zero a share of the inputs while training and scale up the rest (Srivastava et al. 2014).

    All dropout layers of a model share one `SeedGenerator`, so that a single small state brings back every
    mask on resume; Keras's own layer keeps one generator each.

    Args:
        rate: share of the inputs to zero, in [0, 1).
        seed_generator: where the seeds come from; its state moves on with every call that drops.
        name: name of the layer.
    """

    def __init__(self, rate: float, seed_generator: keras.random.SeedGenerator, *, name: str) -> None:
        super().__init__(name=name, autocast=False)  # what arrives may be bfloat16
        self.rate = rate
        self.seed_generator = seed_generator
        self.supports_masking = True
        self.built = True

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Return inputs of any shape, with a share of them zeroed while training."""
        if not training or self.rate == 0.0:
            return inputs
        return drop(inputs, self.rate, self.seed_generator.next())
