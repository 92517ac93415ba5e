"""Where a verb may write: over nothing that is read or that a model consists of, and whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nmt.atomic_files import copy_entry, new_directory, recover_directory, same_file
from nmt.checkpoint.folder import FOLDER, checkpoint_names
from nmt.checkpoint.lock import DirectoryLock
from nmt.config import Config
from nmt.errors import CheckpointError, ConfigError
from nmt.inference.model_directory import CONFIG_NAME
from nmt.recipes.earlier_run import foreign_files, is_written_by_run
from nmt.types import PathLike

STANDARD_INPUT, STANDARD_OUTPUT = 0, 1
"""Descriptors."""


def refuse_output(
    output: PathLike | None,
    *,
    inputs: Sequence[tuple[str, PathLike | None]],
    directory: PathLike,
    config: Config,
) -> None:
    """Refuse to write translations over a file that is read, that the settings name, or that the model consists of.

    Such a file may come under another spelling, behind a link, or as standard input or output.

    Args:
        output: the file to write; None for standard output.
        inputs: what names the files to read, and their paths; None is standard input.
        directory: of the model, or of an export.
        config: its settings.

    Raises:
        ConfigError: naming both.
    """
    read = [(name, STANDARD_INPUT if path is None else Path(path)) for name, path in inputs]
    read += [(name, Path(path)) for name, paths in config.named_files.items() for path in paths]
    for name, path in read:
        if output is None:
            # A shell that was told to write over it has emptied it by now; at least nobody takes that for a result.
            if same_file(path, STANDARD_OUTPUT):
                raise ConfigError(f"standard output is {_described(name, path)}: write to another file")
        elif same_file(Path(output), path):
            raise ConfigError(f"{output} must not be replaced, it is {_described(name, path)}: write to another file")
    if output is not None and is_written_by_run(Path(output).resolve(), Path(directory).resolve()):
        raise ConfigError(f"{output} must not be replaced, the model in {directory} needs it: write to another file")


def refuse_to_replace_inputs(paths: Sequence[PathLike], output: PathLike) -> None:
    """Refuse a model directory to be written whose place holds a file that is read, and would be lost.

    Raises:
        ConfigError: naming the file.
    """
    for path in paths:
        if is_written_by_run(Path(path).resolve(), Path(output).resolve()):
            raise ConfigError(
                f"{path} must not be replaced, it is read: choose another directory than {output} with -o"
            )


def check_place(output: Path, directory: Path) -> None:
    """Refuse to write a model directory into the one that it is made of, around it, or among checkpoints.

    Where a killed process left the output half replaced, that is put right first.

    Raises:
        CheckpointError: saying what is in the way.
    """
    check_not_among_checkpoints(output)
    place, run = output.resolve(), directory.resolve()
    if place != run and place.is_relative_to(run):
        raise CheckpointError(f"{output}: must not lie in the model directory {directory}: choose another -o")
    if place != run and run.is_relative_to(place):
        raise CheckpointError(f"{output}: must not hold the model directory {directory}: choose another -o")
    recover_directory(place)


def check_not_among_checkpoints(output: Path) -> None:
    """Refuse to write where a model directory keeps its checkpoints.

    Raises:
        CheckpointError: naming the folder.
    """
    place = output.resolve()
    for folder in (place, *place.parents):
        if folder.name == FOLDER and (checkpoint_names(folder) or (folder.parent / CONFIG_NAME).is_file()):
            raise CheckpointError(f"{output}: must not lie among the checkpoints in {folder}: choose another -o")


@contextmanager
def output_directory(output: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a folder that becomes the output when all went well, unless somebody trains in what it would replace.

    What others keep in a directory that is replaced is copied into the new one.

    Raises:
        CheckpointError: the output cannot be written, or another process writes there.
    """
    place, lock = output.resolve(), DirectoryLock(output)
    try:
        if overwrite and output.exists():
            lock.acquire()
        with new_directory(place, overwrite=overwrite) as folder:
            yield folder
            if lock.held:
                _copy_foreign(place, folder)
                lock.verify()
    except OSError as error:
        raise CheckpointError(f"{output}: cannot be written: {error.strerror or error}") from error
    finally:
        lock.release()


def _copy_foreign(old: Path, new: Path) -> None:
    for path in foreign_files(old):
        copy = new / path.relative_to(old)
        copy.parent.mkdir(exist_ok=True)
        copy_entry(path, copy)


def _described(name: str, path: Path | int) -> str:
    return "standard input" if isinstance(path, int) else f"the file that {name} names, {path}"
