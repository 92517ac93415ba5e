"""Reading the weights of a model directory, while a trainer may be writing there. Readers change nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import keras
import numpy as np

from nmt.checkpoint.disk import DamagedCheckpointError
from nmt.checkpoint.folder import checkpoints_folder, read_checkpoint, read_parts
from nmt.checkpoint.index import CheckpointInfo, candidates, describe_checkpoint, name_of_update, read_index
from nmt.checkpoint.manifest import AVERAGE, MODEL, VALIDATION, Contents, Judged, Manifest, read_manifest
from nmt.checkpoint.retie import TieChange, check_rule, retie
from nmt.checkpoint.weights import (
    assign,
    check_finite,
    check_shapes,
    check_values,
    describe_ties,
    role_arrays,
    verify_values,
)
from nmt.errors import CheckpointError
from nmt.tying import named_variables, tie_groups, verify_ties
from nmt.types import PathLike

_TRIES = 10
"""Times that the checkpoints are looked up anew when pruning took the one that was being read."""

logger = logging.getLogger(__name__)

Read = TypeVar("Read")


class SelectedContents(NamedTuple):
    """A checkpoint that was chosen, and all it keeps."""

    info: CheckpointInfo
    contents: Contents


class LoadedWeights(NamedTuple):
    """Where the weights of a model came from.

    name, path, update, score: the checkpoint, as in `CheckpointInfo`.
    weights: `ema` or `raw`.
    manifest: of the checkpoint.
    tie_change: what had to be merged or split; None where the ties were the model's.
    """

    name: str
    path: Path
    update: int
    score: float | None
    weights: str
    manifest: Manifest
    tie_change: TieChange | None


def load_weights(
    directory: PathLike,
    model: keras.Layer,
    *,
    checkpoint: str | None = None,
    weights: str | None = None,
    on_tie_change: str = "error",
) -> LoadedWeights:
    """Load weights of a model directory into a model with the same variables.

    A damaged checkpoint is skipped with a warning, unless it was asked for by its update.

    Args:
        directory: the model directory.
        model: built; it is changed only if everything fits.
        checkpoint: `best`, `latest` or `update-N`; the best, or the latest where none has a score, unless given.
        weights: `ema` or `raw`; unless given the moving average where it was kept, or what validation found better.
        on_tie_change: what to do where the ties of the checkpoint are not the model's; see `retie`.

    Returns:
        The checkpoint, which of its weights were loaded, and what became of its ties.

    Raises:
        CheckpointError: there is no such directory, checkpoint or average; it is damaged and no other can take its
            place; it is of a newer format; it holds weights that are not finite; or it does not fit the model, naming
            everything that does not.
    """
    check_rule(on_tie_change)
    if weights not in (None, "ema", "raw"):
        raise CheckpointError(f"weights must be ema or raw, got {weights}")
    return _read_selected(directory, checkpoint, lambda path, score: _load(path, score, model, weights, on_tie_change))


def read_contents(directory: PathLike, checkpoint: str | None = None) -> SelectedContents:
    """Read everything one checkpoint of a model directory keeps, into memory.

    A damaged checkpoint is skipped with a warning, unless it was asked for by its update.

    Args:
        directory: the model directory.
        checkpoint: `best`, `latest` or `update-N`; the best, or the latest where none has a score, unless given.

    Raises:
        CheckpointError: as `load_weights`, where no model has to fit.
    """

    def read(path: Path, score: float | None) -> SelectedContents:
        contents = read_checkpoint(path)
        judged = Judged.from_json(contents.facts.get(VALIDATION))
        return SelectedContents(describe_checkpoint(path, score, judged=judged), contents)

    return _read_selected(directory, checkpoint, read)


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
                if name_of_update(checkpoint) is not None:
                    raise
                logger.warning("%s: skipped, it is damaged: %s", name, error)
        else:
            raise CheckpointError(f"{folder}: every checkpoint is damaged: {', '.join(index.scores)}")
    raise CheckpointError(f"{folder}: the checkpoints changed {_TRIES} times while they were read: try again")


def _load(path: Path, score: float | None, model: keras.Layer, weights: str | None, rule: str) -> LoadedWeights:
    manifest = read_manifest(path)
    kept = AVERAGE in manifest.files
    if weights == "ema" and not kept:
        raise CheckpointError(
            f"{path}: no moving average was kept: ask for raw weights, or train with training.ema_decay"
        )
    kind = weights or manifest.preferred_weights
    contents, tie_change = retie(_weights(path, manifest, kind), describe_ties(model), rule)
    variables, groups = named_variables(model), tie_groups(model)
    shapes = {name: variable["shape"] for name, variable in contents.variables.items()}
    check_shapes(variables, shapes, source=f"the model in {path.name}")
    shapes = {name: array.shape for name, array in contents.model.items()}
    check_shapes(variables, shapes, source=f"{path.name} ({kind})")
    check_values(variables, contents.model, source=f"{path.name} ({kind})", described=contents.variables)
    check_finite(contents.model, source=f"{path.name} ({kind})")
    assign(variables, contents.model)
    verify_values(*role_arrays(model, contents.model))
    verify_ties(model, groups)
    return LoadedWeights(path.name, path, manifest.update, score, kind, manifest, tie_change)


def _weights(path: Path, manifest: Manifest, kind: str) -> Contents:
    """Return a checkpoint that keeps its weights, or the average in their place, and nothing else."""
    return Contents(
        update=manifest.update,
        score=manifest.score,
        model=_arrays(path, manifest, kind),
        tie_groups=manifest.tie_groups,
        variables=manifest.variables,
    )


def _arrays(path: Path, manifest: Manifest, kind: str) -> dict[str, np.ndarray]:
    """Return every weight; what has no average, because it is not trained, is taken as it is."""
    if kind == "raw":
        return read_parts(path, manifest, [MODEL])[MODEL]
    averages = read_parts(path, manifest, [AVERAGE])[AVERAGE]
    if set(manifest.variables) <= set(averages):
        return averages
    return {**read_parts(path, manifest, [MODEL])[MODEL], **averages}
