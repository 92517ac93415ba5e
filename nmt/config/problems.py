"""Turns what pydantic found into lines that tell a user where the problem is and what to write instead."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

import nmt.settings.section as sections
from nmt.kinds import either, nearest
from nmt.settings.config import Config
from nmt.settings.section import Section
from nmt.yaml_files import KeyPath

_TYPES = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "string": "a text"}
_BOUNDS = {
    "minimum": "of at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "minLength": "that is not empty",
}
_BOOLEANS = {"yes": "true", "on": "true", "y": "true", "true": "true"}
_BOOLEANS |= {"no": "false", "off": "false", "n": "false", "false": "false"}
_NUMBER = r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?"
_LONGEST = 60
_MOST_PLACES = 3


def type_in_words(section: type[Section], name: str) -> str:
    """Returns what a setting takes: "a whole number of at least 1, or null"."""
    field = section.model_fields[name]
    if sections.element_class(field) and not sections.section_classes(field):
        return "a list of sections of settings" + (", or null" if sections.is_nullable(field) else "")
    if sections.section_classes(field):
        kinds = list(sections.kinds_of(field))
        words = "a section of settings" + (f" of type {either(kinds)}" if kinds else "")
        return words + (", or null" if sections.is_nullable(field) else "")
    return _schema_in_words(sections.schemas_of(section)[name])


def _schema_in_words(schema: Mapping[str, Any]) -> str:
    if sections.WORDS in schema:
        return schema[sections.WORDS]
    if "anyOf" in schema:
        return ", or ".join(_schema_in_words(choice) for choice in schema["anyOf"])
    if choices := _choices_of(schema):
        return either(choices)
    words = _TYPES.get(schema["type"], schema["type"])
    if "minimum" in schema and "maximum" in schema:
        return f"{words} from {schema['minimum']} to {schema['maximum']}"
    bounds = [text.format(schema[key]) for key, text in _BOUNDS.items() if key in schema]
    return f"{words} {' and '.join(bounds)}" if bounds else words


def _choices_of(schema: Mapping[str, Any]) -> list[str]:
    """Returns the words that a setting takes, none if it takes other values."""
    return [schema["const"]] if "const" in schema else schema.get("enum", [])


def yaml_in_words(value: Any) -> str:
    """Returns a scalar, a list or a section as YAML writes it; of a section what is set."""
    if isinstance(value, Section):
        value = {name: inner for name, inner in value if inner is not None}
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {yaml_in_words(inner)}" for key, inner in value.items()) + "}"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(yaml_in_words(element) for element in value) + "]"
    return str(value)


def _value_in_words(value: Any) -> str:
    """Returns what a user gave, on one line and not too long."""
    if value is None:
        return "null (no value)"
    if isinstance(value, dict):
        return "a section of settings"
    text = yaml_in_words(value) if isinstance(value, bool) else repr(value)
    short = text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
    kind = "the text " if isinstance(value, str) else "the list " if isinstance(value, list) else ""
    return kind + short


class _Place(NamedTuple):
    """Where an error stands.

    Attributes:
        path: as the user wrote it: without the kinds that pydantic puts between its keys.
        section: the section that holds the last key; if a section itself is named, that section.
        field: the declaration of the last key, None if there is none (an unknown key).
        kinds: the kinds that could have stood there instead of the section, by type.
        chosen: the type of the section, if it has several kinds.
    """

    path: KeyPath
    section: type[Section]
    field: FieldInfo | None
    kinds: dict[str, type[Section]]
    chosen: str


def problems_of(error: ValidationError, origins: Mapping[KeyPath, str], settings: Any = None) -> list[str]:
    """Describes every problem on one line: path, what must hold, what came, what to do, where it stands.

    Args:
        error: from the validation of a `Config`.
        origins: where each setting was written, by its path.
        settings: what was validated, in which elements of lists may have names.
    """
    lines: list[str] = []
    unset: dict[tuple[str, str], list[KeyPath]] = {}
    for detail in error.errors(include_url=False):
        place, context = _locate(detail["loc"]), detail.get("ctx", {})
        if detail["type"] == sections.UNDEFINED_VARIABLE:
            unset.setdefault((context["variable"], context["state"]), []).append(place.path)
        elif detail["type"] == sections.MISFITS:
            for misfit in context["misfits"]:
                path = (*place.path, *misfit.key.split("."))
                lines.append(f"{_named(path, settings)} {misfit.message}{_origin(path, origins)}")
        else:
            path = (*place.path, "type") if detail["type"] == "union_tag_invalid" else place.path
            lines.append(f"{_named(path, settings)} {_describe(detail, place)}{_origin(path, origins)}")
    for (variable, state), paths in unset.items():  # one line for all paths that need a variable: they have one remedy
        names = [".".join(path) for path in paths]
        lines.append(
            f"{', '.join(names)} {'uses' if len(names) == 1 else 'use'} ${{{variable}}}, but the environment variable "
            f"{variable} is {state}: set it with export {variable}=/path/to/folder, or give the path itself with "
            f"--set {names[0]}=PATH{_origin(paths[0], origins)}"
        )
    return list(dict.fromkeys(lines))  # pydantic reports a union once for each type that it could have been


def _named(path: KeyPath, settings: Any) -> str:
    """Returns a path in words: the number of an element of a list comes with the name that the element has."""
    words = list[str]()
    for key in path:
        is_element = isinstance(settings, list | tuple) and key.isdigit() and int(key) < len(settings)
        settings = settings[int(key)] if is_element else settings.get(key) if isinstance(settings, Mapping) else None
        name = settings.get("name") if is_element and isinstance(settings, Mapping) else None
        words.append(f"{key} ({name})" if isinstance(name, str) else key)
    return ".".join(words)


def _locate(location: Sequence[str | int]) -> _Place:
    """Walks from the root to an error, and leaves out the kinds that pydantic puts between the keys."""
    place = _Place((), Config, None, {}, "")
    for step in map(str, location):
        path, section, field, kinds, chosen = place
        if field is not None and (element := sections.element_class(field)) and step != sections.OneOrMany.one_key:
            if step == sections.OneOrMany.many_key or not sections.section_classes(field):  # within a list
                at = () if step == sections.OneOrMany.many_key else (step,)
                place = _Place((*path, *at), element, None, {}, "")
                continue
        elif field is not None and sections.element_class(field):
            continue
        if field is not None:
            if not (classes := sections.section_classes(field)):
                break  # inside a setting that takes one of several types
            kinds, section = sections.kinds_of(field), classes[0]
            if kinds:
                place = _Place(path, kinds[step], None, kinds, step)
                continue
        place = _Place((*path, step), section, section.model_fields.get(step), kinds, chosen)
    return place


def _describe(detail: ErrorDetails, place: _Place) -> str:
    """Says what is wrong; reads on from the path."""
    kind, value, (path, section, field, *_) = detail["type"], detail["input"], place
    if kind == "extra_forbidden":
        return _describe_unknown_key(place)
    if field is None and kind == "model_type":
        return f"must be settings, as '- name: one' and others below it, got {_value_in_words(value)}"
    if kind == sections.PATH_ERROR or field is None:
        return detail["msg"]
    if kind == "union_tag_invalid":
        word, choice = value["type"], sections.choice_of(field)
        remedy = choice.registry.remedy(str(word)) if choice else ""
        return f"must be {either(list(sections.kinds_of(field)))}, got {_value_in_words(word)}: {remedy}"
    words = type_in_words(section, path[-1])
    if kind == "missing":
        for inner in sections.section_classes(field):
            required = [name for name, field in inner.model_fields.items() if field.is_required()]
            words += f" with {', '.join(required)}" if required else ""
        meaning = (field.description or "").rstrip(".")
        return f"is missing: {words} ({meaning[:1].lower()}{meaning[1:]})"
    return f"must be {words}, got {_value_in_words(value)}{_remedy(section, path[-1], value)}"


def _remedy(section: type[Section], name: str, value: Any) -> str:
    """Returns what to write instead of a value of the wrong type, or an empty text if nothing is likely."""
    field, schema = section.model_fields[name], sections.schemas_of(section)[name]
    if sections.section_classes(field):
        if isinstance(value, str) and value in sections.kinds_of(field):
            return f": write {name}: {{type: {value}}}"
        return f": write the settings of {name} below it, indented, as 'key: value'"
    parts = [inner for part in schema.get("anyOf", [schema]) for inner in part.get("anyOf", [part])]
    choices = [word for part in parts for word in _choices_of(part)]
    types = [part["type"] for part in parts if not _choices_of(part)]
    word = "none" if value is None else str(value).strip().lower()
    digits = word.replace("_", "")
    if "boolean" in types and isinstance(value, str) and word in _BOOLEANS:
        return f": write {_BOOLEANS[word]}"
    if "null" in types and isinstance(value, str) and word in ("none", "off", "nil"):
        return ": write null"
    if "integer" in types and isinstance(value, float) and value.is_integer():
        return f": write {int(value)}"
    if {"integer", "number"} & set(types) and isinstance(value, str) and re.fullmatch(_NUMBER, digits):
        return f": write {digits} without {'quotes' if digits == word else 'underscores'}"
    if "string" in types and isinstance(value, int | float):
        return f': put it in quotes, "{yaml_in_words(value)}"'
    if choice := sections.choice_of(field):
        return f": {choice.registry.remedy(word)}"
    near = nearest(word, choices) if value is None or isinstance(value, str) else None
    return f": did you mean {near}?" if near else ""


def _describe_unknown_key(place: _Place) -> str:
    """Says that a key is unknown, and what was probably meant; reads on from the path."""
    *above, key = place.path
    prefix = "".join(f"{name}." for name in above)
    if key == "<<":
        return "is no key: YAML 1.2 has no merge keys, give several files instead (later ones win)"
    if "." in key:
        return "is unknown: dots are for --set; in a file, write each section on a line of its own and indent"
    owners = [f"{prefix}type {kind}" for kind, section in place.kinds.items() if key in section.model_fields]
    if owners:
        change = "remove it, or change the type"
        return f"is a setting of {' or '.join(owners)}, but {prefix}type is {place.chosen}: {change}"
    paths = dict.fromkeys(setting.path for setting in sections.settings_of(Config))
    if f"{prefix[:-1]}[].{key}" in paths:
        return f"is for a corpus in a list: write {prefix[:-1]} as a list of corpora, each with a name"
    if near := nearest(key, place.section.model_fields):
        return f"is unknown: did you mean {prefix}{near}?"
    if near := nearest(key, [path.rpartition(".")[2] for path in paths]):
        places = [path for path in paths if path.rpartition(".")[2] == near]
        return f"is unknown: did you mean {' or '.join(places[:_MOST_PLACES])}?"
    return f"is unknown: {prefix.rstrip('.') or 'a config'} has the settings {', '.join(place.section.model_fields)}"


def _origin(path: KeyPath, origins: Mapping[KeyPath, str]) -> str:
    """Returns where a setting was written, in brackets; else where something below it was, or the section above it."""
    below = [origin for other, origin in origins.items() if other[: len(path)] == path]
    found = origins.get(path) or (below[-1] if below else origins.get(path[:-1]))
    return f" ({found})" if found else ""
