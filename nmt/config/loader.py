"""Loads the settings of a run: files and overrides in, a checked `Config` out, or one error with all problems."""

from __future__ import annotations

import difflib
import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml
from pydantic import ValidationError

from nmt.atomic_files import read_regular_file, replace_file
from nmt.config.problems import problems_of, yaml_in_words
from nmt.config.section import BEFORE, CONFIG_NAME, Section, places_now
from nmt.config.settings import FORMAT_VERSION, Config
from nmt.config.structure import default_types, fill_absent_settings, fill_empty_sections, plain_settings
from nmt.config.yaml_reader import CORE_SCALARS, KeyPath, YamlSyntaxError, read_yaml
from nmt.errors import ConfigError
from nmt.types import PathLike
from nmt.version import __version__

logger = logging.getLogger(__name__)


class Layer(NamedTuple):
    """Settings from one file, or from all overrides together.

    Attributes:
        settings: nested dicts.
        origins: where each setting was written ("run.yaml line 3"), by its path.
        remarks: sentences about settings that mean something else than what is written, by their paths.
    """

    settings: dict[str, Any]
    origins: dict[KeyPath, str]
    remarks: Mapping[KeyPath, str] = {}


def merge(layers: Sequence[Layer]) -> Layer:
    """Merges layers from left to right.

    Mappings are merged key by key; lists and scalars are replaced. A layer that changes the `type` of a section (also
    from a default that nobody wrote) replaces that section, because the settings of another kind mean nothing to it.
    """
    defaults = default_types()
    settings: dict[str, Any] = {}
    origins: dict[KeyPath, str] = {}
    for layer in layers:
        settings = _merge_into(settings, fill_empty_sections(layer.settings), (), defaults)
        origins |= layer.origins
    return Layer(settings, origins)


def nest(path: KeyPath, value: Any) -> dict[str, Any]:
    """Returns nested dicts that hold one value at `path`."""
    for key in reversed(path):
        value = {key: value}
    return dict(value)


