"""Loads the settings of a run: files and overrides in, a checked `Config` out, or one error with all problems."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from nmt.atomic_files import read_regular_file, replace_file
from nmt.config.problems import problems_of, yaml_in_words
from nmt.errors import ConfigError
from nmt.kinds import imported_hashes, nearest
from nmt.settings.config import FORMAT_VERSION, VERSION_KEY, Config
from nmt.settings.data import files_of_pairs
from nmt.settings.section import (
    BEFORE,
    CONFIG_NAME,
    EXPORT_NAME,
    MAY_CHANGE,
    AnySection,
    Section,
    element_class,
    is_nullable,
    kinds_of,
    marks_of,
    section_classes,
)
from nmt.types import PathLike
from nmt.version import __version__
from nmt.yaml_files import KeyPath, dump_yaml, read_yaml

logger = logging.getLogger(__name__)

_IMPORTS_KEY = "imports"
"""Where a config that nmt wrote says which files of a user's own were imported, each with its SHA-256."""

_BESIDE = ("checkpoints", "tokenizer.json")
"""What lies beside the config in a model directory."""


class Layer(NamedTuple):
    """Settings from one file, or from all overrides together.

    Attributes:
        settings: nested dicts.
        origins: where each setting was written ("run.yaml line 3"), by its path.
        remarks: sentences about settings that mean something else than what is written, by their paths.
        lacks: what may explain kinds that are unknown: which files that were imported then are not imported now.
    """

    settings: dict[str, Any]
    origins: dict[KeyPath, str]
    remarks: Mapping[KeyPath, str] = {}
    lacks: str = ""


