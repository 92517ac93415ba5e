r"""Reading parallel text: plain or gzip, one file a side or several.

A line ends at `\n` and nowhere else (a `\r` right before it is dropped), or pairs shift: Python's text mode and
`splitlines` also break at a lone `\r`, U+2028 and U+0085. Every reader of the toolkit goes through `read_lines`.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import IO, cast

from nmt.errors import DataError
from nmt.types import PathLike

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_lines(path: PathLike) -> Iterator[str]:
    r"""The lines of one file, without their ends; gzip where the name ends in `.gz`.

    Text after the last `\n` is a line too. A byte order mark at the start of the file is dropped.

    Raises:
        DataError: the file is missing, is a directory, is damaged gzip, or holds invalid UTF-8; with file and line.
    """
    number = 0
    try:
        with _open(path) as file:
            for number, line in enumerate(file, start=1):
                yield _decode(line, path, number)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        message = f"{os.fspath(path)}, line {number + 1}: the gzip file is damaged or cut short ({error})"
        raise DataError(message) from error
    except OSError as error:
        raise DataError(f"{os.fspath(path)}: cannot be read: {error.strerror or error}") from error


def read_pairs(
    source_paths: PathLike | Sequence[PathLike], target_paths: PathLike | Sequence[PathLike]
) -> Iterator[tuple[str, str]]:
    """All pairs of lines of a corpus, in order, none left out.

    Args:
        source_paths: a path, or the paths of several files.
        target_paths: the same number of paths; the n-th file belongs to the n-th of the other side.

    Raises:
        DataError: what `read_lines` raises; the two sides differ in their number of files or lines; a file is empty.
    """
    sources, targets = as_paths(source_paths), as_paths(target_paths)
    if len(sources) != len(targets):
        raise DataError(
            f"both sides of a corpus must have the same number of files, got {len(sources)} source files "
            f"({', '.join(sources)}) and {len(targets)} target files ({', '.join(targets)})"
        )
    for source_path, target_path in zip(sources, targets, strict=True):
        yield from _read_file_pair(source_path, target_path)


def check_corpus(source_paths: PathLike | Sequence[PathLike], target_paths: PathLike | Sequence[PathLike]) -> int:
    """Read a corpus from end to end, so that what is wrong with it shows before training starts.

    Returns:
        the number of pairs.

    Raises:
        DataError: see `read_pairs`.
    """
    return sum(1 for _ in read_pairs(source_paths, target_paths))


def as_paths(paths: PathLike | Sequence[PathLike]) -> list[str]:
    """A path or a list of paths as a list of strings."""
    if isinstance(paths, (str, os.PathLike)):
        return [os.fspath(paths)]
    return [os.fspath(path) for path in paths]


def _read_file_pair(source_path: str, target_path: str) -> Iterator[tuple[str, str]]:
    source_lines, target_lines = read_lines(source_path), read_lines(target_path)
    count = 0
    for source, target in zip_longest(source_lines, target_lines):
        if source is None or target is None:
            rest = 1 + sum(1 for _ in (target_lines if source is None else source_lines))
            source_count, target_count = (count, count + rest) if source is None else (count + rest, count)
            raise DataError(
                "both sides of a corpus must have the same number of lines, "
                f"got {_lines(source_count)} in {source_path} and {_lines(target_count)} in {target_path}"
            )
        count += 1
        yield source, target
    if count == 0:
        raise DataError(f"a corpus must hold at least one pair of lines, got empty files: {source_path}, {target_path}")


def _open(path: PathLike) -> IO[bytes]:
    # A directory opens well on some systems and fails at the first read: refuse it here, everywhere.
    if Path(path).is_dir():
        raise DataError(f"{os.fspath(path)}: must be a file, got a directory")
    if os.fspath(path).endswith(".gz"):
        return cast(IO[bytes], gzip.open(path, "rb"))
    return open(path, "rb")


def _decode(line: bytes, path: PathLike, number: int) -> str:
    if number == 1:
        line = line.removeprefix(_BYTE_ORDER_MARK)
    try:
        return line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"byte 0x{error.object[error.start]:02x} at position {error.start + 1}"
        raise DataError(
            f"{os.fspath(path)}, line {number}: must be valid UTF-8, got {found}: convert the file, say with iconv"
        ) from error


def _lines(count: int) -> str:
    return "1 line" if count == 1 else f"{count:,} lines"
