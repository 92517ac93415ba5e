"""Arrays in safetensors files: float32 or int64, in row order, nothing pickled."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nmt.checkpoint.disk import DamagedCheckpointError, FileRecord, map_file, write_file
from nmt.checkpoint.json_files import is_count, strict_json
from nmt.errors import CheckpointError

_FLOATS = ("float32", "float16", "bfloat16")
_INTEGERS = ("int64", "int32", "uint32", "int16", "uint16", "int8", "uint8", "bool")
_NAMES = {"float32": "F32", "int64": "I64"}
_TYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "I64": np.dtype("<i8")}
_MAX_HEADER_BYTES = 100_000_000  # as the library has it
_CHUNK_BYTES = 2**20  # what was hashed is still in the processor's cache when it is written


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
        for begin in range(0, data.size, _CHUNK_BYTES):
            yield data[begin : begin + _CHUNK_BYTES].data
