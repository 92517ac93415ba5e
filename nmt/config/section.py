"""What a section of the settings is, and how one setting is declared.

A setting is a typed field of a frozen class. Its default, its help text, its bounds and the mark that says whether it
may change when an unfinished run is continued stand together in that one place; the loader, the errors, `--explain`,
the reference page and the JSON Schema all read them from there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

REQUIRED: Any = ...
"""The default of a setting that the user has to give."""

MAY_CHANGE = "x-may-change-on-resume"
"""Where a field carries the mark that `setting(may_change=...)` gives it."""

AUTO: Final = "auto"
"""The word that leaves a number to what is found when a run begins."""

BEFORE = "x-absent-means"
"""Where a field carries what `setting(before=...)` gives it."""

_UNSAID: Any = object()

MISFITS = "misfits"
"""The type of the pydantic error that carries the misfits of a section."""


class Misfit(NamedTuple):
    """Settings that are valid alone but do not fit each other.

    Attributes:
        key: the setting to name first, relative to the section that reports it ("num_heads", "model.num_heads").
        message: what must hold, what came and what to try; it reads on from the key ("must be ...").
    """

    key: str
    message: str


@dataclass(frozen=True)
class Words:
    """Metadata of a field: its type in words, where the annotation alone would not say enough."""

    text: str


def number_or_auto(kinds: tuple[type, ...], least: float) -> BeforeValidator:
    """Returns what checks a number of at least `least` or `auto`, before the union does: that would name its parts."""

    def check(value: Any) -> Any:
        is_number = isinstance(value, kinds) and not isinstance(value, bool)
        if value == AUTO or (is_number and least <= value < math.inf):
            return value
        raise PydanticCustomError("number_or_auto", "must be a number or auto")

    return BeforeValidator(check)


class Section(BaseModel):
    """A group of settings: frozen, strictly typed (`true` is no number), an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, protected_namespaces=(), validate_default=False
    )

    def misfits(self) -> Iterator[Misfit]:
        """Yields what does not fit together among settings of this section that are each valid."""
        yield from ()

    @model_validator(mode="after")
    def _refuse_misfits(self) -> Self:
        misfits = list(self.misfits())
        if misfits:
            text = "; ".join(f"{misfit.key} {misfit.message}" for misfit in misfits)
            raise PydanticCustomError(MISFITS, "{text}", {"text": text, "misfits": misfits})
        return self


def setting(
    default: Any,
    help_text: str,
    *,
    may_change: bool = False,
    before: Any = _UNSAID,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    min_length: int | None = None,
) -> Any:
    """Declares one setting of a section.

    Args:
        default: the value where the user gives none, or `REQUIRED`.
        help_text: what the setting does, with its unit; shown by `--explain`, in the docs and in editors.
        may_change: whether it may differ when an unfinished run is continued.
        before: what a `config.yaml` in a model directory means that lacks the setting: what was done before there was
            one. Its runs go on with that; to be given wherever the default of a new setting does something else.
        at_least: inclusive lower bound.
        above: exclusive lower bound.
        at_most: inclusive upper bound.
        below: exclusive upper bound.
        min_length: the least number of characters of a text.

    Returns:
        The field, for the right side of an annotated class attribute.
    """
    bounds = {"ge": at_least, "gt": above, "le": at_most, "lt": below, "min_length": min_length}
    given: dict[str, Any] = {name: bound for name, bound in bounds.items() if bound is not None}
    extra: dict[str, Any] = {MAY_CHANGE: may_change} | ({} if before is _UNSAID else {BEFORE: before})
    return Field(default, description=help_text, json_schema_extra=extra, **given)


def kind_or(default: str) -> Callable[[Any], str | None]:
    """Returns a function that reads the `type` of a section, given as a mapping or as an object.

    Args:
        default: the type of a mapping that names none.
    """

    def kind_of(value: Any) -> str | None:
        """Returns the `type` of a section; None for what is no section."""
        if isinstance(value, dict):
            return value.get("type", default)
        return getattr(value, "type", None)

    return kind_of
