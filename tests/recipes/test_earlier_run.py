"""What `--overwrite` deletes: all that a run wrote, and nothing that others keep in its directory."""

import shutil
from pathlib import Path

import pytest

from nmt.config import load
from nmt.directory.model_directory import delete_run, foreign_files
from nmt.errors import ConfigError
from nmt.recipes.train import train

OF_A_RUN = (
    "config.yaml", "metrics.jsonl", "train.log", "vocabulary_update.json",
    "checkpoints/index.json", "checkpoints/.index.json.12.tmp",
    "checkpoints/update-00000010/manifest.json", "checkpoints/update-00000020.damaged/manifest.json",
    "checkpoints/update-00000020.damaged-2/manifest.json", "checkpoints/.update-00000030.7.tmp/model.safetensors",
    "checkpoints/.update-00000040.replaced/manifest.json",
    "logs/events.out.tfevents.1700000000.host.1.0.v2",
)  # fmt: skip
REPLACED_LATER = (
    ".lock",
    "tokenizer.json",
    "tokenizer.source.model",
    "vocabulary.txt",
    "token_store/train/manifest.json",
)
FOREIGN = ("notes.txt", "logs/notes", "logs/checkpoints/update-00000010/manifest.json", "checkpoints/best.txt",
           "checkpoints/update-final/manifest.json")  # fmt: skip


def write_files(directory, names):
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def files(directory):
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def test_only_what_a_run_wrote_is_deleted(tmp_path):
    write_files(tmp_path, [*OF_A_RUN, *REPLACED_LATER])
    assert foreign_files(tmp_path) == []
    write_files(tmp_path, FOREIGN)
    assert {str(path.relative_to(tmp_path)) for path in foreign_files(tmp_path)} == {
        "notes.txt", "logs/notes", "logs/checkpoints", "checkpoints/best.txt", "checkpoints/update-final"
    }  # fmt: skip
    delete_run(tmp_path)
    assert files(tmp_path) == {*REPLACED_LATER, *FOREIGN}


def test_folders_go_with_their_last_file(tmp_path):
    write_files(tmp_path, OF_A_RUN)
    delete_run(tmp_path)
    assert list(tmp_path.iterdir()) == []
    delete_run(tmp_path / "nowhere")


def test_links_lead_to_what_a_run_wrote_and_stay(tmp_path):
    write_files(tmp_path / "disk", ["update-00000010/manifest.json", "mine"])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").symlink_to(tmp_path / "disk")
    delete_run(tmp_path / "run")
    assert files(tmp_path / "disk") == {"mine"}
    assert (tmp_path / "run" / "checkpoints").is_symlink()


@pytest.mark.slow
@pytest.mark.parametrize("inside", ["logs", "logs/old", "checkpoints/old", "checkpoints/update-00000099", "linked"])
def test_a_run_that_is_needed_is_not_deleted(trained_run, tmp_path, inside):
    """Neither if it lies in the run that goes, nor if its checkpoints are a link into that."""
    needed = Path(shutil.copytree(trained_run.directory, tmp_path / inside))
    if inside == "linked":
        (needed / "checkpoints").rename(tmp_path / "checkpoints")
        (needed / "checkpoints").symlink_to(tmp_path / "checkpoints")
    before = files(tmp_path)
    overrides = [f"model_directory={tmp_path}", f"training.initialize_from={needed}", "training.max_updates=1"]
    config = load(trained_run.config, overrides)
    with pytest.raises(ConfigError, match=r"must not lie in .*, where --overwrite deletes files, got .*: choose"):
        train(config, overwrite=True)
    assert files(tmp_path) == before
