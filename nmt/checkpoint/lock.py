"""One trainer a directory."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from contextlib import suppress
from pathlib import Path

from nmt.errors import CheckpointError

LOCK_NAME = ".lock"


class DirectoryLock:
    """An exclusive `flock` on a model directory, which the system releases when its process ends, however it ends.

    The file itself stays: deleting it would let two processes lock two files of the same name.

    Args:
        directory: the model directory.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def acquire(self) -> None:
        """Take the lock, creating the directory.

        Raises:
            CheckpointError: another process holds it, or the directory cannot be written.
        """
        if self.held:
            return
        path = self.directory / LOCK_NAME
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            if error.errno == errno.ELOOP:  # what it leads to would be overwritten
                raise CheckpointError(f"{path}: must be no symbolic link: delete it") from error
            raise CheckpointError(f"{self.directory}: cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
            os.close(descriptor)
            if not isinstance(error, BlockingIOError):
                raise CheckpointError(
                    f"{path}: cannot be locked: {error.strerror}: choose a model_directory on a disk that has locks"
                ) from error
            raise CheckpointError(
                f"{self.directory}: another training writes here ({holder or 'process unknown'}): "
                "wait for its end, stop it, or choose another model_directory"
            ) from error
        with suppress(OSError):  # who holds it is a help to others, and no reason to fail where the disk is full
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        self._descriptor = descriptor
        try:
            self.verify()  # the directory may have been replaced after the file was opened
        except CheckpointError:
            self.release()
            raise

    def verify(self) -> None:
        """Check that the file that is locked is the one in the directory still: no other holds others off.

        Raises:
            CheckpointError: the directory or the file was moved or deleted.
        """
        if self._descriptor is None:
            return
        path, locked = self.directory / LOCK_NAME, os.fstat(self._descriptor)
        try:
            found = path.stat(follow_symlinks=False)
        except OSError as error:
            raise self._gone() from error
        if (found.st_dev, found.st_ino) != (locked.st_dev, locked.st_ino):
            raise self._gone()

    def release(self) -> None:
        """Give the lock back; nothing happens where it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _gone(self) -> CheckpointError:
        return CheckpointError(
            f"{self.directory}: the directory was moved or deleted while this process wrote there, or its {LOCK_NAME} "
            "was: nothing more is written; start again"
        )
