"""Loads the settings of a run: files and overrides in, a checked `Config` out, or one error with all problems."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nmt.atomic_files import read_regular_file
from nmt.config.merge import Layer, combine, merge, nest
from nmt.config.paths import CONFIG_NAME, places_now
from nmt.config.problems import problems_of
from nmt.config.settings import FORMAT_VERSION, Config
from nmt.config.structure import fill_absent_settings, fill_empty_sections
from nmt.config.yaml_reader import KeyPath, YamlSyntaxError, read_yaml
from nmt.errors import ConfigError
from nmt.types import PathLike
from nmt.version import __version__

VERSION_KEY = "format_version"

logger = logging.getLogger(__name__)


def load(paths: PathLike | Sequence[PathLike], overrides: Sequence[str] = (), *, announce: bool = False) -> Config:
    """Reads, merges and checks the settings of a run.

    The config of a model directory means that directory, also where it was moved or copied; see `places_now`.

    Args:
        paths: a YAML file, or several that are merged from left to right.
        overrides: settings of the form "training.seed=7", which win over the files; values are YAML 1.2.
        announce: whether the log says where a path means another place than what is written.

    Returns:
        The settings, with `~` and `${NAME}` expanded in paths.

    Raises:
        ConfigError: a file cannot be read, or settings are unknown, missing, of the wrong type or do not fit each
            other; all problems are listed, each with its path and the line where it stands.
    """
    files = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    problems: list[str] = []
    layers = [_read_file(Path(file), problems) for file in files]
    layers.append(_read_overrides(overrides, problems))
    if problems:
        raise ConfigError(_listed(problems))
    merged = merge(layers)
    config = _checked(merged)
    for layer in layers if announce else ():
        for key, sentence in layer.remarks.items():
            if merged.origins.get(key) == layer.origins.get(key):  # else another file or an override gave it
                logger.info("%s", sentence)
    return config


def from_settings(settings: Mapping[str, Any]) -> Config:
    """Checks settings given as nested dicts, as `load` does with those of a file.

    Raises:
        ConfigError: as for `load`.
    """
    return _checked(merge([Layer(dict(settings), {})]))


def _checked(layer: Layer) -> Config:
    settings = {key: value for key, value in layer.settings.items() if key != VERSION_KEY}
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(_listed(problems_of(error, settings, layer.origins))) from None


def _listed(problems: Sequence[str]) -> str:
    if len(problems) == 1:
        return problems[0]
    return f"{len(problems)} problems in the settings:" + "".join(f"\n  {problem}" for problem in problems)


def _read_file(path: Path, problems: list[str]) -> Layer:
    """Reads one file; what is wrong with it is added to `problems`."""
    nothing = Layer({}, {})
    try:
        text = _decoded(path)
        document = read_yaml(text, str(path))
    except (YamlSyntaxError, ConfigError) as error:
        problems.append(str(error))
        return nothing
    problems.extend(document.problems)
    if document.value is None:
        problems.append(f"{path} is empty: a config holds at least model_directory and data")
        return nothing
    if not isinstance(document.value, dict):
        problems.append(f"{path} holds no settings: write them as 'key: value', for example 'seed: 42'")
        return nothing
    if (problem := _version_problem(document.value.get(VERSION_KEY), str(path))) is not None:
        problems.append(problem)
    origins = {key_path: f"{path} line {line}" for key_path, line in document.lines.items()}
    if VERSION_KEY in document.value:  # written into a model directory, maybe by an older version
        settings, remarks = fill_absent_settings(fill_empty_sections(document.value)), {}
        for key_path, (value, remarks[key_path]) in places_now(settings, path).items():
            settings = combine(settings, nest(key_path, value))
        return Layer(settings, origins, remarks)
    return Layer(document.value, origins)


def _decoded(path: Path) -> str:
    try:
        content = read_regular_file(path)
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist{_nearest_file(path)}") from None
    except IsADirectoryError:
        inside = path / CONFIG_NAME
        advice = f"give {inside}" if inside.is_file() else "give a YAML file"
        raise ConfigError(f"{path} is a directory: {advice}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(f"{path} cannot be read: {reason}") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # `error.object` is what was decoded: the content without its byte order mark, to which the position refers.
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = error.object[error.start]
        raise ConfigError(f"{path} line {line}: is not UTF-8 (byte 0x{byte:02x}): save it as UTF-8") from None


def _nearest_file(path: Path) -> str:
    try:
        names = [sibling.name for sibling in path.parent.iterdir() if sibling.suffix in (".yaml", ".yml")]
    except OSError:
        return ""
    near = difflib.get_close_matches(path.name, names, n=1)
    return f": did you mean {path.parent / near[0]}?" if near else ""


def _version_problem(version: Any, where: str) -> str | None:
    if version is None:
        return None
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        return f"{where}: {VERSION_KEY} must be a whole number from 1 to {FORMAT_VERSION}, got {version!r}"
    if version > FORMAT_VERSION:
        return (
            f"{where} has format version {version}, but nmt {__version__} reads versions up to {FORMAT_VERSION}: "
            "install a newer nmt"
        )
    return None


def _read_overrides(overrides: Sequence[str], problems: list[str]) -> Layer:
    settings: dict[str, Any] = {}
    origins: dict[KeyPath, str] = {}
    for override in overrides:
        try:
            path, value, inner = _read_override(override)
        except (YamlSyntaxError, ConfigError) as error:
            problems.append(str(error))
            continue
        settings = combine(settings, nest(path, value))
        origins |= {(*path, *key_path): f"--set {override}" for key_path in [(), *inner]}
    return Layer(settings, origins)


def _read_override(override: str) -> tuple[KeyPath, Any, list[KeyPath]]:
    """Returns the path, the value, and the paths of the keys inside the value."""
    name, equals, text = override.partition("=")
    path = tuple(key.strip() for key in name.split("."))
    if not equals or not all(path):
        raise ConfigError(f"--set {override!r} must have the form section.key=value, for example training.seed=7")
    if path == (VERSION_KEY,):
        raise ConfigError(f"--set {override} cannot be: {VERSION_KEY} belongs to the file")
    if not text.strip():
        raise ConfigError(f"--set {override} has no value: write null for none, or '\"\"' for an empty text")
    document = read_yaml(text, f"--set {override}:")
    if document.problems:
        raise ConfigError(document.problems[0])
    return path, document.value, list(document.lines)
