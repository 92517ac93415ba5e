"""The reference page and the JSON Schema, generated from the settings.

    python -m nmt.config.reference [DIRECTORY]

writes `configuration.md` and `config.schema.json` into DIRECTORY (`docs` where none is given).
"""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

from nmt.config.loader import VERSION_KEY
from nmt.config.problems import default_in_words, type_in_words
from nmt.config.section import Section
from nmt.config.settings import FORMAT_VERSION, Config
from nmt.config.structure import Setting, all_settings, is_nullable, kinds_of, section_classes
from nmt.errors import ConfigError

_HELP_WIDTH = 100


class Row(NamedTuple):
    """One setting, explained.

    Attributes:
        path: as a user writes it ("model.num_heads").
        kind: the `type` of the section it belongs to, where that has several kinds, else None.
        type: what it takes, in words.
        default: as YAML writes it, or "required".
        help: what it does.
        may_change: whether it may differ when an unfinished run is continued.
    """

    path: str
    kind: str | None
    type: str
    default: str
    help: str
    may_change: bool


class ExplainedSection(NamedTuple):
    """A section, or one kind of it, with its plain settings.

    Attributes:
        title: the path and the kind: "model (type: rnn)".
        help: what the section is for; empty for the top level.
        rows: its settings.
    """

    title: str
    help: str
    rows: list[Row]


def explain() -> list[Row]:
    """Returns a row for every setting of every kind, the plain settings of a section before its inner sections."""
    return [row for section in explained_sections() for row in section.rows]


def explained_sections() -> list[ExplainedSection]:
    """Returns all settings by section and kind."""
    settings = all_settings()
    by_path = {setting.path: setting for setting in settings}
    sections: dict[tuple[str, str | None], ExplainedSection] = {}
    for setting in settings:
        if setting.is_section:
            continue
        parent = setting.path.rpartition(".")[0]
        holder = by_path.get(parent)
        place = (parent, setting.kind)
        if place not in sections:
            sections[place] = ExplainedSection(_title(parent, setting.kind), _section_help(holder), [])
        sections[place].rows.append(_row(setting, holder))
    return list(sections.values())


def explain_text() -> str:
    """Returns all settings as text for a terminal, under a headline for each section and kind."""
    lines = [
        "Every setting: its path (what it takes; its default), and what it does.",
        "Settings with a * may change when an unfinished run is continued.",
    ]
    for section in explained_sections():
        lines += ["", section.title + (f": {section.help}" if section.help else "")]
        for row in section.rows:
            mark = "*" if row.may_change else ""
            default = row.default if row.default == "required" else f"default {row.default}"
            lines.append(f"  {row.path}{mark} ({row.type}; {default})")
            lines += textwrap.wrap(row.help, _HELP_WIDTH, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines) + "\n"


def _title(path: str, kind: str | None) -> str:
    name = path or "top level"
    return f"{name} (type: {kind})" if kind else name


def _section_help(holder: Setting | None) -> str:
    if holder is None:
        return ""
    optional = " Optional: null where it is not given." if holder.field.default is None else ""
    return (holder.field.description or "") + optional


def _row(setting: Setting, holder: Setting | None) -> Row:
    field = setting.field
    words, default = type_in_words(field), default_in_words(field)
    if holder is not None and setting.kind is not None and setting.path == f"{holder.path}.type":
        words = f"the word {setting.kind}"
        default = setting.kind if next(iter(kinds_of(holder.field))) == setting.kind else "required"
    return Row(setting.path, setting.kind, words, default, field.description or "", setting.may_change)


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


PAGE_NAME = "configuration.md"
SCHEMA_NAME = "config.schema.json"

_HEAD = """\
# Configuration

<!-- Generated from nmt/config by `python -m nmt.config.reference`; do not edit. -->

One YAML file describes a run; `configs/` holds examples, and `nmt check-config FILE --explain` shows this list.

- **Several files** are merged from left to right: `nmt train base.yaml large.yaml`. Sections are merged key by key,
  lists and single values are replaced. A file that changes the `type` of a section replaces the whole section.
- **Overrides** win over files: `--set model.num_heads=8` or `--set training.early_stopping='{patience: 5}'`.
- **Scalars** are those of YAML 1.2: `no` is a text (Norwegian), `1e-3` a number, `12:30` a text; booleans are `true`
  and `false`. A key that is given twice is an error.
- **Paths** are relative to the working directory; `~` and `${NAME}` are expanded. A variable that is not set is an
  error.
- **Unknown keys are errors.** All problems of a config are reported together.
- **Continuing a run**: settings marked *yes* under "on resume" may differ from one start to the next; with another
  value of any other one, a run that has a checkpoint is refused.

Editors that speak JSON Schema complete and check a config whose first line is
`# yaml-language-server: $schema=../docs/config.schema.json` (the path is relative to the config).
"""


def reference_page() -> str:
    """Returns the reference of all settings as Markdown."""
    lines = [_HEAD.rstrip()]
    for section in explained_sections():
        lines += ["", f"## {section.title}", ""]
        lines += [section.help, ""] if section.help else []
        lines += ["| setting | takes | default | on resume | what it does |", "|---|---|---|---|---|"]
        lines += [_table_row(row) for row in section.rows]
    return "\n".join(lines) + "\n"


def schema_text() -> str:
    """Returns the JSON Schema as text."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def write_reference(directory: Path) -> None:
    """Writes the page and the schema into a directory.

    Raises:
        ConfigError: the directory does not exist.
    """
    if not directory.is_dir():
        raise ConfigError(f"{directory} is no directory: run this at the root of the checkout, or name one")
    (directory / PAGE_NAME).write_text(reference_page(), encoding="utf-8")
    (directory / SCHEMA_NAME).write_text(schema_text(), encoding="utf-8")


def _table_row(row: Row) -> str:
    default = row.default if row.default == "required" else f"`{row.default}`"
    may_change = "yes" if row.may_change else "no"
    cells = [f"`{row.path}`", row.type, default, may_change, row.help]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    write_reference(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
