"""Blocks of the Transformer (Vaswani et al. 2017, section 3.1)."""

from typing import Protocol, runtime_checkable

import keras
from keras import ops

from nmt.architectures import TransformerArchitecture
from nmt.kinds import MIXERS
from nmt.layers.attention import CrossAttention, KeysValues, SelfAttention
from nmt.layers.core import Dropout, LayerNorm, Linear, LinearReLU
from nmt.types import State, Tensor


class Mixer(Protocol):
    """What brings to each position of a target something of the positions before it, within a decoder block.

    The parallel way and the stepwise one give the same. A kind of its own is a Keras layer with these methods, made by
    a function of its settings and seeds that is registered in `nmt.kinds.MIXERS`.
    """

    def __call__(self, inputs: Tensor, mask: Tensor, training: bool = False) -> Tensor:
        """Mix whole targets: inputs (B, T, D), and what each position may see, (T, T), to (B, T, D)."""

    def step(self, inputs: Tensor, past: State) -> tuple[Tensor, State]:
        """Mix the newest position of each hypothesis with its past: (B, K, D) to (B, K, D) and the next past."""

    def empty_state(self, batch_size: Tensor, beam_size: Tensor) -> State:
        """Return the past of a hypothesis without any token, a nest of leaves (B, K, ...)."""


@runtime_checkable
class ReadingMixer(Mixer, Protocol):
    """A mixer that knows what whole targets leave behind, so that a text that is given need not be read in steps."""

    def read(self, inputs: Tensor, mask: Tensor) -> tuple[Tensor, State]:
        """Mix as a call does; return (B, T, D), and the past that T steps would have left, leaves (B, 1, ...)."""


def self_attention(settings: TransformerArchitecture, seeds: keras.random.SeedGenerator) -> SelfAttention:
    """Make the self-attention of a block."""
    size, heads, rate = settings.hidden_size, settings.num_heads, settings.attention_dropout
    return SelfAttention(size, heads, dropout=rate, seed_generator=seeds, name="self_attention")


class Residual(keras.layers.Layer):
    """How a sub-layer joins the residual stream: x = leave(x, sublayer(enter(x))).

    `pre` normalises what enters the sub-layer, and the stream itself stays untouched (Xiong et al. 2020); `post`
    normalises after the sum, as in Vaswani et al. 2017.
    """

    def __init__(self, settings: TransformerArchitecture, seeds: keras.random.SeedGenerator, *, name: str) -> None:
        super().__init__(name=name)
        self.is_pre = settings.norm == "pre"
        self.norm = LayerNorm(settings.hidden_size, name="norm")
        self.dropout = Dropout(settings.dropout, seeds, name="dropout")
        self.built = True

    def enter(self, stream: Tensor) -> Tensor:
        """Return the input of the sub-layer, (B, T, D)."""
        return self.norm(stream) if self.is_pre else stream

    def leave(self, stream: Tensor, output: Tensor, training: bool = False) -> Tensor:
        """Join the sub-layer's output with the stream, both (B, T, D)."""
        joined = stream + ops.cast(self.dropout(output, training=training), stream.dtype)
        return joined if self.is_pre else self.norm(joined)


