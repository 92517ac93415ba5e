"""The token embedding, which is also the output projection when it is tied."""

import math
from typing import Any

import keras
from keras import ops

from nmt.types import Tensor


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
