"""The token embedding, which is also the output projection when it is tied."""

from __future__ import annotations

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
