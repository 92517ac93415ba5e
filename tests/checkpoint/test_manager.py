import logging
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest

from nmt.checkpoint import folder as folder_module
from nmt.checkpoint.folder import checkpoint_names
from nmt.checkpoint.index import read_index
from nmt.checkpoint.manager import CheckpointManager
from nmt.checkpoint.manifest import FILES, read_manifest
from nmt.checkpoint.weights import read_contents
from nmt.directory.inspection import find_checkpoints
from nmt.errors import CheckpointError
from nmt.training.optimization import EmaWeights
from nmt.tying import named_variables, tie_groups, variable_roles

TIES = ("none", "source_target", "target_output", "all")


@pytest.fixture
def manager(tmp_path):
    with CheckpointManager(tmp_path / "run", keep_last=2, keep_best=1) as manager:
        yield manager


def values(variables):
    return {path: np.asarray(variable) for path, variable in variables.items()}


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_array_equal(found[path], value, err_msg=path)


@pytest.mark.parametrize("saved", TIES)
@pytest.mark.parametrize("wanted", TIES)
def test_other_ties_are_refused_with_the_groups_of_both_sides(manager, build, saved, wanted):
    if saved == wanted:
        return
    model, other = build("rnn", saved), build("rnn", wanted, seed=2)
    manager.save(1, model=model)
    before = values(variable_roles(other))
    names = [", ".join(group.name for group in tie_groups(m)) or "nothing" for m in (model, other)]
    with pytest.raises(CheckpointError, match=f"ties {names[0]}, but the model ties {names[1]}: build the model with"):
        manager.restore(other)
    assert_equal(values(variable_roles(other)), before)


def layered(names=("a", "b"), units=4):
    return keras.Sequential([keras.Input((3,)), *(keras.layers.Dense(units, name=name) for name in names)])


def test_everything_that_does_not_fit_is_listed_at_once_and_nothing_is_changed(manager):
    manager.save(1, model=layered(("a", "b")))
    other = layered(("a", "c"), units=5)
    before = values(named_variables(other))
    with pytest.raises(CheckpointError) as caught:
        manager.restore(other)
    for problem in (
        "c/kernel is missing",
        "c/bias is missing",
        "b/kernel is unexpected",
        "b/bias is unexpected",
        "a/kernel must be of shape (3, 5), but is of (3, 4)",
    ):
        assert problem in str(caught.value)
    assert_equal(values(named_variables(other)), before)


def test_slots_that_are_missing_or_too_many_are_refused_by_name(manager, small_model):
    plain, moving = keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.1, momentum=0.9)
    model = small_model()
    manager.save(1, model=model, optimizer=plain)
    with pytest.raises(CheckpointError, match=r"optimizer in .*1 does not fit: momentums/dense/.* is missing"):
        manager.restore(model, moving)
    manager.save(2, model=model, optimizer=moving)
    with pytest.raises(CheckpointError, match="momentums/norm/gamma is unexpected"):
        manager.restore(model, keras.optimizers.SGD(0.1))
    with pytest.raises(CheckpointError, match="keeps the slots of SGD, not of Lion"):
        manager.restore(model, keras.optimizers.Lion(0.1))
    scaled = keras.optimizers.LossScaleOptimizer
    manager.save(3, model=model, optimizer=scaled(keras.optimizers.SGD(0.1, momentum=0.9)))
    with pytest.raises(CheckpointError, match=r"keeps the slots of .*\(SGD\), not of LossScaleOptimizer\(Lion\)"):
        manager.restore(model, scaled(keras.optimizers.Lion(0.1)))
    manager.restore(model, scaled(keras.optimizers.SGD(0.1, momentum=0.9)))
    manager.save(3, model=model)
    with pytest.raises(CheckpointError, match="update-00000003 keeps no optimizer, not of SGD"):
        manager.restore(model, keras.optimizers.SGD(0.1))


def test_averages_that_are_missing_or_too_many_are_refused(manager, small_model):
    model = small_model()
    average = EmaWeights(model, 0.5).variables
    manager.save(1, model=model)
    with pytest.raises(CheckpointError, match=r"moving average in .*1 does not fit: .*dense/kernel is missing"):
        manager.restore(model, None, average)
    manager.save(2, model=model, ema=average)
    with pytest.raises(CheckpointError, match="dense/kernel is unexpected"):
        manager.restore(model)


def test_bfloat16_weights_come_back_bit_for_bit(manager):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(5, dtype="bfloat16", name="d")])
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(5, dtype="bfloat16", name="d")])
    manager.save(1, model=model)
    manager.restore(other)
    assert_equal(values(named_variables(other)), values(named_variables(model)))
    assert read_manifest(manager.folder / "update-00000001").variables["d/kernel"]["dtype"] == "bfloat16"


