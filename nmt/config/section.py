"""What a section of the settings is, and how one setting is declared.

A setting is a typed field of a frozen class. Its default, its help text, its bounds and the mark that says whether it
may change when an unfinished run is continued stand together in that one place; the loader, the errors, `--explain`,
the reference page and the JSON Schema all read them from there.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

REQUIRED: Any = ...
"""The default of a setting that the user has to give."""

MAY_CHANGE = "x-may-change-on-resume"
"""Where a field carries the mark that `setting(may_change=...)` gives it."""

AUTO: Final = "auto"
"""The word that leaves a number to what is found when a run begins."""

BEFORE = "x-absent-means"
"""Where a field carries what `setting(before=...)` gives it."""

_UNSAID: Any = object()

MISFITS = "misfits"
"""The type of the pydantic error that carries the misfits of a section."""


class Misfit(NamedTuple):
    """Settings that are valid alone but do not fit each other.

    Attributes:
        key: the setting to name first, relative to the section that reports it ("num_heads", "model.num_heads").
        message: what must hold, what came and what to try; it reads on from the key ("must be ...").
    """

    key: str
    message: str


@dataclass(frozen=True)
class Words:
    """Metadata of a field: its type in words, where the annotation alone would not say enough."""

    text: str


def number_or_auto(kinds: tuple[type, ...], least: float) -> BeforeValidator:
    """Returns what checks a number of at least `least` or `auto`, before the union does: that would name its parts."""

    def check(value: Any) -> Any:
        is_number = isinstance(value, kinds) and not isinstance(value, bool)
        if value == AUTO or (is_number and least <= value < math.inf):
            return value
        raise PydanticCustomError("number_or_auto", "must be a number or auto")

    return BeforeValidator(check)


class Section(BaseModel):
    """A group of settings: frozen, strictly typed (`true` is no number), an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, protected_namespaces=(), validate_default=False
    )

    def misfits(self) -> Iterator[Misfit]:
        """Yields what does not fit together among settings of this section that are each valid."""
        yield from ()

    @model_validator(mode="after")
    def _refuse_misfits(self) -> Self:
        misfits = list(self.misfits())
        if misfits:
            text = "; ".join(f"{misfit.key} {misfit.message}" for misfit in misfits)
            raise PydanticCustomError(MISFITS, "{text}", {"text": text, "misfits": misfits})
        return self


def setting(
    default: Any,
    help_text: str,
    *,
    may_change: bool = False,
    before: Any = _UNSAID,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    min_length: int | None = None,
) -> Any:
    """Declares one setting of a section.

    Args:
        default: the value where the user gives none, or `REQUIRED`.
        help_text: what the setting does, with its unit; shown by `--explain`, in the docs and in editors.
        may_change: whether it may differ when an unfinished run is continued.
        before: what a `config.yaml` in a model directory means that lacks the setting: what was done before there was
            one. Its runs go on with that; to be given wherever the default of a new setting does something else.
        at_least: inclusive lower bound.
        above: exclusive lower bound.
        at_most: inclusive upper bound.
        below: exclusive upper bound.
        min_length: the least number of characters of a text.

    Returns:
        The field, for the right side of an annotated class attribute.
    """
    bounds = {"ge": at_least, "gt": above, "le": at_most, "lt": below, "min_length": min_length}
    given: dict[str, Any] = {name: bound for name, bound in bounds.items() if bound is not None}
    extra: dict[str, Any] = {MAY_CHANGE: may_change} | ({} if before is _UNSAID else {BEFORE: before})
    return Field(default, description=help_text, json_schema_extra=extra, **given)


def kind_or(default: str) -> Callable[[Any], str | None]:
    """Returns a function that reads the `type` of a section, given as a mapping or as an object.

    Args:
        default: the type of a mapping that names none.
    """

    def kind_of(value: Any) -> str | None:
        """Returns the `type` of a section; None for what is no section."""
        if isinstance(value, dict):
            return value.get("type", default)
        return getattr(value, "type", None)

    return kind_of


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
