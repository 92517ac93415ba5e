"""The training loop."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np

from nmt.checkpoint import manager, weights
from nmt.checkpoint.manifest import VALIDATION, VALIDATION_CHANGES, Judged
from nmt.data.batches import Batch
from nmt.errors import TrainingError
from nmt.streams import Stream
from nmt.training.events import CheckpointEvent, EndEvent, Reporter, UpdateEvent, Validation, ValidationEvent
from nmt.training.lockstep import Interrupted, Lockstep
from nmt.training.optimization import Schedule
from nmt.training.state import Limits, Pending, TrainingState, is_better
from nmt.training.update import Updater, UpdateResult
from nmt.tying import named_variables
from nmt.types import PAD_ID

logger = logging.getLogger(__name__)

Found = TypeVar("Found")

MAX_SKIPPED_IN_ROW = 20
"""Updates in a row without a finite loss after which a run gives up."""


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


@dataclass(eq=False, repr=False)
class Trainer:
    """Makes updates until a limit is reached; validates, reports and saves on the way.

    A run that was stopped goes on where it was when the same trainer is set up again: `run` restores the newest
    checkpoint first.

    Several workers, each with a trainer, stay in step: the chief alone restores, validates, saves and reports, and
    tells the others what came of it; its clock counts, and a stop that any of them is asked for is agreed on after
    each update.

    Args:
        updater: makes one update of the model; its replicas are those of the run.
        batches: an endless stream with a cursor; of several workers the part of this one.
        schedule: the learning rate of each update.
        checkpoints: where the run is kept; None on workers other than the chief.
        validate: judges the model as it is, on the chief; called with the moving average in place if there is one.
        measure_loss: what `validate` finds for the loss, without translating. While the average is young, it is called
            with the raw weights, which are validated too if it is the lower one; never unless given.
        uniform_loss: the loss of a model that gives every token the same probability; None if nobody is to be told
            of one that is worse.
        limits: what ends the run.
        cadence: how often to validate, save and report.
        micro_batches: batches an update, of all replicas together.
        metric: which score of a validation counts, `bleu` or `loss`.
        schedule_metric: which score the schedule observes.
        facts: what the manifest of each checkpoint records besides, as JSON values.
        reporters: receive what happens.
        draws: batches that this worker draws an update; `micro_batches` unless given.
    """

    updater: Updater
    batches: Stream[Any]
    _: KW_ONLY
    schedule: Schedule
    checkpoints: manager.CheckpointManager | None
    validate: Callable[[], Validation]
    measure_loss: Callable[[], float] | None = None
    uniform_loss: float | None = None
    limits: Limits
    cadence: Cadence
    micro_batches: int = 1
    metric: str = "bleu"
    schedule_metric: str = "loss"
    facts: Mapping[str, Any] = field(default_factory=dict)
    reporters: Sequence[Reporter] = ()
    draws: int | None = None

    def __post_init__(self) -> None:
        self.model = self.updater.model
        self.state = TrainingState(metric=self.metric)
        self._saved = (0, 0)
        self._validation: Validation | None = None
        self._lockstep = Lockstep(self.updater.replicas)
        self._clock = time.monotonic()

    def run(self) -> TrainingResult:
        """Train until a limit is reached.

        Raises:
            Interrupted: after Ctrl-C or SIGTERM, once the run is saved.
            TrainingError: if the loss was not finite for `MAX_SKIPPED_IN_ROW` updates in a row.
            CheckpointError: if the directory cannot be restored from or written to.
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
        optimizer, ema = self.updater.optimizer, None if self.updater.ema is None else self.updater.ema.variables
        restored = self.checkpoints and self.checkpoints.restore(self.model, optimizer, ema)
        values = restored.state if restored else None
        if restored and restored.facts.get(VALIDATION_CHANGES, 0) != self.facts.get(VALIDATION_CHANGES, 0):
            values = TrainingState.from_json(restored.state).without_scores().to_json()
            self._notice(
                f"the validation corpus is another one since {restored.name}: best score, patience and what the "
                "schedule remembers of validations begin anew"
            )
        parts = (named_variables(self.model), weights.named_slots(self.model, optimizer), ema or {})
        values = self._lockstep.restored(values, parts)  # the chief's, on all workers
        if values is None:
            return False
        self.state = TrainingState.from_json(values)
        self.batches.seek(self.state.cursor)
        self.schedule.restore(self.state.schedule)
        weights.restore_random_state(self.model, self.state.random)
        self._saved = (self.state.update, self.state.validated_update)
        return True

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
        state, ema = self.state, self.updater.ema
        cut_short = [self.schedule.cut_short(state.update), ema and ema.cut_short(state.update)]
        cut_short.append(self.batches.cut_short(state.cursor))
        event = EndEvent(
            update=state.update,
            reason=reason,
            trained_seconds=state.trained_seconds,
            validation_seconds=state.validation_seconds,
            validate_every_updates=self.cadence.validate_every_updates,
            cut_short=tuple(sentence for sentence in cut_short if sentence),
        )
        for reporter in self.reporters:
            reporter.on_end(event)
        return reason

    def _update(self) -> None:
        """Make one update and move the state on, or leave both as they were."""
        started = time.monotonic()
        update = self.state.update + 1
        rate = self.schedule.learning_rate(update)
        batches = [next(self.batches) for _ in range(self.draws or self.micro_batches)]
        random = weights.random_state(self.model) if self.micro_batches > 1 else {}
        try:
            result = self.updater.update(batches, rate, check=self._lockstep.check)
        except Interrupted:  # between micro-batches: this update never was
            weights.restore_random_state(self.model, random)
            self.batches.seek(self.state.cursor)
            raise
        cursor, now = self.batches.cursor, time.monotonic()
        self.state = replace(
            self.state,
            update=update,
            **cursor._asdict(),
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
            **self.batches.described(state.cursor),
        )
        for reporter in self.reporters:
            reporter.on_update(event)

    def _validate_if_due(self) -> None:
        update = self.state.update
        if update % self.cadence.validate_every_updates == 0 and update != self.state.validated_update:
            self._validate()

    def _validate(self) -> None:
        """Judge the model, move the state on, and save a new best."""
        started, before = time.monotonic(), self.state
        validation = self._validation = self._lockstep.judged(self._judge)
        self.schedule.observe(validation.score(self.schedule_metric), validation.loss)
        score = validation.score(self.metric)
        is_best = is_better(score, validation.loss, before.best_score, before.best_loss)
        trained_seconds = self._lockstep.agreed(time.monotonic() - self._clock)
        seconds = trained_seconds - before.trained_seconds
        saving = self._lockstep.agreed(0.0 if self.checkpoints is None else self.checkpoints.write_seconds)
        self.state = replace(
            replace(before, best_score=score, best_loss=validation.loss) if is_best else before,
            validations_without_best=0 if is_best else before.validations_without_best + 1,
            validated_update=before.update,
            trained_seconds=trained_seconds,
            validation_seconds=before.validation_seconds + seconds,
            closing_seconds=seconds + saving,
        )
        event = ValidationEvent(self.state.update, validation, is_best, time.monotonic() - started)
        for reporter in self.reporters:
            reporter.on_validation(event)
        self._notice_what_is_wrong(validation, before)
        if is_best:
            self._save()

    def _judge(self) -> Validation:
        """Judge the model; of the moving average and the raw weights, return what is found for those that are better.

        The average follows the weights at a distance, and while it is young it is worse when they still learn fast.
        Translating takes most of the time, and is done with the raw weights only if their loss is the lower one.
        """
        ema = self.updater.ema
        if ema is None:
            return self._judge_weights(self.validate)
        with ema.in_use():
            averaged = replace(self._judge_weights(self.validate), weights="ema")
        if self.measure_loss is None or not ema.is_young(self.state.update):
            return averaged
        loss = self._judge_weights(self.measure_loss)
        if not math.isfinite(loss) or averaged.loss <= loss:
            return replace(averaged, other_loss=loss)
        raw = replace(self._judge_weights(self.validate), weights="raw")
        if is_better(raw.score(self.metric), raw.loss, averaged.score(self.metric), averaged.loss):
            return replace(raw, other_loss=averaged.loss, other_bleu=averaged.bleu)
        return replace(averaged, other_loss=raw.loss, other_bleu=raw.bleu)

    def _judge_weights(self, judge: Callable[[], Found]) -> Found:
        """Judge the weights that are in place; a signal breaks it off."""
        with self._lockstep.interruptible():
            return judge()

    def _notice_what_is_wrong(self, validation: Validation, before: TrainingState) -> None:
        """Tell the user of a loss that is not finite, and once of one that is worse than that of knowing nothing.

        Fresh weights are a little worse, and during the warm-up they need not be better yet, as long as the loss falls.
        """
        loss, uniform, best = validation.loss, self.uniform_loss, before.best_loss
        rate = self.schedule.learning_rate(max(1, before.update))
        advice = (
            f"lower training.optimizer.learning_rate (now it is {rate:.3g}), lengthen the warm-up or set "
            "training.optimizer.clip_norm, and start anew"
        )
        if not math.isfinite(loss):
            kept = "no checkpoint was good" if before.best_score is None else "the best checkpoint stays"
            self._notice(f"the validation loss is {loss:g}: the model has diverged, and {kept}: {advice}")
        elif uniform is not None and loss > uniform and not before.uniform_was_named:
            has_had_time = before.update > self.schedule.warmup_updates or (best is not None and loss >= best)
            if has_had_time if before.validated_update else loss > uniform + 1.0:
                self.state = replace(self.state, uniform_was_named=True)
                self._notice(
                    f"the validation loss {loss:.4f} is above {uniform:.4f}, that of a model that gives all tokens the "
                    "same probability: this one has learned nothing so far, or has diverged. If it does not fall "
                    f"soon, {advice}"
                )

    def _save(self) -> None:
        """Write a checkpoint of this update, unless there is one already that knows as much."""
        state, ema, validation = self.state, self.updater.ema, None
        if state.update == 0 or self._saved == (state.update, state.validated_update):
            return
        self._saved = (state.update, state.validated_update)
        if self.checkpoints is None:  # the chief does it
            return
        facts = dict(self.facts)
        if state.validated_update == state.update and (validation := self._validation) is not None:
            loss = validation.loss if math.isfinite(validation.loss) else None
            facts[VALIDATION] = Judged(loss, validation.weights).to_json()
        started = time.monotonic()
        path = self.checkpoints.save(
            state.update,
            model=self.model,
            optimizer=self.updater.optimizer,
            ema=None if ema is None else ema.variables,
            state=replace(state, random=weights.random_state(self.model), schedule=self.schedule.state()).to_json(),
            facts=facts,
            score=None if validation is None else validation.score(self.metric),
            background=True,
        )
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
