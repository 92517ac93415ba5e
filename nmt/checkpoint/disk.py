"""Files that are hashed before they are written, and read only if their hash fits."""

import errno
import hashlib
import json
import math
import os
import sys
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field, TypeAdapter

from nmt.atomic_files import read_regular_file, write_chunks
from nmt.errors import CheckpointError

_DAMAGE = {
    errno.ENOENT: "is missing",
    errno.ENOTDIR: "is missing",
    errno.EISDIR: "is no file",
    errno.EINVAL: "is no file",
    errno.ELOOP: "is a symbolic link, and could lead outside the checkpoint: put the file itself in its place",
    errno.EIO: "cannot be read: the disk fails",
}
"""Errors that are the checkpoint's fault. Others, such as too many open files, say nothing about it."""

_STORED: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "I64": np.dtype("<i8")}
"""Types of arrays in our files, by their names there."""

Count = Annotated[int, Field(strict=True, ge=0)]
"""A whole number of 0 or more in a JSON file."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint is not what was written: a file is missing, cut short or changed."""


class FileRecord(NamedTuple):
    """What a file must be: the SHA-256 of its bytes, in hexadecimal, and their number."""

    sha256: str
    size: Count


def write_file(path: Path, *chunks: bytes | memoryview) -> FileRecord:
    """Write a new file.

    Returns:
        The record of the bytes given. It is never made from what is read back: that would bless a bad write.

    Raises:
        OSError: the disk refuses.
    """
    write_chunks(path, chunks)
    return _record(*chunks)


def read_file(path: Path, record: FileRecord | None = None) -> bytes:
    """Read a whole file; with a record, only if its size and hash fit.

    Raises:
        DamagedCheckpointError: the file is missing, a link, or is not the one that was recorded.
        CheckpointError: it may not be read.
    """
    try:
        content = read_regular_file(path, follow_links=False)
    except OSError as error:
        if error.errno in _DAMAGE:
            raise DamagedCheckpointError(f"{path}: {_DAMAGE[error.errno]}") from error
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    if record is not None and len(content) != record.size:
        raise DamagedCheckpointError(f"{path}: must have {record.size:,} bytes, but has {len(content):,}")
    if record is not None and _record(content) != record:
        raise DamagedCheckpointError(f"{path}: its content does not fit the hash in the manifest")
    return content


def _record(*chunks: bytes | memoryview) -> FileRecord:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return FileRecord(digest.hexdigest(), sum(map(len, chunks)))


class _Stored(NamedTuple):
    """What the header of a safetensors file says of an array; the offsets count from the end of the header."""

    dtype: Literal["F32", "I64"]
    shape: tuple[Count, ...]
    data_offsets: tuple[Count, Count]


_HEADER = TypeAdapter(dict[str, _Stored])


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> FileRecord:
    """Write a new safetensors file.

    Hashed and written is the memory of the arrays themselves, if they need not be widened or made contiguous. The
    library would make two copies of all of it, or write a file without telling its hash.

    Args:
        path: a file that does not exist.
        arrays: of any layout and any type that fits float32 or int64.

    Raises:
        CheckpointError: an array is of another type; the message names it.
        OSError: the disk refuses.
    """
    stored = {name: _disk_array(f"{path.name}: {name}", array) for name, array in arrays.items()}
    ordered = sorted(stored, key=lambda name: (-stored[name].itemsize, name))  # so that all of them are aligned
    header, end = {}, 0
    for name in ordered:
        begin, end = end, end + stored[name].nbytes
        kind = next(kind for kind, dtype in _STORED.items() if stored[name].dtype == dtype)
        header[name] = {"dtype": kind, "shape": stored[name].shape, "data_offsets": (begin, end)}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    data = (stored[name].ravel().view(np.uint8).data for name in ordered if stored[name].size)
    return write_file(path, len(text).to_bytes(8, "little"), text, *data)


def read_arrays(path: Path, record: FileRecord) -> dict[str, np.ndarray]:
    """Read a safetensors file whose hash fits.

    The library would copy every array, and open the file again for its header, which would not be the one that was
    hashed.

    Returns:
        Arrays by name, which lie in the bytes that were hashed and must not be written to.

    Raises:
        DamagedCheckpointError: the file is not the one that was recorded, or no safetensors file of ours at all.
    """
    content = read_file(path, record)
    arrays, place = {}, 8 + int.from_bytes(content[:8], "little")
    for name, (kind, shape) in stored_header(path, content).items():
        arrays[name] = np.frombuffer(content, _STORED[kind], math.prod(shape), place).reshape(shape)
        place += arrays[name].nbytes
    return dict(sorted(arrays.items()))


def stored_header(path: Path, content: bytes | None = None) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return type and shape of the arrays in a safetensors file, in the order of their bytes.

    Args:
        path: the file.
        content: its bytes; without them the header alone is read.

    Raises:
        DamagedCheckpointError: it is missing, or its bytes are not exactly those of the arrays that it lists, each of
            float32 or int64.
    """
    try:
        with path.open("rb") if content is None else BytesIO(content) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            place = 8 + int.from_bytes(file.read(8), "little")
            listed = strict_json(file.read(min(place - 8, size)))
        if isinstance(listed, dict):
            listed.pop("__metadata__", None)
        header = sorted(_HEADER.validate_python(listed).items(), key=lambda item: item[1].data_offsets)
        end = 0
        for name, stored in header:
            begin, end = end, end + math.prod(stored.shape) * _STORED[stored.dtype].itemsize
            if stored.data_offsets != (begin, end):
                raise ValueError(f"{name} does not lie where the array before it ends, or is of another size")
        if place + end != size:
            raise ValueError(f"its arrays end at byte {place + end:,} of {size:,}")
    except (ValueError, RecursionError, OSError) as error:
        raise DamagedCheckpointError(f"{path}: is no safetensors file that could be read: {error}") from error
    return {name: (stored.dtype, stored.shape) for name, stored in header}


def _disk_array(name: str, array: np.ndarray) -> np.ndarray:
    """Return an array as it is stored: float32 or int64 of the same shape, contiguous."""
    for stored in ("<i8", "<f4"):
        if np.can_cast(array.dtype, stored):
            return np.ascontiguousarray(array, dtype=stored).reshape(array.shape)  # which was () and is (1,) now
    raise CheckpointError(f"{name}: arrays of type {array.dtype.name} cannot be stored: they must fit float32 or int64")


def read_object(path: Path, record: FileRecord | None = None) -> dict[str, Any]:
    """Read the JSON object in a file.

    Raises:
        DamagedCheckpointError, CheckpointError: as `read_file`, or the file holds something else.
    """
    try:
        values = strict_json(read_file(path, record))
    except (ValueError, RecursionError) as error:
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

    def finite(digits: str) -> float:
        if not math.isfinite(float(digits)):
            raise ValueError(f"{digits} is no finite number")
        return float(digits)

    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            raise ValueError(f"it has {next(name for name in names if names.count(name) > 1)} twice")
        return dict(pairs)

    return json.loads(content, parse_constant=finite, parse_float=finite, object_pairs_hook=without_duplicates)


def json_bytes(values: Mapping[str, Any]) -> bytes:
    """Return a mapping as an indented JSON file, in which names that are numbers become texts.

    Raises:
        CheckpointError: a value is no JSON value, as a number that is not finite.
    """
    try:
        return json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"a checkpoint can only keep finite numbers, texts, lists and mappings: {error}"
        ) from error


def is_number(value: object) -> bool:
    """Return whether a JSON value is a number that fits a finite float; 10**400 does not."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -sys.float_info.max <= value <= sys.float_info.max
