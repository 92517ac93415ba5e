"""Reading and writing the small files that describe text in a model directory."""

from __future__ import annotations

from pathlib import Path

from nmt.atomic_files import read_regular_file, replace_file
from nmt.errors import DataError, looked_for
from nmt.types import PathLike


def write_file(path: PathLike, content: bytes) -> None:
    """Write a file in one step: whoever reads it sees the old content or the new one, never half.

    Raises:
        DataError: the file cannot be written (no such directory, no permission, a full disk).
    """
    path = Path(path)
    try:
        replace_file(path, content)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from error


def read_file(path: PathLike) -> bytes:
    """Read a whole file.

    Raises:
        DataError: the file is missing, no regular file, or cannot be read; the message names it.
    """
    try:
        return read_regular_file(Path(path))
    except OSError as error:
        raise DataError(f"{Path(path)}: cannot be read: {error.strerror}{looked_for(path, error)}") from error


def read_text_file(path: PathLike) -> str:
    """Read a whole UTF-8 file without touching its line ends.

    Raises:
        DataError: the file is missing, cannot be read or is not UTF-8; the message names it.
    """
    try:
        return read_file(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{Path(path)}: not valid UTF-8 (byte {error.start})") from error
