"""The directory of an export for CTranslate2: what lies there besides the files of that engine itself.

- `export.json`: what was exported, how, and how equal it was found to be; written last
- `config.yaml`: the settings of the model
- `tokenizer.*` and `vocabulary*.txt`: as in a model directory
- `model.bin`, `config.json`, `*_vocabulary.json`: what CTranslate2 reads
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nmt.config import Config
from nmt.errors import ExportError
from nmt.inference.model_directory import CONFIG_NAME, EXPORT_NAME, load_settings
from nmt.text import TextPair
from nmt.types import PathLike

FORMAT = "ctranslate2"
MODEL_NAME = "model.bin"

_FORMAT_VERSION = 1

_NAMES = re.compile(
    rf"{re.escape(EXPORT_NAME)}|{re.escape(CONFIG_NAME)}|{re.escape(MODEL_NAME)}|config\.json"
    r"|(shared|source|target)_vocabulary\.json|tokenizer(\..*)?\.(json|model)|vocabulary(\..*)?\.txt"
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
    """Whether an export was written to this directory, completely."""
    return (Path(directory) / EXPORT_NAME).is_file()


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


def check_model(directory: PathLike, facts: ExportFacts) -> None:
    """Refuse weights that are not those that were exported; the engine would translate with whatever is there.

    Raises:
        ExportError: naming the file.
    """
    if hash_of_model(directory) != facts.model_sha256:
        raise ExportError(f"{Path(directory) / MODEL_NAME}: is not what was exported: export the model again")


def read_export_settings(directory: PathLike, overrides: Sequence[str] = ()) -> Config:
    """Read the settings that an export holds.

    Args:
        directory: of the export.
        overrides: settings of the form "search.beam_size=4"; only what a trained model leaves open may change.

    Raises:
        ConfigError: the settings cannot be read, or an override does not fit or changes what the model depends on.
        ExportError: this is no export.
    """
    return load_settings(_export_path(directory).with_name(CONFIG_NAME), overrides)


def read_export_text(directory: PathLike, facts: ExportFacts) -> TextPair:
    """Read the tokenizers of an export.

    Raises:
        DataError: a file is missing or damaged.
        ExportError: they are not those of the model.
    """
    text = TextPair.load(directory)
    if text.fingerprints != facts.tokenizers:
        raise ExportError(
            f"{Path(directory)}: its tokenizers are not those that its model was exported with: export the model again"
        )
    return text


def _export_path(directory: PathLike) -> Path:
    path = Path(directory)
    if is_export(path):
        return path / EXPORT_NAME
    if not path.exists():
        raise ExportError(f"{path}: there is no such export: write one with nmt export RUN {path} --format {FORMAT}")
    if (path / CONFIG_NAME).is_file():
        raise ExportError(
            f"{path}: is a model directory, and {FORMAT} needs an export of it: write one with "
            f"nmt export {path} OUT --format {FORMAT}, and give OUT"
        )
    raise ExportError(f"{path}: is no export, it holds no {EXPORT_NAME}: write one with nmt export RUN OUT")
