"""What a checkpoint is made of: `manifest.json`, written last, proves everything else in its folder."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nmt.checkpoint.disk import (
    DamagedCheckpointError,
    FileRecord,
    is_count,
    is_number,
    read_file,
    refuse_stray_keys,
    strict_json,
)
from nmt.errors import CheckpointError
from nmt.types import PathLike
from nmt.version import __version__

FORMAT_VERSION = 1
"""Of manifests. Later versions keep `format_version` and `sha256` of the manifest as they are."""

MANIFEST = "manifest.json"
MODEL = "model.safetensors"
AVERAGE = "average.safetensors"
OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"
FILES = (MODEL, AVERAGE, OPTIMIZER, STATE)
"""All that a checkpoint may hold besides its manifest; other names are never opened."""

VALIDATION_CHANGES = "validation_changes"
"""The fact that says how often the validation corpus was another one since the run began; absent it is 0."""


VALIDATION = "validation"
"""The fact that says what a validation found besides the score; runs of version 0.1.0 have none."""


class Judged(NamedTuple):
    """What a validation found besides the score.

    loss: in nats; None where it was not finite, so that the run has diverged.
    weights: `ema` or `raw`: which of the two the score is of, as they were better; None where no average is kept.
    """

    loss: float | None
    weights: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON values."""
        return {"loss": self.loss} | ({} if self.weights is None else {"weights": self.weights})

    @classmethod
    def from_json(cls, values: Any) -> Judged | None:
        """Return what `to_json` wrote, be there other values beside it; None where it is not there."""
        if not isinstance(values, Mapping) or "loss" not in values:
            return None
        loss, weights = values["loss"], values.get("weights")
        if not (loss is None or is_number(loss)) or weights not in (None, "ema", "raw"):
            return None
        return cls(None if loss is None else float(loss), weights)


@dataclass(frozen=True)
class Manifest:
    """The facts about one checkpoint.

    update: updates made.
    score: of the validation after this update, higher is better; None without one.
    files: hash and size of each file in the folder.
    tie_groups: which variables play several roles: name, roles, variable, shape.
    variables: shape and type of each weight in the model, by role path. Files hold float32 or int64.
    optimizer: class of the optimizer, with those within it as in `LossScaleOptimizer(SGD)`; None where its slots are
        not kept.
    versions: of the packages that wrote it.
    facts: what the trainer adds, such as hashes of config and data.
    """

    update: int
    score: float | None
    files: Mapping[str, FileRecord]
    tie_groups: tuple[dict[str, Any], ...] = ()
    variables: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    optimizer: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def judged(self) -> Judged | None:
        """What the validation found besides the score; None without one, and where version 0.1.0 made it."""
        return Judged.from_json(self.facts.get(VALIDATION))

    @property
    def preferred_weights(self) -> str:
        """What readers take unless told: the moving average where one is kept, unless the raw weights were better."""
        raw_were_better = self.judged is not None and self.judged.weights == "raw"
        return "ema" if AVERAGE in self.files and not raw_were_better else "raw"

    def to_bytes(self) -> bytes:
        """Return the JSON file, which holds a hash of the rest of itself.

        Raises:
            CheckpointError: a value is no JSON value.
        """
        files = {name: record._asdict() for name, record in self.files.items()}
        values = {"format_version": FORMAT_VERSION, **asdict(self), "files": files}
        json_bytes(values)  # refuses what would have another hash when it is read
        return json_bytes({**values, "sha256": _own_hash(values)})


def is_checkpoint(folder: Path) -> bool:
    """Return whether a folder looks like a checkpoint, wherever it lies; nothing is proved."""
    return (folder / MANIFEST).is_file() and (folder / MODEL).is_file()


def read_manifest(checkpoint: PathLike) -> Manifest:
    """Read the manifest of one checkpoint.

    Args:
        checkpoint: the folder of the checkpoint, such as `runs/travel/checkpoints/update-00012000`.

    Raises:
        DamagedCheckpointError: it is missing, changed or names files that no checkpoint has.
        CheckpointError: it was written in a newer format.
    """
    path = Path(checkpoint) / MANIFEST
    if path.parent.is_symlink():
        raise DamagedCheckpointError(
            f"{path.parent}: is a symbolic link, and could lead outside: put the folder itself in its place"
        )
    values = parse_json(path, read_file(path))
    if values.pop("sha256", None) != _own_hash(values):
        raise DamagedCheckpointError(f"{path}: its content does not fit its own hash")
    check_format(path, values.pop("format_version", None))
    try:
        files = {name: FileRecord(**record) for name, record in values.pop("files").items()}
        manifest = Manifest(files=files, tie_groups=tuple(values.pop("tie_groups")), **values)
    except (AttributeError, KeyError, TypeError) as error:
        raise DamagedCheckpointError(f"{path}: is no manifest: {error}") from error
    _check_fields(path, manifest)
    return manifest


def _check_fields(path: Path, manifest: Manifest) -> None:
    """Refuse a manifest that fits its own hash, and yet was not written by us."""
    strangers = sorted(set(manifest.files) - set(FILES))
    if strangers:
        raise DamagedCheckpointError(f"{path}: names files that no checkpoint has: {', '.join(strangers)}")
    wrong = [
        name
        for name, right in (
            ("update", is_count(manifest.update)),
            ("score", manifest.score is None or is_number(manifest.score)),
            ("files", all(_is_record(record) for record in manifest.files.values())),
            ("tie_groups", all(_is_group(group) for group in manifest.tie_groups)),
            ("variables", _is_mapping(manifest.variables) and all(map(_is_variable, manifest.variables.values()))),
            ("optimizer", manifest.optimizer is None or isinstance(manifest.optimizer, str)),
            ("versions", _is_mapping(manifest.versions)),
            ("facts", _is_mapping(manifest.facts)),
        )
        if not right
    ]
    if wrong:
        raise DamagedCheckpointError(f"{path}: is no manifest: {', '.join(wrong)} cannot be what it says")
    places = Counter(role for group in manifest.tie_groups for role in group["roles"])
    twice = [role for role, count in places.items() if count > 1]
    if twice:
        raise DamagedCheckpointError(f"{path}: each role must be in one tie, and once, but not so {', '.join(twice)}")


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def _is_shape(value: object) -> bool:
    return isinstance(value, list) and all(map(is_count, value))


