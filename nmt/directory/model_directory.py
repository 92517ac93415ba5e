"""What a model directory consists of: the names in it and whose they are, and the settings of the model.

No Keras here: a wrong path is refused at once.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from nmt.checkpoint.folder import ENGINES_NAME, LOCK_NAME, remove_checkpoint
from nmt.checkpoint.folder import FOLDER as CHECKPOINTS_NAME
from nmt.checkpoint.index import INDEX, has_checkpoint, split_checkpoint
from nmt.checkpoint.manifest import ANCHOR_NAME, is_checkpoint
from nmt.config import Config
from nmt.config.loader import load_trained
from nmt.errors import CheckpointError, ExportError
from nmt.settings.config import SHORTLIST_NAME as SHORTLIST_NAME
from nmt.settings.config import STORE_NAME
from nmt.settings.section import CONFIG_NAME as CONFIG_NAME
from nmt.settings.section import EXPORT_NAME as EXPORT_NAME
from nmt.types import PathLike

METRICS_NAME, LOG_NAME, EVENTS_NAME, MODEL_NAME = "metrics.jsonl", "train.log", "logs", "model.bin"

MAP_NAME = "vmap.txt"
"""The shortlist of an export."""

REPORT_NAME = "vocabulary_update.json"
"""What a change of the vocabulary wrote about itself, in the directory of the changed model."""

TEXT_FILES = re.compile(r"tokenizer(\..*)?\.model|vocabulary(\..*)?\.txt")
"""What tokenizers consist of besides `tokenizer.json`, in a model directory as in an export."""

_RUN_FILES = (CONFIG_NAME, METRICS_NAME, LOG_NAME, REPORT_NAME, SHORTLIST_NAME, ANCHOR_NAME)

_OF_RUN = {
    "": re.compile("|".join(map(re.escape, _RUN_FILES))),
    # Checkpoints, those that were set aside, and what a killed process was writing, replacing or deleting.
    CHECKPOINTS_NAME: re.compile(
        rf"update-[0-9]{{8,}}(\.damaged.*)?|\.update-[0-9]{{8,}}\..*(tmp|old|replaced)|\.?{re.escape(INDEX)}(\..*tmp)?"
    ),
    EVENTS_NAME: re.compile(r"events\.out\.tfevents.*"),
    ENGINES_NAME: re.compile(r"\.?[0-9a-f]{16}(\..*(tmp|old))?"),
}
"""What a run writes into its directory, and into folders there. Others may keep files beside it."""

_KEPT = re.compile(rf"{re.escape(LOCK_NAME)}|{STORE_NAME}|tokenizer(\..*)?\.json|{TEXT_FILES.pattern}|\..*\.tmp")
"""What else lies in a model directory: what a new run replaces itself, or goes on using."""

_OF_EXPORT = re.compile(
    rf"{re.escape(EXPORT_NAME)}|{re.escape(CONFIG_NAME)}|{re.escape(MODEL_NAME)}|{re.escape(MAP_NAME)}"
    r"|config\.json"
    rf"|(shared|source|target)_vocabulary\.json|tokenizer(\..*)?\.json|{TEXT_FILES.pattern}"
)
"""The files of an export. Others may keep something beside them."""


def entries(folder: Path) -> list[Path]:
    """List what lies in a folder; nothing if there is none, or it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def delete_run(directory: Path) -> None:
    """Delete what a run wrote into its directory, and nothing else, besides tokenizers and token store.

    A folder goes with its last file; a link to a folder stays.
    """
    for name, written in _OF_RUN.items():
        for path in entries(directory / name):
            if written.fullmatch(path.name):
                remove_checkpoint(path)  # which does for any file
        if name:
            with suppress(OSError):  # not empty, none, or a link
                (directory / name).rmdir()


def folder_around(model: Path, run: Path) -> Path | None:
    """Return the folder of a run, one from which `delete_run` deletes, in which another model lies; None if in none.

    Links are followed, of the model and of its checkpoints.
    """
    places = [path.resolve() for path in (model, model / CHECKPOINTS_NAME)]
    folders = (run / name for name in _OF_RUN if name)
    return next((each for each in folders if any(place.is_relative_to(each.resolve()) for place in places)), None)


