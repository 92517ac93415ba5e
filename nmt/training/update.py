"""One update of the weights, compiled once for all shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from nmt.backend.functions import Spec, compile_function, cut_rows, if_then, select_rows, value_and_gradients
from nmt.backend.kernels import shared_masks, sum_of_squares
from nmt.backend.products import BFLOAT16, FLOAT32, products_in
from nmt.backend.replicas import Replicas
from nmt.backend.vocabulary_loss import summed_losses
from nmt.checkpoint.weights import seed_generators
from nmt.data.batches import Batch
from nmt.models.contract import Seq2Seq, token_mask
from nmt.training.optimizers import MovingAverage
from nmt.types import Tensor


class LossSums(NamedTuple):
    """Sums over the real target tokens of a batch, scalars.

    smoothed: the loss that is minimised, in nats.
    cross_entropy: the same without label smoothing; perplexity is exp of its mean.
    tokens: how many real tokens, EOS counted, as float32.
    """

    smoothed: Tensor
    cross_entropy: Tensor
    tokens: Tensor


def loss_sums(
    model: Seq2Seq, source_ids: Tensor, target_input_ids: Tensor, target_output_ids: Tensor, *, label_smoothing: float
) -> LossSums:
    """Compute the training loss of a batch, with dropout.

    Args:
        model: what is trained.
        source_ids: (B, S).
        target_input_ids: (B, T), beginning with BOS.
        target_output_ids: (B, T), ending with EOS; padding does not count.
        label_smoothing: e, in [0, 1); see `summed_losses`.
    """
    hidden = model.hidden(source_ids, target_input_ids, training=True)  # (B, T, E)
    mask = token_mask(target_output_ids)
    hidden, targets = select_rows(hidden, mask), select_rows(target_output_ids, mask)  # (N, E), (N,)
    embeddings = model.output_projection.embeddings
    sums = summed_losses(hidden, embeddings, model.output_bias, targets, label_smoothing=label_smoothing)
    return LossSums(*sums, ops.cast(ops.shape(targets)[0], "float32"))


def plain_loss_sums(
    model: Seq2Seq, source_ids: Tensor, target_input_ids: Tensor, target_output_ids: Tensor, *, label_smoothing: float
) -> LossSums:
    """Compute what `loss_sums` computes in `keras.ops` alone, all logits at once.

    XLA needs it, since it cannot compile a selection of rows; arguments are those of `loss_sums`.
    """
    logits = model((source_ids, target_input_ids), training=True)  # (B, T, V)
    mask = ops.cast(token_mask(target_output_ids), logits.dtype)
    right = ops.take_along_axis(logits, target_output_ids[:, :, None], axis=2)[:, :, 0]  # (B, T)
    cross_entropy = ops.sum((ops.logsumexp(logits, axis=-1) - right) * mask)
    smoothed = cross_entropy + label_smoothing * ops.sum((right - ops.mean(logits, axis=-1)) * mask)
    return LossSums(smoothed, cross_entropy, ops.cast(ops.sum(mask), "float32"))


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
    micro-batches give what one large batch would give, and so do several replicas: gradients are summed over all of
    them before anything else is done, and each replica makes the same update of its own copy.

    Args:
        model: what is trained; its variables were created in the scope of the replicas.
        optimizer: a Keras optimizer, without clipping of its own.
        label_smoothing: in [0, 1).
        clip_norm: largest global norm of the gradient; None does not clip.
        average: moving average of the weights, or None.
        xla: whether to compile with XLA.
        replicas: the copies of the model that are trained together; one unless given.
        precision: of matrix products, `float32` or `bfloat16`; all else is float32.
        parts: into how many parts each batch is cut whose gradients are computed side by side, a processor core each.
            On a processor this is faster than all cores on one operation: each works on what lies in its own cache,
            and none waits for the others at every operation.
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
        replicas: Replicas | None = None,
        precision: str = FLOAT32,
        parts: int = 1,
    ) -> None:
        if precision not in (FLOAT32, BFLOAT16):
            raise ValueError(f"precision must be {FLOAT32} or {BFLOAT16}, got {precision}")
        self.model = model
        self.optimizer = optimizer
        self.label_smoothing = label_smoothing
        self.clip_norm = clip_norm
        self.average = average
        self.replicas = replicas or Replicas()
        self.precision = precision
        self.parts = parts
        self.xla = xla
        self._loss_sums = plain_loss_sums if xla else loss_sums
        self._variables = list(model.trainable_variables)
        self._seeds = [generator.state for generator in seed_generators(model).values()]
        with self.replicas.scope():
            optimizer.build(self._variables)
        self.replicas.leave_sums_alone(optimizer)
        self._widest = max(variable.shape[-1] for variable in self._variables if len(variable.shape) == 2)
        self._sums: list[keras.Variable] = []
        rate = Spec((), "float32")
        specs = BATCH_SPECS * len(self.replicas.own_numbers)
        self._whole = compile_function(self._whole_update, (*specs, rate), xla=xla)
        self._micro_batch = compile_function(self._accumulate, specs, xla=xla)
        self._last = compile_function(self._apply_accumulated, (*(Spec((), "float32"),) * 3, rate), xla=xla)

    def update(
        self, batches: Sequence[Batch], learning_rate: float, *, check: Callable[[], None] = lambda: None
    ) -> UpdateResult:
        """Make one update from one or several micro-batches.

        Args:
            batches: the micro-batches, at least one; of several replicas those of this process, one each in turn.
            learning_rate: of this update.
            check: called between micro-batches; if it raises, what is accumulated is dropped and nothing changed.
        """
        rate, own = np.float32(learning_rate), len(self.replicas.own_numbers)
        rounds = [[ids for batch in batches[at : at + own] for ids in batch] for at in range(0, len(batches), own)]
        if len(rounds) == 1:
            return _result(*self._whole(*rounds[0], rate))
        if not self._sums:
            self._sums = self._zeros()
        totals = [0.0, 0.0, 0.0]
        try:
            for arrays in rounds:
                check()
                totals = [total + float(more) for total, more in zip(totals, self._micro_batch(*arrays), strict=True)]
        except BaseException:
            self.replicas.run(self._clear)
            raise
        return _result(*self._last(*(np.float32(total) for total in totals), rate))

    def _zeros(self) -> list[keras.Variable]:
        """Return what each replica adds its own gradients up in."""
        with self.replicas.scope():
            return [
                keras.Variable(
                    ops.zeros(v.shape), trainable=False, name="sum", synchronization="on_read", aggregation="sum"
                )
                for v in self._variables
            ]

    def _clear(self) -> None:
        for total in self._sums:
            total.assign(ops.zeros_like(total))

    def _gradients(self, *batch: Tensor) -> tuple[LossSums, list[Tensor]]:
        """Return the sums of a batch and the gradients of its summed loss."""

        def summed_loss() -> tuple[Tensor, LossSums]:
            parts = zip(*(cut_rows(ids, self.parts) for ids in batch), strict=True)
            sums = [self._loss_sums(self.model, *part, label_smoothing=self.label_smoothing) for part in parts]
            total = LossSums(*(sum(column) for column in zip(*sums, strict=True)))
            return total.smoothed, total

        with products_in(self.precision), self._masks(batch):
            _, sums, gradients = value_and_gradients(summed_loss, self._variables)
        return sums, gradients

    def _masks(self, batch: Sequence[Tensor]) -> AbstractContextManager[None]:
        """Let layers share the masks of dropout; XLA draws each with the operation that it is for."""
        if self.xla:
            return nullcontext()
        cells = ops.cast(ops.max([ops.size(ids) for ids in batch]), "float32")  # the product may pass int32
        return shared_masks(cells * self._widest, self.model.seed_generator.next())

    def _own_gradients(self, arrays: Sequence[Tensor]) -> tuple[LossSums, list[Tensor]]:
        """Return what `_gradients` gives for the batch of the replica that asks, with dropout of its own."""
        batch = self.replicas.own([arrays[at : at + 3] for at in range(0, len(arrays), 3)])
        with self.replicas.own_draws(self._seeds):
            return self._gradients(*batch)

    def _whole_update(self, *arguments: Tensor) -> tuple[Tensor, ...]:
        *arrays, learning_rate = arguments

        def summed() -> tuple[LossSums, _Summed]:
            sums, gradients = self._own_gradients(arrays)
            totals = self.replicas.sum([*sums, *gradients])
            sums = LossSums(*totals[: len(sums)])
            return sums, self._judged(sums, totals[len(sums) :])

        sums, found = self.replicas.run(summed)
        return self._apply(self.replicas.first(sums), found, learning_rate)

    def _accumulate(self, *arrays: Tensor) -> list[Tensor]:
        """Add the gradients of each replica's batch to its sums; return the loss sums of all."""

        def accumulate() -> list[Tensor]:
            sums, gradients = self._own_gradients(arrays)
            for total, gradient in zip(self._sums, gradients, strict=True):
                total.assign_add(gradient)
            return self.replicas.sum(sums)

        return self.replicas.first(self.replicas.run(accumulate))

    def _apply_accumulated(
        self, smoothed: Tensor, cross_entropy: Tensor, tokens: Tensor, learning_rate: Tensor
    ) -> tuple[Tensor, ...]:
        sums = LossSums(smoothed, cross_entropy, tokens)

        def summed() -> _Summed:
            return self._judged(sums, self.replicas.sum([ops.convert_to_tensor(total) for total in self._sums]))

        result = self._apply(sums, self.replicas.run(summed), learning_rate)
        self.replicas.run(self._clear)
        return result

    def _judged(self, sums: LossSums, gradients: list[Tensor]) -> _Summed:
        """Judge the gradients of a summed loss by their norm, which is the same to the last bit on all replicas."""
        norm = self.replicas.mean(ops.sqrt(sum_of_squares(gradients)) / sums.tokens)
        return _Summed(gradients, norm, ops.logical_and(ops.isfinite(norm), ops.isfinite(sums.smoothed)))

    def _apply(self, sums: LossSums, found: _Summed, learning_rate: Tensor) -> tuple[Tensor, ...]:
        """Clip and apply summed gradients; return the sums, the norm and whether they were applied."""
        norm, finite = self.replicas.first((found.norm, found.finite))
        scale = 1.0 / sums.tokens
        if self.clip_norm is not None:
            scale = scale * ops.minimum(1.0, self.clip_norm / ops.maximum(norm, 1e-12))

        def apply_here(gradients: list[Tensor]) -> None:
            self.optimizer.apply([gradient * scale for gradient in gradients], self._variables)
            if self.average is not None:
                self.average.update(self.optimizer.iterations)

        def apply() -> None:
            self.optimizer.learning_rate.assign(learning_rate)
            self.replicas.run(apply_here, found.gradients)

        if_then(finite, apply)
        return (*sums, norm, finite)


class _Summed(NamedTuple):
    """What all micro-batches of all replicas come to; under a strategy each replica has its copy.

    gradients: of the summed loss, one a variable.
    norm: global norm of the gradient of the mean loss.
    finite: whether loss and norm are numbers.
    """

    gradients: list[Tensor]
    norm: Tensor
    finite: Tensor


def _result(smoothed: Tensor, cross_entropy: Tensor, tokens: Tensor, norm: Tensor, applied: Tensor) -> UpdateResult:
    return UpdateResult(float(smoothed), float(cross_entropy), round(float(tokens)), float(norm), bool(applied))
