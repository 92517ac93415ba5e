"""A model directory holds all that is needed, and nothing else is taken for one."""

import shutil

import numpy as np
import pytest

from nmt.directory.model_directory import find_model, read_settings
from nmt.errors import CheckpointError, ConfigError
from nmt.inference.translator import Translator, open_found, open_model

pytestmark = pytest.mark.usefixtures("eagerly")


def kernel_of(opened):
    return np.asarray(opened.model.attend.kernel)


def test_the_best_checkpoint_is_opened_with_its_average(trained_run):
    opened = open_model(trained_run.directory)
    assert (opened.checkpoint, opened.weights) == ("update-00000010", "ema")
    assert opened.config.search.max_length == 9
    assert opened.text.source.encode("uno") != opened.text.source.encode("dos")


def test_another_checkpoint_has_other_weights(trained_run):
    best = open_model(trained_run.directory, weights="raw")
    latest = open_model(trained_run.directory, checkpoint="latest")
    assert (best.weights, latest.checkpoint, latest.weights) == ("raw", "update-00000020", "raw")
    np.testing.assert_array_equal(kernel_of(latest), -kernel_of(best))
    np.testing.assert_array_equal(
        kernel_of(open_model(trained_run.directory, checkpoint="update-20")), kernel_of(latest)
    )


def test_overrides_reach_the_search_alone(trained_run):
    opened = open_found(find_model(trained_run.directory, overrides=["search.beam_size=3"]))
    assert opened.config.search.beam_size == 3
    with pytest.raises(ConfigError, match=r"keeps the settings it was trained with: model\.hidden_size: 8 before, 16"):
        find_model(trained_run.directory, overrides=["model.hidden_size=16"])


def test_a_directory_is_a_model(trained_run, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(trained_run.directory, moved)
    lines = ["uno dos", "", "siete"]
    translations = Translator.load(moved).translate(lines)
    assert translations == Translator.load(trained_run.directory).translate(lines)
    assert translations[1] == ""
    assert translations[0]


def test_what_is_no_model_directory_is_refused(trained_run, tmp_path):
    with pytest.raises(CheckpointError, match="nowhere: there is no such model directory"):
        read_settings(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"config\.yaml: must be a model directory, got a file"):
        read_settings(trained_run.config)
    with pytest.raises(CheckpointError, match=r"is no model directory, it holds no config\.yaml"):
        read_settings(tmp_path)
    shutil.copy(trained_run.directory / "config.yaml", tmp_path)
    with pytest.raises(CheckpointError, match="holds no whole checkpoint: train the model first"):
        read_settings(tmp_path)
    with pytest.raises(CheckpointError, match="has no checkpoint update-30"):
        open_model(trained_run.directory, checkpoint="update-30")


@pytest.mark.parametrize("name", ["update-10", "update-00000010", "update-00000010/"])
def test_the_folder_of_a_checkpoint_is_that_checkpoint(trained_run, name):
    path = f"{trained_run.directory}/checkpoints/{name}"
    raw = open_model(path, weights="raw")
    assert raw.checkpoint == "update-00000010"
    np.testing.assert_array_equal(kernel_of(raw), -kernel_of(open_model(trained_run.directory, checkpoint="latest")))
    assert open_model(path, checkpoint="update-10").checkpoint == "update-00000010"
    with pytest.raises(CheckpointError, match=r"is a checkpoint already, got latest: leave that out, or give .*run$"):
        open_model(path, checkpoint="latest")


def test_the_folder_of_a_checkpoint_is_found_from_within(trained_run, monkeypatch):
    monkeypatch.chdir(trained_run.directory / "checkpoints" / "update-00000010")
    assert open_model(".").checkpoint == "update-00000010"
    monkeypatch.chdir("..")
    assert open_model("update-20").checkpoint == "update-00000020"


def test_a_model_directory_may_be_named_like_a_checkpoint(trained_run, tmp_path):
    moved = tmp_path / "checkpoints" / "update-10"
    shutil.copytree(trained_run.directory, moved)
    assert open_model(moved, checkpoint="latest").checkpoint == "update-00000020"


@pytest.mark.parametrize(
    ("inside", "message"),
    [
        ("checkpoints", r"is no model directory, it holds no config\.yaml: give {run}, in which it lies"),
        ("checkpoints/update-00000010", r"it holds no config\.yaml: give {run}, in which it lies"),
        ("config.yaml", "must be a model directory, got a file: give {run}$"),
        ("checkpoints/update-00000010/manifest.json", "must be a model directory, got a file: give {run}$"),
        ("checkpoints/update-30", "there is no such model directory: give {run}$"),
        ("../run@best", r"there is no such model directory \(give a checkpoint as --checkpoint\)$"),
        ("../run@foo", r"there is no such model directory \(checkpoints are @best, @latest and @update-N\)$"),
    ],
)
def test_what_lies_in_a_model_directory_leads_to_it(trained_run, inside, message):
    with pytest.raises(CheckpointError, match=message.format(run=trained_run.directory)):
        read_settings(trained_run.directory / inside)


def test_a_checkpoint_that_was_copied_out_of_its_run_is_called_that(trained_run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(trained_run.directory / "checkpoints" / "update-00000010", copy)
    with pytest.raises(CheckpointError, match=r"copy: is a checkpoint without its model directory, it holds no config"):
        read_settings(copy)
