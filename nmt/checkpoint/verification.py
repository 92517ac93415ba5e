"""Whether checkpoints are what their manifests say, to the last byte, array and tie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nmt.checkpoint.arrays import read_arrays
from nmt.checkpoint.contents import slot_variable
from nmt.checkpoint.disk import DamagedCheckpointError, read_file
from nmt.checkpoint.folder import checkpoint_names, read_state, update_of
from nmt.checkpoint.index import INDEX, INDEX_VERSION, Index, parse_index, scan_index
from nmt.checkpoint.manifest import (
    AVERAGE,
    MANIFEST,
    MODEL,
    OPTIMIZER,
    STATE,
    Manifest,
    check_format,
    parse_json,
    read_manifest,
)
from nmt.errors import CheckpointError


class Verified(NamedTuple):
    """What was found in one checkpoint.

    problems: one sentence each; none where all is well.
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
        manifest = read_manifest(path)
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
    try:
        problems += [f"{path / MANIFEST}: {problem}" for problem in tie_problems(manifest)]
    except (KeyError, TypeError) as error:
        problems.append(f"{path / MANIFEST}: its tie groups make no sense: {error!r}")
    return Verified(tuple(problems), len(manifest.files), size)


def verify_index(folder: Path) -> list[str]:
    """Return what `index.json` has wrong about the checkpoints that exist.

    Args:
        folder: the `checkpoints/` of a model directory.
    """
    path = folder / INDEX
    if not path.exists():
        return [f"{path}: is missing; the next training writes it anew"] if checkpoint_names(folder) else []
    try:
        values = parse_json(path, read_file(path))
        check_format(path, values.get("format_version"), INDEX_VERSION)
        listed, latest, best = parse_index(values), values["latest"], values["best"]
    except CheckpointError as error:
        return [str(error)]
    except (AttributeError, KeyError, TypeError) as error:
        return [f"{path}: is no index of checkpoints: {error!r}"]
    names = checkpoint_names(folder)
    problems = [f"{name} is not listed" for name in names if name not in listed.scores]
    problems += [f"{name} is listed, but is not there" for name in listed.scores if name not in names]
    problems += _score_problems(listed, folder)
    if not problems and (latest, best) != (listed.latest, listed.best):
        problems = [f"latest and best must be {listed.latest} and {listed.best}, but are {latest} and {best}"]
    return [f"{path}: {problem}" for problem in problems]


def tie_problems(manifest: Manifest) -> Iterator[str]:
    """Yield what contradicts itself in the ties of a checkpoint."""
    for group in manifest.tie_groups:
        name, roles, variable = group["name"], group["roles"], group["variable"]
        if len(set(roles)) < 2 or roles[0] != variable:
            yield f"the tie {name} must have two roles or more, the first of which names its variable"
        if variable not in manifest.variables:
            yield f"the tie {name} is of the variable {variable}, which is not listed"
        elif list(manifest.variables[variable]["shape"]) != list(group["shape"]):
            yield f"the tie {name} is of another shape than its variable {variable}"
        for role in roles:
            if role != variable and role in manifest.variables:
                yield f"{role} is tied to {variable}, but is listed as a variable of its own"


def _folder_problems(path: Path, manifest: Manifest) -> Iterator[str]:
    if update_of(path.name) != manifest.update:
        yield f"{path / MANIFEST}: is of update {manifest.update}, which is not that of its folder"
    yield from (f"{path / MANIFEST}: must name {name}" for name in (MODEL, STATE) if name not in manifest.files)
    if (OPTIMIZER in manifest.files) != (manifest.optimizer is not None):
        yield f"{path / MANIFEST}: must name {OPTIMIZER} and the class of the optimizer, or neither"
    known = {MANIFEST, *manifest.files}
    strangers = sorted(entry.name for entry in path.iterdir() if entry.name not in known)
    yield from (f"{path / name}: is not named in {MANIFEST}" for name in strangers)


def _file_problems(path: Path, name: str, manifest: Manifest) -> Iterator[str]:
    if name == STATE:
        read_state(path, manifest)
        return
    arrays = read_arrays(path / name, manifest.files[name])
    try:
        yield from _array_problems(name, arrays, manifest)
    except (KeyError, TypeError) as error:
        raise DamagedCheckpointError(f"{path / MANIFEST}: its variables make no sense: {error!r}") from error
    for key, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            yield f"{key} holds values that are not finite"


def _array_problems(name: str, arrays: Mapping[str, np.ndarray], manifest: Manifest) -> Iterator[str]:
    """Yield what is stored besides the listed variables, or not stored, or as something else."""
    variables = manifest.variables
    tied = {role: g["variable"] for g in manifest.tie_groups for role in g["roles"] if role != g["variable"]}
    if name == MODEL:
        yield from (f"{key} is missing" for key in variables if key not in arrays)
    for key, array in arrays.items():
        again = slot_variable(f"/{key}", tied)
        if again is not None and slot_variable(f"/{key}", variables) is None:
            yield f"{key} is stored, but {again} is tied to {tied[again]}: one of them is too many"
        elif name in (MODEL, AVERAGE):
            yield from _weight_problems(key, array, manifest)


def _weight_problems(key: str, array: np.ndarray, manifest: Manifest) -> Iterator[str]:
    if key not in manifest.variables:
        yield f"{key} is stored, but is no variable of the model"
        return
    shape, dtype = tuple(manifest.variables[key]["shape"]), manifest.variables[key]["dtype"]
    stored = "float32" if "float" in dtype else "int64"
    if array.shape != shape or array.dtype.name != stored:
        yield f"{key} must be {stored} of shape {shape}, but is {array.dtype.name} of {array.shape}"


def _score_problems(listed: Index, folder: Path) -> Iterator[str]:
    found = scan_index(folder)
    for name, score in found.scores.items():
        if name not in listed.scores:
            continue
        if listed.scores[name] != score:
            yield f"the score of {name} must be {score}, but is {listed.scores[name]}"
        if listed.judged.get(name) != found.judged.get(name):
            yield f"loss and weights of {name} must be {found.judged.get(name)}, but are {listed.judged.get(name)}"
