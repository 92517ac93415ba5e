"""Attention of a recurrent decoder: one score a source position."""

from __future__ import annotations

from typing import NamedTuple

import keras
from keras import ops

from nmt.backend.kernels import softmax
from nmt.layers.attention import MASKED_SCORE
from nmt.layers.linear import Linear
from nmt.types import Tensor


class AlignmentMemory(NamedTuple):
    """What the decoder attends to.

    values: the encoder's outputs, (B, S, D).
    keys: the part of the scores that does not depend on the query, (B, S, A).
    mask: True where a source token is real, (B, 1, S).
    """

    values: Tensor
    keys: Tensor
    mask: Tensor


class Alignment(keras.layers.Layer):
    """What additive and multiplicative attention share: from scores to a context.

    Args:
        hidden_size: D, of the queries and of the encoder's outputs.
        name: name of the layer.
    """

    def __init__(self, hidden_size: int, *, name: str) -> None:
        super().__init__(name=name)
        self.hidden_size = hidden_size

    def memory(self, encoded: Tensor, mask: Tensor) -> AlignmentMemory:
        """Prepare the encoder's outputs (B, S, D) with their mask (B, S), once a sentence."""
        return AlignmentMemory(encoded, self.keys(encoded), mask[:, None, :])

    def call(self, queries: Tensor, memory: AlignmentMemory) -> Tensor:
        """Average the encoder's outputs for queries (B, K, D), to contexts (B, K, D)."""
        scores = ops.where(memory.mask, self.scores(queries, memory.keys), MASKED_SCORE)  # (B, K, S)
        return ops.matmul(softmax(scores), memory.values)

    def keys(self, encoded: Tensor) -> Tensor:
        """Map the encoder's outputs (B, S, D) to keys (B, S, A)."""
        raise NotImplementedError

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Score keys (B, S, A) for queries (B, K, D), as (B, K, S)."""
        raise NotImplementedError


class AdditiveAlignment(Alignment):
    """score = v . tanh(W query + U key), a small network (Bahdanau et al. 2015, arXiv:1409.0473, A.1.2)."""

    def __init__(self, hidden_size: int, *, name: str) -> None:
        super().__init__(hidden_size, name=name)
        self.query = Linear(hidden_size, hidden_size, "query")
        self.key = Linear(hidden_size, hidden_size, "key")
        self.score = self.add_weight(
            shape=(hidden_size,),
            initializer=keras.initializers.RandomUniform(-((3.0 / hidden_size) ** 0.5), (3.0 / hidden_size) ** 0.5),
            name="score",
        )
        self.built = True

    def keys(self, encoded: Tensor) -> Tensor:
        """Map the encoder's outputs (B, S, D) to keys (B, S, D)."""
        return ops.cast(self.key(encoded), encoded.dtype)

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Score keys (B, S, D) for queries (B, K, D), as (B, K, S)."""
        joined = ops.tanh(self.query(queries)[:, :, None, :] + keys[:, None, :, :])  # (B, K, S, D)
        return ops.sum(joined * self.score, axis=-1)


class MultiplicativeAlignment(Alignment):
    """score = query . W key, the `general` form of Luong et al. 2015 (arXiv:1508.04025, section 3.1)."""

    def __init__(self, hidden_size: int, *, name: str) -> None:
        super().__init__(hidden_size, name=name)
        self.key = Linear(hidden_size, hidden_size, "key")
        self.built = True

    def keys(self, encoded: Tensor) -> Tensor:
        """Map the encoder's outputs (B, S, D) to keys (B, S, D)."""
        return ops.cast(self.key(encoded), encoded.dtype)

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Score keys (B, S, D) for queries (B, K, D), as (B, K, S)."""
        return ops.matmul(queries, ops.swapaxes(keys, 1, 2))


ALIGNMENTS: dict[str, type[Alignment]] = {"additive": AdditiveAlignment, "multiplicative": MultiplicativeAlignment}
"""The kinds of attention by the name a config gives them."""
