"""Where an average is written, what it replaces, and that a failure leaves nothing behind."""

import shutil
from pathlib import Path

import pytest

from nmt.checkpoint.folder import checkpoint_names
from nmt.checkpoint.lock import DirectoryLock
from nmt.errors import CheckpointError
from nmt.recipes.average import average, compute_average, default_output, write_average


@pytest.fixture
def run(trained_run, tmp_path):
    return Path(shutil.copytree(trained_run.directory, tmp_path / "run"))


FIRST, SECOND = "update-00000010", "update-00000020"


def test_the_default_lies_beside_the_run(tmp_path, monkeypatch):
    assert default_output("runs/travel") == default_output("runs/travel/") == Path("runs/travel-average")
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    assert default_output(".") == tmp_path / "run-average"


def test_an_earlier_average_of_the_same_run_is_replaced(run):
    output = run.with_name("run-average")
    assert average(run, [SECOND]).directory == output
    (output / "notes.txt").write_text("mine")
    assert average(run, [FIRST], weights="raw").checkpoint == FIRST
    assert checkpoint_names(output / "checkpoints") == [FIRST]  # else the newer one would be read
    assert (output / "notes.txt").read_text() == "mine"
    other = Path(shutil.copytree(run, run.with_name("other")))
    with pytest.raises(CheckpointError, match=r"run-average: exists, and is no earlier average of .*other: choose"):
        average(other, [FIRST], output=output)


def test_only_overwrite_replaces_a_run(run):
    target = Path(shutil.copytree(run, run.with_name("target")))
    (target / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(CheckpointError, match="exists, and is no earlier average"):
        average(run, [FIRST], output=target)
    average(run, [FIRST], output=target, overwrite=True)
    assert checkpoint_names(target / "checkpoints") == [FIRST]
    assert not (target / "metrics.jsonl").exists()


def test_a_model_that_does_not_open_is_not_left_behind(run):
    config = (run / "config.yaml").read_text()
    assert "tie_embeddings: auto" in config
    (run / "config.yaml").write_text(config.replace("tie_embeddings: auto", "tie_embeddings: none"))
    with pytest.raises(CheckpointError, match="ties target_embedding=output_projection, but the model ties nothing"):
        average(run, [FIRST, SECOND])
    assert not run.with_name("run-average").exists()


def test_a_checkpoint_that_was_pruned_meanwhile_is_said_to_be(run):
    with pytest.raises(CheckpointError, match="update-00000007: was pruned while it was read: try again"):
        average(run, ["update-00000007"])


def test_an_output_that_cannot_be_written_is_said(run):
    with pytest.raises(CheckpointError, match="mean: cannot be written: Not a directory"):
        average(run, [FIRST], output=run / "config.yaml/mean")


def test_whoever_gets_there_first_is_left_alone(run, monkeypatch):
    computed = compute_average(run, [FIRST])

    def too_late(lock):
        lock.directory.mkdir()
        (lock.directory / "config.yaml").write_text("theirs")
        raise CheckpointError("another training writes here")

    monkeypatch.setattr(DirectoryLock, "acquire", too_late)
    with pytest.raises(CheckpointError, match="another training writes here"):
        write_average(computed)
    assert (computed.output / "config.yaml").read_text() == "theirs"
