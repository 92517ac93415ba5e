"""Arrays in safetensors files: float32 or int64, in row order, nothing pickled."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from nmt.checkpoint.disk import DamagedCheckpointError, FileRecord, read_file, write_file
from nmt.errors import CheckpointError

_FLOATS = ("float32", "float16", "bfloat16")
_INTEGERS = ("int64", "int32", "uint32", "int16", "uint16", "int8", "uint8", "bool")
_NAMES = {"float32": "F32", "int64": "I64"}
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

    Raises:
        DamagedCheckpointError: the file is not the one that was recorded, or no safetensors file at all.
    """
    content = read_file(path, record)
    try:
        return dict(load(content))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DamagedCheckpointError(f"{path}: is no safetensors file that could be read: {error}") from error


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
