"""Turns what pydantic found into lines that tell a user where the problem is and what to write instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from types import NoneType
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

import annotated_types
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined

from nmt.config.section import MISFITS, PATH_ERROR, UNDEFINED_VARIABLE, Misfit, Section, Words
from nmt.config.settings import Config
from nmt.config.structure import all_settings, is_nullable, kinds_of, section_classes
from nmt.config.yaml_reader import KeyPath

_PLAIN = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
_LONGEST = 60


def type_in_words(field: FieldInfo) -> str:
    """Returns what a setting takes: "a whole number of at least 1, or null"."""
    words = _section_in_words(field) or _stated_words(field) or _base_in_words(field.annotation)
    bounds = _bounds_in_words(field)
    null = ", or null" if is_nullable(field.annotation) else ""
    return words + (f" {bounds}" if bounds else "") + null


def default_in_words(field: FieldInfo) -> str:
    """Returns the default of a setting as YAML writes it, or "required"."""
    if field.default is PydanticUndefined:
        return "required"
    return yaml_in_words(field.default)


def yaml_in_words(value: Any) -> str:
    """Returns a scalar or a list of texts as YAML writes it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(yaml_in_words(element) for element in value) + "]"
    return str(value)


def value_in_words(value: Any) -> str:
    """Returns what a user gave, on one line and not too long."""
    if value is None:
        return "null (no value)"
    if isinstance(value, str):
        return "the text " + repr(_shortened(value))
    if isinstance(value, dict):
        return "a section of settings" if value else "an empty section"
    if isinstance(value, list | tuple):
        return "the list " + _shortened("[" + ", ".join(repr(element) for element in value) + "]")
    return _shortened(yaml_in_words(value) if isinstance(value, bool) else repr(value))


def hint(field: FieldInfo, value: Any) -> str:
    """Returns what to write instead of a value of the wrong type, or an empty text where nothing is likely."""
    wanted = [kind for kind in (bool, int, float) if kind in _alternatives(field.annotation)]
    if not wanted:
        texts = str in _alternatives(field.annotation) and isinstance(value, int | float)
        return f': put it in quotes, "{yaml_in_words(value)}"' if texts else ""
    if isinstance(value, float) and wanted == [int] and value.is_integer():
        return f": write {int(value)}"
    if isinstance(value, str):
        return _hint_for_text(wanted, value, nullable=is_nullable(field.annotation))
    return ""


def either(choices: Sequence[str]) -> str:
    """Returns "a, b or c"."""
    return choices[0] if len(choices) == 1 else ", ".join(choices[:-1]) + " or " + choices[-1]


def _hint_for_text(wanted: Sequence[type], value: str, *, nullable: bool) -> str:
    word = value.strip().lower()
    if bool in wanted and word in ("yes", "no", "on", "off", "y", "n", "true", "false"):
        return f": write {'true' if word in ('yes', 'on', 'y', 'true') else 'false'}"
    if nullable and word in ("none", "off", "nil"):
        return ": write null"
    digits = word.replace("_", "")
    try:
        float(digits)
    except ValueError:
        return ""
    return f": write {digits} without {'quotes' if digits == word else 'underscores'}" if bool not in wanted else ""


def _section_in_words(field: FieldInfo) -> str:
    if not section_classes(field.annotation):
        return ""
    kinds = list(kinds_of(field))
    return "a section of settings" + (f" of type {either(kinds)}" if kinds else "")


def _stated_words(field: FieldInfo) -> str:
    found = [item.text for item in field.metadata if isinstance(item, Words)]
    for argument in get_args(field.annotation):
        if get_origin(argument) is Annotated:
            found += [item.text for item in get_args(argument)[1:] if isinstance(item, Words)]
    return found[0] if found else ""


def _alternatives(annotation: Any) -> list[Any]:
    """Returns the plain types that an annotation admits."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    arguments = get_args(annotation)
    if get_origin(annotation) is Literal or not arguments:
        return [annotation]
    return [kind for argument in arguments for kind in _alternatives(argument) if kind is not NoneType]


def _base_in_words(annotation: Any) -> str:
    words = []
    for kind in _alternatives(annotation):
        choices = get_args(kind)
        words.append(either([str(choice) for choice in choices]) if choices else _PLAIN.get(kind, str(kind)))
    return " or ".join(words)


def _bounds_in_words(field: FieldInfo) -> str:
    limits = {type(item): item for item in field.metadata}
    lowest, highest = limits.get(annotated_types.Ge), limits.get(annotated_types.Le)
    if lowest is not None and highest is not None:
        return f"from {lowest.ge} to {highest.le}"
    bounds = []
    for item in field.metadata:
        if isinstance(item, annotated_types.Ge):
            bounds.append(f"of at least {item.ge}")
        elif isinstance(item, annotated_types.Gt):
            bounds.append(f"above {item.gt}")
        elif isinstance(item, annotated_types.Le):
            bounds.append(f"at most {item.le}")
        elif isinstance(item, annotated_types.Lt):
            bounds.append(f"below {item.lt}")
        elif isinstance(item, annotated_types.MinLen):
            bounds.append("that is not empty")
    return " and ".join(bounds)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


_MOST_PLACES = 3


def nearest(word: str, words: Iterable[str]) -> str | None:
    """Returns the word most like another one, None where none is."""
    known = {candidate.lower(): candidate for candidate in words}
    found = difflib.get_close_matches(word.lower().replace("-", "_"), list(known), n=1, cutoff=0.6)
    return known[found[0]] if found else None


def suggest(path: KeyPath, section: type[Section], *, siblings: Mapping[str, type[Section]], chosen: str) -> str:
    """Says that a key is unknown, and what was probably meant; reads on from the path.

    Args:
        path: the unknown key, with the sections above it.
        section: the section that it was given to.
        siblings: the kinds that this section could have been, by type; empty where there is one kind only.
        chosen: the type of the section, where it has several kinds.
    """
    *above, key = path
    prefix = "".join(f"{name}." for name in above)
    if key == "<<":
        return "is no key: YAML 1.2 has no merge keys, give several files instead (later ones win)"
    if "." in key:
        return "is unknown: dots are for --set; in a file, write each section on a line of its own and indent"
    owners = [kind for kind, cls in siblings.items() if key in cls.model_fields]
    if owners:
        owner = " or ".join(f"{prefix}type {kind}" for kind in owners)
        return f"is a setting of {owner}, but {prefix}type is {chosen}: remove it, or change the type"
    near = nearest(key, section.model_fields)
    if near:
        return f"is unknown: did you mean {prefix}{near}?"
    elsewhere = _elsewhere(key)
    if elsewhere:
        return f"is unknown: did you mean {' or '.join(elsewhere)}?"
    return f"is unknown: {prefix.rstrip('.') or 'a config'} has the settings {', '.join(section.model_fields)}"


def _elsewhere(key: str) -> list[str]:
    """Returns the settings of other sections that have this name, or else the nearest name."""
    names: dict[str, list[str]] = {}
    for setting in all_settings():
        places = names.setdefault(setting.path.rpartition(".")[2], [])
        if setting.path not in places:
            places.append(setting.path)
    near = nearest(key, names)
    return names[near][:_MOST_PLACES] if near else []


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
