import logging
import shutil

import keras
import numpy as np
import pytest

from nmt.checkpoint import folder as folder_module
from nmt.checkpoint import index as index_module
from nmt.checkpoint import weights as weights_module
from nmt.checkpoint.manager import CheckpointManager
from nmt.checkpoint.weights import load_weights, read_contents
from nmt.errors import CheckpointError
from nmt.training.optimization import EmaWeights
from nmt.tying import named_variables, variable_roles


def fill(model, number):
    for variable in named_variables(model).values():
        variable.assign(np.full(variable.shape, number, np.float32))


def held(model):
    """The one value that all weights hold."""
    numbers = {float(x) for variable in named_variables(model).values() for x in np.asarray(variable).flat}
    assert len(numbers) == 1
    return numbers.pop()


@pytest.fixture
def write(tmp_path, small_model):
    """Write checkpoints whose weights are all equal to their update."""

    def run(scores, **keep):
        model = small_model()
        with CheckpointManager(tmp_path, **{"keep_last": 9, **keep}) as manager:
            for number, score in scores.items():
                fill(model, number)
                manager.save(number, model=model, score=score)
        return manager.folder

    return run


@pytest.mark.parametrize(
    ("scores", "checkpoint", "update"),
    [
        ({1: 5.0, 2: 7.0, 3: 6.0, 4: None}, None, 2),
        ({1: 5.0, 2: 7.0, 3: 6.0, 4: None}, "best", 2),
        ({1: 5.0, 2: 7.0, 3: 6.0, 4: None}, "latest", 4),
        ({1: 5.0, 2: 7.0, 3: 6.0, 4: None}, "update-3", 3),
        ({1: 5.0, 2: 7.0, 3: 6.0, 4: None}, "update-00000001", 1),
        ({1: None, 2: None}, None, 2),
    ],
)
def test_the_wanted_checkpoint_is_read(tmp_path, write, small_model, scores, checkpoint, update):
    write(scores)
    model = small_model()
    info = load_weights(tmp_path, model, checkpoint=checkpoint)
    assert held(model) == update
    assert (info.name, info.manifest.update, info.manifest.score) == (f"update-{update:08d}", update, scores[update])
    assert info.weights == "raw"
    assert info.path == tmp_path / "checkpoints" / info.name


@pytest.mark.parametrize(("kind", "ties"), [("rnn", "none"), ("transformer", "all")])
def test_the_average_is_read_where_it_was_kept_and_asked_for(tmp_path, build, batch, kind, ties):
    model = build(kind, ties)
    average = EmaWeights(model, 0.9)
    raw = np.asarray(model(batch))
    for variable in average.variables.values():
        variable.assign(variable * 0.5)
    with CheckpointManager(tmp_path) as manager:
        manager.save(1, model=model, ema=average.variables)
    with average.in_use():
        averaged = np.asarray(model(batch))
    assert np.abs(raw - averaged).max() > 0.01
    for weights, expected in ((None, averaged), ("ema", averaged), ("raw", raw)):
        other = build(kind, ties, seed=4)
        assert load_weights(tmp_path, other, weights=weights).weights == (weights or "ema")
        np.testing.assert_array_equal(np.asarray(other(batch)), expected)


def test_weights_that_have_no_average_are_taken_as_they_are(tmp_path, small_model):
    model = small_model()
    fill(model, 1.0)
    average = EmaWeights(model, 0.9).variables
    for variable in average.values():
        variable.assign(variable * 3.0)
    with CheckpointManager(tmp_path) as manager:
        manager.save(1, model=model, ema=average)
    other = small_model()
    load_weights(tmp_path, other)
    found = {path: float(np.asarray(v).flat[0]) for path, v in named_variables(other).items()}
    assert {found["dense/kernel"], found["norm/gamma"]} == {3.0}
    assert {found["norm/moving_mean"], found["norm/moving_variance"]} == {1.0}


@pytest.mark.parametrize("checkpoint", [None, "best", "latest"])
def test_a_damaged_one_is_skipped_with_a_warning_and_left_as_it_is(
    tmp_path, write, small_model, flip, caplog, checkpoint
):
    folder = write({1: 5.0, 2: 6.0, 3: 7.0})
    flip(folder / "update-00000003" / "model.safetensors")
    before = sorted(path.name for path in folder.iterdir())
    model = small_model()
    with caplog.at_level(logging.WARNING):
        assert load_weights(tmp_path, model, checkpoint=checkpoint).manifest.update == 2
    assert held(model) == 2
    assert "update-00000003: skipped, it is damaged" in caplog.text
    assert "model.safetensors" in caplog.text
    assert sorted(path.name for path in folder.iterdir()) == before


def test_one_that_was_asked_for_by_name_is_never_another(tmp_path, write, small_model, flip):
    folder = write({1: 5.0, 2: 6.0})
    flip(folder / "update-00000002" / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"update-00000002/model\.safetensors: its content does not fit"):
        load_weights(tmp_path, small_model(), checkpoint="update-2")


