"""Settings that hold paths: `~` and `${NAME}` are expanded when a config is read."""

from __future__ import annotations

import os
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator
from pydantic_core import PydanticCustomError

from nmt.config.section import Words

PATH_ERROR = "path"
"""The type of the pydantic error of a path that cannot be used; its message reads on from the setting's name."""

UNDEFINED_VARIABLE = "undefined_variable"
"""The type of the pydantic error of a path whose environment variable is not set."""

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def expand_path(path: str) -> str:
    """Returns a path with every `${NAME}` replaced from the environment, then a leading `~` by the home directory.

    Raises:
        PydanticCustomError: the path is empty, a variable is not set, or `~name` is nobody's home.
    """
    if not path.strip():
        raise PydanticCustomError(PATH_ERROR, "must be a path, got an empty text")
    expanded = _VARIABLE.sub(lambda match: _value_of(match.group(1)), path)
    if "\0" in expanded:
        raise PydanticCustomError(PATH_ERROR, "must be a path, got a text with a NUL character")
    if "${" in expanded:
        raise PydanticCustomError(
            PATH_ERROR,
            "contains '${' that begins no variable, got '{path}': write ${NAME}, of letters, digits and underscores",
            {"path": path},
        )
    home = os.path.expanduser(expanded)
    if home.startswith("~"):
        raise PydanticCustomError(
            PATH_ERROR, "begins with '~', but no such user has a home here, got '{path}': write ./~...", {"path": path}
        )
    return home


def _value_of(variable: str) -> str:
    value = os.environ.get(variable)
    if not value:
        raise PydanticCustomError(
            UNDEFINED_VARIABLE,
            "the environment variable {variable} is {state}",
            {"variable": variable, "state": "not set" if value is None else "empty"},
        )
    return value


def _expand_one_or_many(value: Any) -> Any:
    if isinstance(value, str):
        return expand_path(value)
    if isinstance(value, list | tuple) and value and all(isinstance(path, str) for path in value):
        return tuple(expand_path(path) for path in value)
    raise PydanticCustomError("path_type", "must be a path or a list of paths")


FilePath = Annotated[str, AfterValidator(expand_path), Words("a path")]
"""A path."""

FilePaths = Annotated[str | tuple[str, ...], BeforeValidator(_expand_one_or_many), Words("a path or a list of paths")]
"""A path or a list of paths; the files of a list are read one after the other."""
