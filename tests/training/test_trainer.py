"""The loop, with an updater, a stream and a validation that are made by hand."""

import itertools
import json
import logging
import math
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from nmt.backend.replicas import Replicas
from nmt.checkpoint.manager import CheckpointManager
from nmt.checkpoint.weights import load_weights
from nmt.data.batches import Batch
from nmt.directory.inspection import find_checkpoints
from nmt.errors import CheckpointError, TrainingError
from nmt.streams import Cursor
from nmt.training import trainer as trainer_module
from nmt.training.events import Reporter, Validation
from nmt.training.lockstep import Interrupted
from nmt.training.optimization import ConstantSchedule, EmaWeights, InverseSquareRootSchedule, PlateauSchedule
from nmt.training.state import Limits
from nmt.training.trainer import MAX_SKIPPED_IN_ROW, Cadence, Trainer
from nmt.training.update import UpdateResult

EPOCH = 4


class CountingStream:
    """Batches whose only source id says which one they are."""

    def __init__(self):
        self.cursor = Cursor(0, 0)

    def seek(self, cursor):
        self.cursor = cursor

    def described(self, cursor):
        return {}

    def cut_short(self, cursor):
        return None

    def batches_in_epoch(self, epoch):
        return EPOCH

    def __next__(self):
        epoch, batch = self.cursor
        ids = np.array([[epoch * EPOCH + batch + 4, 3, 0]], "int32")
        self.cursor = Cursor(epoch, batch + 1) if batch + 1 < EPOCH else Cursor(epoch + 1, 0)
        return Batch(ids, ids, ids)


class AddingUpdater:
    """Adds the learning rate to its only weight, and remembers what it was given."""

    ema = None
    replicas = Replicas()

    def __init__(self, bad=(), on_update=lambda count: None):
        self.model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, name="dense")])
        self.optimizer = keras.optimizers.SGD(1.0)
        self.optimizer.build(self.model.trainable_variables)
        self.seen, self.bad, self.on_update = [], bad, on_update

    def update(self, batches, learning_rate, *, check):
        for batch in batches:
            check()
            self.seen.append(int(batch.source_ids[0, 0]))
        count = len(self.seen)
        self.on_update(count)
        if count in self.bad:
            return UpdateResult(math.nan, math.nan, 2, math.nan, False)
        kernel = self.model.layers[0].kernel
        kernel.assign(kernel + learning_rate)
        return UpdateResult(6.0, 5.0, 2, 0.5, True)


class Recorder(Reporter):
    def __init__(self):
        self.updates, self.validations, self.saved, self.notices, self.ends = [], [], [], [], []

    def on_update(self, event):
        self.updates.append(event)

    def on_validation(self, event):
        self.validations.append(event)

    def on_checkpoint(self, event):
        self.saved.append(event.update)

    def on_notice(self, text):
        self.notices.append(text)

    def on_end(self, event):
        self.ends.append(event)


@pytest.fixture
def start(tmp_path):
    """Start a run in one directory, with validations of the given BLEU scores, and losses if they are several."""

    def start(
        updater=None, *, bleu=(), loss=1.0, schedule=None, cadence=(2, 100, 1), recorder=None, keep_last=20, **settings
    ):
        scores, losses = iter(bleu), iter(loss) if isinstance(loss, list) else itertools.repeat(loss)
        settings.setdefault("validate", lambda: Validation(next(losses), math.exp(1.0), 0.5, next(scores, 0.0)))
        recorder = recorder or Recorder()
        limits = {"max_updates": settings.pop("max_updates", 6)}
        limits |= {key: settings.pop(key) for key in ("max_epochs", "max_minutes", "patience") if key in settings}
        with CheckpointManager(tmp_path, keep_last=keep_last) as checkpoints:
            trainer = Trainer(
                updater or AddingUpdater(),
                CountingStream(),
                schedule=schedule or ConstantSchedule(0.5, warmup_updates=0),
                checkpoints=checkpoints,
                limits=Limits(**limits),
                cadence=Cadence(*cadence),
                reporters=[recorder],
                **settings,
            )
            try:
                return trainer.run(), recorder
            finally:
                start.trainer, start.recorder = trainer, recorder

    return start


