"""Python files of a user's own that register kinds of theirs: loaded where the user names them, and nowhere else."""

import hashlib
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from nmt.errors import ConfigError
from nmt.types import PathLike


class Imported(NamedTuple):
    """A file that was loaded.

    path: where it lies, absolute.
    module: the name under which it is a module here.
    sha256: of its content.
    """

    path: Path
    module: str
    sha256: str


_imported: dict[str, Imported] = {}


def import_file(path: PathLike) -> None:
    """Load a Python file; once, unless its content has changed. Its folder is not searched for other modules.

    Raises:
        ConfigError: the file cannot be read or fails, or another file of the same name was loaded.
    """
    path = Path(path).resolve()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"--import {path}: cannot be read: {error.strerror}") from error
    found = Imported(path, f"nmt_imports_{path.stem}", hashlib.sha256(content).hexdigest())
    before = _imported.get(path.name)
    if before == found:
        return
    if before is not None and before.path != path:
        raise ConfigError(f"--import {path}: {before.path} has the same name: rename one of the two")
    module = sys.modules[found.module] = ModuleType(found.module)  # where classes look for the module they belong to
    module.__file__ = str(path)
    try:
        exec(compile(content, path, "exec"), vars(module))  # what was hashed is what runs: no cache of an older file
    except ConfigError as error:
        raise ConfigError(f"--import {path}: {error}") from error
    except Exception as error:
        raise ConfigError(f"--import {path} fails: {type(error).__name__}: {error} (--debug shows where)") from error
    _imported[path.name] = found


def imported_files() -> list[Imported]:
    """Return the files that were loaded, in their order."""
    return list(_imported.values())


def imported_hashes() -> dict[str, str]:
    """Return the SHA-256 of each file that was loaded, by its name; model directories record it."""
    return {name: found.sha256 for name, found in _imported.items()}
