"""Averaging: the mean in NumPy, for all ties of both models, and what is refused."""

import weakref
from dataclasses import replace

import keras
import numpy as np
import pytest

from nmt.checkpoint.derived import average_contents
from nmt.checkpoint.folder import read_weights, write_checkpoint
from nmt.checkpoint.manager import CheckpointManager
from nmt.checkpoint.manifest import Contents
from nmt.checkpoint.weights import load_weights
from nmt.errors import CheckpointError
from nmt.models.contract import TIED_ROLES
from nmt.tying import named_variables, tie_groups, verify_ties

TIE = {"name": "a=b", "roles": ["a/w", "b/w"], "variable": "a/w", "shape": [2, 3]}


def contents_of(update=1, value=1.0, **changes):
    model = {"a/w": np.full((2, 3), value, "float32"), "c": np.full((5,), 2 * value, "float32")}
    variables = {path: {"shape": list(array.shape), "dtype": "float32"} for path, array in model.items()}
    facts = {"tokenizers": ["x", "y"], "data_hash": "d", "config_hash": f"config of update {update}"}
    contents = Contents(
        update, 0.5, model, {"a/w": 7 * model["a/w"]}, {"iterations": np.int64(update)}, {"epoch": 1},
        (TIE,), variables, "Adam", facts,
    )  # fmt: skip
    return replace(contents, **changes)


@pytest.mark.parametrize("ties", TIED_ROLES)
@pytest.mark.parametrize("kind", ["transformer", "rnn"])
def test_the_mean_is_that_of_numpy_for_every_variable(kind, ties, build, tmp_path):
    model, random = build(kind, ties), np.random.default_rng(5)
    variables = named_variables(model)
    raw = [{p: random.normal(size=v.shape).astype("float32") for p, v in variables.items()} for _ in range(3)]
    ema = [{p: random.normal(size=v.shape).astype("float32") for p, v in variables.items()} for _ in range(3)]
    averages = {path: keras.Variable(np.zeros(v.shape), dtype=v.dtype) for path, v in variables.items()}
    with CheckpointManager(tmp_path / "run") as manager:
        paths = []
        for update, (weights, average) in enumerate(zip(raw, ema, strict=True), start=1):
            for path, variable in variables.items():
                variable.assign(weights[path])
                averages[path].assign(average[path])
            paths.append(manager.save(update, model=model, ema=averages))
    for weights, given in (("raw", raw), ("ema", ema)):
        mean = average_contents(read_weights(path, weights) for path in paths)
        assert set(mean.model) == set(variables)
        for path, array in mean.model.items():
            assert array.dtype == np.float32
            np.testing.assert_array_equal(
                array, np.mean([one[path] for one in given], axis=0, dtype="float64").astype("float32")
            )

    with CheckpointManager(tmp_path / "mean") as manager:
        manager.write(mean)
    fresh = build(kind, ties, seed=9)
    load_weights(tmp_path / "mean", fresh)
    verify_ties(fresh, tie_groups(model))
    assert len(fresh.trainable_variables) == len(model.trainable_variables)
    for path, variable in named_variables(fresh).items():
        np.testing.assert_array_equal(variable.numpy(), mean.model[path])


def test_the_mean_is_computed_in_float64():
    values = [2.0**24, 1.0, 1.0]
    mean = average_contents(contents_of(update, value) for update, value in enumerate(values, start=1))
    assert mean.model["a/w"].tolist() == [[(2.0**24 + 2) / 3] * 3] * 2
    in_float32 = np.sum([np.float32(value) for value in values], dtype="float32") / np.float32(3)
    assert in_float32 != (2.0**24 + 2) / 3


def test_nothing_is_kept_that_belongs_to_one_of_them():
    mean = average_contents([contents_of(30, 3.0), contents_of(20, 1.0)])
    assert (mean.update, mean.score, mean.ema, mean.optimizer, mean.optimizer_class) == (30, None, None, None, None)
    assert mean.state == {}
    assert mean.facts["config_hash"] == "config of update 30"
    assert mean.tie_groups == (TIE,)
    assert mean.model["c"].tolist() == [4.0] * 5


def test_one_checkpoint_at_a_time_is_in_memory():
    alive = []

    def read():
        for update in (1, 2, 3):
            assert not any(reference() is not None for reference in alive)
            contents = contents_of(update)
            alive[:] = [weakref.ref(array) for array in contents.model.values()]
            yield contents
            del contents

    average_contents(read())
    assert len(alive) == 2


def test_whole_numbers_must_be_equal():
    variables = {"n": {"shape": [], "dtype": "int64"}}
    counts = [contents_of(u, model={"n": np.array(n)}, variables=variables) for u, n in ((1, 4), (2, 4), (3, 5))]
    mean = average_contents(counts[:2])
    assert (mean.model["n"], mean.model["n"].dtype) == (4, np.int64)
    with pytest.raises(CheckpointError, match="update-00000003 cannot be averaged: n holds whole numbers that differ"):
        average_contents(counts)


OTHER_SHAPE = {"a/w": {"shape": [3, 2], "dtype": "float32"}, "c": {"shape": [5], "dtype": "float32"}}
OTHER_NAME = {"a/w": {"shape": [2, 3], "dtype": "float32"}, "d": {"shape": [5], "dtype": "float32"}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variables": OTHER_NAME}, "only one of them has c, d of that shape and type"),
        ({"variables": OTHER_SHAPE}, "only one of them has a/w of that shape and type"),
        ({"tie_groups": ()}, "it ties nothing, not a=b"),
        ({"tie_groups": ({**TIE, "roles": ["a/w", "e/w"], "name": "a=e"},)}, "it ties a=e, not a=b"),
        ({"facts": {"tokenizers": ["x", "z"]}}, "it was trained with other tokenizers"),
        ({"facts": {"data_hash": "e", "tokenizers": ["z"]}}, "with other tokenizers; it was trained with other text"),
    ],
)  # fmt: skip
def test_what_does_not_belong_together_is_refused(changes, message):
    with pytest.raises(
        CheckpointError, match=f"^update-00000002 cannot be averaged with update-00000001: .*{message}$"
    ):
        average_contents([contents_of(1), contents_of(2, **changes)])


def test_facts_that_a_run_may_change_are_no_obstacle():
    average_contents([contents_of(1), contents_of(2, facts={"config_hash": "other"}), contents_of(3, facts={})])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value):
    with pytest.raises(CheckpointError, match="update-00000002 holds values that are not finite: a/w, c: leave it out"):
        average_contents([contents_of(1), contents_of(2, value)])


def test_arrays_that_are_not_listed_are_refused(tmp_path):
    model = {**contents_of().model, "b/w": np.zeros((2, 3), "float32")}
    with pytest.raises(CheckpointError, match="update-00000001: its arrays are not the variables that it lists"):
        read_weights(write_checkpoint(tmp_path, contents_of(1, model=model)), "raw")


def test_nothing_has_no_mean():
    with pytest.raises(CheckpointError, match="there must be a checkpoint to average, got none"):
        average_contents([])


def test_a_moving_average_stands_in_for_what_is_trained(tmp_path):
    contents = contents_of(1, 2.0)
    found = read_weights(write_checkpoint(tmp_path, contents), "ema")
    assert found.model["a/w"].tolist() == [[14.0] * 3] * 2
    assert found.model["c"].tolist() == [4.0] * 5
    path = write_checkpoint(tmp_path, replace(contents, ema=None))
    with pytest.raises(CheckpointError, match="update-00000001: no moving average was kept: ask for raw weights"):
        read_weights(path, "ema")