def saved_updates(directory: Path):
    return [checkpoint.update for checkpoint in find_checkpoints(directory)]


def test_it_ends_at_the_first_limit(start):
    assert start(max_updates=5)[0].reason == "max_updates: 5"


def test_epochs_end_a_run(start):
    result, _ = start(max_updates=None, max_epochs=2)
    assert (result.update, result.reason) == (2 * EPOCH, "max_epochs: 2")


def test_minutes_end_a_run(start):
    assert start(max_updates=None, max_minutes=1e-6)[0].update == 1


def test_patience_ends_a_run_and_only_new_bests_are_saved(start, tmp_path):
    result, recorder = start(max_updates=None, patience=2, bleu=[10.0, 12.0, 11.0, 11.9, 99.0])
    assert "early stopping" in result.reason
    assert result.best_score == 12.0
    assert [event.is_best for event in recorder.validations] == [True, True, False, False]
    assert saved_updates(tmp_path) == [2, 4, 8]  # two bests, and the end


def best_of(directory):
    return json.loads((directory / "checkpoints/index.json").read_text())["best"]


@pytest.mark.parametrize(
    ("bleu", "loss", "are_best"),
    [
        ([0.0, 0.0, 0.0], [5.0, 5.0, 5.0], [True, False, False]),  # a tie is no new best
        ([7.0, 7.0, 7.0], [5.0, 4.0, 3.0], [True, False, False]),  # nor with a lower loss, where BLEU tells something
        ([0.0, 0.0, 0.0], [5.0, 4.0, 4.5], [True, True, False]),  # below 1 the lower loss is better
        ([0.9, 0.1, 0.5], [5.0, 4.0, 4.0], [True, True, True]),  # whatever the BLEU, which breaks ties there
        ([0.9, 1.1, 0.9], [5.0, 6.0, 4.0], [True, True, False]),  # and 1 or more is better than less
        ([0.0, 9.0, 0.0], [math.nan, math.inf, 9.0], [False, False, True]),  # without a loss there is no best
    ],
)
def test_one_order_decides_what_is_a_new_best(start, tmp_path, bleu, loss, are_best):
    """The log, the patience, the plateau schedule and the best checkpoint go by it."""
    schedule = PlateauSchedule(0.5, factor=0.5, patience=99, minimum_learning_rate=0.01, warmup_updates=0)
    settings = {"bleu": bleu, "loss": loss, "schedule": schedule, "schedule_metric": "bleu"}
    _, recorder = start(max_updates=6, cadence=(2, 2, 1), **settings)
    assert [event.is_best for event in recorder.validations] == are_best
    since = are_best[::-1].index(True)
    assert best_of(tmp_path) == f"update-{6 - 2 * since:08}"
    assert start.trainer.state.validations_without_best == schedule.validations_without_best == since


def test_a_run_whose_bleu_is_zero_goes_on_while_its_loss_falls(start):
    result, _ = start(max_updates=None, patience=2, loss=[5.0, 4.0, 3.0, 2.0, 2.5, 2.4, 1.0])
    assert result.update == 12  # two validations after the loss of 2


def test_a_run_that_diverges_keeps_its_last_good_checkpoint(start, tmp_path):
    bleu, loss = [9.0, 8.0, 0.0, 0.0, 0.0, 0.0], [3.0, 3.5, math.nan, math.nan, math.nan, math.nan]
    _, recorder = start(max_updates=12, cadence=(2, 2, 1), keep_last=2, bleu=bleu, loss=loss)
    assert saved_updates(tmp_path) == [2, 4, 10, 12]  # the best, the last that was good, and the two newest
    assert best_of(tmp_path) == "update-00000002"
    assert "the validation loss is nan: the model has diverged, and the best checkpoint stays" in recorder.notices[0]


