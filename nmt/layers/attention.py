"""Attention: several heads for the Transformer, one score function for the recurrent decoder."""

from typing import Any, NamedTuple

import keras
from keras import ops

from nmt.backend.kernels import softmax
from nmt.layers.core import Dropout, Linear
from nmt.types import Tensor

MASKED_SCORE = -1e9
"""The score of a position that must not be seen; finite, so that a row without any stays a number."""


class KeysValues(NamedTuple):
    """What attention looks at, split into heads.

    keys: (..., H, S, D/H)
    values: (..., H, S, D/H)
    """

    keys: Tensor
    values: Tensor


def padding_mask(mask: Tensor) -> Tensor:
    """Give a mask (B, S), True = real token, the shape that scores are masked with, (B, 1, 1, S)."""
    return mask[:, None, None, :]


def causal_mask(length: Tensor) -> Tensor:
    """Return a mask (T, T) that lets position t see positions up to t."""
    positions = ops.arange(length)
    return positions[None, :] <= positions[:, None]


def fused_glorot(hidden_size: int) -> keras.initializers.Initializer:
    """Return the Glorot initialiser of one (D, D) block, for kernels that hold several blocks side by side."""
    limit = (3.0 / hidden_size) ** 0.5
    return keras.initializers.RandomUniform(-limit, limit)


