"""What a checkpoint is made of: `manifest.json`, written last, proves everything else in its folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeAlias

import numpy as np
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # as pydantic asks for before Python 3.12

from nmt.checkpoint.disk import Count, DamagedCheckpointError, FileRecord, is_number, json_bytes, read_object
from nmt.errors import CheckpointError
from nmt.types import PathLike
from nmt.version import __version__

FORMAT_VERSION = 1
"""Of manifests. Later versions keep `format_version` and `sha256` of the manifest as they are."""

MANIFEST = "manifest.json"
MODEL = "model.safetensors"
EMA = "average.safetensors"
OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"
FILES = (MODEL, EMA, OPTIMIZER, STATE)
"""All that a checkpoint may hold besides its manifest; other names are never opened."""

ANCHOR, ANCHOR_NAME = "pull_to", "anchor.safetensors"
"""The fact with hash and size of the weights that a training is pulled to, and their file in the model directory."""

ORIGIN = "initialized_from"
"""The fact that says where the first weights of a run came from."""

VALIDATION_CHANGES = "validation_changes"
"""The fact that says how often the validation corpus was another one since the run began; absent it is 0."""


VALIDATION = "validation"
"""The fact that says what a validation found besides the score; runs of version 0.1.0 have none."""


class Judged(NamedTuple):
    """What a validation found besides the score.

    loss: in nats; None if it was not finite, so that the run has diverged.
    weights: `ema` or `raw`: which of the two the score is of, as they were better; None if no average is kept.
    """

    loss: float | None
    weights: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON values."""
        return {"loss": self.loss} | ({} if self.weights is None else {"weights": self.weights})

    @classmethod
    def from_json(cls, values: Any) -> Judged | None:
        """Return what `to_json` wrote, be there other values beside it; None if it is not there."""
        if not isinstance(values, Mapping) or "loss" not in values:
            return None
        loss, weights = values["loss"], values.get("weights")
        if not (loss is None or is_number(loss)) or weights not in (None, "ema", "raw"):
            return None
        return cls(None if loss is None else float(loss), weights)


@with_config(ConfigDict(extra="forbid"))
class _Tie(TypedDict):
    name: str
    roles: list[str]
    variable: str
    shape: list[Count]


@with_config(ConfigDict(extra="allow"))
class _Variable(TypedDict):
    shape: list[Count]
    dtype: str


Tie = Annotated[dict[str, Any], AfterValidator(TypeAdapter(_Tie).validate_python)]
"""A tie group: name, roles, variable, shape."""

Variable = Annotated[dict[str, Any], AfterValidator(TypeAdapter(_Variable).validate_python)]
"""A variable of a model: shape, dtype."""


def _check_names(files: dict[str, FileRecord]) -> dict[str, FileRecord]:
    if not {MODEL, STATE} <= set(files) <= set(FILES):
        raise ValueError("a checkpoint holds other files")
    return files


