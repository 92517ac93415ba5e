"""The reference page and the JSON Schema, generated from the settings.

    python -m nmt.config.reference [DIRECTORY]

writes `configuration.md` and `config.schema.json` into DIRECTORY (`docs` if none is given).
"""

import itertools
import json
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from nmt.config.problems import type_in_words, yaml_in_words
from nmt.settings.config import FORMAT_VERSION, VERSION_KEY, Config
from nmt.settings.section import OneOrMany, kinds_of, section_classes, settings_of

_HELP_WIDTH = 100


class Row(NamedTuple):
    """One setting, explained.

    Attributes:
        path: as a user writes it ("model.num_heads").
        kind: the `type` of the section it belongs to, if that has several kinds, else None.
        type: what it takes, in words.
        default: as YAML writes it, or "required".
        help: what it does.
        may_change: whether it may differ when an unfinished run is continued.
        title: the path and the kind of the section it belongs to: "model (type: rnn)".
        purpose: what that section is for; empty for the top level.
    """

    path: str
    kind: str | None
    type: str
    default: str
    help: str
    may_change: bool
    title: str
    purpose: str


def explain() -> list[Row]:
    """Returns a row for every setting of every kind, the plain settings of a section before its inner sections."""
    rows: list[Row] = []
    for path, kind, section, holder, field, may_change in settings_of(Config):
        if section_classes(field):
            continue
        above, _, name = path.rpartition(".")
        words = type_in_words(section, name)
        default = "required" if field.is_required() else yaml_in_words(field.default)
        purpose = (holder and holder.description) or ""
        if holder and holder.default is None:
            purpose += " Optional: null if it is not given."
        if holder and name == "type":
            words, default = f"the word {kind}", default if kind == next(iter(kinds_of(holder))) else "required"
        title = (above or "top level") + (f" (type: {kind})" if kind else "")
        rows.append(Row(path, kind, words, default, field.description or "", may_change, title, purpose))
    return rows


def _sections() -> Iterable[tuple[tuple[str, str], Iterable[Row]]]:
    """Returns the title and the purpose of each section, or of each kind of it, with its settings."""
    return itertools.groupby(explain(), key=lambda row: (row.title, row.purpose))


def explain_text() -> str:
    """Returns all settings as text for a terminal, under a headline for each section and kind."""
    lines = [
        "Every setting: its path (what it takes; its default), and what it does.",
        "Settings with a * may change when an unfinished run is continued.",
    ]
    for (title, purpose), rows in _sections():
        lines += ["", f"{title}: {purpose}" if purpose else title]
        for row in rows:
            default = row.default if row.default == "required" else f"default {row.default}"
            lines.append(f"  {row.path}{'*' if row.may_change else ''} ({row.type}; {default})")
            lines += textwrap.wrap(row.help, _HELP_WIDTH, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines) + "\n"


PAGE_NAME = "configuration.md"
SCHEMA_NAME = "config.schema.json"

_HEAD = """\
# Configuration

<!-- Generated from nmt/config by `python -m nmt.config.reference`; do not edit. -->

One YAML file describes a run; `configs/` holds examples, and `nmt check-config FILE --explain` shows this list.

- **Several files** are merged from left to right: `nmt train base.yaml large.yaml`. Sections are merged key by key,
  lists and single values are replaced. A file that changes the `type` of a section replaces the whole section.
- **A list of corpora** is replaced by a list, as by a single corpus. A section whose keys are names of the list changes
  these alone: `--set data.train.clean.weight=2`, or `train: {clean: {weight: 2}}` in a later file.
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
    for (title, purpose), rows in _sections():
        lines += ["", f"## {title}", ""]
        lines += [purpose, ""] if purpose else []
        lines += ["| setting | takes | default | on resume | what it does |", "|---|---|---|---|---|"]
        for row in rows:
            default = row.default if row.default == "required" else f"`{row.default}`"
            cells = [f"`{row.path}`", row.type, default, "yes" if row.may_change else "no", row.help]
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


class _FileSchema(GenerateJsonSchema):
    """A file need not hold everything, since several are merged and --set adds to them."""

    def field_is_required(self, field: Any, total: bool) -> bool:
        return False

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> dict[str, Any]:
        """Leaves out the defaults of whole sections, which those of their settings say."""
        result = super().default_schema(schema)
        return {key: value for key, value in result.items() if key != "default" or not isinstance(value, dict)}

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> dict[str, Any]:
        """Picks the kind by `type`, so that an editor's messages speak of that kind alone."""
        kinds = {kind: self.generate_inner(inner) for kind, inner in schema["choices"].items()}
        if OneOrMany.many_key in kinds:
            return {"anyOf": list(kinds.values())}
        (default, chosen), *others = kinds.items()
        for kind, inner in reversed(others):
            condition = {"required": ["type"], "properties": {"type": {"const": kind}}}
            chosen = {"if": condition, "then": inner, "else": chosen}
        return {"type": "object", "properties": {"type": {"enum": list(kinds), "default": default}}, **chosen}


def schema_text() -> str:
    """Returns the JSON Schema of a config file (draft 7) as text."""
    schema = Config.model_json_schema(schema_generator=_FileSchema)
    schema["properties"][VERSION_KEY] = {
        "type": "integer",
        "minimum": 1,
        "maximum": FORMAT_VERSION,
        "description": "The version of the file's format; written into the model directory.",
    }
    head = {"$schema": "http://json-schema.org/draft-07/schema#"}
    return json.dumps(head | schema | {"title": "Settings of an nmt run"}, indent=2, ensure_ascii=False) + "\n"


def write_reference(directory: Path) -> None:
    """Writes the page and the schema into a directory that exists."""
    (directory / PAGE_NAME).write_text(reference_page(), encoding="utf-8")
    (directory / SCHEMA_NAME).write_text(schema_text(), encoding="utf-8")


if __name__ == "__main__":
    write_reference(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
