"""The recurrent encoder-decoder with attention (Bahdanau et al. 2015; Luong et al. 2015)."""

from types import MappingProxyType
from typing import NamedTuple

import keras
from keras import ops

from nmt.architectures import RNNArchitecture
from nmt.backend.functions import scan
from nmt.errors import ConfigError
from nmt.kinds import CELLS
from nmt.layers.attention import ALIGNMENTS, AlignmentMemory
from nmt.layers.core import Dropout, Linear
from nmt.layers.recurrent import BidirectionalLayer
from nmt.models.contract import Seq2Seq, token_mask
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
    attended: the attentional vector of the step before, (B, K, D); it is fed back if input_feeding is on.
    coverage: how much attention each source token has had, (B, K, S), 1 for padding; () unless it is wanted.
    """

    cells: tuple[tuple[Tensor, ...], ...]
    attended: Tensor
    coverage: Tensor = ()


@keras.saving.register_keras_serializable(package="nmt")
class RNN(Seq2Seq):
    """Bidirectional recurrent encoder, recurrent decoder with attention over the encoder's outputs.

    The decoder queries the source with its new top state and joins both in the attentional vector
    tanh(W [context; state]) (Luong et al. 2015, equation 5), which is projected to logits and, with input
    feeding, becomes part of the next input (section 3.3). Layers above the first add their input to their
    output. With `additive` the scores are Bahdanau's, at Luong's place.

    Its settings are those of `RNNArchitecture`.
    """

    settings_class = RNNArchitecture
    part_names = MappingProxyType({
        "encoder_layers": "encoder", "decoder_cells": "decoder",
        **{name: f"decoder.{name}" for name in ("feed", "bridges", "alignment", "attend", "readout")},
    })  # fmt: skip
    has_coverage = True

    def create_layers(self, settings: RNNArchitecture) -> None:
        """Create the layers of encoder and decoder; ValueError if hidden_size is odd."""
        size, width, kind = settings.hidden_size, settings.embedding_size, CELLS[settings.cell]
        encoders, decoders = range(settings.num_encoder_layers), range(settings.num_decoder_layers)
        self.hidden_size = size
        self.encoder_layers = [
            BidirectionalLayer(kind, size if i else width, size, name=f"encoder_{i}") for i in encoders
        ]
        self.decoder_cells = [kind(size if i else width, size, name=f"decoder_{i}") for i in decoders]
        self.feed = Linear(kind.num_gates * size, size, "feed") if settings.input_feeding else None
        self.bridges = [Linear(kind.state_parts * size, size, f"bridge_{i}") for i in decoders]
        self.alignment = ALIGNMENTS[settings.attention](size, name="alignment")
        self.attend = Linear(size, 2 * size, "attend")
        self.readout = None if width == size else Linear(width, size, "readout")
        self.source_dropout, self.target_dropout, self.layer_dropout, self.output_dropout = (
            Dropout(settings.dropout, self.seed_generator, name=f"{place}_dropout")
            for place in ("source", "target", "layer", "output")
        )

    def kept_bytes(self, source_length: int, target_length: int, *, precision: str) -> float:
        """Estimate what training keeps of one pair; see `Seq2Seq.kept_bytes`. Loops keep float32."""
        own, size, kind = self.architecture, self.hidden_size, CELLS[self.architecture.cell]
        # Of a token: 2 D per gate and 10 D per part of the state of each layer, 4 D around it; 8 D of attention.
        layer = size * (2 * kind.num_gates + 10 * kind.state_parts + 4)
        of_encoder = source_length * (own.num_encoder_layers * layer + 2 * size)
        of_decoder = target_length * (own.num_decoder_layers * layer + 8 * size)
        embedded = 6 * own.embedding_size * (source_length + 2 * target_length)
        a_pair = 6 + (1.1 * size if own.attention == "additive" else 0)
        return 4 * (of_encoder + of_decoder + embedded + source_length * target_length * a_pair)

    def hidden(self, source_ids: Tensor, target_ids: Tensor, training: bool = False) -> Tensor:
        """Decode whole targets: source ids (B, S) and target ids (B, T) to (B, T, E)."""
        states = self._states(self.encode(source_ids, training), target_ids, training)
        attended = ops.transpose(states.attended[:, :, 0, :], (1, 0, 2))  # (B, T, D)
        return self._read_out(self.output_dropout(attended, training=training))

    def attention(
        self, source_ids: Tensor, target_ids: Tensor, *, layer: int | None = None, head: int | None = None
    ) -> Tensor:
        """Return how each target position looks at the source; see `Seq2Seq.attention`."""
        if layer is not None or head is not None:
            raise ConfigError("a recurrent model has one attention: leave out the layer and the head")
        memory = self.encode(source_ids)
        states = self._states(memory, target_ids, training=False)
        queries = sum(parts[0] for parts in states.cells)  # (T, B, 1, D)
        nothing = ops.zeros_like(memory.alignment.mask, dtype="float32")
        weights, _ = scan(lambda _, query: self.alignment(query, memory.alignment)[1], nothing, queries)
        return ops.transpose(weights[:, :, 0, :], (1, 0, 2))

    def _states(self, memory: RNNMemory, target_ids: Tensor, training: bool) -> RNNState:
        """Read whole targets (B, T), to the state after each position, leaves (T, B, 1, D)."""
        embedded = self.target_dropout(self.target_embedding(target_ids), training=training)
        projected = ops.transpose(self.decoder_cells[0].project(embedded), (1, 0, 2))[:, :, None, :]  # (T, B, 1, G*D)
        masks = self._layer_masks(ops.shape(target_ids)[0], training)

        def step(state: RNNState, position: Tensor) -> RNNState:
            return self._advance(position, state, memory.alignment, masks)

        return scan(step, self.initial_state(memory, 1, 0), projected)[0]

    def encode(self, source_ids: Tensor, training: bool = False) -> RNNMemory:
        """Encode source ids (B, S)."""
        mask = token_mask(source_ids)
        stream = self.source_dropout(self.source_embedding(source_ids), training=training)
        summary: Tensor = None
        for index, layer in enumerate(self.encoder_layers):
            entered = stream if index == 0 else self.layer_dropout(stream, training=training)
            outputs, summary = layer(entered, mask)
            stream = outputs if index == 0 else stream + outputs
        return RNNMemory(self.alignment.memory(stream, mask), summary)

    def initial_state(
        self, memory: RNNMemory, beam_size: Tensor, max_length: Tensor, *, with_coverage: bool = False
    ) -> RNNState:
        """Return the state before the first step, made from the encoder's summary, leaves (B, K, D)."""
        batch_size = ops.shape(memory.summary)[0]
        shape = (batch_size, beam_size, self.hidden_size)
        cells = []
        for cell, bridge in zip(self.decoder_cells, self.bridges, strict=True):
            bridged = ops.cast(bridge(memory.summary), memory.summary.dtype)
            parts = ops.split(ops.tanh(bridged), cell.state_parts, axis=-1)
            cells.append(tuple(ops.broadcast_to(part[:, None, :], shape) for part in parts))
        padding = 1.0 - ops.cast(memory.alignment.mask, "float32")  # (B, 1, S)
        coverage = ops.repeat(padding, beam_size, axis=1) if with_coverage else ()
        return RNNState(tuple(cells), ops.zeros(shape), coverage)

    def coverage(self, state: RNNState) -> Tensor:
        """Rate how well hypotheses attended to all of the source, (B, K), at most 0 (Wu et al. 2016, eq. 14)."""
        return ops.sum(ops.log(ops.clip(state.coverage, 1e-9, 1.0)), axis=-1)

    def hidden_step(self, token_ids: Tensor, state: RNNState, memory: RNNMemory) -> tuple[Tensor, RNNState]:
        """Take one step of every hypothesis: token ids (B, K) to (B, K, E) and the next state."""
        projected = self.decoder_cells[0].project(self.target_embedding(token_ids))  # (B, K, G*D)
        masks = self._layer_masks(ops.shape(token_ids)[0], training=False)
        state = self._advance(projected, state, memory.alignment, masks)
        return self._read_out(state.attended), state

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
        context, weights = self.alignment(stream, memory)
        attended = ops.tanh(self.attend(ops.concatenate([context, stream], axis=-1)))
        coverage = state.coverage if isinstance(state.coverage, tuple) else state.coverage + weights
        return RNNState(tuple(cells), attended, coverage)

    def _read_out(self, attended: Tensor) -> Tensor:
        return attended if self.readout is None else ops.cast(self.readout(attended), attended.dtype)