def test_where_all_are_damaged_the_error_says_so(tmp_path, write, small_model, flip):
    folder = write({1: 5.0, 2: 6.0})
    for name in ("update-00000001", "update-00000002"):
        flip(folder / name / "model.safetensors")
    with pytest.raises(CheckpointError, match="every checkpoint is damaged: update-00000001, update-00000002"):
        load_weights(tmp_path, small_model())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"checkpoint": "update-9"}, "has no checkpoint update-9, it has update-00000001, update-00000002"),
        ({"checkpoint": "newest"}, "checkpoint must be best, latest or update-N, got newest"),
        ({"checkpoint": "update-x"}, "checkpoint must be best, latest or update-N, got update-x"),
        ({"checkpoint": "best"}, "no checkpoint was validated yet, so none is the best: ask for latest"),
        ({"weights": "ema"}, "no moving average was kept: ask for raw weights"),
        ({"weights": "mean"}, "weights must be ema or raw, got mean"),
    ],
)
def test_requests_that_cannot_be_met_are_clear_errors(tmp_path, write, small_model, arguments, message):
    write({1: None, 2: None})
    with pytest.raises(CheckpointError, match=message):
        load_weights(tmp_path, small_model(), **arguments)


def test_nothing_to_read_is_told_apart(tmp_path, write, small_model, flip):
    with pytest.raises(CheckpointError, match="nowhere: there is no such model directory"):
        load_weights(tmp_path / "nowhere", small_model())
    with pytest.raises(CheckpointError, match="there is no checkpoint yet: train the model first"):
        load_weights(tmp_path, small_model())
    folder = write({1: 1.0})
    (folder / "update-00000001").rename(folder / "update-00000001.damaged")
    with pytest.raises(CheckpointError, match=r"no whole checkpoint is left, only update-00000001\.damaged"):
        load_weights(tmp_path, small_model())


def test_other_ties_and_shapes_are_refused_before_anything_changes(tmp_path, build):
    with CheckpointManager(tmp_path) as manager:
        manager.save(1, model=build("rnn", "all"))
    other = build("rnn", "target_output", seed=2)
    before = {path: np.asarray(v) for path, v in variable_roles(other).items()}
    with pytest.raises(
        CheckpointError, match="ties source_embedding=target_embedding=output_projection, but the model ties"
    ):
        load_weights(tmp_path, other)
    for path, variable in variable_roles(other).items():
        np.testing.assert_array_equal(np.asarray(variable), before[path])


def test_all_that_does_not_fit_is_listed(tmp_path, write):
    write({1: None})
    other = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(5, name="dense"), keras.layers.Dense(2, name="more")]
    )
    message = r"more/bias is missing; .*gamma is unexpected; .*kernel must be of shape \(3, 5\), but is of \(3, 4\)"
    with pytest.raises(CheckpointError, match=message):
        load_weights(tmp_path, other)


def test_a_reader_that_loses_the_race_with_pruning_looks_again(tmp_path, write, small_model, monkeypatch):
    folder = write({1: 1.0, 2: 2.0})
    original, calls = folder_module.read_parts, []

    def pruned_meanwhile(path, manifest, names):
        calls.append(path.name)
        if len(calls) == 1:
            write({3: 3.0})
            shutil.rmtree(path)
        return original(path, manifest, names)

    monkeypatch.setattr(folder_module, "read_parts", pruned_meanwhile)
    model = small_model()
    assert load_weights(tmp_path, model).manifest.update == 3
    assert held(model) == 3
    assert calls == ["update-00000002", "update-00000003"]
    assert folder.is_dir()


def test_a_reader_that_loses_the_race_every_time_gives_up(tmp_path, write, small_model, monkeypatch):
    write({1: 1.0})
    monkeypatch.setattr(weights_module, "read_index", lambda _: index_module.Index({"update-00000005": 1.0}))
    with pytest.raises(CheckpointError, match="changed 10 times while they were read"):
        load_weights(tmp_path, small_model())


def test_what_is_read_and_written_elsewhere_is_the_same_checkpoint(tmp_path, small_model):
    model, optimizer = small_model(), keras.optimizers.Adam()
    average = EmaWeights(model, 0.9).variables
    with CheckpointManager(tmp_path / "one") as manager:
        manager.save(3, model=model, optimizer=optimizer, ema=average, state={"epoch": 2}, facts={"a": "b"}, score=4.5)
    read, contents = read_contents(tmp_path / "one")
    assert (read.name, contents.update, contents.score) == ("update-00000003", 3, 4.5)
    with CheckpointManager(tmp_path / "two") as manager:
        path = manager.write(contents)
    assert {file.name for file in path.iterdir()} == {file.name for file in read.iterdir()}
    for file in read.iterdir():
        assert file.read_bytes() == (path / file.name).read_bytes()


def test_reading_everything_passes_over_a_damaged_checkpoint(tmp_path, write, caplog):
    folder = write({1: 5.0, 2: 7.0})
    (folder / "update-00000002" / "state.json").unlink()
    assert read_contents(tmp_path).contents.update == 1
    assert "update-00000002: skipped" in caplog.text
    with pytest.raises(CheckpointError, match="is missing"):
        read_contents(tmp_path, "update-2")
