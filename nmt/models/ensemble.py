"""Several models that translate as one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from keras import ops

from nmt.models.contract import DecodingModel
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

    def decoder(self) -> Callable[[Tensor, State, Memory], tuple[Tensor, State]]:
        """Return a step of all models; its logits (B, K, V) are log probabilities, but for a constant."""
        steps = [model.decoder() for model in self.models]

        def step(token_ids: Tensor, states: State, memories: Memory) -> tuple[Tensor, State]:
            taken = [one(token_ids, *own) for one, *own in zip(steps, states, memories, strict=True)]
            log_probs = [ops.log_softmax(ops.cast(logits, "float32")) for logits, _ in taken]
            if self.log_linear:
                mean = sum(weight * each for weight, each in zip(self.weights, log_probs, strict=True))
            else:
                weighted = [each + math.log(weight) for weight, each in zip(self.weights, log_probs, strict=True)]
                mean = ops.logsumexp(ops.stack(weighted), axis=0)
            return mean, tuple(state for _, state in taken)

        return step
