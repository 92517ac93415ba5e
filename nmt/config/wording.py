"""Settings in words: their types, their defaults, and the values that came instead."""

from __future__ import annotations

from collections.abc import Sequence
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from nmt.config.section import Words
from nmt.config.structure import is_nullable, kinds_of, section_classes

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
