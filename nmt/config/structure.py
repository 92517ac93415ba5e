"""The tree of settings as data: every setting of every section and kind, read from the annotated classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Any, NamedTuple, get_args

from pydantic.fields import FieldInfo

from nmt.config.section import BEFORE, MAY_CHANGE, Section
from nmt.config.settings import Config


class Setting(NamedTuple):
    """One setting, or one section, in its place.

    Attributes:
        path: as a user writes it ("model.num_heads").
        kind: the `type` of the section it belongs to, where that has several kinds, else None.
        field: its declaration.
        may_change: whether it may differ when an unfinished run is continued.
    """

    path: str
    kind: str | None
    field: FieldInfo
    may_change: bool

    @property
    def is_section(self) -> bool:
        """Whether the setting groups others."""
        return bool(section_classes(self.field.annotation))


def section_classes(annotation: Any) -> list[type[Section]]:
    """Returns the sections that an annotation admits: none for a plain setting, several where a `type` chooses."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [cls for argument in get_args(annotation) for cls in section_classes(argument)]


def kinds_of(field: FieldInfo) -> dict[str, type[Section]]:
    """Returns the kinds of a section by their `type`, the default first; empty where there is one kind only."""
    classes = section_classes(field.annotation)
    return {cls.model_fields["type"].default: cls for cls in classes} if len(classes) > 1 else {}


def is_nullable(annotation: Any) -> bool:
    """Returns whether a setting may be null."""
    return annotation is NoneType or any(is_nullable(argument) for argument in get_args(annotation))


def all_settings() -> list[Setting]:
    """Returns every setting of every kind, sections included, plain settings before the sections beside them."""
    return list(_walk(Config, "", None, False))


def plain_settings() -> list[Setting]:
    """Returns every setting that is no section."""
    return [setting for setting in all_settings() if not setting.is_section]


def fill_empty_sections(settings: Mapping[str, Any], section: type[Section] = Config) -> dict[str, Any]:
    """Returns settings in which a section without content (`training:` and nothing below) is an empty mapping."""
    filled = dict(settings)
    for name, field in section.model_fields.items():
        classes = section_classes(field.annotation)
        if not classes or name not in filled:
            continue
        if filled[name] is None and not is_nullable(field.annotation):
            filled[name] = {}
        elif isinstance(filled[name], Mapping) and len(classes) == 1:
            filled[name] = fill_empty_sections(filled[name], classes[0])
    return filled


def fill_absent_settings(settings: Mapping[str, Any], section: type[Section] = Config) -> dict[str, Any]:
    """Returns settings of a model directory with what those mean that were unknown when it was written."""
    filled = dict(settings)
    for name, field in section.model_fields.items():
        extra, classes = field.json_schema_extra, section_classes(field.annotation)
        if name not in filled and isinstance(extra, dict) and BEFORE in extra:
            filled[name] = extra[BEFORE]
            continue
        inner = filled.get(name, None if is_nullable(field.annotation) else {})
        if classes and isinstance(inner, Mapping):
            filled[name] = fill_absent_settings(inner, kinds_of(field).get(inner.get("type", ""), classes[0]))
    return {name: value for name, value in filled.items() if name in settings or value != {}}


def default_types() -> dict[tuple[str, ...], str]:
    """Returns the default `type` of each section that has several kinds, by its path."""
    found = {tuple(setting.path.split(".")): kinds_of(setting.field) for setting in all_settings()}
    return {path: next(iter(kinds)) for path, kinds in found.items() if kinds}


def _walk(section: type[Section], prefix: str, kind: str | None, may_change: bool) -> Iterator[Setting]:
    # Plain settings first, so that a section's settings stand together in lists and on the reference page.
    fields = sorted(section.model_fields.items(), key=lambda item: bool(section_classes(item[1].annotation)))
    for name, field in fields:
        extra = field.json_schema_extra
        marked = may_change or (isinstance(extra, dict) and bool(extra.get(MAY_CHANGE)))
        yield Setting(prefix + name, kind, field, marked)
        kinds = kinds_of(field)
        for child in section_classes(field.annotation):
            child_kind = child.model_fields["type"].default if kinds else None
            yield from _walk(child, f"{prefix}{name}.", child_kind, marked)