def foreign_files(directory: Path) -> list[Path]:
    """List what lies in a model directory, and in the folders in which a run writes, and was written by no run."""
    return [
        path
        for name, written in _OF_RUN.items()
        for path in entries(directory / name)
        if not written.fullmatch(path.name) and (name or not (path.name in _OF_RUN or _KEPT.fullmatch(path.name)))
    ]


def is_part_of_model(path: Path, directory: Path) -> bool:
    """Whether a file that is there is part of a run, or of an export made of one; both paths are absolute."""
    if not path.is_file() or not path.is_relative_to(directory):
        return False
    first, *rest = path.relative_to(directory).parts
    if rest:
        return first in (*_OF_RUN, STORE_NAME)
    return any(names.fullmatch(first) for names in (_OF_RUN[""], _KEPT, _OF_EXPORT))


def has_key(path: Path, name: str = "format_version") -> bool:
    """Whether a file of YAML or JSON has a key at its top level; only nmt writes a `format_version`."""
    key = rf'^(  "{name}"|{name})\s*:'.encode()
    try:
        return path.is_file() and re.search(key, path.read_bytes(), re.MULTILINE) is not None
    except OSError:
        return False


def holds_own_settings(directory: Path) -> bool:
    """Whether a directory has a `config.yaml` that nmt wrote, and not somebody else."""
    return has_key(directory / CONFIG_NAME)


def sibling_directory(directory: PathLike, suffix: str) -> Path:
    """Return `RUN-suffix` beside a directory `RUN`, also if that is named by `.` or `..`."""
    path = Path(os.path.normpath(directory))
    path = path.resolve() if path.name in ("", "..") else path
    return path.with_name(f"{path.name}-{suffix}")


_REFERENCE = re.compile(r"(?P<directory>.+)@(?P<checkpoint>best|latest|update-[0-9]+)", re.DOTALL)


def parse_run_reference(text: str) -> tuple[str, str | None]:
    """Read RUN, RUN@best, RUN@latest, RUN@update-N or RUN/checkpoints/update-N; any other @ belongs to the name of RUN.

    Returns:
        The model directory, and which of its checkpoints; None leaves the choice to those who read it.

    Raises:
        CheckpointError: two checkpoints are named.
    """
    match = _REFERENCE.fullmatch(text)
    given, checkpoint = (match["directory"], match["checkpoint"]) if match else (text, None)
    directory, named = split_checkpoint(given, checkpoint)
    return given if directory == Path(given) else str(directory), named


class FoundModel(NamedTuple):
    """A model that is there, with its settings; neither text nor weights were looked at.

    directory: the model directory.
    checkpoint: `best`, `latest` or `update-N`, as it was asked for.
    weights: `ema` or `raw`, likewise.
    config: its settings, overrides included.
    """

    directory: Path
    checkpoint: str | None
    weights: str | None
    config: Config


def find_model(
    directory: PathLike,
    *,
    checkpoint: str | None = None,
    weights: str | None = None,
    overrides: Sequence[str] = (),
) -> FoundModel:
    """Find a trained model, and read its settings.

    Args:
        directory: the model directory, or a checkpoint in it, RUN/checkpoints/update-N.
        checkpoint: `best`, `latest` or `update-N`; the best, else the latest unless given.
        weights: `ema` or `raw`; unless given the moving average if it was kept, or what validation found better.
        overrides: settings of the form "search.beam_size=4".

    Raises:
        CheckpointError: there is no such model directory.
        ConfigError: the settings cannot be read, or an override does not fit.
    """
    path, checkpoint = split_checkpoint(directory, checkpoint)
    return FoundModel(path, checkpoint, weights, read_settings(path, overrides))


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
    parents = path.parents if path.parent.name else Path(os.path.abspath(path)).parents
    run = next((parent for parent in parents if (parent / CONFIG_NAME).is_file() and has_checkpoint(parent)), None)
    if not path.exists():
        hint = "" if run is None else f": give {run}"
        if "@" in path.name:  # it is there if the verb does not read RUN@checkpoint
            is_known = _REFERENCE.fullmatch(path.name) is not None
            ways = "give a checkpoint as --checkpoint" if is_known else "checkpoints are @best, @latest and @update-N"
            hint = f" ({ways})"
        problem = f"there is no such model directory{hint}"
    elif not path.is_dir():
        problem = f"must be a model directory, got a file: give {run or 'the model_directory of the run'}"
    elif not (path / CONFIG_NAME).is_file():
        what, advice = "no model directory", "train a model there first"
        if run is not None:
            advice = f"give {run}, in which it lies"
        elif is_checkpoint(path):
            what, advice = "a checkpoint without its model directory", "give the one that it was copied from"
        problem = f"is {what}, it holds no {CONFIG_NAME}: {advice}"
    elif (path / EXPORT_NAME).is_file():
        problem = (
            "is an export for another engine, with which nmt translate and nmt evaluate alone work; all else "
            "needs the model directory it was made of"
        )
    elif not has_checkpoint(path):
        problem = "holds no whole checkpoint: train the model first"
    else:
        return load_trained(path / CONFIG_NAME, overrides)
    raise CheckpointError(f"{path}: {problem}")


