"""Layers that all models are made of: linear maps, dropout, layer norm and their seeds, embeddings and positions."""

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops

from nmt.backend.kernels import drop, layer_norm
from nmt.backend.products import linear
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
        rate = self.dropout if training else 0.0
        seed = self.seed_generator.next() if rate else None
        return linear(inputs, self.kernel, self.bias, relu=True, rate=rate, seed=seed)


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


@contextmanager
def seeded_weights(seed: int) -> Iterator[None]:
    """Let the weights that are created in the block follow from a seed.

    Keras's initialisers draw their seeds from Python's global generator, whose state is put back at the end.
    """
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


@keras.saving.register_keras_serializable(package="nmt")
class TokenEmbedding(keras.layers.Layer):
    """One matrix E of shape (V, E) that plays up to three roles.

    Calling the layer looks rows up (ids to vectors); `project` multiplies by the transpose of the same
    variable (hidden to logits). Three-way weight tying is this one object called for the source, for the
    target and for the output (Press & Wolf 2017, arXiv:1608.05859, section 3). No transposed copy is ever
    kept: whoever holds this layer holds the one variable.

    Args:
        vocabulary_size: rows of the matrix, V.
        embedding_size: columns of the matrix, E.
        name: name of the layer.

    References:
        Rows are drawn from N(0, 1/E), so that tied logits start near 1 in scale (Vaswani et al. 2017,
        section 3.4, multiply the lookups by sqrt(E) to make up for it).
    """

    def __init__(self, vocabulary_size: int, embedding_size: int, *, name: str) -> None:
        super().__init__(name=name)
        self.vocabulary_size = vocabulary_size
        self.embedding_size = embedding_size
        self.build()

    def build(self, input_shape: object = None) -> None:
        """Create the matrix."""
        self.embeddings = self.add_weight(
            shape=(self.vocabulary_size, self.embedding_size),
            initializer=keras.initializers.RandomNormal(stddev=self.embedding_size**-0.5),
            name="embeddings",
        )
        self.built = True

    def call(self, token_ids: Tensor) -> Tensor:
        """Look rows up: ids (...) to vectors (..., E)."""
        return ops.take(self.embeddings, token_ids, axis=0)

    def project(self, hidden: Tensor) -> Tensor:
        """Multiply by the transpose: hidden (..., E) to logits (..., V), without a bias."""
        return ops.matmul(hidden, ops.transpose(self.embeddings))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return (..., E) for ids of shape (...)."""
        return (*input_shape, self.embedding_size)

    def get_config(self) -> dict[str, Any]:
        """Return what makes an equal layer."""
        return {
            "name": self.name,
            "vocabulary_size": self.vocabulary_size,
            "embedding_size": self.embedding_size,
        }


def sinusoidal_positions(start: Tensor, length: Tensor, hidden_size: int) -> Tensor:
    """Return the encodings of the positions start, start + 1, ..., as (length, D).

    Args:
        start: first position, counted from 0; an int or a scalar tensor.
        length: how many positions; an int or a scalar tensor.
        hidden_size: D, even.

    References:
        Vaswani et al. 2017, section 3.5. The sines fill the first half and the cosines the second, where the
        paper interleaves them: the same up to a fixed order of the dimensions.
    """
    half = hidden_size // 2
    frequencies = ops.exp(ops.arange(half, dtype="float32") * (-math.log(10000.0) / half))  # (D/2,)
    positions = ops.cast(start, "float32") + ops.cast(ops.arange(length), "float32")  # (length,)
    angles = positions[:, None] * frequencies[None, :]  # (length, D/2)
    return ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)
