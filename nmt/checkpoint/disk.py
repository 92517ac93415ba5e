"""Files that are hashed before they are written, and read only if their hash fits."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeGuard

import numpy as np
from pydantic import Field
from safetensors import SafetensorError
from safetensors.numpy import load, save

from nmt.atomic_files import write_chunks
from nmt.errors import CheckpointError

_DAMAGE = {
    errno.ENOENT: "is missing",
    errno.ENOTDIR: "is missing",
    errno.EISDIR: "is no file",
    errno.ELOOP: "is a symbolic link, and could lead outside the checkpoint: put the file itself in its place",
    errno.EIO: "cannot be read: the disk fails",
}
"""Errors that are the checkpoint's fault. Others, such as too many open files, say nothing about it."""

_FLOATS = ("float32", "float16", "bfloat16")
_INTEGERS = ("int64", "int32", "uint32", "int16", "uint16", "int8", "uint8", "bool")


Count = Annotated[int, Field(strict=True, ge=0)]
"""A whole number of 0 or more in a JSON file."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint is not what was written: a file is missing, cut short or changed."""


class FileRecord(NamedTuple):
    """What a file must be: the SHA-256 of its bytes, in hexadecimal, and their number."""

    sha256: str
    size: Count


def write_file(path: Path, content: bytes) -> FileRecord:
    """Write a new file through to the disk.

    Returns:
        The record of the bytes given. It is never made from what is read back: that would bless a bad write.

    Raises:
        OSError: the disk refuses.
    """
    write_chunks(path, [content])
    return _record(content)


def read_file(path: Path, record: FileRecord | None = None) -> bytes:
    """Read a whole file; with a record, only if its size and hash fit.

    Raises:
        DamagedCheckpointError: the file is missing, a link, or is not the one that was recorded.
        CheckpointError: it may not be read.
    """
    try:
        with open(path, "rb", buffering=0, opener=_open) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(errno.EISDIR, "is no file")
            content = file.readall()
    except OSError as error:
        if error.errno in _DAMAGE:
            raise DamagedCheckpointError(f"{path}: {_DAMAGE[error.errno]}") from error
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    if record is not None and len(content) != record.size:
        raise DamagedCheckpointError(f"{path}: must have {record.size:,} bytes, but has {len(content):,}")
    if record is not None and _record(content) != record:
        raise DamagedCheckpointError(f"{path}: its content does not fit the hash in the manifest")
    return content


def _open(path: str, flags: int) -> int:
    """Open a file, but follow no link, and wait for nothing, such as a pipe."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _record(content: bytes) -> FileRecord:
    return FileRecord(hashlib.sha256(content).hexdigest(), len(content))


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> FileRecord:
    """Write a new safetensors file.

    The bytes that are hashed are those that are written. They exist twice in memory while the library makes them, and
    once until they are on the disk, besides the arrays themselves and those that had to be widened or made contiguous.

    Args:
        path: a file that does not exist.
        arrays: of any layout and any type that fits float32 or int64.

    Raises:
        CheckpointError: an array is of another type; the message names it.
        OSError: the disk refuses.
    """
    return write_file(path, save({name: _disk_array(f"{path.name}: {name}", a) for name, a in arrays.items()}))


def read_arrays(path: Path, record: FileRecord) -> dict[str, np.ndarray]:
    """Read a safetensors file whose hash fits; while it is read, its content is in memory twice.

    Raises:
        DamagedCheckpointError: the file is not the one that was recorded, or no safetensors file of ours at all.
    """
    content = read_file(path, record)
    try:
        arrays = dict(sorted(load(content).items()))
    except (SafetensorError, KeyError) as error:
        raise DamagedCheckpointError(f"{path}: is no safetensors file that could be read: {error}") from error
    for name, array in arrays.items():
        if array.dtype.name not in ("float32", "int64"):
            raise DamagedCheckpointError(f"{path}: {name} must be float32 or int64, but is {array.dtype}")
    return arrays


def _disk_array(name: str, array: np.ndarray) -> np.ndarray:
    """Return an array as it is stored: float32 or int64 of the same shape, contiguous, as the library does not ask."""
    if array.dtype.name not in _FLOATS + _INTEGERS:
        raise CheckpointError(
            f"{name}: arrays of type {array.dtype.name} cannot be stored: they must fit float32 or int64"
        )
    stored = np.ascontiguousarray(array, dtype="<f4" if array.dtype.name in _FLOATS else "<i8")
    return stored.reshape(array.shape)  # which was () where it is (1,) now


def read_object(path: Path, record: FileRecord | None = None) -> dict[str, Any]:
    """Read the JSON object in a file.

    Raises:
        DamagedCheckpointError, CheckpointError: as `read_file`, or the file holds something else.
    """
    try:
        values = strict_json(read_file(path, record))
    except ValueError as error:
        raise DamagedCheckpointError(f"{path}: is no JSON file: {error}") from error
    if not isinstance(values, dict):
        raise DamagedCheckpointError(f"{path}: must hold a JSON object")
    return values


def strict_json(content: bytes) -> Any:
    """Return the value in a JSON text.

    Raises:
        ValueError: it is no JSON, has a number that is not finite, or a name twice in one object: Python's reader would
            let the last one win, and another reader the first.
    """
    try:
        return json.loads(content, parse_constant=_finite, parse_float=_finite, object_pairs_hook=_without_duplicates)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits} is no finite number")
    return number


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it has {next(name for name in names if names.count(name) > 1)} twice")
    return values


def json_bytes(values: Mapping[str, Any]) -> bytes:
    """Return a mapping as an indented JSON file.

    Raises:
        CheckpointError: a value is no JSON value, as a number that is not finite, or a name is no text.
    """
    try:
        _refuse_stray_keys(values)
        return json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"a checkpoint can only keep finite numbers, texts, lists and mappings: {error}"
        ) from error


def _refuse_stray_keys(value: object) -> None:
    """Look for keys that are no text, however deep: JSON would make texts of them that may be there already."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"a name must be a text, got {key!r}")
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            _refuse_stray_keys(part)


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