def test_a_tie_that_is_lost_while_restoring_is_noticed(manager, build, monkeypatch):
    """Whatever happens between the check before and the proof after, two variables are never accepted."""
    model, other = build("rnn", "all"), build("rnn", "all", seed=2)
    manager.save(1, model=model)
    from nmt.checkpoint import weights as module

    assign = module.assign

    def assign_and_untie(variables, arrays):
        assign(variables, arrays)
        if "output_bias" in variables:
            copy = build("rnn", "all", seed=3).source_embedding
            copy.embeddings.assign(other.source_embedding.embeddings)  # equal values do not help
            object.__setattr__(other, "output_projection", copy)

    monkeypatch.setattr(module, "assign", assign_and_untie)
    with pytest.raises(CheckpointError, match="target_embedding=output_projection must be one variable"):
        manager.restore(other)


def test_values_that_did_not_arrive_are_noticed(manager, small_model, monkeypatch):
    manager.save(1, model=small_model())
    from nmt.checkpoint import weights as module

    monkeypatch.setattr(module, "assign", lambda variables, arrays: None)
    with pytest.raises(CheckpointError, match=r"other values than in the checkpoint: dense/kernel$"):
        manager.restore(small_model())


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_used(manager, small_model, flip, caplog, name):
    model, optimizer = small_model(), keras.optimizers.Adam()
    average = EmaWeights(model, 0.5).variables
    for number in (1, 2):
        manager.save(number, model=model, optimizer=optimizer, ema=average, state={"update": number}, score=number)
    flip(manager.folder / "update-00000002" / name)
    with caplog.at_level(logging.WARNING):
        assert manager.restore(model, optimizer, average).state == {"update": 1}
    assert "update-00000002 is damaged and was set aside as update-00000002.damaged" in caplog.text
    assert name in caplog.text
    assert checkpoint_names(manager.folder) == ["update-00000001"]
    assert (manager.folder / "update-00000002.damaged").is_dir()
    assert read_index(manager.folder).best == read_index(manager.folder).latest == "update-00000001"


def test_where_none_is_left_the_run_does_not_silently_begin_anew(manager, small_model, flip):
    model = small_model()
    assert manager.restore(model) is None
    manager.save(1, model=model)
    flip(manager.folder / "update-00000001" / "model.safetensors")
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"no whole checkpoint is left .*update-00000001\.damaged"):
            manager.restore(model)


def test_a_newer_format_is_refused_and_left_alone(manager, small_model, monkeypatch):
    from nmt.checkpoint import manifest

    monkeypatch.setattr(manifest, "FORMAT_VERSION", 2)
    manager.save(1, model=small_model())
    monkeypatch.setattr(manifest, "FORMAT_VERSION", 1)
    with pytest.raises(CheckpointError, match="format version 2"):
        manager.restore(small_model())
    assert checkpoint_names(manager.folder) == ["update-00000001"]


def test_the_last_and_the_best_are_kept(manager, small_model):
    model, scores = small_model(), [1.0, 9.0, 3.0, None, 2.0, float("nan")]
    for number, score in enumerate(scores, 1):
        path = manager.save(number, model=model, score=score)
        assert path.is_dir()
    found = {info.update: info.score for info in find_checkpoints(manager.directory)}
    assert found == {2: 9.0, 5: 2.0, 6: None}
    index = read_index(manager.folder)
    assert (index.best, index.latest) == ("update-00000002", "update-00000006")
    assert not list(manager.folder.glob(".*"))


def test_the_one_just_saved_stays_even_if_newer_ones_exist(manager, small_model):
    model = small_model()
    for number in (8, 9):
        manager.save(number, model=model)
    assert manager.save(3, model=model).is_dir()
    assert checkpoint_names(manager.folder) == ["update-00000003", "update-00000008", "update-00000009"]