def nest(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """Returns nested dicts that hold one value at `path`."""
    for key in reversed(path):
        value = {key: value}
    return dict(value)


def combine(
    first: Mapping[str, Any], second: Mapping[str, Any], section: type[Section] | None = None
) -> dict[str, Any]:
    """Merges two mappings key by key, the second one wins; a section without content changes nothing.

    A corpus that the second one names by `pairs` has no `source` and `target` of the first one, and likewise.

    Args:
        first: what stands below.
        second: what stands above.
        section: what both are settings of, if a `type` that changes replaces a section; if it is None, a `type` is a
            key like any other.
    """
    gone = [*section.replaced(first, second)] if section else []
    merged = {key: value for key, value in first.items() if key not in gone}
    for key, value in second.items():
        field, below = section.model_fields.get(key) if section else None, merged.get(key)
        kinds, classes = (kinds_of(field), section_classes(field)) if field else ({}, [])
        if value is None and field and classes and not is_nullable(field):  # `training:` and nothing below
            value = {}
        if isinstance(value, Mapping) and isinstance(below, list) and (element := field and element_class(field)):
            # Keys that are names of the list mean its elements, and leave the list as it is else.
            named = {each["name"]: each for each in below if isinstance(each, Mapping) and "name" in each}
            if value and value.keys() <= named.keys():
                changes = {id(named[name]): change or {} for name, change in value.items()}
                merged[key] = [
                    combine(each, changes[id(each)], element) if id(each) in changes else each for each in below
                ]
                continue
            # Keys that are settings of a single corpus make one of the list; what is neither is a misspelt name.
            unknown = [name for name in value if name not in named]
            if unknown and not any(name in each.model_fields for name in value for each in classes):
                raise ConfigError(
                    f"data.{key}.{unknown[0]} is unknown: the list data.{key} has the names {', '.join(named)}"
                    + (f": did you mean {near}?" if (near := nearest(unknown[0], named)) else "")
                )
        if isinstance(value, Mapping):
            below = below if isinstance(below, Mapping) else {}
            kind = below.get("type", next(iter(kinds), None))
            if kinds and value.get("type", kind) != kind:
                below = {}
            inner = kinds.get(str({**below, **value}.get("type")), classes[0]) if classes else None
            value = combine(below, value, inner)
        merged[key] = value
    return merged


def completed(settings: Mapping[str, Any], section: type[Section]) -> dict[str, Any]:
    """Returns settings of a model directory, with what those mean that were unknown when it was written."""
    result = dict(settings)
    for name, field in section.model_fields.items():
        inner = settings.get(name, None if is_nullable(field) else {})
        if name not in settings and BEFORE in marks_of(field):
            result[name] = marks_of(field)[BEFORE]
        elif isinstance(inner, Mapping) and (classes := section_classes(field)):
            inner = completed(inner, kinds_of(field).get(str(inner.get("type")), classes[0]))
            result |= {name: inner} if inner else {}
    return result


def merge(layers: Sequence[Layer], section: type[Section] | None = Config) -> Layer:
    """Merges layers from left to right; `section` as for `combine`.

    Mappings are merged key by key; lists and scalars are replaced. A layer that changes the `type` of a section (also
    from a default that nobody wrote) replaces that section, because the settings of another kind mean nothing to it.
    """
    settings: dict[str, Any] = {}
    origins: dict[KeyPath, str] = {}
    for layer in layers:
        origins |= {_numbered(path, settings): origin for path, origin in layer.origins.items()} | layer.origins
        settings = combine(settings, layer.settings, section)
    return Layer(settings, origins, lacks="".join(layer.lacks for layer in layers))


def _numbered(path: KeyPath, settings: Any) -> KeyPath:
    """Returns a path with the numbers of what is called by its name in a list, as problems name it."""
    found = list[str]()
    for key in path:
        if isinstance(settings, list):
            names = [each.get("name") if isinstance(each, Mapping) else None for each in settings]
            settings = settings[names.index(key)] if key in names else None
            key = str(names.index(key)) if key in names else key
        else:
            settings = settings.get(key) if isinstance(settings, Mapping) else None
        found.append(key)
    return tuple(found)


def load(paths: PathLike | Sequence[PathLike], overrides: Sequence[str] = (), *, announce: bool = False) -> Config:
    """Reads, merges and checks the settings of a run.

    The config of a model directory means that directory, also if it was moved or copied; see `_places_now`.

    Args:
        paths: a YAML file, or several that are merged from left to right.
        overrides: settings of the form "training.seed=7", which win over the files; values are YAML 1.2.
        announce: whether the log says that a path means another place than what is written.

    Returns:
        The settings, with `~` and `${NAME}` expanded in paths.

    Raises:
        ConfigError: a file cannot be read, or settings are unknown, missing, of the wrong type or do not fit each
            other; all problems are listed, each with its path and the line where it stands.
    """
    layers = _read([paths] if isinstance(paths, str | os.PathLike) else paths, overrides)
    merged = merge(layers)
    config = _checked(merged)
    for layer in layers if announce else ():
        for key, sentence in layer.remarks.items():
            if merged.origins.get(key) == layer.origins.get(key):  # else another file or an override gave it
                logger.info("%s", sentence)
    return config


def load_values(settings: Mapping[str, Any], overrides: Sequence[str] = ()) -> Config:
    """Checks settings that were never in a file, nested dicts and lists, with overrides that win over them; see `load`.

    Raises:
        ConfigError: as for `load`.
    """
    return _checked(merge([Layer(dict(settings), {}), *_read([], overrides)]))


def load_trained(path: PathLike, overrides: Sequence[str] = ()) -> Config:
    """Reads the settings of a trained model; overrides may change what `changed_settings` leaves open, and no more.

    Raises:
        ConfigError: as for `load`, or an override changes what the model depends on.
    """
    layers = _read([path], overrides)
    config = _checked(merge(layers))
    if overrides and (fixed := changed_settings(_checked(merge(layers[:1])), config)):
        raise ConfigError("a trained model keeps the settings it was trained with: " + "; ".join(fixed))
    return config


def _checked(layer: Layer) -> Config:
    try:
        return Config.model_validate(layer.settings)
    except ValidationError as error:
        raise ConfigError(_listed(problems_of(error, layer.origins, layer.settings)) + layer.lacks) from None


def _listed(problems: Sequence[str]) -> str:
    if len(problems) == 1:
        return problems[0]
    return f"{len(problems)} problems in the settings:" + "".join(f"\n  {problem}" for problem in problems)


def _read(paths: Sequence[PathLike], overrides: Sequence[str]) -> list[Layer]:
    """Reads files, then all overrides into one layer; what is wrong with any of them is raised together."""
    layers: list[Layer] = []
    problems: list[str] = []
    sources: list[Path | str] = [*map(Path, paths), *overrides]
    for source in sources:
        try:
            layers.append(_read_file(source) if isinstance(source, Path) else _read_override(source))
        except ConfigError as error:
            problems += str(error).split("\n")
    if problems:
        raise ConfigError(_listed(problems))
    return [*layers[: len(paths)], merge(layers[len(paths) :], None)]


def _read_file(path: Path) -> Layer:
    settings, lines = read_yaml(_decoded(path), str(path))
    if settings is None:
        raise ConfigError(f"{path} is empty: a config holds at least model_directory and data")
    if not isinstance(settings, dict):
        raise ConfigError(f"{path} holds no settings: write them as 'key: value', for example 'seed: 42'")
    origins = {key_path: f"{path} line {line}" for key_path, line in lines.items()}
    version = settings.pop(VERSION_KEY, None)
    if version is None:
        return Layer(settings, origins)
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise ConfigError(f"{path}: {VERSION_KEY} must be a whole number from 1 to {FORMAT_VERSION}, got {version!r}")
    if version > FORMAT_VERSION:
        raise ConfigError(
            f"{path} has format version {version}, but nmt {__version__} reads versions up to {FORMAT_VERSION}: "
            "install a newer nmt"
        )
    # Written into a model directory, maybe by an older version.
    lacks = _not_imported(settings.pop(_IMPORTS_KEY), path) if isinstance(settings.get(_IMPORTS_KEY), dict) else ""
    settings, remarks = completed(settings, Config), {}
    for key_path, (value, remarks[key_path]) in _places_now(settings, path).items():
        settings = combine(settings, nest(key_path, value), Config)
    return Layer(settings, origins, remarks, lacks)


def _not_imported(recorded: Mapping[str, str], path: Path) -> str:
    """Returns which of the files are not imported now, as a sentence; warns of those that have changed."""
    now = imported_hashes()
    for name, sha256 in recorded.items():
        if now.get(name, sha256) != sha256:
            _warn_once(f"{name} has changed since {path} was written: what its kinds do now may be something else")
    options = _options_of(recorded)
    return f" ({path} was written with {options}: give that again)" if options else ""


def forgotten_imports(path: PathLike) -> str:
    """Returns, as options, which files that were imported when a config was written are not imported now."""
    settings, _ = read_yaml(_decoded(Path(path)), str(path))
    recorded = settings.get(_IMPORTS_KEY) if isinstance(settings, dict) else None
    return _options_of(recorded) if isinstance(recorded, dict) else ""


def _options_of(recorded: Mapping[str, str]) -> str:
    now = imported_hashes()
    return " ".join(
        f"--import {name}" for name, sha256 in recorded.items() if name not in now and sha256 not in now.values()
    )


@cache
def _warn_once(sentence: str) -> None:
    logger.warning("%s", sentence)


def _places_now(settings: Mapping[str, Any], file: Path) -> dict[KeyPath, tuple[Any, str]]:
    """Returns what paths mean in a config that nmt wrote, if it lies in a model directory, which may have been moved.

    The model directory is the one where the config lies. A corpus is where its relative path leads from the current
    folder; if nowhere, then from the model directory, or from the nearest folder above it that has such a file.

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
    places: dict[KeyPath, tuple[Any, str]] = {}
    written = settings.get("model_directory")
    if not isinstance(written, str) or os.path.realpath(written) != os.path.realpath(directory):
        meant = str(directory if directory.name not in ("", "..") else directory.resolve())
        sentence = f"{file}: model_directory is {meant}, where this config lies, not {written} as it says"
        places["model_directory",] = meant, sentence
    folders = [*Path(os.path.abspath(file)).parents[:-1], *file.resolve().parents[:-1]]
    data: Any = settings.get("data")
    corpora = dict[tuple[str, ...], Mapping[str, Any]]()
    for part in ("train", "validation", "test") if isinstance(data, Mapping) else ():
        for corpus in data[part] if isinstance(data.get(part), list) else [data.get(part)]:
            if isinstance(corpus, Mapping):
                corpora[(part, corpus["name"]) if "name" in corpus else (part,)] = corpus
    for name, corpus in corpora.items():
        for side, value in corpus.items():
            if side not in ("source", "target", "pairs") or value is None:
                continue
            written_paths = value if isinstance(value, list) else [value]
            found = [_found(path, folders) for path in written_paths]
            if found != written_paths:
                sentence = (
                    f"{file}: data.{'.'.join(name)}.{side} is read from {', '.join(map(str, found))}, as it is not here"
                )
                places["data", *name, side] = found if isinstance(value, list) else found[0], sentence
    return places


def _found(path: Any, folders: list[Path]) -> Any:
    """Returns a path from the first folder where it leads to something, or as it is if it does so from here."""
    if not isinstance(path, str) or _leads_somewhere(path):
        return path
    return next(filter(_leads_somewhere, (os.path.join(folder, path) for folder in folders)), path)


def _leads_somewhere(path: str) -> bool:
    return os.path.exists(files_of_pairs(path)[0][0])


def _decoded(path: Path) -> str:
    try:
        content = read_regular_file(path)
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist{_nearest_file(path)}") from None
    except IsADirectoryError:
        inside = path / CONFIG_NAME
        advice = f"give {inside}" if inside.is_file() else "give a YAML file"
        raise ConfigError(f"{path} is a directory: {advice}") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # `error.object` is what was decoded: the content without its byte order mark, to which the position refers.
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = error.object[error.start]
        raise ConfigError(f"{path} line {line}: is not UTF-8 (byte 0x{byte:02x}): save it as UTF-8") from None


def _nearest_file(path: Path) -> str:
    names = os.listdir(path.parent) if path.parent.is_dir() else []
    near = nearest(path.name, [name for name in names if name.endswith((".yaml", ".yml"))])
    return f": did you mean {path.parent / near}?" if near else ""


def _read_override(override: str) -> Layer:
    name, equals, text = override.partition("=")
    path = tuple(key.strip() for key in name.split("."))
    if not equals or not all(path):
        raise ConfigError(f"--set {override!r} must have the form section.key=value, for example training.seed=7")
    if not text.strip():
        raise ConfigError(f"--set {override} has no value: write null for none, or '\"\"' for an empty text")
    value, lines = read_yaml(text, f"--set {override}:")
    return Layer(nest(path, value), {(*path, *inner): f"--set {override}" for inner in [(), *lines]})


SETTLED_AT_START = (
    "training.batch_tokens",
    "training.precision",
    "training.validation_tokenization",
    "search.max_length_ratio",
    "search.max_length",
)
"""Settings that may be `auto`: a run chooses once and writes its choice into its config."""


def with_kept_settings(now: AnySection, before: AnySection, prefix: str = "") -> AnySection:
    """Fills what is left open by the settings of a run that goes on.

    Open is what is `auto` until a run begins, and a setting that nobody wrote, whose default is younger than the run:
    it has what the toolkit did before there was the setting.

    Args:
        now: the settings, or a section of them.
        before: those of the run, as its directory holds them.
        prefix: the place of the section, "training." for example.
    """
    changes: dict[str, Any] = {}
    for name, field in type(now).model_fields.items():
        value, old = getattr(now, name), getattr(before, name)
        unwritten = name not in now.model_fields_set and BEFORE in marks_of(field)
        if (unwritten and _plain(old) == marks_of(field)[BEFORE]) or (
            value == "auto" and prefix + name in SETTLED_AT_START
        ):
            changes[name] = old
        elif isinstance(value, Section) and type(value) is type(old):
            changes[name] = with_kept_settings(value, old, f"{prefix}{name}.")
    return now.model_copy(update=changes)


def _plain(value: Any) -> Any:
    """Returns a value as YAML has it."""
    return value.model_dump() if isinstance(value, Section) else value


def changed_settings(old: Section | None, new: Section | None, prefix: str = "") -> list[str]:
    """Lists the settings that differ and may not change when an unfinished run is continued.

    Limits, saving, logging and search settings may change, and the places of corpora, whose text is compared
    elsewhere; what the model, the tokens, the order of the data or the update depends on may not.

    Args:
        old: the settings, or a section of them; None if it is off.
        new: the same after the change.
        prefix: the place of the section, "training." for example.

    Returns:
        One line per setting, such as "training.batch_tokens: 4096 before, 2048 now"; empty if the run can continue.
    """
    if old is not None and new is not None and type(old) is not type(new):  # their settings mean different things
        return [f"{prefix}type: {vars(old)['type']} before, {vars(new)['type']} now"]
    lines: list[str] = []
    fields = {} if (section := old or new) is None else type(section).model_fields
    for name, field in fields.items():
        was, now = getattr(old, name, None), getattr(new, name, None)
        if marks_of(field)[MAY_CHANGE]:
            if isinstance(was, tuple) or isinstance(now, tuple):  # of corpora, whose files may move
                lines += _changed_mixture(was, now, prefix + name)
            continue
        if isinstance(was or now, Section):
            lines += changed_settings(was, now, f"{prefix}{name}.")
        elif _alone(was) != _alone(now):
            lines.append(f"{prefix}{name}: {yaml_in_words(was)} before, {yaml_in_words(now)} now")
    return lines


def _changed_mixture(old: Any, new: Any, path: str) -> list[str]:
    """Lists what differs between lists of corpora, or a list and one corpus, but for the places of their files."""
    was, now = ({each.name: each for each in corpora} if isinstance(corpora, tuple) else {} for corpora in (old, new))
    if path == "data.validation":  # may change, but scores with another tag are of another task
        tags = {name: [each[name].tag for each in (was, now)] for name in was if name in now}
        return [
            f"{path}.{name}.tag: {before or 'null'} before, {after or 'null'} now"
            for name, (before, after) in tags.items()
            if before != after
        ]
    if path != "data.train":
        return []
    if [*was] != [*now]:
        names = [", ".join(each) or "one corpus" for each in (was, now)]
        return [f"{path}: {names[0]} before, {names[1]} now"]
    fields = type(next(iter(now.values()))).model_fields
    own = [key for key, field in fields.items() if not marks_of(field)[MAY_CHANGE]]
    values = {f"{path}.{name}.{key}": [getattr(each[name], key) for each in (was, now)] for name in now for key in own}
    differ = {key: [*map(yaml_in_words, both)] for key, both in values.items() if both[0] != both[1]}
    return [f"{key}: {before} before, {after} now" for key, (before, after) in differ.items()]


def _alone(value: Any) -> Any:
    """Returns the path of a list of one path, which means the same, or the value as it is."""
    return value[0] if isinstance(value, tuple) and len(value) == 1 else value


def to_yaml(config: Config) -> str:
    """Returns the effective settings, defaults included, as YAML with the format version."""
    text = f"# Effective settings, written by nmt {__version__}.\n{VERSION_KEY}: {FORMAT_VERSION}\n"
    imports = {_IMPORTS_KEY: hashes} if (hashes := imported_hashes()) else {}
    for key, value in {**imports, **config.model_dump()}.items():
        text += "\n" if isinstance(value, dict) else ""
        text += dump_yaml({key: value})
    return text


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