FORMAT = "ctranslate2"

EXPORT_HEAD = {"format_version": 1, "format": FORMAT}
"""How `export.json` begins."""


class ExportFacts(NamedTuple):
    """What `export.json` says of an export.

    quantization: how the weights are stored: float32, float16, bfloat16, int16 or int8.
    checkpoint: name of the checkpoint that was exported.
    weights: `ema` or `raw`.
    num_positions: longest sequence that the export can read or write, in tokens.
    model_sha256: of `model.bin`.
    tokenizers: fingerprints of both sides.
    versions: of what wrote it, by package.
    check: how equal it was found to be to the model it came from.
    """

    quantization: str
    checkpoint: str
    weights: str
    num_positions: int
    model_sha256: str
    tokenizers: list[str]
    versions: Mapping[str, str]
    check: Mapping[str, Any]


def is_export(directory: PathLike) -> bool:
    """Whether a directory is an export, as `nmt export` writes it."""
    return (Path(directory) / EXPORT_NAME).is_file()


def beside_export(directory: Path) -> list[Path]:
    """List what others keep in an export."""
    return [path for path in entries(directory) if not _OF_EXPORT.fullmatch(path.name)]


def read_facts(directory: PathLike) -> ExportFacts:
    """Read what an export says of itself.

    Raises:
        ExportError: this is no export, or not one that this version can read.
    """
    path = Path(directory) / EXPORT_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        head = {key: content.pop(key) for key in EXPORT_HEAD}
        if head != EXPORT_HEAD:
            wanted, got = (f"{one['format']} and {one['format_version']}" for one in (EXPORT_HEAD, head))
            raise ExportError(
                f"{path}: format and format_version must be {wanted}, got {got}: export the model with this version"
            )
        return ExportFacts(**content)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ExportError(f"{path}: is no description of an export ({error}): export the model again") from error


def hash_of_model(directory: PathLike) -> str:
    """Return the SHA-256 of the weights of an export.

    Raises:
        ExportError: the file cannot be read.
    """
    path = Path(directory) / MODEL_NAME
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ExportError(f"{path}: cannot be read ({error.strerror}): export the model again") from error


def read_export_settings(directory: PathLike, overrides: Sequence[str] = ()) -> Config:
    """Read the settings that an export holds.

    Args:
        directory: of the export.
        overrides: settings of the form "search.beam_size=4"; only what a trained model leaves open may change.

    Raises:
        ConfigError: the settings cannot be read, or an override does not fit or changes what the model depends on.
        ExportError: this is no export.
    """
    path = Path(directory)
    if (path / EXPORT_NAME).is_file():
        return load_trained(path / CONFIG_NAME, overrides)
    if not path.exists():
        problem = f"there is no such export: write one with nmt export RUN {path} --format {FORMAT}"
    elif (path / CONFIG_NAME).is_file():
        problem = (
            f"is a model directory, and {FORMAT} needs an export of it: write one with nmt export {path} OUT --format "
            f"{FORMAT}, and give OUT"
        )
    else:
        problem = f"is no export, it holds no {EXPORT_NAME}: write one with nmt export RUN OUT"
    raise ExportError(f"{path}: {problem}")