def _is_record(record: FileRecord) -> bool:
    return isinstance(record.sha256, str) and is_count(record.size)


def _is_variable(value: object) -> bool:
    return isinstance(value, Mapping) and _is_shape(value.get("shape")) and isinstance(value.get("dtype"), str)


def _is_group(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and set(value) == {"name", "roles", "variable", "shape"}
        and isinstance(value["roles"], list)
        and all(isinstance(text, str) for text in (value["name"], value["variable"], *value["roles"]))
        and _is_shape(value["shape"])
    )


def check_format(path: Path, found: Any, newest: int | None = None) -> None:
    """Refuse what a newer version of the toolkit wrote.

    Args:
        path: the file.
        found: its format version.
        newest: that is known of such files; `FORMAT_VERSION` unless given.

    Raises:
        CheckpointError: the format is newer than this version knows.
        DamagedCheckpointError: there is no format version.
    """
    if not is_count(found):
        raise DamagedCheckpointError(f"{path}: has no format_version")
    newest = newest or FORMAT_VERSION
    if found > newest:
        raise CheckpointError(
            f"{path}: is of format version {found}, but nmt {__version__} reads up to {newest}: install a newer nmt"
        )


def parse_json(path: Path, content: bytes) -> dict[str, Any]:
    """Return the JSON object in a file's content.

    Raises:
        DamagedCheckpointError: it holds something else.
    """
    try:
        values = strict_json(content)
    except ValueError as error:
        raise DamagedCheckpointError(f"{path}: is no JSON file: {error}") from error
    if not isinstance(values, dict):
        raise DamagedCheckpointError(f"{path}: must hold a JSON object")
    return values


def json_bytes(values: Mapping[str, Any]) -> bytes:
    """Return a mapping as an indented JSON file.

    Raises:
        CheckpointError: a value is no JSON value, as a number that is not finite, or a name is no text.
    """
    try:
        refuse_stray_keys(values)
        return json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"a checkpoint can only keep finite numbers, texts, lists and mappings: {error}"
        ) from error


def installed_versions() -> dict[str, str]:
    """Return the versions of the packages that decide what a checkpoint means, without importing them."""
    versions = {"nmt": __version__}
    for package in ("keras", "tensorflow", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # installed under another name, such as tensorflow-cpu
            versions[package] = "unknown"
    return versions


def _own_hash(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True)
class Contents:
    """What one checkpoint keeps, as arrays and JSON values.

    update: updates made.
    score: of the validation after this update, higher is better; None without one.
    model: the weights by role path, each variable once.
    average: their moving average by role path; None where none is kept.
    optimizer: slots by the role path of their variable; None where none are kept.
    state: the state of the run.
    tie_groups, variables, optimizer_class, facts: see `Manifest`.
    """

    update: int
    score: float | None
    model: Mapping[str, np.ndarray]
    average: Mapping[str, np.ndarray] | None = None
    optimizer: Mapping[str, np.ndarray] | None = None
    state: Mapping[str, Any] = field(default_factory=dict)
    tie_groups: tuple[dict[str, Any], ...] = ()
    variables: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    optimizer_class: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def arrays(self) -> dict[str, Mapping[str, np.ndarray]]:
        """The arrays of each file."""
        parts = {MODEL: self.model, AVERAGE: self.average, OPTIMIZER: self.optimizer}
        return {name: part for name, part in parts.items() if part is not None}


def check_contents(contents: Contents) -> None:
    """Refuse what could be written, but would not be read again.

    Raises:
        CheckpointError: update or score are no such numbers, the state is of another update, or the moving average is
            of variables that the model does not have.
    """
    if not is_count(contents.update):
        raise CheckpointError(f"update must be a whole number of 0 or more, got {contents.update!r}")
    if contents.score is not None and not is_number(contents.score):
        raise CheckpointError(f"score must be a finite number or None, got {contents.score!r}")
    if not is_of_update(contents.state, contents.update):
        raise CheckpointError(
            f"the state must be of update {contents.update}, as its checkpoint, got {contents.state['update']!r}"
        )
    shapes = {path: array.shape for path, array in contents.model.items()}
    strangers = [path for path, array in (contents.average or {}).items() if shapes.get(path) != array.shape]
    if strangers:
        raise CheckpointError(
            f"a moving average must be of variables of the model, of their shapes, got {', '.join(strangers)}"
        )


def is_of_update(state: Mapping[str, Any], update: int) -> bool:
    """Return whether the state of a run, if it tells its update, tells this one."""
    return "update" not in state or (is_count(state["update"]) and state["update"] == update)


def slot_variable(slot: str, variables: Iterable[str]) -> str | None:
    """Return the variable that a slot of an optimizer belongs to, None for one that belongs to the optimizer itself.

    Args:
        slot: `<kind>/<role path>`, or a name of another kind, such as `iterations`.
        variables: role paths; of several that fit the longest is meant: `a/kernel`, not `kernel`.
    """
    return max((path for path in variables if slot.endswith(f"/{path}")), key=len, default=None)
