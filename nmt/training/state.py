"""What of a run must survive an interruption, weights and optimizer aside."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, TypeAlias

from pydantic import ConfigDict, Field, StrictBool, StrictInt, StrictStr, TypeAdapter, ValidationError

from nmt.checkpoint.disk import Count
from nmt.checkpoint.index import standing
from nmt.errors import CheckpointError
from nmt.streams import Cursor, MixtureCursor

Number: TypeAlias = Annotated[float, Field(strict=True, allow_inf_nan=False)]
"""A finite number in a JSON file."""


@dataclass(frozen=True)
class Pending:
    """Sums since the last report, so that an interrupted run logs the same figures.

    loss: summed training loss, in nats.
    tokens: real target tokens.
    cells: cells of both sides, padding counted.
    real_cells: cells of both sides that held a token.
    seconds: wall time of these updates.
    learning_rate: of the last update.
    gradient_norm: of the last update.
    """

    loss: Number = 0.0
    tokens: Count = 0
    cells: Count = 0
    real_cells: Count = 0
    seconds: Number = 0.0
    learning_rate: Number = 0.0
    gradient_norm: Number = 0.0


@dataclass(frozen=True)
class TrainingState:
    """The place of a run. It is replaced as a whole after each update and each validation.

    update: updates made.
    epoch, batch: the cursor, the next batch to be drawn; of a mixture epoch is the round of its stage.
    stage_updates, stage_ends: the rest of the cursor of a mixture; None for a corpus alone.
    random: states of the seed generators; filled in when the state is saved.
    schedule: state of the learning rate schedule; likewise.
    metric: what the scores are, `bleu` or `loss`.
    best_score: of the best validation, higher is better; None before the first with a finite loss.
    best_loss: its loss; None if version 0.1.0 made it.
    validations_without_best: validations since then.
    validated_update: the update after which the last validation was made, 0 before the first.
    uniform_was_named: whether the user was told that the model is worse than one that has learned nothing.
    skipped: updates skipped because the loss was not finite.
    skipped_in_row: those of them since the last good one.
    trained_seconds: wall time, earlier starts included.
    validation_seconds: that of validations.
    closing_seconds: what the last validation took and the last checkpoint took to be written.
    pending: sums since the last report.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    update: Count = 0
    epoch: Count = 0
    batch: Count = 0
    stage_updates: Count | None = None
    stage_ends: tuple[tuple[Count, Count], ...] | None = None
    random: dict[str, list[StrictInt]] = field(default_factory=dict)
    schedule: dict[str, StrictInt | Number | None] = field(default_factory=dict)
    metric: StrictStr = "bleu"
    best_score: Number | None = None
    best_loss: Number | None = None
    validations_without_best: Count = 0
    validated_update: Count = 0
    uniform_was_named: StrictBool = False
    skipped: Count = 0
    skipped_in_row: Count = 0
    trained_seconds: Number = 0.0
    validation_seconds: Number = 0.0
    closing_seconds: Number = 0.0
    pending: Pending = field(default_factory=Pending)

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON values; what only mixtures have is left out where there is none."""
        values = asdict(self)
        return values if self.stage_ends is not None else {key: values[key] for key in values if key[:6] != "stage_"}

    @property
    def cursor(self) -> Cursor | MixtureCursor:
        """The place in the stream of batches."""
        if self.stage_ends is None:
            return Cursor(self.epoch, self.batch)
        return MixtureCursor(self.epoch, self.batch, self.stage_updates or 0, self.stage_ends)

    def without_scores(self) -> TrainingState:
        """Return the state of a run whose next scores cannot be compared with those it had."""
        forgotten = {"best": None, "best_loss": None, "validations_without_best": 0}  # of those that schedules keep
        schedule = {key: forgotten.get(key, value) for key, value in self.schedule.items()}
        return replace(
            self, schedule=schedule, best_score=None, best_loss=None, validations_without_best=0, validated_update=0
        )

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainingState:
        """Return the state that `to_json` wrote.

        Raises:
            CheckpointError: if another version of the toolkit wrote it, or it was changed by hand.
        """
        try:
            return _STATE.validate_python(values)
        except ValidationError as error:
            problems = error.errors()
            places = (problem["loc"][: 2 if problem["loc"][0] == "pending" else 1] for problem in problems)
            named = ", ".join(dict.fromkeys(".".join(map(str, place)) for place in places))
            raise CheckpointError(
                f"the state of the run cannot be read ({named}): another version of nmt saved it, or it was damaged; "
                "go on with that version, go back to a checkpoint before, or start anew with --overwrite"
            ) from error


_STATE = TypeAdapter(TrainingState)


def is_better(score: float, loss: float | None, best: float | None, best_loss: float | None) -> bool:
    """Return whether a validation stands higher than the best before it; one without a finite score stands lowest.

    Args:
        score: of the validation, higher is better, not finite if its loss is not.
        loss: found with it; None if it was not recorded, as in `standing`.
        best: score of the best before; None before the first.
        best_loss: its loss.
    """
    if not math.isfinite(score):
        return False
    return best is None or not math.isfinite(best) or standing(score, loss) > standing(best, best_loss)


@dataclass(frozen=True)
class Limits:
    """What ends a run, whichever comes first; None is no limit.

    max_updates: updates.
    max_epochs: whole passes over the corpus.
    max_minutes: wall time of training, validations and earlier starts included; so much is left free of it as the
        last validation took and its checkpoint, since there is one more at the end.
    patience: validations in a row without a new best.
    """

    max_updates: int | None = None
    max_epochs: int | None = None
    max_minutes: float | None = None
    patience: int | None = None

    def reached(self, state: TrainingState) -> str | None:
        """Return which limit a run has reached, in words, or None."""
        if self.max_updates is not None and state.update >= self.max_updates:
            return f"max_updates: {self.max_updates}"
        if self.max_epochs is not None and state.epoch >= self.max_epochs:
            return f"max_epochs: {self.max_epochs}"
        if self.max_minutes is not None and state.trained_seconds + state.closing_seconds >= 60.0 * self.max_minutes:
            return f"max_minutes: {self.max_minutes:g}"
        if self.patience is not None and state.validations_without_best >= self.patience:
            return f"early stopping: no new best in {self.patience} validations"
        return None

    def remaining_seconds(self, state: TrainingState, updates_per_epoch: float) -> float | None:
        """Estimate the wall time until the first limit but early stopping; None if nothing can be said."""
        estimates = []
        if self.max_minutes is not None:
            estimates.append(60.0 * self.max_minutes - state.closing_seconds - state.trained_seconds)
        if state.update:
            per_update = state.trained_seconds / state.update
            if self.max_updates is not None:
                estimates.append((self.max_updates - state.update) * per_update)
            if self.max_epochs is not None:
                estimates.append((self.max_epochs * updates_per_epoch - state.update) * per_update)
        return max(0.0, min(estimates)) if estimates else None