@pytest.mark.parametrize(
    ("loss", "warmup_updates", "named_after"),
    [
        ([9.0, 8.0, 7.0], 0, [2]),  # high above uniform at once
        ([4.5, 4.4, 4.3], 0, [4]),  # as fresh weights are, and then not better after the warm-up
        ([4.5, 4.4, 4.3], 99, []),  # it falls, during the warm-up
        ([4.5, 4.4, 4.6], 99, [6]),
        ([3.0, 9.0, 9.0], 0, [4]),
        ([4.5, 3.9, 3.8], 0, []),
    ],
)
def test_a_loss_above_that_of_knowing_nothing_is_named_once(start, loss, warmup_updates, named_after):
    schedule = ConstantSchedule(0.5, warmup_updates=warmup_updates)
    for last in (2, 4, 6):  # also across starts
        count = last // 2
        _, recorder = start(max_updates=last, loss=loss[count - 1 :], schedule=schedule, uniform_loss=4.0)
        named = [notice for notice in recorder.notices if "that of a model that gives all tokens the same" in notice]
        assert len(named) == (last in named_after)
    assert all("lower training.optimizer.learning_rate (now it is" in notice for notice in named)


class AveragingUpdater(AddingUpdater):
    """Keeps a moving average besides."""

    def __init__(self, decay):
        super().__init__()
        self.model.layers[0].kernel.assign([[0.0]])
        self.ema = EmaWeights(self.model, decay)

    def update(self, batches, learning_rate, *, check):
        result = super().update(batches, learning_rate, check=check)
        self.ema.update(np.int32(len(self.seen)))
        return result


@pytest.mark.parametrize(("target", "better"), [(9.0, "raw"), (0.0, "ema")])
def test_average_and_raw_weights_are_both_judged_and_the_better_are_read(start, tmp_path, target, better):
    """The loss is the distance from a target that the raw weights come to, or are on their way from."""
    updater, judged = AveragingUpdater(0.999), []
    kernel = updater.model.layers[0].kernel

    def measure_loss():
        return abs(float(kernel.numpy()[0, 0]) - target)

    def validate():
        judged.append(measure_loss())
        return Validation(measure_loss(), 1.0, 0.5, 30.0 - measure_loss())

    settings = {"validate": validate, "measure_loss": measure_loss, "schedule_metric": "bleu"}
    result, recorder = start(updater, max_updates=6, cadence=(6, 100, 1), **settings)
    assert len(judged) == (1 if better == "ema" else 2)  # nothing is translated for a higher loss
    (event,) = recorder.validations
    assert event.validation.weights == better
    raw, average = 3.0, float(updater.ema.variables["dense/kernel"].numpy()[0, 0])
    assert 0.0 < average < raw
    losses = [abs(average - target), abs(raw - target)]
    assert [event.validation.loss, event.validation.other_loss] == pytest.approx(sorted(losses))
    assert result.best_score == pytest.approx(30.0 - min(losses))
    assert kernel.numpy()[0, 0] == raw
    index = json.loads((tmp_path / "checkpoints/index.json").read_text())
    assert index["scores"]["update-00000006"]["weights"] == better
    assert index["format_version"] == (2 if better == "raw" else 1)  # version 0.1.0 would read the average
    assert [one.weights for one in find_checkpoints(tmp_path)] == [better]
    reader = AddingUpdater().model
    for wanted, value in ((None, raw if better == "raw" else average), ("ema", average), ("raw", raw)):
        assert load_weights(tmp_path, reader, weights=wanted).weights == (wanted or better)
        assert float(reader.layers[0].kernel.numpy()[0, 0]) == pytest.approx(value)


