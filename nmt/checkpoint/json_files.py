"""JSON as the files of a checkpoint have it: finite numbers, and no name twice."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn


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
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


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
