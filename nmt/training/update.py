"""The loss of a batch, and an update of the weights by it, compiled once for all shapes."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np
from keras import ops

from nmt.backend import functions, kernels, products
from nmt.backend.replicas import Replicas
from nmt.checkpoint.weights import seed_generators
from nmt.data.batches import Batch
from nmt.errors import ConfigError
from nmt.kinds import LOSSES
from nmt.models.contract import Seq2Seq, token_mask
from nmt.training.optimization import EmaWeights
from nmt.tying import named_variables
from nmt.types import Tensor


class LossSums(NamedTuple):
    """Sums over the real target tokens of a batch, scalars.

    smoothed: the loss that is minimised, in nats.
    cross_entropy: the same without label smoothing; perplexity is exp of its mean.
    tokens: how many real tokens, EOS counted, as float32.
    weight: sum of the weights by which the losses of the tokens were multiplied; None if they were not.
    """

    smoothed: Tensor
    cross_entropy: Tensor
    tokens: Tensor
    weight: Tensor = None


def loss_sums(model: Seq2Seq, batch: Batch, *, label_smoothing: float) -> LossSums:
    """Compute the training loss of a batch, with dropout, the logits of a block of tokens at a time.

    It needs `hidden`, `output_projection` and `output_bias` of a model, and a compiler that can select rows.

    Args:
        model: what is trained.
        batch: of tensors (B, S) and (B, T), and weights (B, 1) or None; padding of the target does not count.
        label_smoothing: e, in [0, 1); see `summed_losses`.
    """
    hidden = model.hidden(batch.source_ids, batch.target_input_ids, training=True)  # (B, T, E)
    mask = token_mask(batch.target_output_ids)
    hidden = functions.select_rows(hidden, mask)  # (N, E)
    targets = functions.select_rows(batch.target_output_ids, mask)  # (N,)
    weights = None
    if batch.weights is not None:
        weights = functions.select_rows(ops.broadcast_to(batch.weights, ops.shape(mask)), mask)  # (N,)
    embeddings = model.output_projection.embeddings
    sums = products.summed_losses(
        hidden,
        embeddings,
        model.output_bias,
        targets,
        label_smoothing=label_smoothing,
        weights=weights,
        trains_embeddings=embeddings.trainable,
    )
    tokens = ops.cast(ops.shape(targets)[0], "float32")
    return LossSums(*sums, tokens, None if weights is None else ops.sum(weights))


def plain_loss_sums(model: Seq2Seq, batch: Batch, *, label_smoothing: float) -> LossSums:
    """Compute what `loss_sums` computes, all logits at once: it needs only a call of the model that returns logits.

    XLA needs it, since it cannot compile a selection of rows; arguments are those of `loss_sums`.
    """
    logits = model((batch.source_ids, batch.target_input_ids), training=True)  # (B, T, V)
    return _sums_of_logits(batch.target_output_ids, logits, label_smoothing, batch.weights)


def _sums_of_logits(targets: Tensor, logits: Tensor, label_smoothing: float, weights: Tensor | None = None) -> LossSums:
    """Sum the losses of logits (B, T, V) for target ids (B, T) with weights (B, 1); padding does not count."""
    logits = ops.cast(logits, "float32")
    mask = ops.cast(token_mask(targets), "float32")
    tokens = ops.sum(mask)
    if weights is not None:
        mask = mask * weights  # (B, T)
    right = ops.take_along_axis(logits, targets[:, :, None], axis=2)[:, :, 0]  # (B, T)
    cross_entropy = ops.sum((ops.logsumexp(logits, axis=-1) - right) * mask)
    smoothed = cross_entropy + label_smoothing * ops.sum((right - ops.mean(logits, axis=-1)) * mask)
    return LossSums(smoothed, cross_entropy, tokens, None if weights is None else ops.sum(mask))


@keras.saving.register_keras_serializable(package="nmt")
def label_smoothed_cross_entropy(target_ids: Tensor, logits: Tensor, label_smoothing: float = 0.1) -> Tensor:
    """Return the loss that `nmt train` makes smaller, for `compile(loss=...)` of any Keras model, or a loop of yours.

    With label smoothing e the target distribution is (1 - e) one-hot + e / V (Szegedy et al. 2016, arXiv:1512.00567,
    section 7).

    Args:
        target_ids: (B, T) integers; padding, id 0, does not count.
        logits: (B, T, V), not normalised.
        label_smoothing: e, in [0, 1); 0 gives the cross-entropy, whose exponential is the perplexity.

    Returns:
        A scalar: the mean over all real tokens, in nats; 0 if there is none.
    """
    sums = _sums_of_logits(ops.cast(target_ids, "int32"), logits, label_smoothing)
    return sums.smoothed / ops.maximum(sums.tokens, 1.0)


Loss: TypeAlias = Callable[..., LossSums]
"""Takes a model, a batch of tensors and `label_smoothing`, and returns the sums that are to become smaller."""

BATCH_SPECS = (*(functions.Spec((None, None), "int32"),) * 3, functions.Spec((None, 1), "float32"))
"""Of a batch with weights; one without lacks the last."""

SCALAR_SPEC = functions.Spec((), "float32")


class UpdateResult(NamedTuple):
    """What came of one update.

    loss: label smoothed loss, summed over the real target tokens, in nats; with weights, their weighted mean times as
        many.
    cross_entropy: the same without smoothing.
    tokens: real target tokens of all micro-batches.
    gradient_norm: global norm of the gradient of the mean loss, before clipping.
    applied: False if the loss or the norm was not finite and the weights stayed as they were.
    """

    loss: float
    cross_entropy: float
    tokens: int
    gradient_norm: float
    applied: bool


@dataclass(eq=False, repr=False)
class Updater:
    """Computes gradients of micro-batches and applies their sum, divided by the number of real tokens.

    The loss of an update is the mean over all real target tokens of all its micro-batches, weighted if pairs have
    weights, so that several micro-batches give what one large batch would give, and so do several replicas: gradients
    are summed over all of them before anything else is done, and each replica makes the same update of its own copy.

    Args:
        model: what is trained; its variables were created in the scope of the replicas.
        optimizer: a Keras optimizer, without clipping of its own.
        label_smoothing: in [0, 1).
        clip_norm: largest global norm of the gradient; None does not clip.
        loss: of `nmt.kinds.LOSSES`; unless given the block-wise one, with XLA the plain one.
        ema: moving average of the weights, or None.
        xla: whether to compile with XLA.
        replicas: the copies of the model that are trained together; one unless given.
        precision: of matrix products, `float32` or `bfloat16`; all else is float32.
        parts: into how many parts each batch is cut whose gradients are computed side by side, a processor core each.
            On a processor this is faster than all cores on one operation: each works on what lies in its own cache,
            and none waits for the others at every operation.
        weighed: whether batches come with weights.
        factors: what the learning rate of variables is multiplied by, by canonical role path; of others it is 1.
        pull: alpha of a term alpha / 2 * |w - w0|^2 of the loss (Li et al. 2018, arXiv:1802.01483).
        anchors: w0 by canonical role path; needed if there is a pull.
        held: canonical role paths of what is not trained at first, though it has its slots.
        held_updates: for so many updates.
    """

    model: Seq2Seq
    optimizer: keras.optimizers.Optimizer
    _: KW_ONLY
    label_smoothing: float
    clip_norm: float | None
    loss: str | None = None
    ema: EmaWeights | None = None
    xla: bool = False
    replicas: Replicas = field(default_factory=Replicas)
    precision: str = products.FLOAT32
    parts: int = 1
    weighed: bool = False
    factors: Mapping[str, float] = field(default_factory=dict)
    pull: float | None = None
    anchors: Mapping[str, np.ndarray] = field(default_factory=dict)
    held: Sequence[str] = ()
    held_updates: int = 0

    def __post_init__(self) -> None:
        self._loss_sums = LOSSES[self.loss or ("plain" if self.xla else "blockwise")]
        self._variables = list(self.model.trainable_variables)
        self._seeds = [generator.state for generator in seed_generators(self.model).values()]
        self._paths = {id(variable): path for path, variable in named_variables(self.model).items()}
        with self.replicas.scope():
            self.optimizer.build(self._variables)
            trained = [self._paths[id(variable)] for variable in self._variables] if self.pull else []
            self._anchors = {path: keras.Variable(self.anchors[path], trainable=False) for path in trained}
        self.replicas.leave_sums_alone(self.optimizer)
        # Of frozen ones too, so that freezing changes no dropout.
        self._widest = max(variable.shape[-1] for variable in self.model.weights if len(variable.shape) == 2)
        self._held = [variable for variable in self._variables if self._paths[id(variable)] in self.held]
        self._are_held = bool(self.held_updates and self._held)
        self._compile()

    def _compile(self) -> None:
        """Compile an update of what is trained now."""
        for variable in self._held:
            variable.trainable = not self._are_held
        self._variables = list(self.model.trainable_variables)
        self._sums: list[keras.Variable] = []  # of gradients of micro-batches, each replica's own
        self._size = 4 if self.weighed else 3  # arrays of a batch
        specs = BATCH_SPECS[: self._size] * len(self.replicas.own_numbers)
        self._whole = functions.compile_function(self._whole_update, (*specs, SCALAR_SPEC), xla=self.xla)
        self._micro_batch = functions.compile_function(self._accumulate, specs, xla=self.xla)
        self._last = functions.compile_function(self._apply_accumulated, (SCALAR_SPEC,) * 5, xla=self.xla)

    def update(
        self, batches: Sequence[Batch], learning_rate: float, *, check: Callable[[], None] = lambda: None
    ) -> UpdateResult:
        """Make one update from one or several micro-batches.

        Args:
            batches: the micro-batches, at least one; of several replicas those of this process, one each in turn.
            learning_rate: of this update.
            check: called between micro-batches; if it raises, what is accumulated is dropped and nothing changed.
        """
        if self._are_held and int(self.optimizer.iterations) >= self.held_updates:
            self._are_held = False
            self._compile()
        # A round is one batch for each replica of this process; an update of one round is one compiled function.
        rate, own, size = np.float32(learning_rate), len(self.replicas.own_numbers), self._size
        starts = range(0, len(batches), own)
        rounds = [[ids for batch in batches[at : at + own] for ids in batch[:size]] for at in starts]
        if len(rounds) == 1:
            return _result(*self._whole(*rounds[0], rate))
        # Several rounds add up in variables, which take memory and are created when they are needed first.
        if not self._sums:
            kind = {"trainable": False, "name": "sum", "synchronization": "on_read", "aggregation": "sum"}
            with self.replicas.scope():
                self._sums = [keras.Variable(ops.zeros(variable.shape), **kind) for variable in self._variables]
        # Whatever breaks off between rounds leaves no gradients behind.
        totals = [0.0] * 4
        try:
            for arrays in rounds:
                check()
                totals = [total + float(more) for total, more in zip(totals, self._micro_batch(*arrays), strict=True)]
        except BaseException:
            self.replicas.run(self._clear)
            raise
        return _result(*self._last(*(np.float32(total) for total in totals), rate))

    def _clear(self) -> None:
        for total in self._sums:
            total.assign(ops.zeros_like(total))

    def _gradients(self, arrays: Sequence[Tensor]) -> tuple[LossSums, list[Tensor]]:
        """Return the sums of the batch of the replica that asks, and the gradients of its summed loss."""
        # Arrays come flat, as many for each replica.
        batch = self.replicas.own([arrays[at : at + self._size] for at in range(0, len(arrays), self._size)])

        def summed_loss() -> tuple[Tensor, LossSums]:
            # Nothing in the graph makes parts wait for each other, so that TensorFlow runs them side by side.
            parts = zip(*(functions.cut_rows(ids, self.parts) for ids in batch), strict=True)
            sums = [self._loss_sums(self.model, Batch(*part), label_smoothing=self.label_smoothing) for part in parts]
            if self.weighed and any(each.weight is None for each in sums):
                raise ConfigError(f"training.loss {self.loss} takes no weights: remove loss_weight_column of corpora")
            sums = [each if self.weighed else each._replace(weight=each.tokens) for each in sums]
            total = LossSums(*(sum(column) for column in zip(*sums, strict=True)))
            return total.smoothed, total

        # What is traced in here draws its own dropout, multiplies in this precision and shares masks.
        with self.replicas.own_draws(self._seeds), products.products_in(self.precision), self._masks(batch):
            _, sums, gradients = functions.value_and_gradients(summed_loss, self._variables)
        return sums, gradients

    def _masks(self, batch: Sequence[Tensor]) -> AbstractContextManager[None]:
        """Let layers share the masks of dropout; XLA draws each with the operation that it is for."""
        if self.xla:
            return nullcontext()
        cells = ops.cast(ops.max([ops.size(ids) for ids in batch]), "float32")  # the product may pass int32
        return kernels.shared_masks(cells * self._widest, self.model.seed_generator.next())

    def _whole_update(self, *arguments: Tensor) -> tuple[Tensor, ...]:
        *arrays, learning_rate = arguments

        def summed() -> tuple[LossSums, list[Tensor]]:
            # Sums and gradients go round the replicas together: one exchange is cheaper than two.
            sums, gradients = self._gradients(arrays)
            totals = self.replicas.sum([*sums, *gradients])
            return LossSums(*totals[:4]), totals[4:]

        return self._apply(summed, learning_rate)

    def _accumulate(self, *arrays: Tensor) -> list[Tensor]:
        """Add the gradients of each replica's batch to its sums; return the loss sums of all."""

        def accumulate() -> list[Tensor]:
            sums, gradients = self._gradients(arrays)
            for total, gradient in zip(self._sums, gradients, strict=True):
                total.assign_add(gradient)
            return self.replicas.sum(sums)

        return self.replicas.first(self.replicas.run(accumulate))

    def _apply_accumulated(self, *arguments: Tensor) -> tuple[Tensor, ...]:
        *sums, learning_rate = arguments

        def summed() -> tuple[LossSums, list[Tensor]]:
            return LossSums(*sums), self.replicas.sum([ops.convert_to_tensor(total) for total in self._sums])

        result = self._apply(summed, learning_rate)
        self.replicas.run(self._clear)
        return result

    def _apply(self, summed: Callable[[], tuple[LossSums, list[Tensor]]], learning_rate: Tensor) -> tuple[Tensor, ...]:
        """Clip and apply gradients, each replica its copy; return the sums, the norm and whether it was done.

        Args:
            summed: returns, in each replica, loss sums and gradients of the summed loss, of all replicas together.
            learning_rate: a scalar.
        """

        def judged() -> tuple[Any, ...]:
            # The norm is that of the gradient of the mean loss. If devices round in other ways, the mean of what
            # the replicas found keeps it the same to the last bit on all, and so whether the update is made.
            sums, gradients = summed()
            if self.pull is not None:
                # Of the mean loss, so that it is the same whatever the batch; gradients are of the sum by now.
                share, anchors = self.pull * sums.weight, [self._anchors[self._paths[id(v)]] for v in self._variables]
                distances = [variable - anchor for variable, anchor in zip(self._variables, anchors, strict=True)]
                gradients = [each + share * far for each, far in zip(gradients, distances, strict=True)]
            norm = ops.sqrt(kernels.sum_of_squares(gradients)) / sums.weight
            norm = self.replicas.sum([norm])[0] / self.replicas.count
            return gradients, sums, norm, ops.logical_and(ops.isfinite(norm), ops.isfinite(sums.smoothed))

        gradients, *judgement = self.replicas.run(judged)
        sums, norm, finite = self.replicas.first(judgement)

        # Gradients are of the summed loss: one factor makes them those of the mean, and clips them.
        scale = 1.0 / sums.weight
        if self.clip_norm is not None:
            scale = scale * ops.minimum(1.0, self.clip_norm / ops.maximum(norm, 1e-12))

        def apply_here(gradients: list[Tensor]) -> None:
            # The step of any optimizer grows with the rate, decay included: a part of it is the step of a lower rate.
            slowed = [v for v in self._variables if self.factors.get(self._paths[id(v)], 1.0) != 1.0]
            before = [kernels.copied(variable) for variable in slowed]
            self.optimizer.apply([gradient * scale for gradient in gradients], self._variables)
            for variable, value in zip(slowed, before, strict=True):
                kernels.move_towards(variable, value, 1.0 - self.factors[self._paths[id(variable)]])
            if self.ema is not None:
                self.ema.update(self.optimizer.iterations)

        def apply() -> None:
            self.optimizer.learning_rate.assign(learning_rate)
            self.replicas.run(apply_here, gradients)

        # A loss that is not finite leaves weights, slots and average as they were.
        ops.cond(finite, apply, lambda: None)
        return (*sums, norm, finite)


def _result(*found: Tensor) -> UpdateResult:
    smoothed, cross_entropy, tokens, weight, norm, applied = map(float, found)
    share = tokens / weight if weight else 1.0
    return UpdateResult(smoothed * share, cross_entropy * share, round(tokens), norm, bool(applied))