def test_an_average_that_is_old_enough_is_judged_alone(start):
    judged, measured = [], []
    settings = {"validate": lambda: judged.append(1) or Validation(1.0, 1.0, 0.5, 30.0), "cadence": (2, 100, 1)}
    settings["measure_loss"] = lambda: measured.append(1) or 2.0
    start(AveragingUpdater(0.4), max_updates=6, **settings)  # (1 + u) / (10 + u) reaches 0.4 after 5 updates
    assert (len(judged), len(measured)) == (3, 2)


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still unless it is told."""
    now = [1000.0]
    monkeypatch.setattr(trainer_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def slow(clock, update_seconds, validation_seconds):
    """Return an updater and a validation that take so long."""

    def validate():
        clock[0] += validation_seconds
        return Validation(1.0, 1.0, 0.5, 0.0)

    def pass_time(count):
        clock[0] += update_seconds

    return AddingUpdater(on_update=pass_time), validate


@pytest.mark.parametrize(("every", "updates"), [(25, 40), (20, 40), (15, 30), (1000, 60)])
def test_minutes_leave_room_for_the_last_validation(start, clock, every, updates):
    updater, validate = slow(clock, 1.0, 10.0)
    settings = {"validate": validate, "cadence": (every, 1000, 1000)}
    result, recorder = start(updater, max_updates=None, max_minutes=1.0, **settings)
    (end,) = recorder.ends
    assert (result.update, result.reason) == (updates, "max_minutes: 1")
    assert recorder.validations[-1].update == updates
    if every < 1000:  # else nothing says how long it takes
        assert end.trained_seconds <= 60.0
    assert end.validation_seconds == 10.0 * len(recorder.validations)


def test_room_for_the_last_validation_survives_a_stop(start, clock):
    updater, validate = slow(clock, 1.0, 10.0)
    settings = {"max_minutes": 1.0, "cadence": (25, 1000, 1000)}
    start(updater, max_updates=30, validate=validate, **settings)  # 50 seconds, with two validations
    updater, validate = slow(clock, 1.0, 10.0)
    result, _ = start(updater, max_updates=None, validate=validate, **settings)
    assert result.update == 30
    assert start.trainer.state.trained_seconds == 50.0


def test_the_end_says_what_was_cut_short(start):
    schedule = InverseSquareRootSchedule(0.5, warmup_updates=100)
    start(AveragingUpdater(0.999), max_updates=4, schedule=schedule)
    (end,) = start.recorder.ends
    assert end.cut_short == (
        "the warm-up was over (4 of 100 updates)",
        "the moving average had its span (about 1 updates so far, of 1,000)",
    )


def test_a_run_that_is_long_enough_cuts_nothing_short(start):
    start(max_updates=4)
    assert [end.cut_short for end in start.recorder.ends] == [()]


def test_an_equal_score_is_no_improvement(start):
    result, _ = start(max_updates=None, patience=2, bleu=[0.0, 0.0, 0.0, 9.0])
    assert (result.update, result.best_score) == (6, 0.0)


def test_the_loss_can_be_what_counts(start):
    assert start(max_updates=4, metric="loss", loss=1.25)[0].best_score == -1.25


def test_the_end_is_validated_and_saved(start, tmp_path):
    _, recorder = start(max_updates=5, bleu=[3.0, 2.0, 1.0])
    assert [event.update for event in recorder.validations] == [2, 4, 5]
    assert saved_updates(tmp_path)[-1] == 5


def test_micro_batches_go_into_one_update(start):
    updater = AddingUpdater()
    start(updater, max_updates=3, micro_batches=2)
    assert updater.seen == [4, 5, 6, 7, 8, 9]


def test_figures_are_means_over_real_tokens(start):
    _, recorder = start(max_updates=4, cadence=(100, 100, 2))
    assert [event.update for event in recorder.updates] == [2, 4]
    assert recorder.updates[0].loss == 3.0  # 12 nats, 4 tokens
    assert recorder.updates[0].padded_share == pytest.approx(1 / 3)
    assert recorder.updates[1].epoch == 2


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_interrupted_and_continued_sees_every_batch_once(start, tmp_path, micro_batches):
    whole = AddingUpdater()
    stop_at = 5  # with two micro-batches in the middle of the third update

    def interrupt(count):
        if count >= stop_at and not interrupted:
            interrupted.append(count)
            signal.raise_signal(signal.SIGINT)

    interrupted = []
    cut = AddingUpdater(on_update=interrupt)
    schedule = PlateauSchedule(0.5, factor=0.5, patience=1, minimum_learning_rate=0.01, warmup_updates=0)
    settings = {"max_updates": 6, "micro_batches": micro_batches, "cadence": (100, 100, 1)}
    with pytest.raises(Interrupted) as caught:
        start(cut, schedule=schedule, **settings)
    assert caught.value.signal_number == signal.SIGINT
    done = saved_updates(tmp_path)[-1]
    schedule = PlateauSchedule(0.5, factor=0.5, patience=1, minimum_learning_rate=0.01, warmup_updates=0)
    start(whole, schedule=schedule, **settings)
    assert start.trainer.state.update == 6
    assert whole.seen == list(range(4 + done * micro_batches, 4 + 6 * micro_batches))
    kernel = keras.ops.convert_to_numpy(whole.model.layers[0].kernel)
    fresh = keras.ops.convert_to_numpy(cut.model.layers[0].kernel)
    np.testing.assert_allclose(kernel - fresh, 0.5 * (6 - done), atol=1e-5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_of_schedulers_and_closed_terminals_save_first(start, tmp_path, number):
    before = signal.signal(number, signal.SIG_DFL)  # these tests may run under nohup
    try:
        updater = AddingUpdater(on_update=lambda count: count == 3 and signal.raise_signal(number))
        with pytest.raises(Interrupted) as caught:
            start(updater, cadence=(100, 100, 1))
    finally:
        signal.signal(number, before)
    assert caught.value.signal_number == number
    assert saved_updates(tmp_path) == [3]


def test_a_signal_that_the_process_ignores_stays_ignored(start):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        updater = AddingUpdater(on_update=lambda count: signal.raise_signal(signal.SIGHUP))
        assert start(updater, max_updates=2)[0].update == 2
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_skipped_update_is_counted_and_does_not_stop_saving(start, tmp_path):
    _, recorder = start(AddingUpdater(bad={2, 3}), max_updates=4, cadence=(100, 1, 1))
    assert saved_updates(tmp_path) == [1, 2, 3, 4]
    assert [event.update for event in recorder.updates] == [1, 4]
    assert recorder.updates[-1].skipped == 2
    assert sum("skipped" in notice for notice in recorder.notices) == 2
    assert all(math.isfinite(event.gradient_norm) for event in recorder.updates)


def test_many_bad_updates_in_a_row_end_the_run_with_advice(start, tmp_path):
    bad = set(range(4, 4 + MAX_SKIPPED_IN_ROW))
    with pytest.raises(TrainingError, match=r"update 23; the checkpoint of update 21 is kept: lower .* --overwrite"):
        start(AddingUpdater(bad=bad), max_updates=100, cadence=(100, 3, 1))
    assert saved_updates(tmp_path)[-1] == 21


def test_a_validation_that_is_no_number_is_no_best(start, tmp_path):
    result, _ = start(max_updates=4, metric="loss", loss=math.nan)
    assert result.best_score is None
    assert saved_updates(tmp_path) == [4]


def test_a_finished_run_does_nothing(start, caplog):
    caplog.set_level(logging.INFO)
    start(max_updates=2)
    updater = AddingUpdater()
    result, _ = start(updater, max_updates=2)
    assert updater.seen == []
    assert result.update == 2
    assert "nothing to do: this run was ended by max_updates: 2" in caplog.text


def test_a_run_ends_where_its_directory_is_deleted(start, tmp_path):
    def delete(count):
        if count == 3:
            shutil.rmtree(tmp_path)

    with pytest.raises(CheckpointError, match="the directory was moved or deleted while this process wrote there"):
        start(AddingUpdater(on_update=delete), max_updates=20, cadence=(100, 4, 1))
    assert start.trainer.state.update == 4
    assert not tmp_path.exists()
