"""Models that decode in a part of their target vocabulary, whose tokens are the columns of their logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from keras import ops

from nmt.backend.products import linear
from nmt.models.contract import DecodingModel, Seq2Seq
from nmt.models.ensemble import Ensemble
from nmt.types import Memory, State, Tensor


class Part(NamedTuple):
    """The part of a vocabulary in which a batch is decoded: C columns.

    token_ids: (C,) int32, the token of each column.
    allowed: (B, C) bool, the columns of each sentence.
    """

    token_ids: Tensor
    allowed: Tensor

    @property
    def size(self) -> Tensor:
        """C."""
        return ops.shape(self.token_ids)[0]

    def tokens(self, columns: Tensor) -> Tensor:
        """Return the tokens of columns, in their shape."""
        return ops.take(self.token_ids, columns)

    def of(self, model: DecodingModel | Ensemble) -> Any:
        """Return a model, or each one of an ensemble, as it decodes in this part; each is a `Seq2Seq`."""
        if isinstance(model, Ensemble):
            members = [Narrowed(each, self) for each in model.models]
            return Ensemble(members, model.weights, log_linear=model.log_linear)
        return Narrowed(model, self)


class Narrowed:
    """A model that decodes in a part of its target vocabulary; what a search needs of a model, see `DecodingModel`.

    The rows of the output matrix are taken once for all steps. Each sentence keeps to its own columns, which its memory
    says, so that it is searched as it would be in any other batch.

    Args:
        model: a `Seq2Seq`.
        part: of its target vocabulary.
    """

    def __init__(self, model: Seq2Seq | Any, part: Part) -> None:
        self.model, self.part = model, part

    def encode(self, source_ids: Tensor) -> Memory:
        """Encode source ids (B, S)."""
        return self.model.encode(source_ids), self.part.allowed

    def initial_state(self, memory: Memory, beam_size: Tensor, max_length: Tensor, **covering: bool) -> State:
        """Return that of the model."""
        return self.model.initial_state(memory[0], beam_size, max_length, **covering)

    def coverage(self, state: State) -> Tensor:
        """Return that of the model."""
        return self.model.coverage(state)

    def decoder(self) -> Callable[[Tensor, State, Memory], tuple[Tensor, State]]:
        """Return a step: columns (B, K) to logits (B, K, C), −inf for those that are not the sentence's, and state."""
        rows = ops.take(self.model.output_projection.embeddings, self.part.token_ids, axis=0)
        matrix, bias = ops.transpose(rows), ops.take(self.model.output_bias, self.part.token_ids)  # (E, C), (C,)

        def step(columns: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
            own, allowed = memory
            hidden, state = self.model.hidden_step(self.part.tokens(columns), state, own)
            return ops.where(allowed[:, None], linear(hidden, matrix, bias), -float("inf")), state

        return step
