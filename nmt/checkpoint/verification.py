"""Whether checkpoints are what their manifests say, to the last byte, array and tie."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nmt.checkpoint.disk import read_arrays
from nmt.checkpoint.folder import checkpoint_names, read_state, update_of
from nmt.checkpoint.index import INDEX, Index, read_index_file, scan_index
from nmt.checkpoint.manifest import (
    EMA,
    MANIFEST,
    MODEL,
    OPTIMIZER,
    STATE,
    Contents,
    Manifest,
    read_manifest,
    slot_variable,
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
    problems += [f"{path / MANIFEST}: {problem}" for problem in _tie_problems(manifest)]
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
        listed, latest, best = read_index_file(path)
    except CheckpointError as error:
        return [str(error)]
    names = checkpoint_names(folder)
    problems = [f"{name} is not listed" for name in names if name not in listed.scores]
    problems += [f"{name} is listed, but is not there" for name in listed.scores if name not in names]
    problems += _score_problems(listed, folder)
    if not problems and (latest, best) != (listed.latest, listed.best):
        problems = [f"latest and best must be {listed.latest} and {listed.best}, but are {latest} and {best}"]
    return [f"{path}: {problem}" for problem in problems]


def _tie_problems(manifest: Manifest) -> Iterator[str]:
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
    yield from _array_problems(name, arrays, manifest)
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
        elif name in (MODEL, EMA):
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


class ShapedRole(NamedTuple):
    """A role path that only one of two checkpoints has.

    name: the role path.
    shape: of its variable.
    """

    name: str
    shape: tuple[int, ...]


class ShapeChange(NamedTuple):
    """A role path whose variable has another shape.

    name: the role path.
    before: the shape in the first checkpoint.
    after: the shape in the second.
    """

    name: str
    before: tuple[int, ...]
    after: tuple[int, ...]


class ValueChange(NamedTuple):
    """A role path whose variable has other values.

    name: the role path.
    relative_norm: ||before - after|| / ||before||; None where that is no number, as `before` is zero or not finite.
    """

    name: str
    relative_norm: float | None


@dataclass(frozen=True)
class Difference:
    """What differs between two checkpoints, of weights as they are, without moving averages.

    added: only in the second.
    removed: only in the first.
    shapes_changed: of another shape.
    changed: of the same shape with other values, the largest change first.
    num_equal: variables of equal values.
    ties_added: names of tie groups of the second only.
    ties_removed: names of tie groups of the first only.
    same_tokenizers: whether both were trained with the same tokenizers; None where one does not say.
    """

    added: tuple[ShapedRole, ...]
    removed: tuple[ShapedRole, ...]
    shapes_changed: tuple[ShapeChange, ...]
    changed: tuple[ValueChange, ...]
    num_equal: int
    ties_added: tuple[str, ...]
    ties_removed: tuple[str, ...]
    same_tokenizers: bool | None


def compare(before: Contents, after: Contents) -> Difference:
    """Compare the weights and ties of two checkpoints.

    A variable is compared in each of its roles, but two variables only once: where both checkpoints tie the same
    roles, that is one comparison; where only one does, it is one for each variable of the other.
    """
    old, new = role_variables(before), role_variables(after)
    shapes_changed, changed, num_equal = [], [], 0
    for role, one, other in _pairs(old, new):
        first, second = before.model[one], after.model[other]
        if first.shape != second.shape:
            shapes_changed.append(ShapeChange(role, first.shape, second.shape))
        elif np.array_equal(first, second):
            num_equal += 1
        else:
            changed.append(ValueChange(role, relative_norm(first, second)))
    return Difference(
        added=tuple(ShapedRole(role, after.model[path].shape) for role, path in new.items() if role not in old),
        removed=tuple(ShapedRole(role, before.model[path].shape) for role, path in old.items() if role not in new),
        shapes_changed=tuple(shapes_changed),
        changed=tuple(sorted(changed, key=lambda one: (one.relative_norm is not None, -(one.relative_norm or 0.0)))),
        num_equal=num_equal,
        ties_added=_only_in(after, before),
        ties_removed=_only_in(before, after),
        same_tokenizers=_same_tokenizers(before, after),
    )


def role_variables(contents: Contents) -> dict[str, str]:
    """Return the canonical role path behind every role path of a checkpoint, in the model's order."""
    roles = {group["variable"]: group["roles"] for group in contents.tie_groups}
    order = contents.variables or contents.model
    return {role: path for path in order for role in roles.get(path, (path,))}


def relative_norm(before: np.ndarray, after: np.ndarray) -> float | None:
    """Return ||before - after|| / ||before|| in float64, None where that is no finite number."""
    first = before.astype(np.float64).ravel()
    norm = float(np.linalg.norm(first))
    difference = float(np.linalg.norm(first - after.ravel()))
    return difference / norm if norm > 0 and math.isfinite(norm) and math.isfinite(difference) else None


def _pairs(old: dict[str, str], new: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield (role, variable before, variable after) for each pair of variables that share a role."""
    seen = set()
    for role, path in old.items():
        pair = (path, new.get(role))
        if pair[1] is not None and pair not in seen:
            seen.add(pair)
            yield role, path, new[role]


def _only_in(contents: Contents, other: Contents) -> tuple[str, ...]:
    known = {frozenset(group["roles"]) for group in other.tie_groups}
    return tuple(group["name"] for group in contents.tie_groups if frozenset(group["roles"]) not in known)


def _same_tokenizers(before: Contents, after: Contents) -> bool | None:
    old, new = before.facts.get("tokenizers"), after.facts.get("tokenizers")
    return None if old is None or new is None else old == new
