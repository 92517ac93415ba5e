import json
import math
import re
from dataclasses import replace

import pytest

from nmt.errors import CheckpointError
from nmt.training.optimization import ConstantSchedule, InverseSquareRootSchedule, NoamSchedule, PlateauSchedule
from nmt.training.state import Limits, Pending, TrainingState


def test_constant_warms_up_and_stays():
    schedule = ConstantSchedule(0.4, warmup_updates=4)
    assert [schedule.learning_rate(u) for u in (1, 2, 4, 5, 900)] == pytest.approx([0.1, 0.2, 0.4, 0.4, 0.4])
    assert ConstantSchedule(0.4, warmup_updates=0).learning_rate(1) == 0.4


def test_inverse_square_root_peaks_at_the_end_of_the_warm_up():
    schedule = InverseSquareRootSchedule(0.3, warmup_updates=100)
    assert schedule.learning_rate(50) == pytest.approx(0.15)
    assert schedule.learning_rate(100) == pytest.approx(0.3)
    assert schedule.learning_rate(400) == pytest.approx(0.15)


def test_noam_is_equation_3():
    schedule = NoamSchedule(2.0, hidden_size=256, warmup_updates=100)
    for update in (1, 99, 100, 101, 5000):
        expected = 2.0 * 256**-0.5 * min(update**-0.5, update * 100**-1.5)
        assert schedule.learning_rate(update) == pytest.approx(expected)
    assert max(range(1, 300), key=schedule.learning_rate) == 100


def test_plateau_reduces_after_patience_and_survives_a_restart():
    schedule = PlateauSchedule(0.8, factor=0.5, patience=2, minimum_learning_rate=0.1, warmup_updates=0)
    rates = []
    for score in (1.0, 2.0, 1.5, 2.0, 3.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0):
        restarted = PlateauSchedule(0.8, factor=0.5, patience=2, minimum_learning_rate=0.1, warmup_updates=0)
        restarted.restore(schedule.state())
        schedule = restarted
        schedule.observe(score)
        rates.append(schedule.learning_rate(10))
    assert rates == pytest.approx([0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.2, 0.2, 0.1, 0.1, 0.1, 0.1])


def test_a_plateau_begins_with_the_first_validation_that_found_a_number():
    schedule = PlateauSchedule(0.8, factor=0.5, patience=2, minimum_learning_rate=0.1, warmup_updates=0)
    schedule.observe(-math.inf, math.nan)
    assert schedule.state()["best"] is None
    schedule.observe(0.0, 9.0)
    schedule.observe(0.0, 8.0)
    assert (schedule.best_loss, schedule.reductions) == (8.0, 0)


def test_the_first_limit_ends_the_run():
    limits = Limits(max_updates=10, max_epochs=3, max_minutes=2.0, patience=4)
    state = TrainingState(update=9, epoch=2, trained_seconds=119.0, validations_without_best=3)
    assert limits.reached(state) is None
    assert "max_updates" in limits.reached(replace(state, update=10))
    assert "max_epochs" in limits.reached(replace(state, epoch=3))
    assert "max_minutes" in limits.reached(replace(state, trained_seconds=120.0))
    assert "4 validations" in limits.reached(replace(state, validations_without_best=4))
    assert Limits().reached(replace(state, update=10**9)) is None


def test_time_left_is_that_of_the_nearest_limit():
    state = TrainingState(update=10, trained_seconds=20.0)
    assert Limits(max_updates=40).remaining_seconds(state, 100.0) == pytest.approx(60.0)
    assert Limits(max_updates=40, max_minutes=1.0).remaining_seconds(state, 100.0) == pytest.approx(40.0)
    assert Limits(max_epochs=1).remaining_seconds(state, 100.0) == pytest.approx(180.0)
    assert Limits(max_minutes=1.0).remaining_seconds(replace(state, closing_seconds=15.0), 100.0) == pytest.approx(25.0)
    assert Limits(patience=3).remaining_seconds(state, 100.0) is None


def test_the_state_survives_json():
    state = TrainingState(update=3, random={"a": [1, 2]}, best_score=-1.5, pending=Pending(loss=math.pi, tokens=7))
    assert TrainingState.from_json(state.to_json()) == state


WRONG = [
    ("update", "abc"),
    ("update", True),
    ("epoch", -1),
    ("batch", 1.5),
    ("random", 5),
    ("random", {"a": 5}),
    ("random", {"a": ["x"]}),
    ("schedule", []),
    ("schedule", {"reductions": "abc"}),
    ("metric", 3),
    ("best_score", "x"),
    ("best_score", 10**400),
    ("trained_seconds", None),
    ("pending.loss", "a"),
    ("pending.tokens", 0.5),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_state_of_other_types_is_refused_by_name(name, value):
    values = json.loads(json.dumps(TrainingState(random={"a": [1, 2]}).to_json()))
    assert TrainingState.from_json(values) == TrainingState(random={"a": [1, 2]})
    *owner, field = name.split(".")
    (values["pending"] if owner else values)[field] = value
    with pytest.raises(CheckpointError, match=re.escape(f"the state of the run cannot be read ({name}): another")):
        TrainingState.from_json(values)


def test_a_run_that_ends_near_the_peak_of_its_schedule_says_so():
    schedule = InverseSquareRootSchedule(0.5, warmup_updates=100)
    assert schedule.cut_short(99) == "the warm-up was over (99 of 100 updates)"
    assert schedule.cut_short(156) == "the learning rate fell far (it is still 80% of its peak)"  # 1 / sqrt(1.56)
    assert schedule.cut_short(300) is None
    assert ConstantSchedule(0.5, warmup_updates=100).cut_short(100) is None
    plateau = PlateauSchedule(0.5, factor=0.5, patience=2, minimum_learning_rate=0.0, warmup_updates=0)
    assert plateau.cut_short(300) == "the learning rate fell far (it is still 100% of its peak)"  # it may never fall
