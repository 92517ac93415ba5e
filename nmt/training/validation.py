"""Loss and accuracy on the validation corpus, and which of two validations found the better model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from keras import ops

from nmt.backend.functions import Spec, compile_function
from nmt.backend.machine import map_at_once
from nmt.checkpoint.index import standing
from nmt.data.batches import Batch
from nmt.models.contract import Seq2Seq, token_mask
from nmt.training.events import Validation
from nmt.types import Tensor

METRICS: dict[str, Callable[[Validation], float]] = {
    "bleu": lambda validation: validation.bleu,
    "loss": lambda validation: -validation.loss,
}
"""Scores that a run can be judged by; higher is better."""


def score_of(validation: Validation, metric: str) -> float:
    """Return the score of a validation by a key of `METRICS`; it is not finite where the loss is not."""
    return METRICS[metric](validation) if math.isfinite(validation.loss) else -math.inf


def standing_of(validation: Validation, metric: str) -> tuple[float, ...]:
    """Return the `standing` of a validation, below all others where its loss is not finite."""
    score = score_of(validation, metric)
    return standing(score, validation.loss) if math.isfinite(score) else (-math.inf,)


class TokenScores(NamedTuple):
    """How well a model predicts the reference, token by token.

    loss: unsmoothed cross-entropy a real target token, in nats, EOS counted.
    accuracy: share of real target tokens with the highest logit, 0 to 1.
    """

    loss: float
    accuracy: float


class TokenScorer:
    """Predicts every reference token from those before it, without dropout; compiled once for all shapes.

    Args:
        model: what is judged.
    """

    def __init__(self, model: Seq2Seq) -> None:
        self._model = model
        self._sums = compile_function(self._batch_sums, (Spec((None, None), "int32"),) * 3)

    def score(self, batches: Sequence[Batch], *, at_once: int = 1) -> TokenScores:
        """Average over all real target tokens of all batches.

        Args:
            batches: what is to be predicted, at least one.
            at_once: batches side by side, each of which holds all its logits.
        """
        cross_entropy = correct = tokens = 0.0
        for sums in map_at_once(self._sums_of, batches, at_once=at_once):
            cross_entropy, correct, tokens = cross_entropy + sums[0], correct + sums[1], tokens + sums[2]
        return TokenScores(cross_entropy / tokens, correct / tokens)

    def _sums_of(self, batch: Batch) -> list[float]:
        return [float(total) for total in self._sums(*batch)]

    def _batch_sums(self, source_ids: Tensor, target_input_ids: Tensor, target_output_ids: Tensor) -> list[Tensor]:
        logits = self._model((source_ids, target_input_ids))  # (B, T, V)
        losses = ops.sparse_categorical_crossentropy(target_output_ids, logits, from_logits=True)  # (B, T)
        mask = ops.cast(token_mask(target_output_ids), "float32")
        correct = ops.cast(ops.equal(ops.cast(ops.argmax(logits, axis=-1), "int32"), target_output_ids), "float32")
        return [ops.sum(losses * mask), ops.sum(correct * mask), ops.sum(mask)]
