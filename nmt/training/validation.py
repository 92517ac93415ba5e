"""Loss and accuracy on the validation corpus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from keras import ops

from nmt.backend.functions import Spec, compile_function
from nmt.backend.threads import map_at_once
from nmt.data.batches import Batch
from nmt.models.contract import Seq2Seq, token_mask
from nmt.types import Tensor


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
