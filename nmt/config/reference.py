"""The reference page and the JSON Schema, generated from the settings.

    python -m nmt.config.reference [DIRECTORY]

writes `configuration.md` and `config.schema.json` into DIRECTORY (`docs` where none is given).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from nmt.config.explain import Row, explained_sections
from nmt.config.schema import json_schema
from nmt.errors import ConfigError

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
