"""Settings that hold paths: how they are expanded, and what they mean in a model directory that was moved."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator
from pydantic_core import PydanticCustomError

from nmt.config.section import Words

PATH_ERROR = "path"
"""The type of the pydantic error of a path that cannot be used; its message reads on from the setting's name."""

UNDEFINED_VARIABLE = "undefined_variable"
"""The type of the pydantic error of a path whose environment variable is not set."""

CONFIG_NAME = "config.yaml"
"""The file of a model directory that holds its settings."""

EXPORT_NAME = "export.json"
"""Holds what an export for another engine says of itself; a model directory has none."""

_BESIDE = ("checkpoints", "tokenizer.json")
"""What lies beside the config in a model directory."""

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def expand_path(path: str) -> str:
    """Returns a path with every `${NAME}` replaced from the environment, then a leading `~` by the home directory.

    Raises:
        PydanticCustomError: the path is empty, a variable is not set, or `~name` is nobody's home.
    """
    if not path.strip():
        raise PydanticCustomError(PATH_ERROR, "must be a path, got an empty text")
    expanded = _VARIABLE.sub(lambda match: _value_of(match.group(1)), path)
    if "\0" in expanded:
        raise PydanticCustomError(PATH_ERROR, "must be a path, got a text with a NUL character")
    if "${" in expanded:
        raise PydanticCustomError(
            PATH_ERROR,
            "contains '${' that begins no variable, got '{path}': write ${NAME}, of letters, digits and underscores",
            {"path": path},
        )
    home = os.path.expanduser(expanded)
    if home.startswith("~"):
        raise PydanticCustomError(
            PATH_ERROR, "begins with '~', but no such user has a home here, got '{path}': write ./~...", {"path": path}
        )
    return home


def places_now(settings: Mapping[str, Any], file: Path) -> dict[tuple[str, ...], tuple[Any, str]]:
    """Returns what paths mean in a config that nmt wrote, if it lies in a model directory, which may have been moved.

    The model directory is the one where the config lies. A corpus is where its relative path leads from the current
    folder; if nowhere, then from the model directory, or from the nearest folder above it where there is such a file.

    Args:
        settings: nested dicts, as they stand in the file.
        file: the config.

    Returns:
        The value, and a sentence that says so, of each setting that means another place than what is written.
    """
    directory = file.parent
    if file.name != CONFIG_NAME or (directory / EXPORT_NAME).exists():  # an export has the settings of its model
        return {}
    if not any((directory / name).exists() for name in _BESIDE):
        return {}
    places: dict[tuple[str, ...], tuple[Any, str]] = {}
    written = settings.get("model_directory")
    if not isinstance(written, str) or os.path.realpath(written) != os.path.realpath(directory):
        meant = str(directory if directory.name not in ("", "..") else directory.resolve())
        sentence = f"{file}: model_directory is {meant}, where this config lies, not {written} as it says"
        places["model_directory",] = meant, sentence
    folders = [*Path(os.path.abspath(file)).parents[:-1], *file.resolve().parents[:-1]]
    data = settings.get("data")
    for name in ("train", "validation", "test"):
        corpus = data.get(name) if isinstance(data, Mapping) else None
        for side, value in corpus.items() if isinstance(corpus, Mapping) else ():
            written_paths = value if isinstance(value, list) else [value]
            found = [_found(path, folders) for path in written_paths]
            if found != written_paths:
                sentence = f"{file}: data.{name}.{side} is read from {', '.join(map(str, found))}, as it is not here"
                places["data", name, side] = found if isinstance(value, list) else found[0], sentence
    return places


def _found(path: Any, folders: list[Path]) -> Any:
    """Returns a path from the first folder where it leads to something, or as it is if it does so from here."""
    if not isinstance(path, str) or os.path.exists(path):
        return path
    return next(filter(os.path.exists, (os.path.join(folder, path) for folder in folders)), path)


def _value_of(variable: str) -> str:
    value = os.environ.get(variable)
    if not value:
        raise PydanticCustomError(
            UNDEFINED_VARIABLE,
            "the environment variable {variable} is {state}",
            {"variable": variable, "state": "not set" if value is None else "empty"},
        )
    return value


def _expand_one_or_many(value: Any) -> Any:
    if isinstance(value, str):
        return expand_path(value)
    if isinstance(value, list | tuple) and value and all(isinstance(path, str) for path in value):
        return tuple(expand_path(path) for path in value)
    raise PydanticCustomError("path_type", "must be a path or a list of paths")


FilePath = Annotated[str, AfterValidator(expand_path), Words("a path")]
"""A path."""

FilePaths = Annotated[str | tuple[str, ...], BeforeValidator(_expand_one_or_many), Words("a path or a list of paths")]
"""A path or a list of paths; the files of a list are read one after the other."""
