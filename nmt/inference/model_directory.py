"""The settings of a trained model, read from its directory. No Keras here: a wrong path is refused at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from nmt.checkpoint import has_checkpoint
from nmt.checkpoint.manifest import is_checkpoint
from nmt.config import Config, changed_settings, load
from nmt.config.paths import CONFIG_NAME as CONFIG_NAME
from nmt.config.paths import EXPORT_NAME as EXPORT_NAME
from nmt.errors import CheckpointError, ConfigError
from nmt.types import PathLike


def read_settings(directory: PathLike, overrides: Sequence[str] = ()) -> Config:
    """Read the settings that a model directory holds.

    Args:
        directory: the model directory.
        overrides: settings of the form "search.beam_size=4"; only what a trained model leaves open may change.

    Raises:
        CheckpointError: this is no model directory.
        ConfigError: the settings cannot be read, or an override does not fit or changes what the model depends on.
    """
    path = Path(directory)
    run = _run_around(path)
    if not path.exists():
        hint = " (give a checkpoint as --checkpoint)" if "@" in path.name else "" if run is None else f": give {run}"
        raise CheckpointError(f"{path}: there is no such model directory{hint}")
    if not path.is_dir():
        raise CheckpointError(
            f"{path}: must be a model directory, got a file: give {run or 'the model_directory of the run'}"
        )
    if not (path / CONFIG_NAME).is_file():
        what = "no model directory"
        advice = "train a model there first" if run is None else f"give {run}, in which it lies"
        if run is None and is_checkpoint(path):
            what, advice = (
                "a checkpoint without its model directory",
                "give the one that it was copied from",
            )
        raise CheckpointError(f"{path}: is {what}, it holds no {CONFIG_NAME}: {advice}")
    if (path / EXPORT_NAME).is_file():
        raise CheckpointError(
            f"{path}: is an export for another engine: translate with --engine ctranslate2; all else needs the model "
            "directory it was made of"
        )
    if not has_checkpoint(path):
        raise CheckpointError(f"{path}: holds no whole checkpoint: train the model first")
    return load_settings(path / CONFIG_NAME, overrides)


def _run_around(path: Path) -> Path | None:
    """The model directory in which something lies, None where there is none."""
    parents = path.parents if path.parent.name else Path(os.path.abspath(path)).parents
    return next((run for run in parents if (run / CONFIG_NAME).is_file() and has_checkpoint(run)), None)


def load_settings(path: PathLike, overrides: Sequence[str] = ()) -> Config:
    """Read the settings of a trained model from their file.

    Args:
        path: the file.
        overrides: settings of the form "search.beam_size=4"; only what a trained model leaves open may change.

    Raises:
        ConfigError: the settings cannot be read, or an override does not fit or changes what the model depends on.
    """
    config = load(path, overrides)
    fixed = changed_settings(load(path), config) if overrides else []
    if fixed:
        raise ConfigError("a trained model keeps the settings it was trained with: " + "; ".join(fixed))
    return config


def sibling_directory(directory: PathLike, suffix: str) -> Path:
    """Return `RUN-suffix` beside a directory `RUN`, also where that is named by `.` or `..`."""
    path = Path(os.path.normpath(directory))
    path = path.resolve() if path.name in ("", "..") else path
    return path.with_name(f"{path.name}-{suffix}")