def combine(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Merges two mappings key by key, the second one wins; a `type` is a key like any other."""
    return _merge_into(first, second, (), {})


def _merge_into(
    lower: Mapping[str, Any], upper: Mapping[str, Any], path: KeyPath, defaults: Mapping[KeyPath, str]
) -> dict[str, Any]:
    merged = dict(lower)
    for key, value in upper.items():
        below, here = merged.get(key), (*path, key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            changes_type = _changes_type(below, value, here, defaults)
            merged[key] = value if changes_type else _merge_into(below, value, here, defaults)
        else:
            merged[key] = value
    return merged


def _changes_type(
    lower: Mapping[str, Any], upper: Mapping[str, Any], path: KeyPath, defaults: Mapping[KeyPath, str]
) -> bool:
    default = defaults.get(path)
    return default is not None and "type" in upper and upper["type"] != lower.get("type", default)


VERSION_KEY = "format_version"


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


def load_trained(path: PathLike, overrides: Sequence[str] = ()) -> Config:
    """Reads the settings of a trained model; overrides may change what `changed_settings` leaves open, and no more.

    Raises:
        ConfigError: as for `load`, or an override changes what the model depends on.
    """
    problems: list[str] = []
    stored, given = _read_file(Path(path), problems), _read_overrides(overrides, problems)
    if problems:
        raise ConfigError(_listed(problems))
    config = _checked(merge([stored, given]))
    fixed = changed_settings(_checked(merge([stored])), config) if overrides else []
    if fixed:
        raise ConfigError("a trained model keeps the settings it was trained with: " + "; ".join(fixed))
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


SETTLED_AT_START = (
    "training.batch_tokens",
    "training.precision",
    "training.validation_tokenization",
    "search.max_length_ratio",
    "search.max_length",
)
"""Settings that may be `auto`: a run chooses once and writes its choice into its config."""

AnySection = TypeVar("AnySection", bound=Section)


def with_kept_settings(now: AnySection, before: AnySection, prefix: str = "") -> AnySection:
    """Fills what is left open by the settings of a run that goes on.

    Open is what is `auto` until a run begins, and a setting that nobody wrote, whose default is younger than the run.

    Args:
        now: the settings, or a section of them.
        before: those of the run, as its directory holds them.
        prefix: the place of the section, "training." for example.
    """
    changes: dict[str, Any] = {}
    for name, field in type(now).model_fields.items():
        value, old, extra = getattr(now, name), getattr(before, name), field.json_schema_extra
        unwritten = isinstance(extra, dict) and BEFORE in extra and name not in now.model_fields_set
        if unwritten or (value == "auto" and prefix + name in SETTLED_AT_START):
            changes[name] = old
        elif isinstance(value, Section) and type(value) is type(old):
            changes[name] = with_kept_settings(value, old, f"{prefix}{name}.")
    return now.model_copy(update=changes)


def changed_settings(old: Config, new: Config) -> list[str]:
    """Lists the settings that differ and may not change when an unfinished run is continued.

    Limits, saving, logging and search settings may change, and the places of corpora, whose text is compared
    elsewhere; what the model, the tokens, the order of the data or the update depends on may not.

    Returns:
        One line a setting, such as "training.batch_tokens: 4096 before, 2048 now"; empty where the run can continue.
    """
    before, after = old.model_dump(), new.model_dump()
    lines: list[str] = []
    replaced: list[str] = []
    may_change = {setting.path: setting.may_change for setting in plain_settings()}
    # A changed type comes before the settings of its section, which then mean something else.
    for path in sorted(may_change, key=lambda path: not path.endswith(".type")):
        if may_change[path] or path.startswith(tuple(replaced)):
            continue
        was, now = _value_at(before, path), _value_at(after, path)
        if was == now:
            continue
        lines.append(f"{path}: {yaml_in_words(was)} before, {yaml_in_words(now)} now")
        if path.endswith(".type"):
            replaced.append(path.removesuffix("type"))
    return lines


def _value_at(settings: dict[str, Any], path: str) -> Any:
    """Returns the value at a path, None where its section is off; a list of one path is that path."""
    value: Any = settings
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value[0] if isinstance(value, tuple) and len(value) == 1 else value


class _Dumper(yaml.SafeDumper):
    """Quotes what any reader would take for something else than a text: one of YAML 1.1, or ours of YAML 1.2."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indents lists below their key, as people write them."""
        super().increase_indent(flow, False)


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    """Puts texts with the line breaks of Unicode in double quotes: PyYAML would write them raw and read a space."""
    style = '"' if any(character in text for character in "\x85\u2028\u2029") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
for _name, _pattern, _first in CORE_SCALARS:
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(_pattern), list(_first))


def to_yaml(config: Config) -> str:
    """Returns the effective settings, defaults included, as YAML with the format version."""
    head = f"# Effective settings, written by nmt {__version__}.\n{VERSION_KEY}: {FORMAT_VERSION}\n"
    style: dict[str, Any] = {"sort_keys": False, "allow_unicode": True, "default_flow_style": False, "width": 10**6}
    parts = []
    for key, value in config.model_dump().items():
        gap = "\n" if isinstance(value, dict) else ""
        parts.append(gap + yaml.dump({key: _plain(value)}, Dumper=_Dumper, **style))
    return head + "".join(parts)


def write(config: Config, path: PathLike) -> None:
    """Writes the effective settings as YAML; a reader sees the old file or the new one, never half.

    Raises:
        ConfigError: the file cannot be written.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        replace_file(target, to_yaml(config).encode("utf-8"))
    except OSError as error:
        raise ConfigError(f"{target} cannot be written: {error.strerror}") from error


def _plain(value: Any) -> Any:
    """Returns nested settings with lists in place of tuples, as YAML knows them."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
