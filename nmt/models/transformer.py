"""The Transformer (Vaswani et al. 2017, arXiv:1706.03762)."""

from types import MappingProxyType
from typing import NamedTuple

import keras
from keras import ops

from nmt.architectures import TransformerArchitecture
from nmt.backend.functions import call_layer
from nmt.backend.products import BFLOAT16, linear
from nmt.errors import ConfigError
from nmt.layers.attention import KeysValues, causal_mask, padding_mask
from nmt.layers.core import Dropout, LayerNorm, sinusoidal_positions
from nmt.layers.transformer import DecoderBlock, EncoderBlock, ReadingMixer
from nmt.models.contract import Seq2Seq, token_mask
from nmt.types import State, Tensor


class TransformerState(NamedTuple):
    """What the decoder carries from step to step.

    position: of the next token, counted from 0, (B, K) int32; the same for all.
    mixed: what each decoder layer's mixer keeps of the positions before; of attention keys and values,
        (B, K, H, t, D/H) each.
    """

    position: Tensor
    mixed: tuple[State, ...]


class TransformerMemory(NamedTuple):
    """The encoded source.

    sources: keys and values of each decoder layer, (B, H, S, D/H) each.
    mask: True where a source token is real, (B, 1, 1, S).
    """

    sources: tuple[KeysValues, ...]
    mask: Tensor


