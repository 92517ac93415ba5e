"""Layer normalisation (Ba et al. 2016, arXiv:1607.06450)."""

from __future__ import annotations

import keras

from nmt.backend.normalization import layer_norm
from nmt.types import Tensor

LAYER_NORM_EPSILON = 1e-5
"""Keras's default is 1e-3; 1e-5 is what the field's engines assume."""


class LayerNorm(keras.layers.Layer):
    """Normalise the last axis to mean 0 and variance 1, then scale and shift: (..., D) to (..., D).

    What Keras's layer computes, from the deviations themselves: on a processor its fused kernel, its squared
    differences and their gradient take up to twice as long.

    Args:
        size: D.
        name: name of the layer.
    """

    def __init__(self, size: int, *, name: str) -> None:
        super().__init__(name=name)
        self.gamma = self.add_weight(shape=(size,), initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=(size,), initializer="zeros", name="beta")
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        """Normalise each vector of (..., D) by itself."""
        return layer_norm(inputs, self.gamma, self.beta, LAYER_NORM_EPSILON)
