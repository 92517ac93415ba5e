"""Reading the weights of a model directory, while a trainer may be writing there. Readers change nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import keras
import numpy as np

from nmt.checkpoint.contents import Contents
from nmt.checkpoint.disk import DamagedCheckpointError
from nmt.checkpoint.folder import checkpoints_folder, read_checkpoint, read_parts
from nmt.checkpoint.index import CheckpointInfo, describe_checkpoint, read_index
from nmt.checkpoint.manifest import AVERAGE, MODEL, Manifest, read_manifest
from nmt.checkpoint.selection import candidates, is_update
from nmt.checkpoint.weights import assign, check_shapes, check_ties, role_arrays, verify_values
from nmt.errors import CheckpointError
from nmt.tying import named_variables, verify_ties
from nmt.types import PathLike

_TRIES = 10
"""Times that the checkpoints are looked up anew when pruning took the one that was being read."""

logger = logging.getLogger(__name__)

Read = TypeVar("Read")


class SelectedContents(NamedTuple):
    """A checkpoint that was chosen, and all it keeps."""

    info: CheckpointInfo
    contents: Contents


def load_weights(
    directory: PathLike, model: keras.Layer, *, checkpoint: str | None = None, weights: str | None = None
) -> CheckpointInfo:
    """Load weights of a model directory into a model with the same variables and ties.

    A damaged checkpoint is skipped with a warning, unless it was asked for by its update.

    Args:
        directory: the model directory.
        model: built, with the ties of the checkpoint; it is changed only if everything fits.
        checkpoint: `best`, `latest` or `update-N`; the best, or the latest where none has a score, unless given.
        weights: `ema` or `raw`; the moving average where it was kept unless given.

    Returns:
        The checkpoint and which of its weights were loaded.

    Raises:
        CheckpointError: there is no such directory, checkpoint or average; it is damaged and no other can take its
            place; it is of a newer format; or it does not fit the model, naming everything that does not.
    """
    if weights not in (None, "ema", "raw"):
        raise CheckpointError(f"weights must be ema or raw, got {weights}")
    return _read_selected(directory, checkpoint, lambda path, score: _load(path, score, model, weights))


def read_contents(directory: PathLike, checkpoint: str | None = None) -> SelectedContents:
    """Read everything one checkpoint of a model directory keeps, into memory.

    A damaged checkpoint is skipped with a warning, unless it was asked for by its update.

    Args:
        directory: the model directory.
        checkpoint: `best`, `latest` or `update-N`; the best, or the latest where none has a score, unless given.

    Raises:
        CheckpointError: as `load_weights`, where no model has to fit.
    """
    return _read_selected(
        directory,
        checkpoint,
        lambda path, score: SelectedContents(describe_checkpoint(path, score), read_checkpoint(path)),
    )


def _read_selected(directory: PathLike, checkpoint: str | None, read: Callable[[Path, float | None], Read]) -> Read:
    """Read the checkpoint that answers a request, or the next that does where it is damaged.

    Args:
        directory: the model directory.
        checkpoint: as in `load_weights`.
        read: is given the folder of a checkpoint and its score.
    """
    folder = checkpoints_folder(directory)
    for _ in range(_TRIES):
        index = read_index(folder)
        for name in candidates(Path(directory), index, checkpoint):
            try:
                return read(folder / name, index.scores[name])
            except DamagedCheckpointError as error:
                if not (folder / name).exists():
                    break  # pruned while we read it: look again
                if is_update(checkpoint):
                    raise
                logger.warning("%s: skipped, it is damaged: %s", name, error)
        else:
            raise CheckpointError(f"{folder}: every checkpoint is damaged: {', '.join(index.scores)}")
    raise CheckpointError(f"{folder}: the checkpoints changed {_TRIES} times while they were read: try again")


def _load(path: Path, score: float | None, model: keras.Layer, weights: str | None) -> CheckpointInfo:
    manifest = read_manifest(path)
    kept = AVERAGE in manifest.files
    if weights == "ema" and not kept:
        raise CheckpointError(
            f"{path}: no moving average was kept: ask for raw weights, or train with training.ema_decay"
        )
    kind = weights or ("ema" if kept else "raw")
    variables = named_variables(model)
    groups = check_ties(manifest.tie_groups, model, source=path.name)
    shapes = {name: variable["shape"] for name, variable in manifest.variables.items()}
    check_shapes(variables, shapes, source=f"the model in {path.name}")
    arrays = _arrays(path, manifest, kind)
    check_shapes(variables, {name: array.shape for name, array in arrays.items()}, source=f"{path.name} ({kind})")
    assign(variables, arrays)
    verify_values(*role_arrays(model, arrays))
    verify_ties(model, groups)
    return describe_checkpoint(path, score, kind)


def _arrays(path: Path, manifest: Manifest, kind: str) -> dict[str, np.ndarray]:
    """Return every weight; what has no average, because it is not trained, is taken as it is."""
    if kind == "raw":
        return read_parts(path, manifest, [MODEL])[MODEL]
    averages = read_parts(path, manifest, [AVERAGE])[AVERAGE]
    if set(manifest.variables) <= set(averages):
        return averages
    return {**read_parts(path, manifest, [MODEL])[MODEL], **averages}
