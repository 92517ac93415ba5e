"""Files that are hashed when they are written, and read only if their hash fits."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import math
import mmap
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeGuard

import numpy as np

from nmt.atomic_files import write_chunks
from nmt.errors import CheckpointError

_CHUNK_BYTES = 2**22  # what was read is still in the processor's cache when it is hashed
_DAMAGE = {
    errno.ENOENT: "is missing",
    errno.ENOTDIR: "is missing",
    errno.ELOOP: "is a symbolic link, and could lead outside the checkpoint: put the file itself in its place",
    errno.EIO: "cannot be read: the disk fails",
}
"""Errors that are the checkpoint's fault. Others, such as too many open files, say nothing about it."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint is not what was written: a file is missing, cut short or changed."""


class FileRecord(NamedTuple):
    """What a file must be: the SHA-256 of its bytes, in hexadecimal, and their number."""

    sha256: str
    size: int


def write_file(path: Path, chunks: Iterable[bytes | memoryview]) -> FileRecord:
    """Write a new file through to the disk, hashing the bytes on their way.

    Raises:
        OSError: the disk refuses.
    """
    digest, size = hashlib.sha256(), 0

    def hashed() -> Iterator[memoryview]:
        nonlocal size
        for chunk in chunks:
            view = memoryview(chunk).cast("B")
            digest.update(view)
            size += len(view)
            yield view

    write_chunks(path, hashed())
    return FileRecord(digest.hexdigest(), size)


def read_file(path: Path, record: FileRecord | None = None) -> bytes:
    """Read a whole file; with a record, only if its size and hash fit.

    Raises:
        DamagedCheckpointError: the file is missing, a link, or is not the one that was recorded.
        CheckpointError: it may not be read.
    """
    with _opened(path) as file:
        content = file.readall()
    if record is not None:
        _check_record(path, record, FileRecord(hashlib.sha256(content).hexdigest(), len(content)))
    return content


def map_file(path: Path, record: FileRecord) -> np.ndarray:
    """Read a whole file whose size and hash fit, without memory of its own: the bytes are those of the page cache.

    Fresh memory for them may take longer to get than they take to read and to hash. They are read first and mapped
    then, so that a disk that fails is an error here.

    Returns:
        The bytes, (size,) uint8, not to be written to.

    Raises:
        DamagedCheckpointError: the file is missing, a link, or is not the one that was recorded.
        CheckpointError: it may not be read.
    """
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size != record.size:
            _check_record(path, record, FileRecord(record.sha256, size))
        _check_record(path, record, _hashed(file))
        if not size:
            return np.empty(0, np.uint8)
        return np.frombuffer(mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ, flags=mmap.MAP_PRIVATE), np.uint8)


@contextmanager
def _opened(path: Path) -> Iterator[io.FileIO]:
    """Open a file for reading; what the system refuses becomes an error of ours."""
    try:
        with _open_regular(path) as file:
            yield file
    except OSError as error:
        if error.errno in _DAMAGE:
            raise DamagedCheckpointError(f"{path}: {_DAMAGE[error.errno]}") from error
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error


def _check_record(path: Path, record: FileRecord, found: FileRecord) -> None:
    if found.size != record.size:
        raise DamagedCheckpointError(f"{path}: must have {record.size:,} bytes, but has {found.size:,}")
    if found.sha256 != record.sha256:
        raise DamagedCheckpointError(f"{path}: its content does not fit the hash in the manifest")


