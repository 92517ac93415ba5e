"""The training loop."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from nmt.checkpoint import CheckpointManager, random_state, restore_random_state
from nmt.checkpoint.manifest import VALIDATION_CHANGES
from nmt.checkpoint.slots import named_slots
from nmt.data.batches import Batch, Cursor
from nmt.data.prefetching import Stream
from nmt.errors import ConfigError, TrainingError
from nmt.training.events import CheckpointEvent, Reporter, UpdateEvent, Validation, ValidationEvent
from nmt.training.limits import Limits
from nmt.training.lockstep import Lockstep
from nmt.training.schedules import Schedule
from nmt.training.signals import Interrupted
from nmt.training.state import Pending, TrainingState
from nmt.training.update import Updater, UpdateResult
from nmt.tying import named_variables
from nmt.types import PAD_ID

logger = logging.getLogger(__name__)

MAX_SKIPPED_IN_ROW = 20
"""Updates in a row without a finite loss after which a run gives up."""

METRICS: dict[str, Callable[[Validation], float]] = {
    "bleu": lambda validation: validation.bleu,
    "loss": lambda validation: -validation.loss,
}
"""Scores that a run can be judged by; higher is better."""


@dataclass(frozen=True)
class Cadence:
    """How often things happen, in updates."""

    validate_every_updates: int
    save_every_updates: int
    log_every_updates: int


class TrainingResult(NamedTuple):
    """How a run ended.

    update: updates made in all.
    reason: the limit that ended it, in words.
    best_score: best validation score, higher is better; None without a validation.
    """

    update: int
    reason: str
    best_score: float | None


class Trainer:
    """Makes updates until a limit is reached; validates, reports and saves on the way.

    A run that was stopped goes on where it was when the same trainer is set up again: `run` restores the newest
    checkpoint first.

    Several workers, each with a trainer, stay in step: the chief alone restores, validates, saves and reports, and
    tells the others what came of it; its clock counts, and a stop that any of them is asked for is agreed on after
    each update.

    Args:
        updater: makes one update of the model; its replicas are those of the run.
        batches: an endless stream with a cursor; of several workers the share of this one.
        schedule: the learning rate of each update.
        checkpoints: where the run is kept; None on workers other than the chief.
        validate: judges the model as it is, on the chief; called with the moving average in place where there is one.
        limits: what ends the run.
        cadence: how often to validate, save and report.
        micro_batches: batches an update, of all replicas together.
        metric: which score of a validation counts, a key of `METRICS`.
        schedule_metric: which score the schedule observes.
        facts: what the manifest of each checkpoint records besides, as JSON values.
        reporters: receive what happens.
        draws: batches that this worker draws an update; `micro_batches` unless given.
    """

    def __init__(
        self,
        updater: Updater,
        batches: Stream,
        *,
        schedule: Schedule,
        checkpoints: CheckpointManager | None,
        validate: Callable[[], Validation],
        limits: Limits,
        cadence: Cadence,
        micro_batches: int = 1,
        metric: str = "bleu",
        schedule_metric: str = "loss",
        facts: Mapping[str, Any] | None = None,
        reporters: Sequence[Reporter] = (),
        draws: int | None = None,
    ) -> None:
        self.updater = updater
        self.model = updater.model
        self.batches = batches
        self.schedule = schedule
        self.checkpoints = checkpoints
        self.validate = validate
        self.limits = limits
        self.cadence = cadence
        self.micro_batches = micro_batches
        self._draws = draws or micro_batches
        self.metric = metric
        self.schedule_metric = schedule_metric
        self.facts = dict(facts or {})
        self.reporters = reporters
        self.state = TrainingState(metric=metric)
        self._saved = (0, 0)
        self._score: float | None = None
        self._lockstep = Lockstep(updater.replicas)
        self._clock = time.monotonic()

    def run(self) -> TrainingResult:
        """Train until a limit is reached.

        Raises:
            Interrupted: after Ctrl-C or SIGTERM, once the run is saved.
            TrainingError: if the loss was not finite for `MAX_SKIPPED_IN_ROW` updates in a row.
            CheckpointError: if the directory cannot be restored from or written to.
            ConfigError: if the run was judged by another metric before.
        """
        finished = self.restore() and self.limits.reached(self.state)
        if finished and self.state.validated_update == self.state.update:
            logger.info("nothing to do: this run was ended by %s; raise that limit to go on", finished)
            return TrainingResult(self.state.update, finished, self.state.best_score)
        self._clock = time.monotonic() - self.state.trained_seconds
        for reporter in self.reporters:
            reporter.on_start(self.state.update)
        try:
            with self._lockstep.listening():
                reason = self._train()
        except Interrupted:
            self._save()
            raise
        return TrainingResult(self.state.update, reason, self.state.best_score)

    def restore(self) -> bool:
        """Go back to the newest checkpoint; return whether there was one."""
        state = self._restored()
        if state is None:
            return False
        self.state = TrainingState.from_json(state)
        if self.state.metric != self.metric:
            raise ConfigError(
                f"this run is judged by {self.state.metric}, and its scores cannot be compared with {self.metric}: "
                f"set training.early_stopping.metric to {self.state.metric} (null means bleu), or start anew"
            )
        self.batches.seek(Cursor(self.state.epoch, self.state.batch))
        self.schedule.restore(self.state.schedule)
        restore_random_state(self.model, self.state.random)
        self._saved = (self.state.update, self.state.validated_update)
        return True

    def _restored(self) -> dict[str, Any] | None:
        """Restore the newest checkpoint on the chief, and give weights and state to the others."""
        updater, model = self.updater, self.model
        average = None if updater.average is None else updater.average.variables
        restored = self.checkpoints and self.checkpoints.restore(model, updater.optimizer, average)
        parts = (named_variables(model), named_slots(model, updater.optimizer), average or {})
        state = restored.state if restored else None
        if restored and restored.facts.get(VALIDATION_CHANGES, 0) != self.facts.get(VALIDATION_CHANGES, 0):
            state = TrainingState.from_json(restored.state).without_scores().to_json()
            self._notice(
                f"the validation corpus is another one since {restored.name}: best score, patience and what the "
                "schedule remembers of validations begin anew"
            )
        return self._lockstep.restored(state, parts)

    def _train(self) -> str:
        self._validate_if_due()
        while (reason := self.limits.reached(self.state)) is None:
            self._update()
            self._report_if_due()
            self._validate_if_due()
            if self.state.update % self.cadence.save_every_updates == 0:
                self._save()
            self._lockstep.check()
        if self.state.validated_update != self.state.update:
            self._validate()
        self._save()
        return reason

    def _update(self) -> None:
        """Make one update and move the state on, or leave both as they were."""
        started = time.monotonic()
        update = self.state.update + 1
        rate = self.schedule.learning_rate(update)
        batches = [next(self.batches) for _ in range(self._draws)]
        random = random_state(self.model) if self.micro_batches > 1 else {}
        try:
            result = self.updater.update(batches, rate, check=self._lockstep.check_within_update)
        except Interrupted:  # between micro-batches: this update never was
            restore_random_state(self.model, random)
            self.batches.seek(Cursor(self.state.epoch, self.state.batch))
            raise
        cursor, now = self.batches.cursor, time.monotonic()
        self.state = replace(
            self.state,
            update=update,
            epoch=cursor.epoch,
            batch=cursor.batch,
            skipped=self.state.skipped + (not result.applied),
            skipped_in_row=0 if result.applied else self.state.skipped_in_row + 1,
            trained_seconds=self._lockstep.agreed(now - self._clock),
            pending=_added(self.state.pending, batches, result, rate, now - started),
        )
        if not result.applied:
            self._on_skipped(result)

    def _on_skipped(self, result: UpdateResult) -> None:
        state = self.state
        loss = result.loss / max(result.tokens, 1)
        self._notice(f"update {state.update} skipped: loss {loss:g}, gradient norm {result.gradient_norm:g}")
        if state.skipped_in_row >= MAX_SKIPPED_IN_ROW:
            kept = f"the checkpoint of update {self._saved[0]} is kept" if self._saved[0] else "nothing was saved yet"
            raise TrainingError(
                f"the loss was not finite in {MAX_SKIPPED_IN_ROW} updates in a row, up to update {state.update}; "
                f"{kept}: lower training.optimizer.learning_rate, lengthen the warm-up or set "
                "training.optimizer.clip_norm, and start anew in another model_directory, or here with --overwrite"
            )

    def _report_if_due(self) -> None:
        state, pending = self.state, self.state.pending
        if state.update % self.cadence.log_every_updates:
            return
        self.state = replace(state, pending=Pending())
        if not pending.tokens:  # all updates since the last report were skipped, which was said already
            return
        size = self.batches.batches_in_epoch(state.epoch)
        event = UpdateEvent(
            update=state.update,
            epoch=state.epoch + 1,
            epoch_share=state.batch / size,
            loss=pending.loss / pending.tokens,
            learning_rate=pending.learning_rate,
            gradient_norm=pending.gradient_norm,
            tokens_per_second=pending.tokens / max(pending.seconds, 1e-9),
            padded_share=1.0 - pending.real_cells / pending.cells,
            skipped=state.skipped,
            trained_seconds=state.trained_seconds,
            remaining_seconds=self.limits.remaining_seconds(state, size / self.micro_batches),
        )
        for reporter in self.reporters:
            reporter.on_update(event)

    def _validate_if_due(self) -> None:
        update = self.state.update
        if update % self.cadence.validate_every_updates == 0 and update != self.state.validated_update:
            self._validate()

    def _validate(self) -> None:
        """Judge the model, move the state on, and save a new best."""
        started = time.monotonic()
        validation = self._lockstep.judged(self._judge)
        self.schedule.observe(METRICS[self.schedule_metric](validation))
        score, best = METRICS[self.metric](validation), self.state.best_score
        self._score = score if math.isfinite(score) else None
        is_better = self._score is not None and (best is None or self._score > best)
        is_best = is_better or (self._score is not None and self._score == best)  # the newer of equals is kept
        self.state = replace(
            self.state,
            best_score=self._score if is_best else best,
            validations_without_best=0 if is_better else self.state.validations_without_best + 1,
            validated_update=self.state.update,
            trained_seconds=self._lockstep.agreed(time.monotonic() - self._clock),
        )
        event = ValidationEvent(self.state.update, validation, is_best, time.monotonic() - started)
        for reporter in self.reporters:
            reporter.on_validation(event)
        if is_best:
            self._save()

    def _judge(self) -> Validation:
        """Judge the model, with the moving average in place where there is one; a signal breaks it off."""
        average = self.updater.average
        with nullcontext() if average is None else average.in_use(), self._lockstep.interruptible():
            return self.validate()

    def _save(self) -> None:
        """Write a checkpoint of this update, unless there is one already that knows as much."""
        state, average = self.state, self.updater.average
        if state.update == 0 or self._saved == (state.update, state.validated_update):
            return
        if self.checkpoints is None:  # the chief does it
            self._saved = (state.update, state.validated_update)
            return
        state = replace(state, random=random_state(self.model), schedule=self.schedule.state())
        started = time.monotonic()
        path = self.checkpoints.save_in_background(
            state.update,
            model=self.model,
            optimizer=self.updater.optimizer,
            average=None if average is None else average.variables,
            state=state.to_json(),
            facts=self.facts,
            score=self._score if state.validated_update == state.update else None,
        )
        self._saved = (state.update, state.validated_update)
        for reporter in self.reporters:
            reporter.on_checkpoint(CheckpointEvent(state.update, path, time.monotonic() - started))

    def _notice(self, text: str) -> None:
        for reporter in self.reporters:
            reporter.on_notice(text)


def _added(
    pending: Pending, batches: Sequence[Batch], result: UpdateResult, learning_rate: float, seconds: float
) -> Pending:
    """Add one update to the sums since the last report; one that was skipped adds no loss."""
    sides = [side for batch in batches for side in (batch.source_ids, batch.target_output_ids)]
    return Pending(
        loss=pending.loss + (result.loss if result.applied else 0.0),
        tokens=pending.tokens + (result.tokens if result.applied else 0),
        cells=pending.cells + sum(side.size for side in sides),
        real_cells=pending.real_cells + sum(int(np.count_nonzero(side != PAD_ID)) for side in sides),
        seconds=pending.seconds + seconds,
        learning_rate=learning_rate,
        gradient_norm=result.gradient_norm if result.applied else pending.gradient_norm,
    )
