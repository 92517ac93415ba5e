"""The directory that an export goes to: nothing is lost there, and readers see a whole export or none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nmt.errors import ExportError
from nmt.inference.export_directory import is_export


def check_output(output: Path, *, overwrite: bool) -> None:
    """Refuse to write where something lies.

    Raises:
        ExportError: naming it.
    """
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not is_export(output):
        raise ExportError(f"{output}: must be an empty place or an earlier export, but holds something else")
    if not overwrite:
        raise ExportError(f"{output}: holds an export already: give --overwrite to replace it, or another directory")


@contextmanager
def moved_in_place(output: Path) -> Iterator[Path]:
    """A new folder that becomes `output` at the end, or disappears where something fails.

    Raises:
        ExportError: the disk refuses.
    """
    folder = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    replaced = output.with_name(f".{output.name}.{os.getpid()}.old")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
        yield folder
        for path in folder.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        if output.exists():
            output.rename(replaced)
        folder.rename(output)
    except OSError as error:
        raise ExportError(f"{output}: cannot be written: {error.strerror}") from error
    finally:
        if replaced.exists() and not output.exists():
            replaced.rename(output)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)