def _open_regular(path: Path) -> io.FileIO:
    """Open a file, but no link, and nothing that would be waited for, such as a pipe."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DamagedCheckpointError(f"{path}: is no file")
    return io.FileIO(descriptor, "rb")


def _hashed(file: io.FileIO) -> FileRecord:
    """Read a file to its end: a thread reads ahead of the hashing, into one of two buffers."""
    buffers, digest, size, turn = (bytearray(_CHUNK_BYTES), bytearray(_CHUNK_BYTES)), hashlib.sha256(), 0, 0
    with ThreadPoolExecutor(1) as ahead:
        reading = ahead.submit(file.readinto, buffers[0])
        while count := reading.result():
            chunk, turn = memoryview(buffers[turn])[:count], 1 - turn
            reading = ahead.submit(file.readinto, buffers[turn])
            digest.update(chunk)
            size += count
    return FileRecord(digest.hexdigest(), size)


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


_FLOATS = ("float32", "float16", "bfloat16")
_INTEGERS = ("int64", "int32", "uint32", "int16", "uint16", "int8", "uint8", "bool")
_NAMES = {"float32": "F32", "int64": "I64"}
_TYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "I64": np.dtype("<i8")}
_MAX_HEADER_BYTES = 100_000_000  # as the library has it
_COPIED_BYTES = 2**20  # what was hashed is still in the processor's cache when it is written


def disk_array(array: np.ndarray) -> np.ndarray:
    """Return an array as it is stored: float32 or int64, contiguous, of the same shape.

    Raises:
        CheckpointError: its type does not fit into either without loss.
    """
    name = array.dtype.name
    if name not in _FLOATS + _INTEGERS:
        raise CheckpointError(f"arrays of type {name} cannot be stored: they must fit float32 or int64")
    stored = np.asarray(array, dtype="<f4" if name in _FLOATS else "<i8", order="C")
    return stored.reshape(array.shape)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> FileRecord:
    """Write a new safetensors file, hashing it on the way.

    The library's own writer neither hashes nor does without a second copy in memory, and writes strided views as
    wrong values; the format is a length, a JSON header and the bytes
    (https://github.com/huggingface/safetensors#format).

    Args:
        path: a file that does not exist.
        arrays: of any layout and any type that fits float32 or int64.

    Raises:
        CheckpointError: an array is of another type; the message names it.
        OSError: the disk refuses.
    """
    stored = {}
    for name, array in arrays.items():
        try:
            stored[name] = disk_array(array)
        except CheckpointError as error:
            raise CheckpointError(f"{path.name}: {name}: {error}") from error
    stored = dict(sorted(stored.items(), key=lambda item: (-item[1].itemsize, item[0])))  # int64 first: aligned
    return write_file(path, _file_chunks(stored))


def read_arrays(path: Path, record: FileRecord) -> dict[str, np.ndarray]:
    """Read a safetensors file whose hash fits.

    The library copies every array out of the file's bytes; here the arrays are views of them, not to be written to.

    Raises:
        DamagedCheckpointError: the file is not the one that was recorded, or no safetensors file of ours at all.
    """
    content = map_file(path, record)
    try:
        return parse_arrays(content)
    except ValueError as error:
        raise DamagedCheckpointError(f"{path}: is no safetensors file that could be read: {error}") from error


def parse_arrays(content: np.ndarray) -> dict[str, np.ndarray]:
    """Return the arrays in a safetensors file's bytes, as views of them.

    Args:
        content: (size,) uint8.

    Raises:
        ValueError: it is not exactly what the format asks for: one array after the other, without gap or overlap, up
            to the end of the file, each float32 or int64 and as long as its shape says.
    """
    header, data = _split(content)
    arrays: dict[str, np.ndarray] = {}
    end = 0
    entries = {name: _entry(name, entry) for name, entry in header.items() if name != "__metadata__"}
    for name, (dtype, shape, begin, stop) in sorted(entries.items(), key=lambda item: item[1][2:]):
        if begin != end or stop - begin != math.prod(shape) * dtype.itemsize or stop > data.size:
            raise ValueError(
                f"{name} must begin at byte {end} of the data, follow its shape {shape} and end by byte {data.size}, "
                f"but is said to be bytes {begin} to {stop}"
            )
        arrays[name] = data[begin:stop].view(dtype).reshape(shape)
        end = stop
    if end != data.size:
        raise ValueError(f"{data.size - end} bytes at its end belong to no array")
    return arrays


def _split(content: np.ndarray) -> tuple[dict[str, Any], np.ndarray]:
    """Return the header of a safetensors file, and the bytes of its arrays."""
    if content.size < 8:
        raise ValueError("it has no header")
    length = int.from_bytes(content[:8].tobytes(), "little")
    if length > min(content.size - 8, _MAX_HEADER_BYTES):
        raise ValueError(f"its header must end within the file, but has {length} bytes")
    header = strict_json(content[8 : 8 + length].tobytes())
    if not isinstance(header, dict):
        raise ValueError("its header must be a JSON object")
    return header, content[8 + length :]


def _entry(name: str, entry: Any) -> tuple[np.dtype[Any], tuple[int, ...], int, int]:
    """Return type, shape, begin and end of an array."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name} must have dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _TYPES:
        raise ValueError(f"{name} must be of type {' or '.join(_TYPES)}, not {dtype}")
    if not (isinstance(shape, list) and all(map(is_count, shape))):
        raise ValueError(f"{name} must have a shape of counts, not {shape}")
    if not (isinstance(offsets, list) and len(offsets) == 2 and all(map(is_count, offsets))):
        raise ValueError(f"{name} must have two data_offsets, not {offsets}")
    return _TYPES[dtype], tuple(shape), offsets[0], offsets[1]


def _file_chunks(arrays: Mapping[str, np.ndarray]) -> Iterator[bytes | memoryview]:
    header, end = {}, 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": _NAMES[array.dtype.name], "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little")
    yield text
    for array in arrays.values():
        data = array.reshape(-1).view(np.uint8)
        for begin in range(0, data.size, _COPIED_BYTES):
            yield data[begin : begin + _COPIED_BYTES].data
