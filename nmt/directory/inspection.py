"""What a model directory holds, whether it is as it was written, and how two checkpoints differ; without Keras."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nmt.checkpoint import index as indexes
from nmt.checkpoint import manifest as manifests
from nmt.checkpoint.derived import canonical_paths
from nmt.checkpoint.disk import read_arrays, read_object, stored_header
from nmt.checkpoint.folder import checkpoint_names, checkpoints_folder, damaged_names, update_of
from nmt.checkpoint.manifest import EMA, MANIFEST, MODEL, OPTIMIZER, STATE, Contents, Judged, Manifest
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
    score: of its validation, higher is better; None without one, or if that was on an earlier validation corpus.
    judged: what else that found; None without one, and if version 0.1.0 made it.
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
    best: the one with the highest score; None if none has a score.
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
        checkpoint: `best`, `latest` or `update-N`; the best, or the latest if none has a score, unless given.

    Raises:
        CheckpointError: there is no such directory or checkpoint, or it is damaged, or of a newer format.
    """
    folder = checkpoints_folder(directory)
    found = find_checkpoints(directory)
    index = index_of([one for one in found if one.problem is None])
    name = choose(directory, found, checkpoint)
    manifest = manifests.read_manifest(folder / name)
    copies = _copies(folder / name, manifest)
    roles = {group["variable"]: tuple(group["roles"]) for group in manifest.tie_groups}
    variables, ties = [], []
    for path, variable in manifest.variables.items():
        shape = tuple(variable["shape"])
        use = VariableUse(path, roles.get(path, (path,)), part_of(path), shape, variable["dtype"], math.prod(shape))
        variables.append(use)
    for group in manifest.tie_groups:
        parameters = (len(group["roles"]) - 1) * math.prod(group["shape"])
        size = parameters * _ITEM_BYTES * copies.get(group["variable"], 0)
        named = group["name"], tuple(group["roles"]), group["variable"], tuple(group["shape"])
        ties.append(TieSaving(*named, parameters, size))
    others = found, index.latest, index.best, tuple(damaged_names(folder))
    return Description(Path(directory), name, manifest, *others, tuple(variables), tuple(ties))


def find_checkpoints(directory: PathLike) -> tuple[FoundCheckpoint, ...]:
    """List the checkpoints of a model directory, oldest first, also those that are damaged."""
    folder = checkpoints_folder(directory)
    found, read = [], {}
    for name in checkpoint_names(folder):
        one = FoundCheckpoint(name, update_of(name) or 0, None, None, "raw", 0, None)
        try:
            manifest = read[name] = manifests.read_manifest(folder / name)
            size = sum(record.size for record in manifest.files.values())
            problem = _missing(folder / name, manifest)
            found.append(one._replace(weights=manifest.preferred_weights, size=size, problem=problem))
        except CheckpointError as error:
            found.append(one._replace(problem=str(error)))
    index = indexes.index_of(read)
    there = (one for one in found if (folder / one.name).exists())  # others were pruned just now
    return tuple(one._replace(score=index.scores.get(one.name), judged=index.judged.get(one.name)) for one in there)


def index_of(found: Sequence[FoundCheckpoint]) -> indexes.Index:
    """Return the index of checkpoints, be there something wrong with them or not."""
    judged = {one.name: one.judged for one in found if one.judged is not None}
    return indexes.Index({one.name: one.score for one in found}, judged)


