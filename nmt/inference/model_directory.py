"""The settings of a trained model, read from its directory. No Keras here: a wrong path is refused at once."""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from nmt.atomic_files import copy_entry, new_directory
from nmt.checkpoint.index import has_checkpoint, split_checkpoint
from nmt.checkpoint.manifest import is_checkpoint
from nmt.config import Config
from nmt.config.loader import load_trained
from nmt.config.section import CONFIG_NAME as CONFIG_NAME
from nmt.config.section import EXPORT_NAME as EXPORT_NAME
from nmt.errors import CheckpointError, ExportError
from nmt.types import PathLike


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
        weights: `ema` or `raw`; unless given the moving average where it was kept, or what validation found better.
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
            what = "a checkpoint without its model directory"
            advice = "give the one that it was copied from"
        raise CheckpointError(f"{path}: is {what}, it holds no {CONFIG_NAME}: {advice}")
    if (path / EXPORT_NAME).is_file():
        raise CheckpointError(
            f"{path}: is an export for another engine: translate with --engine ctranslate2; all else needs the model "
            "directory it was made of"
        )
    if not has_checkpoint(path):
        raise CheckpointError(f"{path}: holds no whole checkpoint: train the model first")
    return load_trained(path / CONFIG_NAME, overrides)


def _run_around(path: Path) -> Path | None:
    """The model directory in which something lies, None where there is none."""
    parents = path.parents if path.parent.name else Path(os.path.abspath(path)).parents
    return next((run for run in parents if (run / CONFIG_NAME).is_file() and has_checkpoint(run)), None)


def sibling_directory(directory: PathLike, suffix: str) -> Path:
    """Return `RUN-suffix` beside a directory `RUN`, also where that is named by `.` or `..`."""
    path = Path(os.path.normpath(directory))
    path = path.resolve() if path.name in ("", "..") else path
    return path.with_name(f"{path.name}-{suffix}")


FORMAT = "ctranslate2"
MODEL_NAME = "model.bin"

_FORMAT_VERSION = 1

TEXT_FILES = r"tokenizer(\..*)?\.(json|model)|vocabulary(\..*)?\.txt"
"""Names of the files of tokenizers, in a model directory as in an export."""

_NAMES = re.compile(
    rf"{re.escape(EXPORT_NAME)}|{re.escape(CONFIG_NAME)}|{re.escape(MODEL_NAME)}|config\.json"
    rf"|(shared|source|target)_vocabulary\.json|{TEXT_FILES}"
)
"""The files of an export; others may keep something beside them."""


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


def facts_as_json(facts: ExportFacts) -> str:
    """Return the content of `export.json`."""
    return json.dumps({"format_version": _FORMAT_VERSION, "format": FORMAT, **facts._asdict()}, indent=2) + "\n"


def is_export(directory: PathLike) -> bool:
    """Whether a directory has an `export.json` that nmt wrote, and not somebody else."""
    try:
        facts = json.loads((Path(directory) / EXPORT_NAME).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(facts, dict) and "format_version" in facts


def check_export_place(output: Path, *, overwrite: bool) -> None:
    """Refuse to write where something lies.

    Raises:
        ExportError: naming it.
    """
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not is_export(output):
        raise ExportError(f"{output}: must be an empty place or an earlier export, but holds something else")
    if not overwrite:
        raise ExportError(f"{output}: holds an export already: give --overwrite to replace it, or another directory")


@contextmanager
def export_directory(output: Path, *, overwrite: bool) -> Iterator[Path]:
    """A new folder that becomes `output` at the end, or disappears where something fails.

    What others keep in an export that is replaced is copied into the new one.

    Args:
        output: the directory to write.
        overwrite: replace an earlier export.

    Raises:
        ExportError: the disk refuses.
    """
    try:
        with new_directory(output, overwrite=overwrite) as folder:
            yield folder
            for path in output.iterdir() if output.is_dir() else ():
                if not is_of_export(path.name):
                    copy_entry(path, folder / path.name)
    except OSError as error:
        raise ExportError(f"{output}: cannot be written: {error.strerror}") from error


def is_settings_file(path: Path) -> bool:
    """Whether a file holds the settings of a run, or of a model that nmt wrote: by the names that stand in it."""
    return path.suffix in (".yaml", ".yml") and _has_line(path, rb"^model_directory\s*:")


def holds_own_settings(directory: Path) -> bool:
    """Whether a directory has a `config.yaml` that nmt wrote, and not somebody else."""
    return _has_line(directory / CONFIG_NAME, rb"^format_version\s*:")


def _has_line(path: Path, pattern: bytes) -> bool:
    try:
        return path.is_file() and re.search(pattern, path.read_bytes(), re.MULTILINE) is not None
    except OSError:
        return False


def is_of_export(name: str) -> bool:
    """Whether an export writes a file of this name into its directory."""
    return _NAMES.fullmatch(name) is not None


def read_facts(directory: PathLike) -> ExportFacts:
    """Read what an export says of itself.

    Raises:
        ExportError: this is no export, or not one that this version can read.
    """
    path = _export_path(directory)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content.pop("format_version"), content.pop("format")
        if version != (_FORMAT_VERSION, FORMAT):
            raise ExportError(
                f"{path}: format and format_version must be {FORMAT} and {_FORMAT_VERSION}, got {version[1]} and "
                f"{version[0]}: export the model with this version"
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
    return load_trained(_export_path(directory).with_name(CONFIG_NAME), overrides)


def _export_path(directory: PathLike) -> Path:
    path = Path(directory)
    if (path / EXPORT_NAME).is_file():
        return path / EXPORT_NAME
    if not path.exists():
        raise ExportError(f"{path}: there is no such export: write one with nmt export RUN {path} --format {FORMAT}")
    if (path / CONFIG_NAME).is_file():
        raise ExportError(
            f"{path}: is a model directory, and {FORMAT} needs an export of it: write one with "
            f"nmt export {path} OUT --format {FORMAT}, and give OUT"
        )
    raise ExportError(f"{path}: is no export, it holds no {EXPORT_NAME}: write one with nmt export RUN OUT")
