"""Files that are hashed when they are written, and read only if their hash fits."""

from __future__ import annotations

import errno
import hashlib
import io
import mmap
import os
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

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