class MultiHeadAttention(keras.layers.Layer):
    """What self- and cross-attention share: heads, scaled dot products, the output product.

    Args:
        hidden_size: D, divisible by num_heads.
        num_heads: H.
        dropout: share of the attention weights to drop while training.
        seed_generator: source of the dropout seeds; one of its own unless given.
        name: name of the layer; one that Keras finds unless given.

    Raises:
        ValueError: hidden_size is not divisible by num_heads.

    References:
        Vaswani et al. 2017 (arXiv:1706.03762), section 3.2.
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        *,
        dropout: float = 0.0,
        seed_generator: keras.random.SeedGenerator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name, autocast=False)  # keys and values may be bfloat16
        if hidden_size % num_heads:
            raise ValueError(f"hidden_size must be divisible by num_heads, got {hidden_size} and {num_heads}")
        self.hidden_size = hidden_size
        self.num_heads = num_heads
        self.head_size = hidden_size // num_heads
        seeds = seed_generator or keras.random.SeedGenerator(name="seed_generator")
        self.weights_dropout = Dropout(dropout, seeds, name="weights_dropout")
        self.output_product = Linear(hidden_size, hidden_size, "output_product")
        self.create_input_products()
        self.built = True

    def create_input_products(self) -> None:
        """Create the products that queries, keys and values come from."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Return what makes an equal layer; its dropout has seeds of its own."""
        rate, sizes = self.weights_dropout.rate, {"hidden_size": self.hidden_size, "num_heads": self.num_heads}
        return {"name": self.name, **sizes, "dropout": rate}

    def split_heads(self, vectors: Tensor, parts: int) -> list[Tensor]:
        """Cut (B, T, parts * D), vectors side by side, into `parts` tensors of heads, (B, H, T, D/H)."""
        length = ops.shape(vectors)[1]
        vectors = ops.reshape(vectors, (-1, length, parts, self.num_heads, self.head_size))
        vectors = ops.transpose(vectors, (2, 0, 3, 1, 4))  # one transposition for all; cutting the first axis is free
        shape = (-1, self.num_heads, length, self.head_size)
        return [ops.reshape(part, shape) for part in ops.split(vectors, parts, axis=0)]

    def look(self, queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """Compare queries (B, H, T, D/H) with keys (B, H, S, D/H), to weights (B, H, T, S) whose rows add up to 1.

        Scores are masked by a choice, not by a sum: TensorFlow's optimiser fuses product, scale and sum into one
        kernel that loses its place inside a while loop and returns nothing at all (seen in 2.21 with oneDNN).
        """
        # Each query against each key, in each head by itself.
        scores = ops.matmul(queries * self.head_size**-0.5, ops.swapaxes(keys, -1, -2))
        return softmax(ops.where(mask, scores, MASKED_SCORE))

    def attend(self, queries: Tensor, keys_values: KeysValues, mask: Tensor, training: bool) -> Tensor:
        """Average the values: queries (B, H, T, D/H) over (B, H, S, D/H) to (B, T, D)."""
        weights = self.weights_dropout(self.look(queries, keys_values.keys, mask), training=training)

        # The means of the values, the heads side by side again.
        context = ops.transpose(ops.matmul(weights, keys_values.values), (0, 2, 1, 3))  # (B, T, H, D/H)
        return self.output_product(ops.reshape(context, (-1, ops.shape(context)[1], self.hidden_size)))


@keras.saving.register_keras_serializable(package="nmt")
class SelfAttention(MultiHeadAttention):
    """Attention of a sequence to itself, with one product for queries, keys and values.

    Calls take inputs (B, T, D) and a mask, True = may be seen, that can be broadcast to (B, H, T, T), as `padding_mask`
    and `causal_mask` give it. Arguments, errors and source are those of `MultiHeadAttention`.
    """

    def create_input_products(self) -> None:
        """Create one product for queries, keys and values, D to 3D."""
        size = self.hidden_size
        self.query_key_value = Linear(3 * size, size, "query_key_value", fused_glorot(size))

    def call(self, inputs: Tensor, mask: Tensor, training: bool = False) -> Tensor:
        """Attend within whole sequences: inputs (B, T, D), mask broadcastable to (B, H, T, T), to (B, T, D)."""
        return self._attend_within(inputs, mask, training)[0]

    def read(self, inputs: Tensor, mask: Tensor) -> tuple[Tensor, KeysValues]:
        """Attend as `call` does; return (B, T, D), and the past of one hypothesis that has come so far."""
        output, past = self._attend_within(inputs, mask, False)
        return output, KeysValues(past.keys[:, None], past.values[:, None])  # (B, 1, H, T, D/H)

    def _attend_within(self, inputs: Tensor, mask: Tensor, training: bool) -> tuple[Tensor, KeysValues]:
        queries, keys, values = self.split_heads(self.query_key_value(inputs), 3)
        past = KeysValues(keys, values)
        return self.attend(queries, past, mask, training), past

    def step(self, inputs: Tensor, past: KeysValues) -> tuple[Tensor, KeysValues]:
        """Attend from the newest position to it and its past.

        Args:
            inputs: (B, K, D), one position of each hypothesis.
            past: keys and values (B, K, H, t, D/H) of the t positions before.

        Returns:
            (B, K, D), and the past with this position, (B, K, H, t + 1, D/H).
        """
        beam_size = ops.shape(inputs)[1]
        # Query, key and value of the newest position: the third axis of (B, K, 3, H, 1, D/H).
        heads = ops.reshape(self.query_key_value(inputs), (-1, beam_size, 3, self.num_heads, 1, self.head_size))

        # The past grows by it before it is asked, since a position sees itself. Nothing is masked: all is past.
        past = KeysValues(
            ops.concatenate([past.keys, heads[:, :, 1]], axis=3), ops.concatenate([past.values, heads[:, :, 2]], axis=3)
        )

        # One query a hypothesis, over its own past.
        scores = ops.matmul(heads[:, :, 0] * self.head_size**-0.5, ops.swapaxes(past.keys, -1, -2))  # (B, K, H, 1, t+1)
        context = ops.matmul(softmax(scores), past.values)  # (B, K, H, 1, D/H)
        return self.output_product(ops.reshape(context, (-1, beam_size, self.hidden_size))), past

    def empty_state(self, batch_size: Tensor, beam_size: Tensor) -> KeysValues:
        """Return the past of a hypothesis without any token, two tensors (B, K, H, 0, D/H)."""
        empty = ops.zeros((batch_size, beam_size, self.num_heads, 0, self.head_size))
        return KeysValues(empty, empty)


@keras.saving.register_keras_serializable(package="nmt")
class CrossAttention(MultiHeadAttention):
    """Attention of a target to its source, whose keys and values `keys_values` makes once.

    While decoding, the K hypotheses of a sentence are K query positions over the sentence's one memory. Arguments,
    errors and source are those of `MultiHeadAttention`.
    """

    def create_input_products(self) -> None:
        """Create a product for the queries, D to D, and one for keys and values of the source, D to 2D."""
        size = self.hidden_size
        self.query = Linear(size, size, "query")
        self.key_value = Linear(2 * size, size, "key_value", fused_glorot(size))

    def keys_values(self, encoded: Tensor) -> KeysValues:
        """Turn the encoder's output (B, S, D) into keys and values (B, H, S, D/H), once a sentence."""
        return KeysValues(*self.split_heads(self.key_value(encoded), 2))

    def call(self, inputs: Tensor, keys_values: KeysValues, mask: Tensor, training: bool = False) -> Tensor:
        """Attend to the source: inputs (B, T, D), mask (B, 1, 1, S), to (B, T, D)."""
        (queries,) = self.split_heads(self.query(inputs), 1)
        return self.attend(queries, keys_values, mask, training)

    def weights_of(self, inputs: Tensor, keys_values: KeysValues, mask: Tensor) -> Tensor:
        """Return the weights (B, H, T, S) by which `call` averages the source."""
        (queries,) = self.split_heads(self.query(inputs), 1)
        return self.look(queries, keys_values.keys, mask)


class AlignmentMemory(NamedTuple):
    """What the decoder attends to.

    values: the encoder's outputs, (B, S, D).
    keys: the part of the scores that does not depend on the query, (B, S, D).
    mask: True where a source token is real, (B, 1, S).
    """

    values: Tensor
    keys: Tensor
    mask: Tensor


class Alignment(keras.layers.Layer):
    """What additive and multiplicative attention share: from scores to a context.

    Args:
        hidden_size: D, of the queries and of the encoder's outputs.
        name: name of the layer; one that Keras finds unless given.
    """

    key: Linear
    """What the encoder's outputs are mapped by."""

    def __init__(self, hidden_size: int, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.hidden_size = hidden_size

    def get_config(self) -> dict[str, Any]:
        """Return what makes an equal layer."""
        return {"name": self.name, "hidden_size": self.hidden_size}

    def memory(self, encoded: Tensor, mask: Tensor) -> AlignmentMemory:
        """Prepare the encoder's outputs (B, S, D) with their mask (B, S), once a sentence."""
        keys = ops.cast(self.key(encoded), encoded.dtype)  # (B, S, D)
        return AlignmentMemory(encoded, keys, mask[:, None, :])

    def call(self, queries: Tensor, memory: AlignmentMemory) -> tuple[Tensor, Tensor]:
        """Average the encoder's outputs for queries (B, K, D), to contexts (B, K, D) and the weights (B, K, S)."""
        weights = softmax(ops.where(memory.mask, self.scores(queries, memory.keys), MASKED_SCORE))
        return ops.matmul(weights, memory.values), weights

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Score keys (B, S, D) for queries (B, K, D), as (B, K, S)."""
        raise NotImplementedError


@keras.saving.register_keras_serializable(package="nmt")
class AdditiveAlignment(Alignment):
    """score = v . tanh(W query + U key), a small network (Bahdanau et al. 2015, arXiv:1409.0473, A.1.2).

    `memory` prepares what is attended to, once a sentence; arguments are those of `Alignment`.
    """

    def __init__(self, hidden_size: int, *, name: str | None = None) -> None:
        super().__init__(hidden_size, name=name)
        self.query = Linear(hidden_size, hidden_size, "query")
        self.key = Linear(hidden_size, hidden_size, "key")
        self.score = self.add_weight(shape=(hidden_size,), initializer=fused_glorot(hidden_size), name="score")
        self.built = True

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Score keys (B, S, D) for queries (B, K, D), as (B, K, S)."""
        joined = ops.tanh(self.query(queries)[:, :, None, :] + keys[:, None, :, :])  # (B, K, S, D)
        return ops.sum(joined * self.score, axis=-1)


@keras.saving.register_keras_serializable(package="nmt")
class MultiplicativeAlignment(Alignment):
    """score = query . W key, the `general` form of Luong et al. 2015 (arXiv:1508.04025, section 3.1).

    `memory` prepares what is attended to, once a sentence; arguments are those of `Alignment`.
    """

    def __init__(self, hidden_size: int, *, name: str | None = None) -> None:
        super().__init__(hidden_size, name=name)
        self.key = Linear(hidden_size, hidden_size, "key")
        self.built = True

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Score keys (B, S, D) for queries (B, K, D), as (B, K, S)."""
        return ops.matmul(queries, ops.swapaxes(keys, 1, 2))


ALIGNMENTS: dict[str, type[Alignment]] = {"additive": AdditiveAlignment, "multiplicative": MultiplicativeAlignment}
"""The kinds of attention by the name a config gives them."""