def test_a_full_disk_is_a_clear_error_and_the_old_checkpoint_is_intact(manager, small_model, monkeypatch):
    model = small_model()
    manager.save(1, model=model, state={"update": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(folder_module, "write_arrays", full)
        with pytest.raises(CheckpointError, match="update-00000002 could not be written: No space left on device; the"):
            manager.save(2, model=model)
        manager.save(3, model=model, background=True)
        with pytest.raises(CheckpointError, match="update-00000003 could not be written"):
            manager.wait()
        manager.save(4, model=model, background=True)
        with pytest.raises(CheckpointError, match="update-00000004 could not be written"):
            manager.save(5, model=model)
    assert manager.restore(model).state == {"update": 1}
    assert {path.name for path in manager.folder.iterdir()} == {"update-00000001", "index.json"}
    manager.save(6, model=model)


def test_saving_in_the_background_keeps_the_values_of_that_moment(tmp_path, small_model):
    model = small_model()
    with CheckpointManager(tmp_path) as manager:
        expected = values(named_variables(model))
        manager.save(1, model=model, state={"update": 1}, background=True)
        for variable in named_variables(model).values():
            variable.assign_add(np.ones(variable.shape, np.float32))
        assert manager.restore(model).state == {"update": 1}  # waits for it
        assert_equal(values(named_variables(model)), expected)
        path = manager.save(2, model=model, background=True)
    assert path.is_dir()  # whoever leaves the manager waits too
    assert checkpoint_names(tmp_path / "checkpoints") == ["update-00000001", "update-00000002"]


def test_state_that_is_no_json_is_refused_and_leaves_nothing(manager, small_model):
    with pytest.raises(CheckpointError, match="only keep finite numbers"):
        manager.save(1, model=small_model(), state={"score": float("inf")})
    assert list(manager.folder.iterdir()) == []


NOT_KEPT = [
    ({"update": -1}, "update must be a whole number of 0 or more, got -1"),
    ({"update": True}, "update must be a whole number of 0 or more, got True"),
    ({"update": 1.5}, "update must be a whole number of 0 or more, got 1.5"),
    ({"update": "x"}, "update must be a whole number of 0 or more, got 'x'"),
    ({"update": None}, "update must be a whole number of 0 or more, got None"),
    ({"score": "x"}, "score must be a finite number or None, got 'x'"),
    ({"score": True}, "score must be a finite number or None, got True"),
    ({"score": 10**400}, "score must be a finite number or None, got 1000"),
    ({"ema": {"dense/kernels": np.ones((3, 4))}}, "be of variables of the model, .*, got dense/kernels$"),
    ({"ema": {"dense/kernel": np.ones((4, 3))}}, "be of variables of the model, .*, got dense/kernel$"),
]


@pytest.mark.parametrize(("arguments", "problem"), NOT_KEPT)
def test_what_would_not_be_read_again_is_not_written(manager, small_model, arguments, problem):
    arguments = {"update": 1, "model": small_model(), **arguments}
    if "ema" in arguments:
        arguments["ema"] = {path: keras.Variable(value) for path, value in arguments["ema"].items()}
    manager.save(0, model=arguments["model"], score=np.float32(0.5))
    with pytest.raises(CheckpointError, match=problem):
        manager.save(arguments.pop("update"), **arguments)
    assert {path.name for path in manager.folder.iterdir()} == {"update-00000000", "index.json"}
    assert manager.restore(arguments["model"]).name == "update-00000000"
    contents = read_contents(manager.directory).contents
    assert contents.score == 0.5
    with pytest.raises(CheckpointError, match="update must be"):
        manager.write(replace(contents, update=-1))


def test_only_who_holds_the_lock_writes(tmp_path, small_model):
    manager = CheckpointManager(tmp_path / "run")
    for action in (lambda: manager.save(1, model=small_model()), lambda: manager.restore(small_model())):
        with pytest.raises(RuntimeError, match="must hold its lock"):
            action()
    assert not (tmp_path / "run").exists()
    with manager, pytest.raises(CheckpointError, match="another training writes here"):
        CheckpointManager(tmp_path / "run").acquire()
    with CheckpointManager(tmp_path / "run"):
        pass


@pytest.mark.slow
def test_a_second_trainer_is_refused_in_another_process(manager):
    program = """
import sys
from pathlib import Path
from nmt.checkpoint.folder import DirectoryLock
from nmt.errors import CheckpointError
try:
    DirectoryLock(Path(sys.argv[1])).acquire()
except CheckpointError as error:
    sys.exit(str(error))
"""
    second = subprocess.run(
        [sys.executable, "-c", program, str(manager.directory)], capture_output=True, text=True, check=False
    )
    assert second.returncode == 1
    assert "another training writes here" in second.stderr


def test_acquiring_cleans_up_and_brings_the_index_up_to_date(tmp_path, small_model):
    with CheckpointManager(tmp_path) as manager:
        manager.save(1, model=small_model(), score=4.0)
        (manager.folder / "index.json").unlink()
        (manager.folder / ".update-00000002.5.tmp").mkdir()
    with manager:
        assert (manager.folder / "index.json").exists()
        assert not list(manager.folder.glob(".*"))
