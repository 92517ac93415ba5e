"""The Transformer (Vaswani et al. 2017, arXiv:1706.03762)."""

from __future__ import annotations

from typing import NamedTuple

import keras
from keras import ops

from nmt.layers.attention import KeysValues, causal_mask, padding_mask
from nmt.layers.core import Dropout, LayerNorm, seeded_weights
from nmt.layers.embedding import sinusoidal_positions
from nmt.layers.transformer import BlockSettings, DecoderBlock, EncoderBlock, PostNormResidual, PreNormResidual
from nmt.models.contract import Seq2Seq, Vocabularies, token_mask
from nmt.types import Tensor

RESIDUALS = {"pre": PreNormResidual, "post": PostNormResidual}


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

    Args:
        vocabularies: sizes of the two vocabularies, and whether they are one.
        hidden_size: D, even and divisible by num_heads; the embeddings have it too.
        ffn_size: F.
        num_heads: H.
        num_encoder_layers: blocks of the encoder.
        num_decoder_layers: blocks of the decoder.
        dropout: of the embeddings and of the output of every sub-layer.
        attention_dropout: of the attention weights.
        ffn_dropout: of the inner layer of the feed-forward networks.
        norm: `pre` normalises what enters a sub-layer, and the stream once at the end; `post` what leaves it.
        tie_embeddings: `auto`, `none`, `source_target`, `target_output` or `all`.
        seed: of the initial weights and of dropout.
        name: name of the model.

    Raises:
        ConfigError: if the ties need one vocabulary and there are two.
        ValueError: if hidden_size is odd or not divisible by num_heads.
    """

    def __init__(
        self,
        vocabularies: Vocabularies,
        *,
        hidden_size: int,
        ffn_size: int,
        num_heads: int,
        num_encoder_layers: int,
        num_decoder_layers: int,
        dropout: float,
        attention_dropout: float,
        ffn_dropout: float,
        norm: str,
        tie_embeddings: str,
        seed: int,
        name: str = "transformer",
    ) -> None:
        with seeded_weights(seed):
            super().__init__(
                vocabularies,
                embedding_size=hidden_size,
                tie_embeddings=tie_embeddings,
                seed=seed,
                name=name,
                settings={
                    "hidden_size": hidden_size,
                    "ffn_size": ffn_size,
                    "num_heads": num_heads,
                    "num_encoder_layers": num_encoder_layers,
                    "num_decoder_layers": num_decoder_layers,
                    "dropout": dropout,
                    "attention_dropout": attention_dropout,
                    "ffn_dropout": ffn_dropout,
                    "norm": norm,
                },
            )
            if hidden_size % 2:
                raise ValueError(f"hidden_size must be even for sinusoidal positions, got {hidden_size}")
            self.hidden_size = hidden_size
            settings = BlockSettings(
                hidden_size=hidden_size,
                ffn_size=ffn_size,
                num_heads=num_heads,
                dropout=dropout,
                attention_dropout=attention_dropout,
                ffn_dropout=ffn_dropout,
                residual=RESIDUALS[norm],
                seed_generator=self.seed_generator,
            )
            self.source_dropout = Dropout(dropout, self.seed_generator, name="source_dropout")
            self.target_dropout = Dropout(dropout, self.seed_generator, name="target_dropout")
            self.encoder_blocks = [EncoderBlock(settings, name=f"encoder_{i}") for i in range(num_encoder_layers)]
            self.decoder_blocks = [DecoderBlock(settings, name=f"decoder_{i}") for i in range(num_decoder_layers)]
            self.encoder_norm = LayerNorm(hidden_size, name="encoder_norm") if norm == "pre" else None
            self.decoder_norm = LayerNorm(hidden_size, name="decoder_norm") if norm == "pre" else None
        self.built = True

    def hidden(self, source_ids: Tensor, target_ids: Tensor, training: bool = False) -> Tensor:
        """Decode whole targets: source ids (B, S) and target ids (B, T) to (B, T, D)."""
        memory = self._encode(source_ids, training)
        stream = self._embed(self.target_embedding(target_ids), 0, ops.shape(target_ids)[1])
        stream = self.target_dropout(stream, training=training)
        mask = causal_mask(ops.shape(target_ids)[1])
        for block, source in zip(self.decoder_blocks, memory.sources, strict=True):
            stream = block(stream, mask, source, memory.mask, training=training)
        return stream if self.decoder_norm is None else self.decoder_norm(stream)

    def encode(self, source_ids: Tensor) -> TransformerMemory:
        """Encode source ids (B, S), down to the keys and values that each decoder layer will look at."""
        return self._encode(source_ids, training=False)

    def initial_state(self, memory: TransformerMemory, beam_size: Tensor, max_length: Tensor) -> tuple[KeysValues, ...]:
        """Return one empty past a decoder layer, (B, K, H, 0, D/H); a step makes it one position longer."""
        batch_size = ops.shape(memory.mask)[0]
        return tuple(block.self_attention.empty_past(batch_size, beam_size) for block in self.decoder_blocks)

    def hidden_step(
        self, token_ids: Tensor, state: tuple[KeysValues, ...], memory: TransformerMemory
    ) -> tuple[Tensor, tuple[KeysValues, ...]]:
        """Take one step of every hypothesis: token ids (B, K) to (B, K, E) and the next state."""
        position = ops.shape(state[0].keys)[3]
        stream = self._embed(self.target_embedding(token_ids), position, 1)
        pasts = []
        for block, past, source in zip(self.decoder_blocks, state, memory.sources, strict=True):
            stream, past = block.step(stream, past, source, memory.mask)
            pasts.append(past)
        hidden = stream if self.decoder_norm is None else self.decoder_norm(stream)
        return hidden, tuple(pasts)

    def _encode(self, source_ids: Tensor, training: bool) -> TransformerMemory:
        mask = padding_mask(token_mask(source_ids))
        stream = self._embed(self.source_embedding(source_ids), 0, ops.shape(source_ids)[1])
        stream = self.source_dropout(stream, training=training)
        for block in self.encoder_blocks:
            stream = block(stream, mask, training=training)
        encoded = stream if self.encoder_norm is None else self.encoder_norm(stream)
        return TransformerMemory(tuple(b.cross_attention.keys_values(encoded) for b in self.decoder_blocks), mask)

    def _embed(self, vectors: Tensor, start: Tensor, length: Tensor) -> Tensor:
        """Scale looked up vectors (B, ., D) and add the positions start, start + 1, ..., `length` of them."""
        return vectors * self.hidden_size**0.5 + sinusoidal_positions(start, length, self.hidden_size)
