"""Every setting with its type, its default and its help, for `nmt check-config --explain` and for the docs."""

from __future__ import annotations

import textwrap
from typing import NamedTuple

from nmt.config.structure import Setting, all_settings, kinds_of
from nmt.config.wording import default_in_words, type_in_words

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
