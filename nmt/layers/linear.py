"""The linear layer that all models are made of."""

from __future__ import annotations

import keras

from nmt.backend.products import linear, linear_relu, linear_relu_drop
from nmt.types import Tensor


class Linear(keras.layers.Layer):
    """Multiply by a matrix and add a bias: (..., I) to (..., O), in the precision that products have here.

    Its variables are those of Keras's `Dense`: `kernel` (I, O) and `bias` (O,).

    Args:
        outputs: O.
        inputs: I.
        name: name of the layer.
        initializer: of the kernel.
    """

    def __init__(
        self, outputs: int, inputs: int, name: str, initializer: keras.initializers.Initializer | str = "glorot_uniform"
    ) -> None:
        super().__init__(name=name, autocast=False)  # what arrives may be bfloat16
        self.kernel = self.add_weight(shape=(inputs, outputs), initializer=initializer, name="kernel")
        self.bias = self.add_weight(shape=(outputs,), initializer="zeros", name="bias")
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        """Transform each vector of (..., I) by itself."""
        return linear(inputs, self.kernel, self.bias)


class LinearReLU(Linear):
    """Cut what `Linear` returns off below 0 and, while training, drop a share of the rest, all in one operation.

    Args:
        outputs: O.
        inputs: I.
        name: name of the layer.
        dropout: share to drop, in [0, 1).
        seed_generator: source of the dropout seeds.
    """

    def __init__(
        self, outputs: int, inputs: int, name: str, *, dropout: float, seed_generator: keras.random.SeedGenerator
    ) -> None:
        super().__init__(outputs, inputs, name)
        self.dropout = dropout
        self.seed_generator = seed_generator

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Transform each vector of (..., I) by itself."""
        if not training or self.dropout == 0.0:
            return linear_relu(inputs, self.kernel, self.bias)
        return linear_relu_drop(inputs, self.kernel, self.bias, self.dropout, self.seed_generator.next())
