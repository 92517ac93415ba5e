"""Which settings differ between two starts of one run, although they may not."""

from __future__ import annotations

from typing import Any, TypeVar

from nmt.config.section import BEFORE, Section
from nmt.config.settings import Config
from nmt.config.structure import plain_settings
from nmt.config.wording import yaml_in_words

SETTLED_AT_START = (
    "training.batch_tokens",
    "training.precision",
    "training.validation_tokenization",
    "search.max_length_ratio",
    "search.max_length",
)
"""Settings that may be `auto`: a run chooses once and writes its choice into its config."""

AnySection = TypeVar("AnySection", bound=Section)


def with_kept_settings(now: AnySection, before: AnySection, prefix: str = "") -> AnySection:
    """Fills what is left open by the settings of a run that goes on.

    Open is what is `auto` until a run begins, and a setting that nobody wrote, whose default is younger than the run.

    Args:
        now: the settings, or a section of them.
        before: those of the run, as its directory holds them.
        prefix: the place of the section, "training." for example.
    """
    changes: dict[str, Any] = {}
    for name, field in type(now).model_fields.items():
        value, old, extra = getattr(now, name), getattr(before, name), field.json_schema_extra
        unwritten = isinstance(extra, dict) and BEFORE in extra and name not in now.model_fields_set
        if unwritten or (value == "auto" and prefix + name in SETTLED_AT_START):
            changes[name] = old
        elif isinstance(value, Section) and type(value) is type(old):
            changes[name] = with_kept_settings(value, old, f"{prefix}{name}.")
    return now.model_copy(update=changes)


def changed_settings(old: Config, new: Config) -> list[str]:
    """Lists the settings that differ and may not change when an unfinished run is continued.

    Limits, saving, logging and search settings may change, and the places of corpora, whose text is compared
    elsewhere; what the model, the tokens, the order of the data or the update depends on may not.

    Returns:
        One line a setting, such as "training.batch_tokens: 4096 before, 2048 now"; empty where the run can continue.
    """
    before, after = old.model_dump(), new.model_dump()
    lines: list[str] = []
    replaced: list[str] = []
    may_change = {setting.path: setting.may_change for setting in plain_settings()}
    # A changed type comes before the settings of its section, which then mean something else.
    for path in sorted(may_change, key=lambda path: not path.endswith(".type")):
        if may_change[path] or path.startswith(tuple(replaced)):
            continue
        was, now = _value_at(before, path), _value_at(after, path)
        if was == now:
            continue
        lines.append(f"{path}: {yaml_in_words(was)} before, {yaml_in_words(now)} now")
        if path.endswith(".type"):
            replaced.append(path.removesuffix("type"))
    return lines


def _value_at(settings: dict[str, Any], path: str) -> Any:
    """Returns the value at a path, None where its section is off; a list of one path is that path."""
    value: Any = settings
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value[0] if isinstance(value, tuple) and len(value) == 1 else value