@keras.saving.register_keras_serializable(package="nmt")
class Transformer(Seq2Seq):
    """Encoder and decoder of attention blocks, with sinusoidal positions.

    Its settings are those of `TransformerArchitecture`.
    """

    settings_class = TransformerArchitecture
    part_names = MappingProxyType({
        "encoder_blocks": "encoder", "encoder_norm": "encoder.norm",
        "decoder_blocks": "decoder", "decoder_norm": "decoder.norm",
    })  # fmt: skip

    def create_layers(self, settings: TransformerArchitecture) -> None:
        """Create the blocks; ValueError if hidden_size is odd or not divisible by num_heads."""
        size, seeds = settings.hidden_size, self.seed_generator
        if size % 2:
            raise ValueError(f"hidden_size must be even for sinusoidal positions, got {size}")
        self.hidden_size = size
        self.source_dropout = Dropout(settings.dropout, seeds, name="source_dropout")
        self.target_dropout = Dropout(settings.dropout, seeds, name="target_dropout")
        encoders, decoders = range(settings.num_encoder_layers), range(settings.num_decoder_layers)
        self.encoder_blocks = [EncoderBlock(settings, seeds, name=f"encoder_{i}") for i in encoders]
        self.decoder_blocks = [DecoderBlock(settings, seeds, name=f"decoder_{i}") for i in decoders]
        self.encoder_norm = LayerNorm(size, name="encoder_norm") if settings.norm == "pre" else None
        self.decoder_norm = LayerNorm(size, name="decoder_norm") if settings.norm == "pre" else None

    def kept_bytes(self, source_length: int, target_length: int, *, precision: str) -> float | None:
        """Estimate what training keeps of one pair; see `Seq2Seq.kept_bytes`."""
        own, size = self.architecture, self.hidden_size
        if own.decoder_mixer != "attention":
            return None
        encoders, decoders, inner = own.num_encoder_layers, own.num_decoder_layers, 2.2 * own.ffn_size
        # Of a token: 3 D per sub-layer and 4 D per attention, of which the source has the 2 D of keys and values.
        of_encoder = source_length * encoders * (10 * size + inner)
        of_decoder = decoders * (target_length * (15 * size + inner) + source_length * 2 * size)
        embedded = 4 * size * (source_length + 2 * target_length)
        pairs = encoders * source_length**2 + decoders * target_length * (target_length + source_length)
        a_number = 2.3 if precision == BFLOAT16 else 4  # bytes of it, in the mean
        return a_number * (of_encoder + of_decoder) + 4 * (embedded + 2.3 * own.num_heads * pairs)

    def hidden(self, source_ids: Tensor, target_ids: Tensor, training: bool = False) -> Tensor:
        """Decode whole targets: source ids (B, S) and target ids (B, T) to (B, T, D)."""
        memory = self.encode(source_ids, training)
        stream = self._embed(self.target_embedding(target_ids), 0, ops.shape(target_ids)[1])
        stream = self.target_dropout(stream, training=training)
        mask = causal_mask(ops.shape(target_ids)[1])
        for block, source in zip(self.decoder_blocks, memory.sources, strict=True):
            inputs = stream, mask, source, memory.mask
            stream = call_layer(block, self.decoder_blocks[0].__call__, *inputs, training=training)
        return stream if self.decoder_norm is None else self.decoder_norm(stream)

    def attention(
        self, source_ids: Tensor, target_ids: Tensor, *, layer: int | None = None, head: int | None = None
    ) -> Tensor:
        """Return how each target position looks at the source; see `Seq2Seq.attention`. Layers above are not computed.

        Unless given, the layer is the one above the middle: of two or three the second, which has the fewest alignment
        errors (docs/alignment.md).
        """
        last = len(self.decoder_blocks) // 2 + 1 if layer is None else layer or len(self.decoder_blocks)
        self._check_attention(last, head)
        memory, mask = self.encode(source_ids), causal_mask(ops.shape(target_ids)[1])
        stream = self._embed(self.target_embedding(target_ids), 0, ops.shape(target_ids)[1])
        found = []
        for number, block, source in zip(range(1, last + 1), self.decoder_blocks, memory.sources, strict=False):
            if number == last or layer == 0:
                weights = block.attention(stream, mask, source, memory.mask)  # (B, H, T, S)
                found.append(ops.mean(weights, axis=1) if head is None else weights[:, head - 1])
            if number < last:
                stream = block(stream, mask, source, memory.mask)
        return sum(found) / len(found)

    def _check_attention(self, layer: int, head: int | None) -> None:
        layers, heads = len(self.decoder_blocks), self.architecture.num_heads
        if not 1 <= layer <= layers:
            raise ConfigError(f"the layers of the decoder are 1 to {layers}, and 0 is the mean of all, got {layer}")
        if head is not None and not 1 <= head <= heads:
            raise ConfigError(f"the heads of each layer are 1 to {heads}, got {head}")

    def encode(self, source_ids: Tensor, training: bool = False) -> TransformerMemory:
        """Encode source ids (B, S), down to the keys and values that each decoder layer will look at."""
        mask = padding_mask(token_mask(source_ids))
        stream = self._embed(self.source_embedding(source_ids), 0, ops.shape(source_ids)[1])
        stream = self.source_dropout(stream, training=training)
        for block in self.encoder_blocks:
            stream = call_layer(block, self.encoder_blocks[0].__call__, stream, mask, training=training)
        encoded = stream if self.encoder_norm is None else self.encoder_norm(stream)
        return TransformerMemory(tuple(b.cross_attention.keys_values(encoded) for b in self.decoder_blocks), mask)

    def initial_state(self, memory: TransformerMemory, beam_size: Tensor, max_length: Tensor) -> TransformerState:
        """Return position 0 and an empty past for each decoder layer; with attention a step makes it one longer."""
        batch_size = ops.shape(memory.mask)[0]
        mixed = tuple(block.self_attention.empty_state(batch_size, beam_size) for block in self.decoder_blocks)
        return TransformerState(ops.zeros((batch_size, beam_size), dtype="int32"), mixed)

    def read(
        self, token_ids: Tensor, memory: TransformerMemory, matrix: Tensor | None = None
    ) -> tuple[Tensor, TransformerState]:
        """Read the beginning of a target in parallel, if all mixers can; see `Seq2Seq.read`."""
        if not all(isinstance(block.self_attention, ReadingMixer) for block in self.decoder_blocks):
            return super().read(token_ids, memory, matrix)
        batch_size, length = ops.shape(token_ids)[0], ops.shape(token_ids)[1]
        stream, mask, mixed = self._embed(self.target_embedding(token_ids), 0, length), causal_mask(length), []
        for block, source in zip(self.decoder_blocks, memory.sources, strict=True):
            stream, past = block.read(stream, mask, source, memory.mask)
            mixed.append(past)
        hidden = stream if self.decoder_norm is None else self.decoder_norm(stream)
        position = ops.zeros((batch_size, 1), dtype="int32") + length
        matrix = self.output_matrix() if matrix is None else matrix
        return linear(hidden, matrix, self.output_bias), TransformerState(position, tuple(mixed))

    def hidden_step(
        self, token_ids: Tensor, state: TransformerState, memory: TransformerMemory
    ) -> tuple[Tensor, TransformerState]:
        """Take one step of every hypothesis: token ids (B, K) to (B, K, E) and the next state."""
        stream = self._embed(self.target_embedding(token_ids), state.position[0, 0], 1)
        mixed = []
        for block, past, source in zip(self.decoder_blocks, state.mixed, memory.sources, strict=True):
            stream, past = call_layer(block, self.decoder_blocks[0].step, stream, past, source, memory.mask)
            mixed.append(past)
        hidden = stream if self.decoder_norm is None else self.decoder_norm(stream)
        return hidden, TransformerState(state.position + 1, tuple(mixed))

    def _embed(self, vectors: Tensor, start: Tensor, length: Tensor) -> Tensor:
        """Scale looked up vectors (B, ., D) and add the positions start, start + 1, ..., `length` of them."""
        return vectors * self.hidden_size**0.5 + sinusoidal_positions(start, length, self.hidden_size)
