"""Where an average is written, what it replaces, and that a failure leaves nothing behind."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import nmt.inference.translator
from nmt.adaptation.derived import average, interpolate
from nmt.backend import session
from nmt.checkpoint.derived import average_contents
from nmt.checkpoint.folder import DirectoryLock, checkpoint_names, read_weights
from nmt.checkpoint.manifest import Contents
from nmt.directory.model_directory import sibling_directory
from nmt.errors import CheckpointError, ConfigError


@pytest.fixture
def run(trained_run, tmp_path):
    return Path(shutil.copytree(trained_run.directory, tmp_path / "run"))


FIRST, SECOND = "update-00000010", "update-00000020"


def test_the_default_lies_beside_the_run(tmp_path, monkeypatch):
    for name in ("runs/travel", "runs/travel/"):
        assert sibling_directory(name, "average") == Path("runs/travel-average")
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    assert sibling_directory(".", "average") == tmp_path / "run-average"


def test_an_earlier_average_of_the_same_run_is_replaced(run):
    output = run.with_name("run-average")
    assert average(run, updates=[20]).directory == output
    (output / "notes.txt").write_text("mine")
    assert average(run, updates=[10], weights="raw").checkpoint == FIRST
    assert checkpoint_names(output / "checkpoints") == [FIRST]  # else the newer one would be read
    assert (output / "notes.txt").read_text() == "mine"
    other = Path(shutil.copytree(run, run.with_name("other")))
    with pytest.raises(CheckpointError, match=r"run-average: exists, and is no earlier average of .*other: choose"):
        average(other, updates=[10], output=output)


def test_only_overwrite_replaces_a_run(run):
    target = Path(shutil.copytree(run, run.with_name("target")))
    (target / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(CheckpointError, match="exists, and is no earlier average"):
        average(run, updates=[10], output=target)
    average(run, updates=[10], output=target, overwrite=True)
    assert checkpoint_names(target / "checkpoints") == [FIRST]
    assert not (target / "metrics.jsonl").exists()


def test_a_model_that_does_not_open_is_not_left_behind(run):
    config = (run / "config.yaml").read_text()
    assert "tie_embeddings: auto" in config
    (run / "config.yaml").write_text(config.replace("tie_embeddings: auto", "tie_embeddings: none"))
    with pytest.raises(CheckpointError, match="ties target_embedding=output_projection, but the model ties nothing"):
        average(run, updates=[10, 20])
    assert not run.with_name("run-average").exists()


@pytest.mark.parametrize("foreign", ["config.yaml", "checkpoints/notes.txt"])
def test_a_directory_that_holds_no_model_is_never_replaced(run, foreign):
    output = run.parent / "theirs"
    (output / foreign).parent.mkdir(parents=True)
    for name in (foreign, "vocabulary.txt"):
        (output / name).write_text("seed: 1")
    with pytest.raises(CheckpointError, match="theirs: holds files that are no model: choose another -o"):
        average(run, updates=[10], output=output, overwrite=True)
    assert (output / "vocabulary.txt").read_text() == (output / foreign).read_text() == "seed: 1"


def test_an_output_that_cannot_be_written_is_said(run):
    (run.parent / "file").write_text("")
    with pytest.raises(CheckpointError, match="mean: cannot be written: Not a directory"):
        average(run, updates=[10], output=run.parent / "file/mean")


def test_whoever_gets_there_first_is_left_alone(run, monkeypatch):
    """Another process comes between the computing and the writing, while TensorFlow starts."""
    first, second = run.with_name("first"), run.with_name("second")

    def write_config():
        first.mkdir()
        (first / "config.yaml").write_text("format_version: 1")

    monkeypatch.setattr(session, "start", write_config)
    with pytest.raises(CheckpointError, match="exists, and is no earlier average"):
        average(run, updates=[10], output=first)
    assert (first / "config.yaml").read_text() == "format_version: 1"
    lock = DirectoryLock(second)
    monkeypatch.setattr(session, "start", lock.acquire)
    with pytest.raises(CheckpointError, match="another training writes here"):
        average(run, updates=[10], output=second)
    lock.release()


def test_an_average_appears_whole(run, monkeypatch):
    output, load = run.with_name("run-average"), nmt.inference.translator.open_model
    seen = []

    def look(*arguments, **settings):
        seen.append((output.exists(), checkpoint_names(output / "checkpoints")))
        return load(*arguments, **settings)

    monkeypatch.setattr(nmt.inference.translator, "open_model", look)
    average(run, updates=[10])
    average(run, updates=[20])
    assert seen == [(False, []), (True, [FIRST])]
    assert checkpoint_names(output / "checkpoints") == [SECOND]
    assert sorted(path.name for path in run.parent.iterdir()) == ["run", "run-average"]


def test_what_was_made_of_an_average_is_none(run):
    output = run.with_name("run-average")
    average(run, updates=[10])
    (output / "vocabulary_update.json").write_text("{}")
    with pytest.raises(CheckpointError, match="run-average: exists, and is no earlier average"):
        average(run, updates=[20])
    assert checkpoint_names(output / "checkpoints") == [FIRST]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("run/checkpoints/update-00000099", "must not lie among the checkpoints in .*run/checkpoints: choose another"),
        ("run/sub/deep", "must not lie in the model directory .*run: choose another -o"),
        ("link/sub", "must not lie in the model directory .*run: choose another -o"),
        ("other/checkpoints", "must not lie among the checkpoints in .*other/checkpoints: choose another -o"),
        ("other/checkpoints/new", "must not lie among the checkpoints in .*other/checkpoints: choose another -o"),
        (".", "must not hold the model directory .*run: choose another -o"),
    ],
)
def test_a_place_where_an_average_would_do_harm_is_refused(run, place, message):
    (run.parent / "link").symlink_to(run)
    (run.parent / "other" / "checkpoints").mkdir(parents=True)
    (run.parent / "other" / "config.yaml").write_text("")
    before = sorted(run.parent.rglob("*"))
    with pytest.raises(CheckpointError, match=message):
        average(run, updates=[10], output=run.parent / place, overwrite=True)
    assert sorted(run.parent.rglob("*")) == before


def test_shares_of_two_runs_give_the_weighted_mean_of_their_weights(run):
    other = Path(shutil.copytree(run, run.with_name("other")))
    output = run.with_name("between")
    done = interpolate([f"{run}@update-10", f"{other}@latest"], [0.25, 0.75], output=output)
    old, new = (read_weights(each / "checkpoints" / name, kind).model for each, name, kind in
                ((run, FIRST, "ema"), (other, SECOND, "raw")))  # fmt: skip
    found = read_weights(output / "checkpoints" / done.checkpoint, "raw")
    assert found.model.keys() == old.keys()
    for path, value in found.model.items():
        wanted = 0.25 * old[path].astype("float64") + 0.75 * new[path].astype("float64")
        np.testing.assert_allclose(value, wanted, rtol=1e-6, err_msg=path)
    origin = found.facts["interpolation_of"]
    assert [(each["checkpoint"], each["weights"], each["share"]) for each in origin] == [
        (FIRST, "ema", 0.25), (SECOND, "raw", 0.75)
    ]  # fmt: skip
    with pytest.raises(CheckpointError, match="exists: choose another -o, or replace it with --overwrite"):
        interpolate([str(run), str(other)], [0.5, 0.5], output=output)


@pytest.mark.parametrize("shares", [[0.5], [0.5, 0.6], [1.5, -0.5], [float("nan")] * 2])
def test_shares_that_are_none_are_refused(run, shares):
    with pytest.raises(ConfigError, match="--shares must be a number of 0 or more for each of 2 models, 1 together"):
        interpolate([str(run), str(run)], shares, output=run.with_name("between"))


def test_runs_of_other_tokenizers_or_ties_are_not_interpolated():
    facts = {"tokenizers": ["a", "a"], "data_hash": "x"}
    one = Contents(
        1, None, {"e": np.ones(2, "float32")}, variables={"e": {"shape": [2], "dtype": "float32"}}, facts=facts
    )
    mean = average_contents([one, replace(one, update=7, facts={**facts, "data_hash": "y"})], [0.5, 0.5])
    assert mean.update == 7
    with pytest.raises(CheckpointError, match="trained with other tokenizers"):
        average_contents([one, replace(one, facts={**facts, "tokenizers": ["b", "b"]})], [0.5, 0.5])
    tie = {"name": "e=f", "roles": ["e", "f"], "variable": "e", "shape": [2]}
    with pytest.raises(CheckpointError, match="it ties e=f, not nothing"):
        average_contents([one, replace(one, tie_groups=(tie,))], [0.5, 0.5])