@dataclass(frozen=True)
class Manifest:
    """The facts about one checkpoint; `read_manifest` refuses those that are not of the types below.

    update: updates made.
    score: of the validation after this update, higher is better; None without one.
    files: hash and size of each file in the folder; they are of `FILES`, with `MODEL` and `STATE` among them.
    tie_groups: which variables play several roles.
    variables: shape and type of each weight in the model, by role path. Files hold float32 or int64.
    optimizer: class of the optimizer, with those within it as in `LossScaleOptimizer(SGD)`; None if its slots are
        not kept.
    versions: of the packages that wrote it.
    facts: what the trainer adds, such as hashes of config and data.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    update: Count
    score: Annotated[float, Field(strict=True, allow_inf_nan=False)] | None
    files: Annotated[dict[str, FileRecord], AfterValidator(_check_names)]
    tie_groups: tuple[Tie, ...] = ()
    variables: dict[str, Variable] = field(default_factory=dict)
    optimizer: str | None = None
    versions: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def judged(self) -> Judged | None:
        """What the validation found besides the score; None without one, and if version 0.1.0 made it."""
        return Judged.from_json(self.facts.get(VALIDATION))

    @property
    def preferred_weights(self) -> str:
        """What readers take unless told: the moving average if one is kept, unless the raw weights were better."""
        raw_were_better = self.judged is not None and self.judged.weights == "raw"
        return "ema" if EMA in self.files and not raw_were_better else "raw"

    def to_bytes(self) -> bytes:
        """Return the JSON file, which holds a hash of the rest of itself.

        Raises:
            CheckpointError: a value is no JSON value.
        """
        files = {name: record._asdict() for name, record in self.files.items()}
        values = {"format_version": FORMAT_VERSION, **asdict(self), "files": files}
        read_again = json.loads(json_bytes(values))  # which may be in another order, if names were numbers
        return json_bytes({**read_again, "sha256": _own_hash(read_again)})


def is_checkpoint(folder: Path) -> bool:
    """Return whether a folder looks like a checkpoint, wherever it lies; nothing is proved."""
    return (folder / MANIFEST).is_file() and (folder / MODEL).is_file()


def read_manifest(checkpoint: PathLike) -> Manifest:
    """Read the manifest of one checkpoint.

    Args:
        checkpoint: the folder of the checkpoint, such as `runs/travel/checkpoints/update-00012000`.

    Raises:
        DamagedCheckpointError: it is missing, changed or no such manifest.
        CheckpointError: it was written in a newer format.
    """
    path = Path(checkpoint) / MANIFEST
    if path.parent.is_symlink():
        raise DamagedCheckpointError(
            f"{path.parent}: is a symbolic link, and could lead outside: put the folder itself in its place"
        )
    values = read_object(path)
    if values.pop("sha256", None) != _own_hash(values):
        raise DamagedCheckpointError(f"{path}: its content does not fit its own hash")
    check_format(path, values.pop("format_version", None), FORMAT_VERSION)
    try:
        return _MANIFEST.validate_python(values)
    except ValidationError as error:
        wrong = dict.fromkeys(str(problem["loc"][0]) for problem in error.errors())
        raise DamagedCheckpointError(f"{path}: is no manifest: {', '.join(wrong)} cannot be what it says") from error


_MANIFEST = TypeAdapter(Manifest)


def check_format(path: Path, found: Any, newest: int) -> None:
    """Refuse what a newer version of the toolkit wrote.

    Args:
        path: the file.
        found: its format version.
        newest: that is known of such files.

    Raises:
        CheckpointError: the format is newer than this version knows.
        DamagedCheckpointError: there is no format version.
    """
    if type(found) is not int:
        raise DamagedCheckpointError(f"{path}: has no format_version")
    if found > newest:
        raise CheckpointError(
            f"{path}: is of format version {found}, but nmt {__version__} reads up to {newest}: install a newer nmt"
        )


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


Arrays: TypeAlias = Mapping[str, Mapping[str, np.ndarray]]
"""Arrays by the name of their file, and by their name in it."""


@dataclass(frozen=True)
class Contents:
    """What one checkpoint keeps, as arrays and JSON values.

    update: updates made.
    score: of the validation after this update, higher is better; None without one.
    model: the weights by role path, each variable once.
    ema: their moving average by role path; None if none is kept.
    optimizer: slots by the role path of their variable; None if none are kept.
    state: the state of the run.
    tie_groups, variables, optimizer_class, facts: see `Manifest`.
    """

    update: int
    score: float | None
    model: Mapping[str, np.ndarray]
    ema: Mapping[str, np.ndarray] | None = None
    optimizer: Mapping[str, np.ndarray] | None = None
    state: Mapping[str, Any] = field(default_factory=dict)
    tie_groups: tuple[Tie, ...] = ()
    variables: Mapping[str, Variable] = field(default_factory=dict)
    optimizer_class: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, manifest: Manifest, arrays: Arrays, *, state: Mapping[str, Any] | None = None) -> Contents:
        """Return what a manifest and the files beside it say.

        Args:
            manifest: of the checkpoint.
            arrays: of each file that was read, `MODEL` among them.
            state: of the run.
        """
        ties, variables, facts = manifest.tie_groups, manifest.variables, manifest.facts
        optimizer, its_class = arrays.get(OPTIMIZER), manifest.optimizer if OPTIMIZER in arrays else None
        weights = arrays[MODEL], arrays.get(EMA)
        return cls(manifest.update, manifest.score, *weights, optimizer, state or {}, ties, variables, its_class, facts)

    def manifest(self, files: dict[str, FileRecord]) -> Manifest:
        """Return the manifest of a checkpoint of these files, as the packages installed now write it."""
        ties, variables, facts = self.tie_groups, dict(self.variables), dict(self.facts)
        versions = installed_versions()
        return Manifest(self.update, self.score, files, ties, variables, self.optimizer_class, versions, facts)

    @property
    def arrays(self) -> Arrays:
        """The arrays of each file."""
        parts = {MODEL: self.model, EMA: self.ema, OPTIMIZER: self.optimizer}
        return {name: part for name, part in parts.items() if part is not None}


def check_contents(contents: Contents) -> None:
    """Refuse what could be written, but would not be read again.

    Raises:
        CheckpointError: update or score are no such numbers, or the moving average is of variables that the model does
            not have.
    """
    if type(contents.update) is not int or contents.update < 0:
        raise CheckpointError(f"update must be a whole number of 0 or more, got {contents.update!r}")
    if contents.score is not None and not is_number(contents.score):
        raise CheckpointError(f"score must be a finite number or None, got {contents.score!r}")
    shapes = {path: array.shape for path, array in contents.model.items()}
    strangers = [path for path, array in (contents.ema or {}).items() if shapes.get(path) != array.shape]
    if strangers:
        raise CheckpointError(
            f"a moving average must be of variables of the model, of their shapes, got {', '.join(strangers)}"
        )


def slot_variable(slot: str, variables: Iterable[str]) -> str | None:
    """Return the variable that a slot of an optimizer belongs to, None for one that belongs to the optimizer itself.

    Args:
        slot: `<kind>/<role path>`, or a name of another kind, such as `iterations`.
        variables: role paths; of several that fit the longest is meant: `a/kernel`, not `kernel`.
    """
    return max((path for path in variables if slot.endswith(f"/{path}")), key=len, default=None)
