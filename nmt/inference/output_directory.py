"""Where a verb may write: over nothing that is read or that a model consists of, and whole or not at all."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from nmt.atomic_files import copy_entry, new_directory, recover_directory, same_file
from nmt.checkpoint.folder import FOLDER as CHECKPOINTS_NAME
from nmt.checkpoint.folder import LOCK_NAME, DirectoryLock, checkpoint_names
from nmt.checkpoint.index import INDEX, split_checkpoint
from nmt.config import Config
from nmt.config.settings import STORE_NAME
from nmt.errors import CheckpointError, ConfigError
from nmt.inference.model_directory import CONFIG_NAME, TEXT_FILES, holds_own_settings, is_of_export, is_settings_file
from nmt.types import PathLike

_CHECKPOINT = re.compile(r"(?P<directory>.+)@(?P<checkpoint>best|latest|update-[0-9]+)", re.DOTALL)


class RunReference(NamedTuple):
    """A model directory, and which of its checkpoints; None leaves the choice to those who read it."""

    directory: str
    checkpoint: str | None


def parse_run_reference(text: str) -> RunReference:
    """Read RUN, RUN@best, RUN@latest, RUN@update-N or RUN/checkpoints/update-N; any other @ belongs to the name of RUN.

    Raises:
        CheckpointError: two checkpoints are named.
    """
    match = _CHECKPOINT.fullmatch(text)
    given, checkpoint = (match["directory"], match["checkpoint"]) if match else (text, None)
    directory, named = split_checkpoint(given, checkpoint)
    return RunReference(given if directory == Path(given) else str(directory), named)


METRICS_NAME, LOG_NAME, EVENTS_NAME = "metrics.jsonl", "train.log", "logs"

REPORT_NAME = "vocabulary_update.json"
"""What a change of the vocabulary wrote about itself, in the directory of the changed model."""

_FILES = (CONFIG_NAME, METRICS_NAME, LOG_NAME, REPORT_NAME)
_IN_FOLDERS = {
    # Checkpoints, those that were set aside, and what a killed process was writing, replacing or deleting.
    CHECKPOINTS_NAME: re.compile(
        rf"update-[0-9]{{8,}}(\.damaged.*)?|\.update-[0-9]{{8,}}\..*(tmp|old|replaced)|\.?{re.escape(INDEX)}(\..*tmp)?"
    ),
    EVENTS_NAME: re.compile(r"events\.out\.tfevents.*"),
}
"""The folders in which a run writes, and the names that it gives there. Others may keep files beside them."""

_KEPT = re.compile(rf"{re.escape(LOCK_NAME)}|{STORE_NAME}|{TEXT_FILES}|\..*\.tmp")
"""What else lies in a model directory: what a new run replaces itself, or goes on using."""


def delete_run(directory: Path) -> None:
    """Delete what a run wrote into its directory, and nothing else, besides tokenizers and token store.

    A folder goes with its last file; a link to a folder stays.
    """
    for path in list(_written_by_run(directory)):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for name in _IN_FOLDERS:
        with suppress(OSError):  # not empty, none, or a link
            (directory / name).rmdir()


def foreign_files(directory: Path) -> list[Path]:
    """List what lies in a model directory, and in the folders in which a run writes, and was written by no run."""
    return [
        path
        for folder in (directory, *(directory / name for name in _IN_FOLDERS))
        for path in _entries(folder)
        if not _is_expected(path, directory)
    ]


def refuse_to_delete_start(config: Config) -> None:
    """Refuse to delete a run where `training.initialize_from` lies in a folder from which that deletes files.

    Raises:
        ConfigError: saying so.
    """
    if config.training.initialize_from is None:
        return
    source = Path(parse_run_reference(str(config.training.initialize_from)).directory)
    for folder in (Path(config.model_directory, name) for name in _IN_FOLDERS):
        if any(path.resolve().is_relative_to(folder.resolve()) for path in (source, source / CHECKPOINTS_NAME)):
            raise ConfigError(
                f"training.initialize_from must not lie in {folder}, where --overwrite deletes files, got {source}: "
                "choose another model_directory"
            )


def is_written_by_run(path: Path, directory: Path) -> bool:
    """Whether a file that is there is part of a run, or of an export made of one; both paths are absolute."""
    if not path.is_file() or not path.is_relative_to(directory):
        return False
    first, *rest = path.relative_to(directory).parts
    if rest:
        return first in (*_IN_FOLDERS, STORE_NAME)
    return _is_expected(path, directory) or is_of_export(first)


def _written_by_run(directory: Path) -> Iterator[Path]:
    yield from (path for path in (directory / name for name in _FILES) if path.is_symlink() or path.is_file())
    for name, written in _IN_FOLDERS.items():
        yield from (path for path in _entries(directory / name) if written.fullmatch(path.name))


def _is_expected(path: Path, directory: Path) -> bool:
    if path.parent != directory:
        return _IN_FOLDERS[path.parent.name].fullmatch(path.name) is not None
    return path.name in (*_FILES, *_IN_FOLDERS) or _KEPT.fullmatch(path.name) is not None


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # there is none, or it is a file
        return []


STANDARD_INPUT, STANDARD_OUTPUT = 0, 1
"""Descriptors."""


def refuse_output(
    output: PathLike | None,
    *,
    inputs: Sequence[tuple[str, PathLike | None]],
    directory: PathLike,
    config: Config,
) -> None:
    """Refuse to write translations over a file that is read, that the settings name, or that a model consists of.

    Such a file may come under another spelling, behind a link, or as standard input or output.

    Args:
        output: the file to write; None for standard output.
        inputs: what names the files to read, and their paths; None is standard input.
        directory: of the model, or of an export.
        config: its settings.

    Raises:
        CheckpointError: it would lie among checkpoints.
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
    if output is None:
        return
    place = Path(output).resolve()
    holders = (folder for folder in list(place.parents)[:3] if holds_own_settings(folder))
    for model in (Path(directory).resolve(), *holders):
        if is_written_by_run(place, model):
            raise ConfigError(f"{output} must not be replaced, the model in {model} needs it: write to another file")
    check_not_among_checkpoints(place)
    if is_settings_file(place):
        raise ConfigError(f"{output} must not be replaced, it holds the settings of a run: write to another file")


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
        if folder.name == CHECKPOINTS_NAME and (checkpoint_names(folder) or (folder.parent / CONFIG_NAME).is_file()):
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
                for path in foreign_files(place):
                    copy = folder / path.relative_to(place)
                    copy.parent.mkdir(exist_ok=True)
                    copy_entry(path, copy)
                lock.verify()
    except OSError as error:
        raise CheckpointError(f"{output}: cannot be written: {error.strerror or error}") from error
    finally:
        lock.release()


def _described(name: str, path: Path | int) -> str:
    return "standard input" if isinstance(path, int) else f"the file that {name} names, {path}"
