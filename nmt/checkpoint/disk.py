"""Files that are flushed to the disk, replaced in one step, and read only if their hash fits."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from nmt.errors import CheckpointError

TEMPORARY_SUFFIX = ".tmp"
"""Ends the names of what a killed process may leave behind; they begin with a dot."""


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
    with path.open("xb", buffering=0) as file:
        for chunk in chunks:
            view = memoryview(chunk).cast("B")
            digest.update(view)
            size += len(view)
            while view:  # an unbuffered write may take less than it is given
                view = view[file.write(view) :]
        os.fsync(file.fileno())
    return FileRecord(digest.hexdigest(), size)


def read_file(path: Path, record: FileRecord | None = None) -> bytes:
    """Read a whole file; with a record, only if its size and hash fit.

    Raises:
        DamagedCheckpointError: the file is missing or is not the one that was recorded.
        CheckpointError: it may not be read.
    """
    try:
        content = path.read_bytes()
    except PermissionError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except OSError as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        raise DamagedCheckpointError(f"{path}: {reason}") from error
    if record is not None and len(content) != record.size:
        raise DamagedCheckpointError(f"{path}: must have {record.size:,} bytes, but has {len(content):,}")
    if record is not None and hashlib.sha256(content).hexdigest() != record.sha256:
        raise DamagedCheckpointError(f"{path}: its content does not fit the hash in the manifest")
    return content


def replace_file(path: Path, content: bytes) -> None:
    """Put a file in the place of another in one step: readers see the old content or the new one, never half.

    Raises:
        OSError: the disk refuses; the old file is left as it was.
    """
    temporary = temporary_path(path)
    temporary.unlink(missing_ok=True)
    try:
        write_file(temporary, [content])
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Flush the names in a folder to the disk, so that a rename outlives a power failure."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary_path(path: Path) -> Path:
    """Return where this process writes what will be moved to `path`: in the same folder, so that a rename does."""
    return path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
