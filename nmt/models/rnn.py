"""The recurrent encoder-decoder with attention (Bahdanau et al. 2015; Luong et al. 2015)."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
from keras import ops

from nmt.backend.functions import scan
from nmt.layers.attention import ALIGNMENTS, AlignmentMemory
from nmt.layers.core import Dropout, Linear, seeded_weights
from nmt.layers.recurrent import CELLS, BidirectionalLayer
from nmt.models.contract import Seq2Seq, Vocabularies, token_mask
from nmt.types import Tensor


class RNNMemory(NamedTuple):
    """The encoded source.

    alignment: what the decoder attends to.
    summary: the last outputs of the encoder's top layer, (B, D).
    """

    alignment: AlignmentMemory
    summary: Tensor


class RNNState(NamedTuple):
    """What the decoder carries from step to step.

    cells: the state of each layer, parts of (B, K, D).
    attended: the attentional vector of the step before, (B, K, D); it is fed back where input_feeding is on.
    """

    cells: tuple[tuple[Tensor, ...], ...]
    attended: Tensor


@keras.saving.register_keras_serializable(package="nmt")
class RNN(Seq2Seq):
    """Bidirectional recurrent encoder, recurrent decoder with attention over the encoder's outputs.

    The decoder queries the source with its new top state and joins both in the attentional vector
    tanh(W [context; state]) (Luong et al. 2015, equation 5), which is projected to logits and, with input
    feeding, becomes part of the next input (section 3.3). Layers above the first add their input to their
    output. With `additive` the scores are Bahdanau's, at Luong's place.

    Args:
        vocabularies: sizes of the two vocabularies, and whether they are one.
        cell: `gru` or `lstm`.
        embedding_size: E; where it differs from hidden_size a linear layer stands before the logits.
        hidden_size: D, even.
        num_encoder_layers: bidirectional layers of the encoder.
        num_decoder_layers: layers of the decoder.
        attention: `additive` or `multiplicative`.
        input_feeding: whether the attentional vector is part of the next input.
        dropout: of the embeddings, between layers and of the attentional vector before the logits.
        tie_embeddings: `auto`, `none`, `source_target`, `target_output` or `all`.
        seed: of the initial weights and of dropout.
        name: name of the model.

    Raises:
        ConfigError: if the ties need one vocabulary and there are two.
        ValueError: if hidden_size is odd.
    """

    def __init__(
        self,
        vocabularies: Vocabularies,
        *,
        cell: str,
        embedding_size: int,
        hidden_size: int,
        num_encoder_layers: int,
        num_decoder_layers: int,
        attention: str,
        input_feeding: bool,
        dropout: float,
        tie_embeddings: str,
        seed: int,
        name: str = "rnn",
    ) -> None:
        with seeded_weights(seed):
            super().__init__(
                vocabularies,
                embedding_size=embedding_size,
                tie_embeddings=tie_embeddings,
                seed=seed,
                name=name,
                settings={
                    "cell": cell,
                    "embedding_size": embedding_size,
                    "hidden_size": hidden_size,
                    "num_encoder_layers": num_encoder_layers,
                    "num_decoder_layers": num_decoder_layers,
                    "attention": attention,
                    "input_feeding": input_feeding,
                    "dropout": dropout,
                },
            )
            kind = CELLS[cell]
            self.hidden_size = hidden_size
            self.input_feeding = input_feeding
            self.encoder_layers = [
                BidirectionalLayer(kind, embedding_size if i == 0 else hidden_size, hidden_size, name=f"encoder_{i}")
                for i in range(num_encoder_layers)
            ]
            self.decoder_cells = [
                kind(embedding_size if i == 0 else hidden_size, hidden_size, name=f"decoder_{i}")
                for i in range(num_decoder_layers)
            ]
            gates = kind.num_gates * hidden_size
            self.feed = Linear(gates, hidden_size, "feed") if input_feeding else None
            self.bridges = [
                Linear(kind.state_parts * hidden_size, hidden_size, f"bridge_{i}") for i in range(num_decoder_layers)
            ]
            self.alignment = ALIGNMENTS[attention](hidden_size, name="alignment")
            self.attend = Linear(hidden_size, 2 * hidden_size, "attend")
            self.readout = None if embedding_size == hidden_size else Linear(embedding_size, hidden_size, "readout")
            self._create_dropouts(dropout)
        self.built = True

    def _create_dropouts(self, rate: float) -> None:
        self.source_dropout = Dropout(rate, self.seed_generator, name="source_dropout")
        self.target_dropout = Dropout(rate, self.seed_generator, name="target_dropout")
        self.layer_dropout = Dropout(rate, self.seed_generator, name="layer_dropout")
        self.output_dropout = Dropout(rate, self.seed_generator, name="output_dropout")

    def hidden(self, source_ids: Tensor, target_ids: Tensor, training: bool = False) -> Tensor:
        """Decode whole targets: source ids (B, S) and target ids (B, T) to (B, T, E)."""
        memory = self._encode(source_ids, training)
        embedded = self.target_dropout(self.target_embedding(target_ids), training=training)
        projected = ops.transpose(self.decoder_cells[0].project(embedded), (1, 0, 2))[:, :, None, :]  # (T, B, 1, G*D)
        masks = self._layer_masks(ops.shape(source_ids)[0], training)

        def step(state: RNNState, position: Tensor) -> RNNState:
            return self._advance(position, state, memory.alignment, masks)

        states, _ = scan(step, self.initial_state(memory, 1, 0), projected)
        attended = ops.transpose(states.attended[:, :, 0, :], (1, 0, 2))  # (B, T, D)
        return self._read_out(self.output_dropout(attended, training=training))

    def encode(self, source_ids: Tensor) -> RNNMemory:
        """Encode source ids (B, S)."""
        return self._encode(source_ids, training=False)

    def initial_state(self, memory: RNNMemory, beam_size: Tensor, max_length: Tensor) -> RNNState:
        """Return the state before the first step, made from the encoder's summary, leaves (B, K, D)."""
        batch_size = ops.shape(memory.summary)[0]
        shape = (batch_size, beam_size, self.hidden_size)
        cells = []
        for cell, bridge in zip(self.decoder_cells, self.bridges, strict=True):
            bridged = ops.cast(bridge(memory.summary), memory.summary.dtype)
            parts = ops.split(ops.tanh(bridged), cell.state_parts, axis=-1)
            cells.append(tuple(ops.broadcast_to(part[:, None, :], shape) for part in parts))
        return RNNState(tuple(cells), ops.zeros(shape))

    def hidden_step(self, token_ids: Tensor, state: RNNState, memory: RNNMemory) -> tuple[Tensor, RNNState]:
        """Take one step of every hypothesis: token ids (B, K) to (B, K, E) and the next state."""
        projected = self.decoder_cells[0].project(self.target_embedding(token_ids))  # (B, K, G*D)
        masks = self._layer_masks(ops.shape(token_ids)[0], training=False)
        state = self._advance(projected, state, memory.alignment, masks)
        return self._read_out(state.attended), state

    def _encode(self, source_ids: Tensor, training: bool) -> RNNMemory:
        mask = token_mask(source_ids)
        stream = self.source_dropout(self.source_embedding(source_ids), training=training)
        summary: Any = None
        for index, layer in enumerate(self.encoder_layers):
            entered = stream if index == 0 else self.layer_dropout(stream, training=training)
            outputs, summary = layer(entered, mask)
            stream = outputs if index == 0 else stream + outputs
        return RNNMemory(self.alignment.memory(stream, mask), summary)

    def _layer_masks(self, batch_size: Tensor, training: bool) -> list[Tensor]:
        """Draw what each upper decoder layer's input is multiplied by, (B, 1, D), the same at every step.

        One mask for all steps is variational dropout (Gal & Ghahramani 2016); it also keeps the draw out of the
        loop.
        """
        ones = ops.ones((batch_size, 1, self.hidden_size))
        return [self.layer_dropout(ones, training=training) for _ in self.decoder_cells[1:]]

    def _advance(self, projected: Tensor, state: RNNState, memory: AlignmentMemory, masks: list[Tensor]) -> RNNState:
        """Take one step from the projected input (B, K, G*D) of the first layer."""
        if self.feed is not None:
            projected = projected + self.feed(state.attended)
        cells = [self.decoder_cells[0].step(projected, state.cells[0])]
        stream = cells[0][0]
        for cell, previous, mask in zip(self.decoder_cells[1:], state.cells[1:], masks, strict=True):
            cells.append(cell.step(cell.project(stream * mask), previous))
            stream = stream + cells[-1][0]
        context = self.alignment(stream, memory)
        attended = ops.tanh(self.attend(ops.concatenate([context, stream], axis=-1)))
        return RNNState(tuple(cells), attended)

    def _read_out(self, attended: Tensor) -> Tensor:
        return attended if self.readout is None else ops.cast(self.readout(attended), attended.dtype)
