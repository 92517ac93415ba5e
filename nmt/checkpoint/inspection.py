"""What a model directory holds, read from manifests and the headers of files: no weights, no Keras."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

from nmt.checkpoint.disk import DamagedCheckpointError
from nmt.checkpoint.folder import checkpoint_names, checkpoints_folder, damaged_names, update_of
from nmt.checkpoint.index import Index, candidates, comparable_scores, name_of_update
from nmt.checkpoint.manifest import (
    EMA,
    MODEL,
    OPTIMIZER,
    VALIDATION_CHANGES,
    Judged,
    Manifest,
    read_manifest,
    slot_variable,
)
from nmt.errors import CheckpointError
from nmt.types import PathLike

PARTS = ("embeddings", "encoder", "decoder", "other")
"""What parameters are added up for, in this order; the output projection and its bias count with the embeddings."""

_PART_OF = {
    **dict.fromkeys(("source_embedding", "target_embedding", "output_projection", "output_bias"), "embeddings"),
    **dict.fromkeys(("bridges", "feed", "alignment", "attend", "readout"), "decoder"),
}
_ITEM_BYTES = 4  # weights are stored as float32


class FoundCheckpoint(NamedTuple):
    """One folder of a checkpoint.

    name: such as `update-00012000`.
    update: updates made.
    score: of its validation, higher is better; None without one, or where that was on an earlier validation corpus.
    judged: what else that found; None without one, and where version 0.1.0 made it.
    weights: `ema` or `raw`: what readers take.
    size: bytes of its files.
    problem: what is wrong with it as far as that can be seen without reading the files, else None.
    """

    name: str
    update: int
    score: float | None
    judged: Judged | None
    weights: str
    size: int
    problem: str | None


class VariableUse(NamedTuple):
    """One variable and what it is used for.

    name: its canonical role path.
    roles: all its role paths, the canonical one first.
    part: one of `PARTS`.
    shape: its shape.
    dtype: its type in the model.
    parameters: how many numbers it holds.
    """

    name: str
    roles: tuple[str, ...]
    part: str
    shape: tuple[int, ...]
    dtype: str
    parameters: int


class TieSaving(NamedTuple):
    """One tie group and what it saves.

    name, roles, variable, shape: see `TieGroup`.
    parameters: that the model would have besides, were each role a variable of its own.
    size: bytes that the checkpoint would have besides, with those of the moving average and of the optimizer.
    """

    name: str
    roles: tuple[str, ...]
    variable: str
    shape: tuple[int, ...]
    parameters: int
    size: int


@dataclass(frozen=True)
class Description:
    """One checkpoint of a model directory, and which others there are.

    directory: the model directory.
    checkpoint: the name of the one that is described.
    manifest: its facts.
    checkpoints: all of them, oldest first.
    latest: the newest whole one.
    best: the one with the highest score; None where none has a score.
    set_aside: names of damaged ones that a trainer moved out of the way.
    variables: of the model, in its order.
    ties: of the model.
    """

    directory: Path
    checkpoint: str
    manifest: Manifest
    checkpoints: tuple[FoundCheckpoint, ...]
    latest: str | None
    best: str | None
    set_aside: tuple[str, ...]
    variables: tuple[VariableUse, ...]
    ties: tuple[TieSaving, ...]

    @property
    def parameters(self) -> int:
        """How many numbers the model learns or keeps, each variable counted once."""
        return sum(variable.parameters for variable in self.variables)

    @property
    def keeps_ema(self) -> bool:
        """Whether it keeps a moving average of the weights."""
        return EMA in self.manifest.files

    @property
    def parts(self) -> dict[str, int]:
        """The parameters of each part that has any."""
        sums = {part: sum(v.parameters for v in self.variables if v.part == part) for part in PARTS}
        return {part: count for part, count in sums.items() if count}


def describe(directory: PathLike, checkpoint: str | None = None) -> Description:
    """Describe a checkpoint of a model directory.

    A damaged one is passed over, unless it was asked for by its update. Contents are not hashed: see
    `verify_checkpoint`.

    Args:
        directory: the model directory.
        checkpoint: `best`, `latest` or `update-N`; the best, or the latest where none has a score, unless given.

    Raises:
        CheckpointError: there is no such directory or checkpoint, or it is damaged, or of a newer format.
    """
    folder = checkpoints_folder(directory)
    found = find_checkpoints(directory)
    index = _whole_index(found)
    name = choose(directory, found, checkpoint)
    manifest = read_manifest(folder / name)
    ties = _savings(manifest, _copies(folder / name, manifest))
    marks, set_aside = (index.latest, index.best), tuple(damaged_names(folder))
    return Description(Path(directory), name, manifest, found, *marks, set_aside, _uses(manifest), ties)


def find_checkpoints(directory: PathLike) -> tuple[FoundCheckpoint, ...]:
    """List the checkpoints of a model directory, oldest first, also those that are damaged."""
    folder = checkpoints_folder(directory)
    changes: dict[str, object] = {}
    found = [_find(folder / name, changes) for name in checkpoint_names(folder)]
    scores = comparable_scores({one.name: one.score for one in found}, changes)
    return tuple(
        one._replace(score=scores[one.name])
        for one in found
        if (folder / one.name).exists()  # else it was pruned just now
    )


def index_of(found: Iterable[FoundCheckpoint]) -> Index:
    """Return the index of checkpoints, be there something wrong with them or not."""
    found = list(found)
    judged = {one.name: one.judged for one in found if one.judged is not None}
    return Index({one.name: one.score for one in found}, judged)


def _whole_index(found: Iterable[FoundCheckpoint]) -> Index:
    """Return the index of those checkpoints with which nothing is wrong."""
    return index_of(one for one in found if one.problem is None)


def choose(directory: PathLike, found: Iterable[FoundCheckpoint], checkpoint: str | None) -> str:
    """Return the name of the checkpoint that answers a request, as readers of weights choose it.

    Args:
        directory: the model directory.
        found: its checkpoints.
        checkpoint: `best`, `latest` or `update-N`; the best, or the latest where none has a score, unless given.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    index = _whole_index(found)
    problems = {one.name: one.problem for one in found if one.problem is not None}
    name = name_of_update(checkpoint)
    if name is not None and name in problems:
        raise CheckpointError(f"{name} cannot be used: {problems[name]}")
    if problems and not index.scores:
        raise CheckpointError(f"{directory}: no checkpoint can be used: {'; '.join(map(str, problems.values()))}")
    return candidates(Path(directory), index, checkpoint)[0]


