"""JSON as the files of a checkpoint have it: finite numbers, and no name twice."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from typing import Any, NoReturn, TypeGuard


def strict_json(content: bytes) -> Any:
    """Return the value in a JSON text.

    Raises:
        ValueError: it is no JSON, has a number that is not finite, or a name twice in one object: Python's reader would
            let the last one win, and another reader the first.
    """
    try:
        return json.loads(content, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_without_duplicates)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def is_count(value: object) -> bool:
    """Return whether a JSON value is a whole number of 0 or more."""
    return is_whole(value) and value >= 0


def is_whole(value: object) -> TypeGuard[int]:
    """Return whether a JSON value is a whole number; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Return whether a JSON value is a number that fits a finite float; 10**400 does not."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -sys.float_info.max <= value <= sys.float_info.max


def refuse_stray_keys(value: object) -> None:
    """Look for keys that are no text, however deep: JSON would make texts of them that may be there already.

    Raises:
        TypeError: there is one.
    """
    if isinstance(value, Mapping):
        stray = [key for key in value if not isinstance(key, str)]
        if stray:
            raise TypeError(f"a name must be a text, got {stray[0]!r}")
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    for part in parts:
        refuse_stray_keys(part)


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no finite number")


def _finite(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _refuse(digits)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it has {next(name for name in names if names.count(name) > 1)} twice")
    return values
