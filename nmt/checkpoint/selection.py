"""Which checkpoint is meant by `best`, `latest`, `update-N`, its own path or nothing."""

from __future__ import annotations

import os
from pathlib import Path

from nmt.checkpoint.folder import checkpoint_name, checkpoints_folder, damaged_names
from nmt.checkpoint.index import Index
from nmt.checkpoint.manifest import is_checkpoint
from nmt.errors import CheckpointError
from nmt.types import PathLike


def candidates(directory: Path, index: Index, checkpoint: str | None) -> list[str]:
    """List the checkpoints that answer a request, the wanted one first, then those that stand in where it is damaged.

    Args:
        directory: the model directory.
        index: of its checkpoints.
        checkpoint: `best`, `latest` or `update-N`; the best, or the latest where none has a score, unless given.

    Raises:
        CheckpointError: there is none.
    """
    if not index.scores:
        raise CheckpointError(_nothing_to_read(directory))
    newest_first = list(reversed(index.scores))
    if checkpoint == "latest":
        return newest_first
    newest_first.sort(key=index.diverged.__contains__)  # what has diverged stands in last
    if checkpoint in (None, "best") and index.best is not None:
        return [*index.ranked, *(name for name in newest_first if name not in index.ranked)]
    if checkpoint is None:
        return newest_first
    if checkpoint == "best":
        raise CheckpointError(f"{directory}: no checkpoint was validated yet, so none is the best: ask for latest")
    name = name_of_update(checkpoint)
    if name is None:
        raise CheckpointError(f"checkpoint must be best, latest or update-N, got {checkpoint}")
    if name not in index.scores:
        raise CheckpointError(f"{directory} has no checkpoint {checkpoint}, it has {', '.join(index.scores)}")
    return [name]


def split_checkpoint(directory: PathLike, checkpoint: str | None = None) -> tuple[Path, str | None]:
    """Take the path of a checkpoint, RUN/checkpoints/update-N, for the model directory RUN and that checkpoint.

    Args:
        directory: a model directory or a checkpoint in one.
        checkpoint: as in `candidates`.

    Raises:
        CheckpointError: the path is that of a checkpoint, and another one is asked for.
    """
    path = Path(directory)
    full = path if path.parent.name else Path(os.path.abspath(path))
    run, named = full.parent.parent, name_of_update(full.name)
    if named is None or full.parent != checkpoints_folder(run) or (path / "config.yaml").exists():
        return path, checkpoint
    if checkpoint is not None and name_of_update(checkpoint) != named:
        raise CheckpointError(f"{path} is a checkpoint already, got {checkpoint}: leave that out, or give {run}")
    return run, named


def name_of_update(checkpoint: str | None) -> str | None:
    """Return the one checkpoint that was asked for by its update, so that no other may stand in for it, else None."""
    if checkpoint is None or not checkpoint.startswith("update-"):
        return None
    update = checkpoint.removeprefix("update-")
    return checkpoint_name(int(update)) if update.isascii() and update.isdecimal() else None


def _nothing_to_read(directory: Path) -> str:
    if not directory.is_dir():
        return no_such_directory(directory)
    damaged = damaged_names(checkpoints_folder(directory))
    if damaged:
        return f"{directory}: no whole checkpoint is left, only {', '.join(damaged)}"
    if directory.resolve() == checkpoints_folder(directory.resolve().parent):
        return f"{directory}: is the folder of checkpoints of a run: give {directory.parent}"
    if is_checkpoint(directory):
        return f"{directory}: is a checkpoint without its model directory: give the one that it was copied from"
    return f"{directory}: there is no checkpoint yet: train the model first, or give the model_directory of a run"


def no_such_directory(directory: Path) -> str:
    """Say that a directory is missing, and how a checkpoint is named where that was tried in its place."""
    hint = ": a checkpoint is named best, latest or update-N" if "@" in directory.name else ""
    return f"{directory}: there is no such model directory{hint}"
