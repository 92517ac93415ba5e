"""Optimizers, moving averages of weights, and schedules of the learning rate.

Optimizers are Keras's own, without their clipping and schedules, which belong to the update.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar

import keras
from keras import ops

from nmt.backend.kernels import AdamInOnePass, move_towards
from nmt.training.state import is_better
from nmt.tying import named_variables
from nmt.types import Tensor


@keras.saving.register_keras_serializable(package="nmt")
class Adam(AdamInOnePass, keras.optimizers.Adam):
    """Keras's Adam with one pass over memory per variable instead of a dozen; its slots are Keras's."""


@keras.saving.register_keras_serializable(package="nmt")
class AdamW(AdamInOnePass, keras.optimizers.AdamW):
    """Keras's AdamW, likewise."""


def build_adam(*, learning_rate: float, beta_1: float, beta_2: float, epsilon: float) -> keras.optimizers.Optimizer:
    """Return Adam (Kingma & Ba 2015, arXiv:1412.6980)."""
    return Adam(learning_rate, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon, name="adam")


def build_adamw(
    *, learning_rate: float, beta_1: float, beta_2: float, epsilon: float, weight_decay: float
) -> keras.optimizers.Optimizer:
    """Return Adam with decoupled weight decay (Loshchilov & Hutter 2019); biases and norms do not decay."""
    optimizer = AdamW(
        learning_rate, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon, weight_decay=weight_decay, name="adamw"
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def build_sgd(*, learning_rate: float, momentum: float, nesterov: bool) -> keras.optimizers.Optimizer:
    """Return stochastic gradient descent, with momentum if it is above 0."""
    return keras.optimizers.SGD(learning_rate, momentum=momentum, nesterov=nesterov)


class EmaWeights:
    """Keeps average = d * average + (1 - d) * weights after every update (Polyak & Juditsky 1992).

    The first averages follow the weights more closely: d is at most (1 + u) / (10 + u) after u updates.

    Args:
        model: whose trainable weights are averaged, each variable once however many roles it plays.
        decay: d, in (0, 1).
    """

    def __init__(self, model: keras.Model, decay: float) -> None:
        self.decay = decay
        self._weights = {path: v for path, v in named_variables(model).items() if v.trainable}
        self.variables = {
            path: keras.Variable(ops.convert_to_tensor(variable), trainable=False, name="average")
            for path, variable in self._weights.items()
        }

    def is_young(self, update: int) -> bool:
        """Return whether d is still below `decay` after `update` updates: the weights themselves may be better then."""
        return (1.0 + update) / (10.0 + update) < self.decay

    def cut_short(self, update: int) -> str | None:
        """Return what the average has not come to after `update` updates, or None; see `Schedule.cut_short`."""
        span = 1.0 / (1.0 - self.decay)
        if update >= span:
            return None
        return f"the moving average had its span (about {(10 + update) // 9:,} updates so far, of {span:,.0f})"

    def update(self, count: Tensor) -> None:
        """Take in the weights after `count` updates, an integer scalar; part of the compiled step."""
        count = ops.cast(count, "float32")
        share = 1.0 - ops.minimum(self.decay, (1.0 + count) / (10.0 + count))
        for path, average in self.variables.items():
            move_towards(average, ops.convert_to_tensor(self._weights[path]), share)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Put the average in the place of the weights, and the weights back at the end."""
        kept = {path: ops.convert_to_numpy(variable).copy() for path, variable in self._weights.items()}
        try:
            for path, variable in self._weights.items():
                variable.assign(self.variables[path])
            yield
        finally:
            for path, variable in self._weights.items():
                variable.assign(kept[path])


_STILL_HIGH = 0.75
"""A run that ends above this share of the peak has not made use of its falling learning rate."""


@dataclass
class Schedule:
    """A learning rate for every update. A schedule that watches validations keeps a small state.

    Attributes:
        warmup_updates: updates over which the rate rises to its peak.
        falls: whether it falls afterwards.
    """

    _: KW_ONLY
    warmup_updates: int
    falls: ClassVar[bool] = True

    def learning_rate(self, update: int) -> float:
        """Return the learning rate of an update, counted from 1."""
        raise NotImplementedError

    def cut_short(self, update: int) -> str | None:
        """Return what a run has not come to that ends after `update` updates, or None.

        It is a clause that follows "the run was ended by max_updates: 4 before".
        """
        if update < self.warmup_updates:
            return f"the warm-up was over ({update:,} of {self.warmup_updates:,} updates)"
        highest = self.highest_rate()
        share = self.learning_rate(update) / highest if highest > 0 else 0.0
        if self.falls and share > _STILL_HIGH:
            return f"the learning rate fell far (it is still {share:.0%} of its peak)"
        return None

    def highest_rate(self) -> float:
        """Return the learning rate at its peak."""
        return self.learning_rate(max(1, self.warmup_updates))

    def observe(self, score: float, loss: float | None = None) -> None:
        """Take in score and loss of a validation, as in `is_better`; the score is not finite if the loss is not."""

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must keep, as JSON values."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what `state` returned."""


@dataclass
class ConstantSchedule(Schedule):
    """The same rate throughout, after a linear warm-up.

    Args:
        peak: the rate.
        warmup_updates: updates until the peak is reached, from 0 upwards; 0 starts at the peak.
    """

    falls = False
    peak: float

    def learning_rate(self, update: int) -> float:
        """Return peak * min(1, update / warmup)."""
        return self.peak * _warmup(update, self.warmup_updates)


@dataclass
class InverseSquareRootSchedule(Schedule):
    """Linear warm-up to the peak, then decay with the square root of the update.

    Args:
        peak: the highest rate, reached at the end of the warm-up.
        warmup_updates: updates until then, at least 1.
    """

    peak: float

    def learning_rate(self, update: int) -> float:
        """Return peak * min(update / warmup, sqrt(warmup / update))."""
        return self.peak * min(update / self.warmup_updates, (self.warmup_updates / update) ** 0.5)


@dataclass
class NoamSchedule(Schedule):
    """The schedule of Vaswani et al. 2017, equation 3.

    Args:
        factor: what the formula is multiplied by.
        hidden_size: D of the model.
        warmup_updates: updates until the highest rate, at least 1.
    """

    factor: float
    _: KW_ONLY
    hidden_size: int

    def learning_rate(self, update: int) -> float:
        """Return factor * D^-0.5 * min(update^-0.5, update * warmup^-1.5)."""
        return self.factor * self.hidden_size**-0.5 * min(update**-0.5, update * self.warmup_updates**-1.5)


@dataclass
class PlateauSchedule(Schedule):
    """The peak, multiplied by a factor whenever validations stop getting better.

    Args:
        peak: the rate to begin with.
        factor: what it is multiplied by, in (0, 1).
        patience: validations without a new best after which it is.
        minimum_learning_rate: it does not go below.
        warmup_updates: updates of linear warm-up; 0 starts at the peak.
    """

    peak: float
    _: KW_ONLY
    factor: float
    patience: int
    minimum_learning_rate: float
    reductions: int = field(default=0, init=False)
    best: float | None = field(default=None, init=False)
    best_loss: float | None = field(default=None, init=False)
    validations_without_best: int = field(default=0, init=False)

    def learning_rate(self, update: int) -> float:
        """Return the reduced peak, warmed up."""
        reduced = max(self.peak * self.factor**self.reductions, min(self.minimum_learning_rate, self.peak))
        return reduced * _warmup(update, self.warmup_updates)

    def highest_rate(self) -> float:
        """Return the learning rate before any reduction."""
        return self.peak

    def observe(self, score: float, loss: float | None = None) -> None:
        """Count validations without a new best, and reduce after `patience` of them; no number is no best."""
        if is_better(score, loss, self.best, self.best_loss):
            self.best, self.best_loss = score, loss
            self.validations_without_best = 0
            return
        self.validations_without_best += 1
        if self.validations_without_best >= self.patience:
            self.reductions += 1
            self.validations_without_best = 0

    def state(self) -> dict[str, Any]:
        """Return reductions, the best validation and the count of those since."""
        return {name: getattr(self, name) for name in _REMEMBERED}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what `state` returned; version 0.1.0 kept no loss of the best validation."""
        for name in _REMEMBERED:
            setattr(self, name, state.get(name) if name == "best_loss" else state[name])


_REMEMBERED = ("reductions", "best", "best_loss", "validations_without_best")


def _warmup(update: int, warmup_updates: int) -> float:
    return min(1.0, update / warmup_updates) if warmup_updates else 1.0
