"""The directory that an export goes to: nothing is lost there, and readers see a whole export or none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nmt.atomic_files import copy_entry, new_directory
from nmt.errors import ExportError
from nmt.inference.export_directory import is_export, is_of_export


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
def moved_in_place(output: Path, *, overwrite: bool) -> Iterator[Path]:
    """A new folder that becomes `output` at the end, or disappears where something fails.

    What others keep in an export that is replaced is copied into the new one.

    Args:
        output: the directory to write.
        overwrite: replace an earlier export.

    Raises:
        ExportError: the disk refuses.
    """
    try:
        with new_directory(output, overwrite=overwrite) as folder:
            yield folder
            for path in output.iterdir() if output.is_dir() else ():
                if not is_of_export(path.name):
                    copy_entry(path, folder / path.name)
    except OSError as error:
        raise ExportError(f"{output}: cannot be written: {error.strerror}") from error
