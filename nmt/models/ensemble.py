"""Several models that translate as one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from keras import ops

from nmt.models.contract import DecodingModel, Seq2Seq, read_in_steps
from nmt.types import Memory, State, Tensor


class Ensemble:
    """Decodes by the mean of the probabilities that several models give to each token.

    The mean is that of probabilities (Sutskever et al. 2014), or of their logarithms. Target vocabularies
    are one; all else may differ, also the way the source is cut and the kind of model.

    Args:
        models: at least one.
        weights: of each model, above 0; equal unless given. They are divided by their sum.
        log_linear: whether to take the mean of log probabilities, a geometric one, which a single model can veto,
            instead of that of probabilities.
    """

    def __init__(
        self, models: Sequence[DecodingModel], weights: Sequence[float] | None = None, *, log_linear: bool = False
    ) -> None:
        self.models, self.log_linear = tuple(models), log_linear
        weights = weights or [1.0] * len(self.models)
        self.weights = tuple(weight / sum(weights) for weight in weights)

    def encode(self, source_ids: Sequence[Tensor]) -> Memory:
        """Encode the source as each model cuts it: (B, S) of its own each."""
        return tuple(model.encode(ids) for model, ids in zip(self.models, source_ids, strict=True))

    def initial_state(self, memory: Memory, beam_size: Tensor, max_length: Tensor) -> State:
        """Return the state of each model."""
        return tuple(
            model.initial_state(own, beam_size, max_length) for model, own in zip(self.models, memory, strict=True)
        )

    def output_matrix(self) -> tuple[Any, ...]:
        """Return that of each model, nothing of what is no `Seq2Seq`."""
        return tuple(model.output_matrix() if isinstance(model, Seq2Seq) else () for model in self.models)

    def read(self, token_ids: Tensor, memory: Memory, matrices: Sequence[Any] | None = None) -> tuple[Tensor, State]:
        """Read the beginning of a target, each model as it can; see `Seq2Seq.read`."""
        taken = [
            model.read(token_ids, own, matrix)
            if isinstance(model, Seq2Seq)
            else read_in_steps(model.decoder(), token_ids, own, model.initial_state(own, 1, 0))
            for model, own, matrix in zip(self.models, memory, matrices or self.output_matrix(), strict=True)
        ]
        return self.mean([logits for logits, _ in taken]), tuple(state for _, state in taken)

    def decoder(self, matrices: Sequence[Any] | None = None) -> Callable[[Tensor, State, Memory], tuple[Tensor, State]]:
        """Return a step of all models; its logits (B, K, V) are log probabilities, but for a constant.

        Args:
            matrices: what `output_matrix` returned, if it is at hand.
        """
        steps = [
            model.decoder(matrix) if isinstance(model, Seq2Seq) else model.decoder()
            for model, matrix in zip(self.models, matrices or self.output_matrix(), strict=True)
        ]

        def step(token_ids: Tensor, states: State, memories: Memory) -> tuple[Tensor, State]:
            taken = [one(token_ids, *own) for one, *own in zip(steps, states, memories, strict=True)]
            return self.mean([logits for logits, _ in taken]), tuple(state for _, state in taken)

        return step

    def mean(self, logits: Sequence[Tensor]) -> Tensor:
        """Return the mean of logits (..., V) of each model: log probabilities, but for a constant."""
        log_probs = [ops.log_softmax(ops.cast(each, "float32")) for each in logits]
        if self.log_linear:
            return sum(weight * each for weight, each in zip(self.weights, log_probs, strict=True))
        weighted = [each + math.log(weight) for weight, each in zip(self.weights, log_probs, strict=True)]
        return ops.logsumexp(ops.stack(weighted), axis=0)
