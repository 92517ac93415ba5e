"""The folder `checkpoints/`: checkpoints appear in it, and leave it, by one rename."""

import errno
import fcntl
import json
import os
import re
import socket
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain, count
from pathlib import Path

import numpy as np

from nmt.atomic_files import delete_entry, new_directory, sync_folder, temporary_path
from nmt.checkpoint.disk import DamagedCheckpointError, json_bytes, read_arrays, read_object, write_arrays, write_file
from nmt.checkpoint.manifest import EMA, MANIFEST, MODEL, STATE, Contents, Manifest, read_manifest
from nmt.errors import CheckpointError
from nmt.settings.section import EXPORT_NAME
from nmt.types import PathLike

FOLDER = "checkpoints"
ENGINES_NAME = "engines"
"""Where a model directory keeps what other engines read of its checkpoints, see `nmt.directory.engines`."""

DAMAGED_SUFFIX = ".damaged"
_NAME = re.compile(r"update-(\d{8,})", re.ASCII)
_THREADS = 2  # reading and hashing release the interpreter's lock


def checkpoints_folder(directory: PathLike) -> Path:
    """Return where a model directory keeps its checkpoints."""
    return Path(directory) / FOLDER


def checkpoint_name(update: int) -> str:
    """Return the name of the checkpoint after `update` updates."""
    return f"update-{update:08d}"


def update_of(name: str) -> int | None:
    """Return the updates in a checkpoint's name, None if it is no such name."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def checkpoint_names(folder: Path) -> list[str]:
    """List the complete checkpoints of a folder, oldest first; none if there is no folder."""
    try:
        names = [path.name for path in folder.iterdir() if update_of(path.name) is not None and path.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(names, key=lambda name: update_of(name) or 0)


def write_checkpoint(folder: Path, contents: Contents) -> Path:
    """Write a checkpoint: whole, flushed to the disk, or not at all.

    One of the same update is replaced.

    Raises:
        CheckpointError: something in it cannot be stored.
        OSError: the disk refuses.
    """
    path = folder / checkpoint_name(contents.update)
    with new_directory(path, overwrite=True) as temporary:
        files = {STATE: write_file(temporary / STATE, json_bytes(contents.state))}
        for name, arrays in contents.arrays.items():
            files[name] = write_arrays(temporary / name, arrays)
        write_file(temporary / MANIFEST, contents.manifest(files).to_bytes())
    return path


def read_checkpoint(path: Path) -> Contents:
    """Read a checkpoint whose hashes fit.

    Raises:
        DamagedCheckpointError: a file is missing, cut short or changed.
        CheckpointError: it is of a newer format.
    """
    manifest = read_manifest(path)
    if update_of(path.name) not in (None, manifest.update):
        raise DamagedCheckpointError(f"{path / MANIFEST}: is of update {manifest.update}, under another name")
    arrays = read_parts(path, manifest, [name for name in manifest.files if name != STATE])
    return Contents.of(manifest, arrays, state=read_object(path / STATE, manifest.files[STATE]))


def read_weights(path: Path, weights: str, *, manifest: Manifest | None = None) -> Contents:
    """Read the weights of a checkpoint, or their moving average in their place, and nothing else that it keeps.

    Args:
        path: the folder of the checkpoint.
        weights: `raw` or `ema`; what is not trained has no moving average and is taken as it is.
        manifest: of it, if it was read already.

    Raises:
        CheckpointError: no moving average is kept, or the checkpoint is of a newer format.
        DamagedCheckpointError: a file is missing, cut short or changed, or its arrays are not those that are listed.
    """
    manifest = manifest or read_manifest(path)
    if weights == "ema" and EMA not in manifest.files:
        raise CheckpointError(
            f"{path}: no moving average was kept: ask for raw weights, or train with training.ema_decay"
        )
    model = read_parts(path, manifest, [EMA])[EMA] if weights == "ema" else {}
    if not set(manifest.variables) <= set(model):
        model = read_parts(path, manifest, [MODEL])[MODEL] | model
    wanted = {name: tuple(variable["shape"]) for name, variable in manifest.variables.items()}
    if wanted != {name: array.shape for name, array in model.items()}:
        raise DamagedCheckpointError(f"{path.name}: its arrays are not the variables that it lists")
    return Contents.of(manifest, {MODEL: model})


def read_parts(path: Path, manifest: Manifest, names: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """Read the arrays of some files of a checkpoint.

    Raises:
        DamagedCheckpointError: one of them is missing, cut short or changed.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        reading = {name: pool.submit(read_arrays, path / name, manifest.files[name]) for name in names}
    return {name: future.result() for name, future in reading.items()}


def set_aside(path: Path) -> Path:
    """Rename a damaged checkpoint, so that nobody reads it and somebody can look at it; return its new path."""
    endings = chain([""], (f"-{number}" for number in count(2)))
    places = (path.with_name(f"{path.name}{DAMAGED_SUFFIX}{ending}") for ending in endings)
    aside = next(place for place in places if not place.exists())
    path.rename(aside)
    sync_folder(path.parent)
    return aside


def damaged_names(folder: Path) -> list[str]:
    """List the checkpoints that were set aside."""
    return sorted(path.name for path in folder.glob(f"update-*{DAMAGED_SUFFIX}*"))


def remove_checkpoint(path: Path) -> None:
    """Delete a checkpoint; readers see it whole or not at all."""
    temporary = temporary_path(path)
    delete_entry(temporary)
    path.rename(temporary)
    delete_entry(temporary)


def remove_engines(directory: Path, *, kept: Collection[str]) -> None:
    """Delete the engines of a model directory but those of some checkpoints; one that says nothing of itself stays."""
    for path in (directory / ENGINES_NAME).glob(f"*/{EXPORT_NAME}"):
        with suppress(OSError, ValueError, TypeError, KeyError):
            if json.loads(path.read_bytes())["checkpoint"] not in kept:
                remove_checkpoint(path.parent)


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
        self._descriptor = descriptor
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.verify()  # the directory may have been replaced after the file was opened
        except (OSError, CheckpointError) as error:
            holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
            self.release()
            if not isinstance(error, BlockingIOError):
                raise CheckpointError(f"{path}: cannot be locked: {error}") from error
            raise CheckpointError(
                f"{self.directory}: another training writes here ({holder or 'process unknown'}): wait for its end, "
                "stop it, or choose another model_directory"
            ) from error
        with suppress(OSError):  # who holds it is a help to others, and no reason to fail when the disk is full
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)

    def verify(self) -> None:
        """Check that the file that is locked is the one in the directory still: no other holds others off.

        Raises:
            CheckpointError: the directory or the file was moved or deleted.
        """
        if self._descriptor is None:
            return
        with suppress(OSError):
            if os.path.samestat(os.fstat(self._descriptor), os.lstat(self.directory / LOCK_NAME)):
                return
        raise CheckpointError(
            f"{self.directory}: the directory was moved or deleted while this process wrote there, or its {LOCK_NAME} "
            "was: nothing more is written; start again"
        )

    def release(self) -> None:
        """Give the lock back; nothing happens if it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