def stored_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the arrays in a safetensors file, of which only the header is read.

    Raises:
        DamagedCheckpointError: it is missing or no such file.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DamagedCheckpointError(f"{path}: is no safetensors file that could be read: {error}") from error


def part_of(path: str) -> str:
    """Return which of `PARTS` a role path belongs to."""
    owner = path.split("/")[0]
    return _PART_OF.get(owner, next((part for part in PARTS[1:3] if owner.startswith(part)), "other"))


def _uses(manifest: Manifest) -> tuple[VariableUse, ...]:
    """Describe the variables that a manifest lists, and their roles."""
    roles = {group["variable"]: tuple(group["roles"]) for group in manifest.tie_groups}
    uses = []
    for path, variable in manifest.variables.items():
        shape = tuple(variable["shape"])
        uses.append(
            VariableUse(path, roles.get(path, (path,)), part_of(path), shape, variable["dtype"], math.prod(shape))
        )
    return tuple(uses)


def _find(path: Path, changes: dict[str, object]) -> FoundCheckpoint:
    """Look at one checkpoint, and note how often the validation corpus had changed."""
    update = update_of(path.name) or 0
    try:
        manifest = read_manifest(path)
    except CheckpointError as error:
        return FoundCheckpoint(path.name, update, None, None, "raw", 0, str(error))
    size = sum(record.size for record in manifest.files.values())
    changes[path.name] = manifest.facts.get(VALIDATION_CHANGES, 0)
    judged, weights = manifest.judged, manifest.preferred_weights
    return FoundCheckpoint(path.name, update, manifest.score, judged, weights, size, _missing(path, manifest))


def _missing(path: Path, manifest: Manifest) -> str | None:
    """What can be seen to be wrong with the files of a checkpoint without reading them."""
    for name, record in manifest.files.items():
        try:
            size = (path / name).stat().st_size
        except OSError:
            return f"{path / name}: is missing"
        if size != record.size:
            return f"{path / name}: must have {record.size:,} bytes, but has {size:,}"
    return None


def _copies(path: Path, manifest: Manifest) -> dict[str, int]:
    """Count how often each variable is stored: as a weight, in the moving average, in slots of its own shape."""
    shapes = {name: tuple(variable["shape"]) for name, variable in manifest.variables.items()}
    counts = dict.fromkeys(shapes, 0)
    for file in {MODEL, EMA, OPTIMIZER} & set(manifest.files):
        for name, shape in stored_shapes(path / file).items():
            variable = slot_variable(name, shapes) if file == OPTIMIZER else name
            if variable is not None and shapes.get(variable) == shape:
                counts[variable] += 1
    return counts


def _savings(manifest: Manifest, copies: Mapping[str, int]) -> tuple[TieSaving, ...]:
    savings = []
    for group in manifest.tie_groups:
        roles, variable, shape = tuple(group["roles"]), group["variable"], tuple(group["shape"])
        parameters = (len(roles) - 1) * math.prod(shape)
        size = parameters * _ITEM_BYTES * copies.get(variable, 0)
        savings.append(TieSaving(group["name"], roles, variable, shape, parameters, size))
    return tuple(savings)