class FeedForward(keras.layers.Layer):
    """Two linear layers with a ReLU between, (B, T, D) to (B, T, F) to (B, T, D)."""

    def __init__(self, settings: TransformerArchitecture, seeds: keras.random.SeedGenerator, *, name: str) -> None:
        super().__init__(name=name)
        size, rate = settings.hidden_size, settings.ffn_dropout
        self.inner = LinearReLU(settings.ffn_size, size, "inner", dropout=rate, seed_generator=seeds)
        self.outer = Linear(size, settings.ffn_size, "outer")
        self.built = True

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Transform each position of (B, T, D) by itself."""
        return self.outer(self.inner(inputs, training=training))


class EncoderBlock(keras.layers.Layer):
    """Self-attention, then feed-forward."""

    def __init__(self, settings: TransformerArchitecture, seeds: keras.random.SeedGenerator, *, name: str) -> None:
        super().__init__(name=name)
        self.self_attention = self_attention(settings, seeds)
        self.self_attention_residual = Residual(settings, seeds, name="self_attention_residual")
        self.feed_forward = FeedForward(settings, seeds, name="feed_forward")
        self.feed_forward_residual = Residual(settings, seeds, name="feed_forward_residual")
        self.built = True

    def call(self, stream: Tensor, mask: Tensor, training: bool = False) -> Tensor:
        """Encode (B, S, D) with their mask (B, 1, 1, S), to (B, S, D)."""
        output = self.self_attention(self.self_attention_residual.enter(stream), mask, training=training)
        stream = self.self_attention_residual.leave(stream, output, training=training)
        output = self.feed_forward(self.feed_forward_residual.enter(stream), training=training)
        return self.feed_forward_residual.leave(stream, output, training=training)


class DecoderBlock(keras.layers.Layer):
    """What mixes target positions, one of `nmt.kinds.MIXERS`, then attention to the source, then feed-forward.

    Raises:
        ConfigError: there is no such mixer.
    """

    def __init__(self, settings: TransformerArchitecture, seeds: keras.random.SeedGenerator, *, name: str) -> None:
        super().__init__(name=name, autocast=False)  # keys and values may be bfloat16
        size, heads, rate = settings.hidden_size, settings.num_heads, settings.attention_dropout
        self.self_attention = MIXERS[settings.decoder_mixer](settings, seeds)  # so named in every checkpoint
        self.self_attention_residual = Residual(settings, seeds, name="self_attention_residual")
        self.cross_attention = CrossAttention(size, heads, dropout=rate, seed_generator=seeds, name="cross_attention")
        self.cross_attention_residual = Residual(settings, seeds, name="cross_attention_residual")
        self.feed_forward = FeedForward(settings, seeds, name="feed_forward")
        self.feed_forward_residual = Residual(settings, seeds, name="feed_forward_residual")
        self.built = True

    def call(
        self, stream: Tensor, mask: Tensor, source: KeysValues, source_mask: Tensor, training: bool = False
    ) -> Tensor:
        """Decode whole targets.

        Args:
            stream: (B, T, D).
            mask: what each position may see, (T, T).
            source: keys and values of the source, (B, H, S, D/H).
            source_mask: which source tokens are real, (B, 1, 1, S).
            training: whether to drop.

        Returns:
            (B, T, D).
        """
        output = self.self_attention(self.self_attention_residual.enter(stream), mask, training=training)
        stream = self.self_attention_residual.leave(stream, output, training=training)
        return self._after_self_attention(stream, source, source_mask, training)

    def read(self, stream: Tensor, mask: Tensor, source: KeysValues, source_mask: Tensor) -> tuple[Tensor, State]:
        """Decode whole targets as `call` does; return (B, T, D), and the past that the mixer has then."""
        output, past = self.self_attention.read(self.self_attention_residual.enter(stream), mask)
        stream = self.self_attention_residual.leave(stream, output)
        return self._after_self_attention(stream, source, source_mask, False), past

    def attention(self, stream: Tensor, mask: Tensor, source: KeysValues, source_mask: Tensor) -> Tensor:
        """Return how each head of each position looks at the source when `call` decodes whole targets, (B, H, T, S)."""
        output = self.self_attention(self.self_attention_residual.enter(stream), mask)
        stream = self.self_attention_residual.leave(stream, output)
        return self.cross_attention.weights_of(self.cross_attention_residual.enter(stream), source, source_mask)

    def step(self, stream: Tensor, past: State, source: KeysValues, source_mask: Tensor) -> tuple[Tensor, State]:
        """Decode one position of each hypothesis.

        Args:
            stream: (B, K, D).
            past: what the mixer keeps of the positions before; of attention keys and values (B, K, H, t, D/H).
            source: keys and values of the source, (B, H, S, D/H).
            source_mask: which source tokens are real, (B, 1, 1, S).

        Returns:
            (B, K, D), and the past with this position.
        """
        output, past = self.self_attention.step(self.self_attention_residual.enter(stream), past)
        stream = self.self_attention_residual.leave(stream, output)
        return self._after_self_attention(stream, source, source_mask, False), past

    def _after_self_attention(self, stream: Tensor, source: KeysValues, source_mask: Tensor, training: bool) -> Tensor:
        entered = self.cross_attention_residual.enter(stream)
        output = self.cross_attention(entered, source, source_mask, training=training)
        stream = self.cross_attention_residual.leave(stream, output, training=training)
        output = self.feed_forward(self.feed_forward_residual.enter(stream), training=training)
        return self.feed_forward_residual.leave(stream, output, training=training)
