"""Files and directories that appear whole: written beside their place, flushed, and moved there by one rename."""

import errno
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TEMPORARY_SUFFIX = ".tmp"
"""Ends the names of what a killed process may leave behind; they begin with a dot."""

_REPLACED_SUFFIX = ".old"
_LEFTOVER = re.compile(r"\.(?P<name>.+)(\.(?P<process>[0-9]+)(?P<suffix>\.tmp|\.old)|\.replaced)", re.DOTALL)
"""What a killed process leaves; `.replaced` is what earlier versions called an `.old` checkpoint."""


def read_regular_file(path: Path, *, follow_links: bool = True) -> bytes:
    """Read a whole file, but nothing that would be waited for, such as a pipe that somebody left under its name.

    What lies in /dev is read as it comes: a shell gives `<(command)` such a name.

    Raises:
        OSError: it cannot be read, or is no regular file (EINVAL).
    """
    if path.is_relative_to("/dev"):
        return path.read_bytes()
    extra = os.O_NONBLOCK | (0 if follow_links else os.O_NOFOLLOW)
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | extra)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "Is no regular file", str(path))
        return file.read()


def same_file(path: Path | int, other: Path | int) -> bool:
    """Whether a regular file is there already under another spelling, behind a link, or as an open descriptor."""
    try:
        status = os.stat(path)
        return stat.S_ISREG(status.st_mode) and os.path.samestat(status, os.stat(other))
    except (OSError, ValueError):
        return False


def write_chunks(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Write a new file, which is on its way to the disk: `new_file` and `new_directory` flush what they move.

    Raises:
        OSError: the disk refuses, or there is such a file.
    """
    with path.open("xb", buffering=0) as file:
        for chunk in chunks:
            view = memoryview(chunk).cast("B")
            while view:  # an unbuffered write may take less than it is given
                view = view[file.write(view) :]


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield the path of a file to be written that takes the place of `path` at the end, or disappears on a failure.

    Readers see the old content or the new one, never half.

    Raises:
        OSError: the disk refuses; the old file is left as it was.
    """
    temporary = temporary_path(path)
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
    finally:
        with suppress(OSError):  # nothing was written when nothing can be
            temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def replace_file(path: Path, content: bytes) -> None:
    """Put a file in the place of another in one step; raises what `new_file` raises."""
    with new_file(path) as temporary:
        write_chunks(temporary, [content])


@contextmanager
def new_directory(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield an empty folder that becomes `path` at the end, or disappears if something fails.

    Args:
        path: what is to be written; an empty directory counts as nothing.
        overwrite: whether it may take the place of a directory that is not empty. No rename does that in one step:
            for a moment there is none, and if the second rename fails, the old one comes back. What a killed process
            left behind is put right first, see `recover_directory`.

    Raises:
        OSError: the disk refuses, or something lies there; whatever was there is left as it was.
    """
    recover_directory(path)
    temporary = temporary_path(path)
    shutil.rmtree(temporary, ignore_errors=True)  # of an earlier process that had our number
    try:
        temporary.mkdir(parents=True)
        yield temporary
        _sync_tree(temporary)
        _move(temporary, path, overwrite=overwrite)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    sync_folder(path.parent)


def copy_entry(path: Path, copy: Path) -> None:
    """Copy a file, or a directory with all that it holds; a link stays one.

    Raises:
        OSError: the disk refuses.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.copytree(path, copy, symlinks=True)
    else:
        shutil.copy2(path, copy, follow_symlinks=False)


def recover_directory(path: Path) -> None:
    """Put right what processes left that were killed within `new_directory`: remove what they had not finished.

    If they had moved the old directory away and not yet put the new one in its place, the old one comes back.
    What belongs to a process that lives on this machine is left alone, and so is what cannot be changed.
    """
    with suppress(OSError):
        _recover(path.parent, lambda left: left["name"] == path.name and _is_left_over(left))


def recover_all(folder: Path) -> None:
    """Put right a folder in which no other process may write now: whatever was left under any name, files too.

    Raises:
        OSError: the folder cannot be changed.
    """
    with suppress(FileNotFoundError):
        _recover(folder, lambda left: True)


def _recover(folder: Path, is_left_over: Callable[[re.Match[str]], bool]) -> None:
    leftovers = [match for match in map(_LEFTOVER.fullmatch, os.listdir(folder)) if match and is_left_over(match)]
    replaced = [match for match in leftovers if match["suffix"] != TEMPORARY_SUFFIX]
    for match in sorted(replaced, key=lambda left: (folder / left[0]).lstat().st_mtime_ns, reverse=True):
        if not os.path.lexists(folder / match["name"]):
            (folder / match[0]).rename(folder / match["name"])
    for match in leftovers:
        delete_entry(folder / match[0])


def delete_entry(path: Path) -> None:
    """Delete a directory with all that it holds, or a file, if there is one; of a link, the link alone.

    Raises:
        OSError: a file cannot be deleted; what is left of a directory is passed over.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)


def sync_folder(path: Path) -> None:
    """Flush the names in a folder to the disk, so that a rename outlives a power failure."""
    _sync(path, os.O_DIRECTORY)


def temporary_path(path: Path) -> Path:
    """Return where this process writes what will be moved to `path`: in the same folder, so that a rename does."""
    return path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")


def _move(temporary: Path, path: Path, *, overwrite: bool) -> None:
    if not overwrite or not path.exists():
        temporary.rename(path)  # onto an empty directory too, but no other
        return
    replaced = path.with_name(f".{path.name}.{os.getpid()}{_REPLACED_SUFFIX}")
    path.rename(replaced)
    try:
        temporary.rename(path)
    except OSError:
        replaced.rename(path)
        raise
    sync_folder(path.parent)
    delete_entry(replaced)


def _is_left_over(left: re.Match[str]) -> bool:
    """Whether nobody needs what is named after a process: it is dead, or only its number has come back as ours."""
    if left["process"] is None:
        return False
    process = int(left["process"])
    if process == os.getpid():
        return left["suffix"] == _REPLACED_SUFFIX  # ours lives for two renames, the temporary folder may be in use
    try:
        os.kill(process, 0)
    except PermissionError:
        return False
    except (ProcessLookupError, OverflowError):
        return True
    return False


def _sync_tree(folder: Path) -> None:
    """Flush every file of a folder, and every folder in it, to the disk."""
    for parent, _, names in os.walk(folder):
        for name in names:
            _sync(Path(parent, name))
        sync_folder(Path(parent))


def _sync(path: Path, flags: int = 0) -> None:
    descriptor = os.open(path, os.O_RDONLY | flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
