"""A JSON Schema of the settings, for completion and checks in editors."""

from __future__ import annotations

from typing import Any

from nmt.config.loader import VERSION_KEY
from nmt.config.section import Section
from nmt.config.settings import FORMAT_VERSION, Config
from nmt.config.structure import is_nullable, kinds_of, section_classes


def json_schema() -> dict[str, Any]:
    """Returns the schema of a config file (JSON Schema, draft 7)."""
    root = _section_schema(Config)
    root["properties"][VERSION_KEY] = {
        "type": "integer",
        "minimum": 1,
        "maximum": FORMAT_VERSION,
        "description": "The version of the file's format; written into the model directory.",
    }
    # A file need not hold everything: several are merged, and --set adds to them.
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Settings of an nmt run", **root}


def _section_schema(section: type[Section]) -> dict[str, Any]:
    plain = section.model_json_schema()["properties"]
    properties = {}
    for name, field in section.model_fields.items():
        if section_classes(field.annotation):
            inner = _inner_schema(section, name)
            properties[name] = {"description": field.description, **inner}
        else:
            properties[name] = {key: value for key, value in plain[name].items() if key != "title"}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _inner_schema(section: type[Section], name: str) -> dict[str, Any]:
    field = section.model_fields[name]
    kinds = kinds_of(field)
    schema = _choice_schema(kinds) if kinds else _section_schema(section_classes(field.annotation)[0])
    if kinds or not is_nullable(field.annotation):
        return schema
    return {"anyOf": [schema, {"type": "null"}]}


def _choice_schema(kinds: dict[str, type[Section]]) -> dict[str, Any]:
    """Returns a schema that picks the kind by `type`, so that an editor's messages speak of that kind alone."""
    default, *others = kinds
    schema = _section_schema(kinds[default])
    for kind in reversed(others):
        condition = {"required": ["type"], "properties": {"type": {"const": kind}}}
        schema = {"if": condition, "then": _section_schema(kinds[kind]), "else": schema}
    type_schema = {"enum": list(kinds), "default": default}
    return {"type": "object", "properties": {"type": type_schema}, **schema}
