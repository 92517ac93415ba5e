"""One update of the weights, compiled once for all shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from nmt.backend.functions import Spec, compile_function, if_then, value_and_gradients
from nmt.backend.kernels import sum_of_squares
from nmt.data.batches import Batch
from nmt.models.contract import Seq2Seq
from nmt.training.average import MovingAverage
from nmt.training.loss import LossSums, loss_sums, plain_loss_sums
from nmt.types import Tensor

BATCH_SPECS = (Spec((None, None), "int32"),) * 3


class UpdateResult(NamedTuple):
    """What came of one update.

    loss: label smoothed loss, summed over the real target tokens, in nats.
    cross_entropy: the same without smoothing.
    tokens: real target tokens of all micro-batches.
    gradient_norm: global norm of the gradient of the mean loss, before clipping.
    applied: False where the loss or the norm was not finite and the weights stayed as they were.
    """

    loss: float
    cross_entropy: float
    tokens: int
    gradient_norm: float
    applied: bool


class Updater:
    """Computes gradients of micro-batches and applies their sum, divided by the number of real tokens.

    The loss of an update is the mean over all real target tokens of all its micro-batches, so that several
    micro-batches give what one large batch would give.

    Args:
        model: what is trained.
        optimizer: a Keras optimizer, without clipping of its own.
        label_smoothing: in [0, 1).
        clip_norm: largest global norm of the gradient; None does not clip.
        average: moving average of the weights, or None.
        xla: whether to compile with XLA.
    """

    def __init__(
        self,
        model: Seq2Seq,
        optimizer: keras.optimizers.Optimizer,
        *,
        label_smoothing: float,
        clip_norm: float | None,
        average: MovingAverage | None = None,
        xla: bool = False,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.label_smoothing = label_smoothing
        self.clip_norm = clip_norm
        self.average = average
        self._loss_sums = plain_loss_sums if xla else loss_sums
        self._variables = list(model.trainable_variables)
        optimizer.build(self._variables)
        self._sums: list[keras.Variable] = []
        rate = Spec((), "float32")
        self._whole = compile_function(self._whole_update, (*BATCH_SPECS, rate), xla=xla)
        self._part = compile_function(self._accumulate, BATCH_SPECS, xla=xla)
        self._last = compile_function(self._apply_accumulated, (*(Spec((), "float32"),) * 3, rate), xla=xla)

    def update(
        self, batches: Sequence[Batch], learning_rate: float, *, check: Callable[[], None] = lambda: None
    ) -> UpdateResult:
        """Make one update from one or several micro-batches.

        Args:
            batches: the micro-batches, at least one.
            learning_rate: of this update.
            check: called between micro-batches; if it raises, what is accumulated is dropped and nothing changed.
        """
        rate = np.float32(learning_rate)
        if len(batches) == 1:
            return _result(*self._whole(*batches[0], rate))
        if not self._sums:
            self._sums = [keras.Variable(ops.zeros(v.shape), trainable=False, name="sum") for v in self._variables]
        totals = [0.0, 0.0, 0.0]
        try:
            for batch in batches:
                check()
                totals = [total + float(part) for total, part in zip(totals, self._part(*batch), strict=True)]
        except BaseException:
            self._clear()
            raise
        return _result(*self._last(*(np.float32(total) for total in totals), rate))

    def _clear(self) -> None:
        for total in self._sums:
            total.assign(ops.zeros_like(total))

    def _gradients(self, *batch: Tensor) -> tuple[LossSums, list[Tensor]]:
        """Return the sums of a batch and the gradients of its summed loss."""

        def summed_loss() -> tuple[Tensor, LossSums]:
            sums = self._loss_sums(self.model, *batch, label_smoothing=self.label_smoothing)
            return sums.smoothed, sums

        _, sums, gradients = value_and_gradients(summed_loss, self._variables)
        return sums, gradients

    def _whole_update(
        self, source_ids: Tensor, target_input_ids: Tensor, target_output_ids: Tensor, learning_rate: Tensor
    ) -> tuple[Tensor, ...]:
        sums, gradients = self._gradients(source_ids, target_input_ids, target_output_ids)
        return (*sums, *self._apply(sums, gradients, learning_rate))

    def _accumulate(self, source_ids: Tensor, target_input_ids: Tensor, target_output_ids: Tensor) -> LossSums:
        sums, gradients = self._gradients(source_ids, target_input_ids, target_output_ids)
        for total, gradient in zip(self._sums, gradients, strict=True):
            total.assign_add(gradient)
        return sums

    def _apply_accumulated(
        self, smoothed: Tensor, cross_entropy: Tensor, tokens: Tensor, learning_rate: Tensor
    ) -> tuple[Tensor, ...]:
        sums = LossSums(smoothed, cross_entropy, tokens)
        gradients = [ops.convert_to_tensor(total) for total in self._sums]
        result = (*sums, *self._apply(sums, gradients, learning_rate))
        self._clear()
        return result

    def _apply(self, sums: LossSums, gradients: list[Tensor], learning_rate: Tensor) -> tuple[Tensor, Tensor]:
        """Clip and apply the gradients of a summed loss; return their norm and whether they were applied."""
        norm = ops.sqrt(sum_of_squares(gradients)) / sums.tokens
        finite = ops.logical_and(ops.isfinite(norm), ops.isfinite(sums.smoothed))
        scale = 1.0 / sums.tokens
        if self.clip_norm is not None:
            scale = scale * ops.minimum(1.0, self.clip_norm / ops.maximum(norm, 1e-12))

        def apply() -> None:
            self.optimizer.learning_rate.assign(learning_rate)
            self.optimizer.apply([gradient * scale for gradient in gradients], self._variables)
            if self.average is not None:
                self.average.update(self.optimizer.iterations)

        if_then(finite, apply)
        return norm, finite


def _result(smoothed: Tensor, cross_entropy: Tensor, tokens: Tensor, norm: Tensor, applied: Tensor) -> UpdateResult:
    return UpdateResult(float(smoothed), float(cross_entropy), round(float(tokens)), float(norm), bool(applied))
