"""What an earlier run left in a model directory, told from what others keep there."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from nmt.checkpoint.folder import FOLDER as CHECKPOINTS_NAME
from nmt.checkpoint.index import INDEX
from nmt.checkpoint.lock import LOCK_NAME
from nmt.config import Config
from nmt.config.settings import STORE_NAME
from nmt.errors import ConfigError
from nmt.inference.export_directory import is_of_export
from nmt.inference.model_directory import CONFIG_NAME
from nmt.recipes.run_reference import parse_run_reference

METRICS_NAME, LOG_NAME, EVENTS_NAME = "metrics.jsonl", "train.log", "logs"

REPORT_NAME = "vocabulary_update.json"
"""What a change of the vocabulary wrote about itself, in the directory of the changed model."""

_FILES = (CONFIG_NAME, METRICS_NAME, LOG_NAME, REPORT_NAME)
_IN_FOLDERS = {
    # Checkpoints, those that were set aside, and what a killed process was writing, replacing or deleting.
    CHECKPOINTS_NAME: re.compile(
        rf"update-[0-9]{{8,}}(\.damaged.*)?|\.update-[0-9]{{8,}}\..*(tmp|replaced)|\.?{re.escape(INDEX)}(\..*tmp)?"
    ),
    EVENTS_NAME: re.compile(r"events\.out\.tfevents.*"),
}
"""The folders in which a run writes, and the names that it gives there. Others may keep files beside them."""

_KEPT = re.compile(
    rf"{re.escape(LOCK_NAME)}|{STORE_NAME}|tokenizer(\..*)?\.(json|model)|vocabulary(\..*)?\.txt|\..*\.tmp"
)
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
