"""Turns what pydantic found into lines that tell a user where the problem is and what to write instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from nmt.config.paths import PATH_ERROR, UNDEFINED_VARIABLE
from nmt.config.section import MISFITS, Misfit, Section
from nmt.config.settings import Config
from nmt.config.structure import kinds_of, section_classes
from nmt.config.suggestions import nearest, suggest
from nmt.config.wording import either, hint, type_in_words, value_in_words
from nmt.config.yaml_reader import KeyPath


class _Place(NamedTuple):
    """Where an error stands.

    Attributes:
        path: as the user wrote it: without the kinds that pydantic puts between its keys.
        section: the section that holds the last key; where a section itself is named, that section.
        field: the declaration of the last key, None where there is none (an unknown key).
        siblings: the kinds that could have stood there instead of the section, by type.
    """

    path: KeyPath
    section: type[Section]
    field: FieldInfo | None
    siblings: dict[str, type[Section]]


def problems_of(error: ValidationError, settings: Mapping[str, Any], origins: Mapping[KeyPath, str]) -> list[str]:
    """Describes every problem on one line: path, what must hold, what came, what to do, where it stands.

    Args:
        error: from the validation of a `Config`.
        settings: what was validated.
        origins: where each setting was written, by its path.
    """
    problems: list[str] = []
    without_value: dict[str, list[KeyPath]] = {}
    for detail in error.errors(include_url=False):
        place = _locate(detail["loc"])
        if detail["type"] == UNDEFINED_VARIABLE:
            without_value.setdefault(detail["msg"], []).append(place.path)
        elif detail["type"] == MISFITS:
            problems += [_misfit_line(place, misfit, origins) for misfit in detail["ctx"]["misfits"]]
        elif detail["type"] == "union_tag_invalid" and place.field is not None:
            message = _describe_unknown_type(place.field, detail["input"])
            problems.append(_with_origin((*place.path, "type"), message, origins))
        else:
            problems.append(_with_origin(place.path, _describe(detail, place, settings), origins))
    problems += [_variable_line(message, paths, origins) for message, paths in without_value.items()]
    return problems


def _locate(location: Sequence[str | int]) -> _Place:
    """Walks from the root to an error, and leaves out the kinds that pydantic puts between the keys."""
    section: type[Section] = Config
    field: FieldInfo | None = None
    siblings: dict[str, type[Section]] = {}
    path: list[str] = []
    tags: dict[str, type[Section]] = {}
    for step in map(str, location):
        if tags:
            section, siblings, tags, field = tags[step], tags, {}, None
            continue
        if field is not None and (inner := section_classes(field.annotation)):
            section, siblings = inner[0], {}
        path.append(step)
        field = section.model_fields.get(step)
        tags = kinds_of(field) if field is not None else {}
    return _Place(tuple(path), section, field, siblings)


def _describe(detail: ErrorDetails, place: _Place, settings: Mapping[str, Any]) -> str:
    """Says what is wrong; reads on from the path."""
    kind, value = detail["type"], detail["input"]
    if kind == "extra_forbidden":
        chosen = _default_type(settings, place)
        return suggest(place.path, place.section, siblings=place.siblings, chosen=chosen)
    if place.field is None:
        return f"is wrong: {detail['msg']}"
    if kind == "missing":
        return _describe_missing(place.field)
    if kind == PATH_ERROR:
        return detail["msg"]
    advice = hint(place.field, value) or _near_choice(place.field, value)
    if section_classes(place.field.annotation):
        advice = _section_advice(place, value)
    return f"must be {type_in_words(place.field)}, got {value_in_words(value)}{advice}"


def _default_type(settings: Mapping[str, Any], place: _Place) -> str:
    """Returns the type of the section that holds an unknown key; the user's, or the default."""
    value: Any = settings
    for key in place.path[:-1]:
        value = value.get(key) if isinstance(value, Mapping) else None
    default = next(iter(place.siblings), "")
    return str(value.get("type", default)) if isinstance(value, Mapping) else default


def _describe_unknown_type(field: FieldInfo, value: Any) -> str:
    kinds = list(kinds_of(field))
    got = value.get("type") if isinstance(value, Mapping) else value
    near = nearest(got, kinds) if isinstance(got, str) else None
    return f"must be {either(kinds)}, got {value_in_words(got)}" + (f": did you mean {near}?" if near else "")


def _near_choice(field: FieldInfo, value: Any) -> str:
    choices = [choice for choice in getattr(field.annotation, "__args__", ()) if isinstance(choice, str)]
    word = "none" if value is None else value
    near = nearest(word, choices) if isinstance(word, str) else None
    return f": did you mean {near}?" if near else ""


def _section_advice(place: _Place, value: Any) -> str:
    name = place.path[-1]
    if place.field is not None and isinstance(value, str) and value in kinds_of(place.field):
        return f": write {name}: {{type: {value}}}"
    return f": write the settings of {name} below it, indented, as 'key: value'"


def _misfit_line(place: _Place, misfit: Misfit, origins: Mapping[KeyPath, str]) -> str:
    path = (*place.path, *misfit.key.split("."))
    return _with_origin(path, misfit.message, origins)


def _variable_line(message: str, paths: Sequence[KeyPath], origins: Mapping[KeyPath, str]) -> str:
    """One line for all paths that need the same variable: they have one remedy."""
    names = [".".join(path) for path in paths]
    variable = message.removeprefix("the environment variable ").split(" ")[0]
    rest = f"set it with export {variable}=/path/to/folder, or give the path itself with --set {names[0]}=PATH"
    uses = "uses" if len(names) == 1 else "use"
    return _with_origin(paths[0], f"{uses} ${{{variable}}}, but {message}: {rest}", origins, name=", ".join(names))


def _describe_missing(field: FieldInfo) -> str:
    words, meaning = type_in_words(field), (field.description or "").rstrip(".")
    for section in section_classes(field.annotation):
        words += f" with {', '.join(name for name, inner in section.model_fields.items() if inner.is_required())}"
    return f"is missing: {words} ({meaning[:1].lower()}{meaning[1:]})"


def _origin_of(path: KeyPath, origins: Mapping[KeyPath, str]) -> str | None:
    """Returns where a setting was written; else where something below it was, or the section above it."""
    if path in origins:
        return origins[path]
    below = [origin for other, origin in origins.items() if other[: len(path)] == path]
    return below[-1] if below else origins.get(path[:-1])


def _with_origin(path: KeyPath, message: str, origins: Mapping[KeyPath, str], name: str | None = None) -> str:
    origin = _origin_of(path, origins)
    return f"{name or '.'.join(path)} {message}" + (f" ({origin})" if origin else "")