def choose(directory: PathLike, found: Sequence[FoundCheckpoint], checkpoint: str | None) -> str:
    """Return the name of the checkpoint that answers a request, as readers of weights choose it.

    Args:
        directory: the model directory.
        found: its checkpoints.
        checkpoint: `best`, `latest` or `update-N`; the best, or the latest if none has a score, unless given.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    index = index_of([one for one in found if one.problem is None])
    problems = {one.name: one.problem for one in found if one.problem is not None}
    name = indexes.name_of_update(checkpoint)
    if name is not None and name in problems:
        raise CheckpointError(f"{name} cannot be used: {problems[name]}")
    if problems and not index.scores:
        raise CheckpointError(f"{directory}: no checkpoint can be used: {'; '.join(map(str, problems.values()))}")
    return indexes.candidates(Path(directory), index, checkpoint)[0]


def part_of(path: str) -> str:
    """Return which of `PARTS` a role path belongs to."""
    owner = path.split("/")[0]
    return _PART_OF.get(owner, next((part for part in PARTS[1:3] if owner.startswith(part)), "other"))


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
        for name, (_, shape) in stored_header(path / file).items():
            variable = manifests.slot_variable(name, shapes) if file == OPTIMIZER else name
            if variable is not None and shapes.get(variable) == shape:
                counts[variable] += 1
    return counts


class Verified(NamedTuple):
    """What was found in one checkpoint.

    problems: one sentence each; none if all is well.
    num_files: files that were read.
    size: their bytes.
    """

    problems: tuple[str, ...]
    num_files: int
    size: int


def verify_checkpoint(path: Path) -> Verified:
    """Read every byte of a checkpoint and compare it with the manifest.

    Each file must fit its hash, the arrays must be exactly the variables that are listed, with finite values, and a
    tied variable must be stored once, under the first of its roles. One file at a time is in memory.

    Args:
        path: the folder of the checkpoint.
    """
    try:
        manifest = manifests.read_manifest(path)
    except CheckpointError as error:
        return Verified((str(error),), 0, 0)
    problems = list(_folder_problems(path, manifest))
    size = 0
    for name, record in manifest.files.items():
        size += record.size
        try:
            problems += [f"{path / name}: {problem}" for problem in _file_problems(path, name, manifest)]
        except CheckpointError as error:
            problems.append(str(error))
    return Verified(tuple(problems), len(manifest.files), size)


def verify_index(folder: Path) -> list[str]:
    """Return what `index.json` has wrong about the checkpoints that exist.

    Args:
        folder: the `checkpoints/` of a model directory.
    """
    path = folder / indexes.INDEX
    if not path.exists():
        return [f"{path}: is missing; the next training writes it anew"] if checkpoint_names(folder) else []
    try:
        listed, latest, best = indexes.read_index_file(path)
    except CheckpointError as error:
        return [str(error)]
    names = checkpoint_names(folder)
    problems = [f"{name} is not listed" for name in names if name not in listed.scores]
    problems += [f"{name} is listed, but is not there" for name in listed.scores if name not in names]
    found = indexes.scan_index(folder)
    for name in (name for name in found.scores if name in listed.scores):
        (score, judged), (says, remarks) = ((one.scores[name], one.judged.get(name)) for one in (found, listed))
        if says != score:
            problems.append(f"the score of {name} must be {score}, but is {says}")
        if remarks != judged:
            problems.append(f"loss and weights of {name} must be {judged}, but are {remarks}")
    if not problems and (latest, best) != (listed.latest, listed.best):
        problems = [f"latest and best must be {listed.latest} and {listed.best}, but are {latest} and {best}"]
    return [f"{path}: {problem}" for problem in problems]


def _folder_problems(path: Path, manifest: Manifest) -> Iterator[str]:
    """Yield what contradicts itself in a manifest, and what it does not name."""
    if update_of(path.name) != manifest.update:
        yield f"{path / MANIFEST}: is of update {manifest.update}, which is not that of its folder"
    if (OPTIMIZER in manifest.files) != (manifest.optimizer is not None):
        yield f"{path / MANIFEST}: must name {OPTIMIZER} and the class of the optimizer, or neither"
    for group in manifest.tie_groups:
        roles, variables = group["roles"], manifest.variables
        listed = [(role, variables[role]["shape"]) for role in roles if role in variables]
        if len(roles) < 2 or roles[0] != group["variable"] or listed != [(roles[0], group["shape"])]:
            yield (
                f"{path / MANIFEST}: the tie {group['name']} must have two roles or more, the first of which is listed "
                "as a variable, of its shape, and no other"
            )
    known = {MANIFEST, *manifest.files}
    strangers = sorted(entry.name for entry in path.iterdir() if entry.name not in known)
    yield from (f"{path / name}: is not named in {MANIFEST}" for name in strangers)


def _file_problems(path: Path, name: str, manifest: Manifest) -> Iterator[str]:
    """Yield what is stored besides the listed variables, or not stored, or as something else."""
    if name == STATE:
        read_object(path / STATE, manifest.files[STATE])
        return
    arrays, variables = read_arrays(path / name, manifest.files[name]), manifest.variables
    tied = {role: g["variable"] for g in manifest.tie_groups for role in g["roles"] if role != g["variable"]}
    if name == MODEL:
        yield from (f"{key} is missing" for key in variables if key not in arrays)
    for key, array in arrays.items():
        again = manifests.slot_variable(f"/{key}", tied)
        if again is not None and manifests.slot_variable(f"/{key}", variables) is None:
            yield f"{key} is stored, but {again} is tied to {tied[again]}: one of them is too many"
        elif name != OPTIMIZER and key not in variables:
            yield f"{key} is stored, but is no variable of the model"
        elif name != OPTIMIZER:
            shape, dtype = tuple(variables[key]["shape"]), variables[key]["dtype"]
            stored = "float32" if "float" in dtype else "int64"
            if array.shape != shape or array.dtype.name != stored:
                yield f"{key} must be {stored} of shape {shape}, but is {array.dtype.name} of {array.shape}"
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            yield f"{key} holds values that are not finite"


def compare(before: Contents, after: Contents) -> dict[str, Any]:
    """Compare the weights and ties of two checkpoints, of weights as they are, without moving averages.

    A variable is compared in each of its roles, but two variables only once: if both checkpoints tie the same
    roles, that is one comparison; if only one does, it is one for each variable of the other.

    Returns:
        added, removed: `name` and `shape` of the roles that only the second, or only the first, has.
        shapes_changed: `name`, and the shapes `before` and `after`, of those whose variable has another shape.
        changed: `name` and `relative_norm`, ||before - after|| / ||before||, of those of the same shape with other
            values, the largest change first; None if that is no number, as `before` is zero or not finite.
        num_equal: variables of equal values.
        ties_added, ties_removed: names of tie groups of the second, or of the first only.
        same_tokenizers: whether both were trained with the same tokenizers; None if one does not say.
    """
    old, new = (canonical_paths(one.variables or one.model, one.tie_groups) for one in (before, after))
    shapes_changed, changed, num_equal = [], [], 0
    pairs: dict[tuple[str, str], str] = {}  # of variables, and the first role that they share
    for role, path in old.items():
        if role in new:
            pairs.setdefault((path, new[role]), role)
    for (one, other), role in pairs.items():
        first, second = before.model[one], after.model[other]
        if first.shape != second.shape:
            shapes_changed.append({"name": role, "before": first.shape, "after": second.shape})
        elif np.array_equal(first, second):
            num_equal += 1
        else:
            changed.append((_relative_norm(first, second), role))
    changed.sort(key=lambda one: (one[0] is not None, -(one[0] or 0.0)))
    old_ties, new_ties = ({frozenset(g["roles"]): g["name"] for g in one.tie_groups} for one in (before, after))
    tokenizers = before.facts.get("tokenizers"), after.facts.get("tokenizers")
    return {
        "added": [{"name": role, "shape": after.model[path].shape} for role, path in new.items() if role not in old],
        "removed": [{"name": role, "shape": before.model[path].shape} for role, path in old.items() if role not in new],
        "shapes_changed": shapes_changed,
        "changed": [{"name": role, "relative_norm": norm} for norm, role in changed],
        "num_equal": num_equal,
        "ties_added": [name for roles, name in new_ties.items() if roles not in old_ties],
        "ties_removed": [name for roles, name in old_ties.items() if roles not in new_ties],
        "same_tokenizers": None if None in tokenizers else tokenizers[0] == tokenizers[1],
    }


def _relative_norm(before: np.ndarray, after: np.ndarray) -> float | None:
    """Return ||before - after|| / ||before|| in float64, None if that is no finite number."""
    first = before.astype(np.float64).ravel()
    norm = float(np.linalg.norm(first))
    difference = float(np.linalg.norm(first - after.ravel()))
    return difference / norm if norm > 0 and math.isfinite(norm) and math.isfinite(difference) else None
