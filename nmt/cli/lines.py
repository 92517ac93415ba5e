"""Lines in and out: standard input as it arrives, files, an output that appears when it is whole, and their count."""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import os
import select
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, cast

from nmt.atomic_files import new_file
from nmt.cli.streams import STANDARD_OUTPUT, check_stdout, is_terminal, naming
from nmt.data.corpus import compression, decode_line, read_lines
from nmt.errors import DataError

if TYPE_CHECKING:
    from rich.console import Console

CHUNK_LINES = 10_000
"""Lines that are sorted by length and translated together, at most."""

PATIENCE_SECONDS = 0.05
"""How long to wait for more of standard input before what has come is translated."""

Write: TypeAlias = Callable[[str], object]
"""Writes text somewhere."""

_BLOCK_BYTES = 1 << 16
_STDOUT = Path("/dev/stdout")

_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
"""What compresses an output file, by the end of its name."""


def file_chunks(path: Path) -> Iterator[list[str]]:
    """The lines of a file in chunks of `CHUNK_LINES`, decompressed where it is compressed.

    Raises:
        DataError: the file cannot be read or is not UTF-8, with its line.
    """
    lines = read_lines(path)
    while chunk := list(islice(lines, CHUNK_LINES)):
        yield chunk


def stdin_chunks() -> Iterator[list[str]]:
    r"""The lines of standard input in chunks: all that has arrived, up to `CHUNK_LINES`.

    So a filter between two programs answers while its input stays open. A line ends at `\n` and nowhere else.

    Raises:
        DataError: standard input is closed; while reading: it cannot be read, or a line is not UTF-8, with its number.
    """
    if sys.stdin is None:
        raise DataError("standard input is closed: give a file with --input")
    return _chunks_of(sys.stdin.buffer)


def _chunks_of(stream: BinaryIO) -> Iterator[list[str]]:
    descriptor: int | None = None
    with suppress(OSError):  # a stream in memory has none
        descriptor = stream.fileno()

    def read() -> bytes:
        try:
            return stream.read(_BLOCK_BYTES) if descriptor is None else os.read(descriptor, _BLOCK_BYTES)
        except OSError as error:  # it is a directory, or its disk fails
            raise DataError(f"standard input: cannot be read: {error.strerror}") from error

    def arrived() -> bool:
        return descriptor is None or bool(select.select([descriptor], [], [], PATIENCE_SECONDS)[0])

    number, pending, ended = 0, b"", False
    while not ended:
        parts, line_count = [pending], pending.count(b"\n")
        while not ended and (line_count == 0 or (line_count < CHUNK_LINES and arrived())):
            block = read()
            ended = not block
            parts.append(block)
            line_count += block.count(b"\n")
        *lines, pending = b"".join(parts).split(b"\n")
        if ended and pending:
            lines.append(pending)
        for start in range(0, len(lines), CHUNK_LINES):
            chunk = lines[start : start + CHUNK_LINES]
            yield [_decode(line, number + place) for place, line in enumerate(chunk, start=1)]
            number += len(chunk)


def _decode(line: bytes, number: int) -> str:
    if number == 1 and (kind := compression(line)) is not None:
        raise DataError(f"standard input is compressed by {kind}: decompress it first, or give a file with --input")
    return decode_line(line, "standard input", number)


@contextmanager
def text_output(path: Path | None) -> Iterator[Write]:
    """A function that writes text to a file, or to standard output, flushed each time.

    A file gets its name when it is whole, so what stood there before survives a failure; it is compressed where the
    name ends in `.gz`, `.xz` or `.bz2`. What it replaces hands on its mode and owner, and is not replaced where it may
    not be written to. What is no ordinary file (`/dev/null`, a named pipe) is written to as it is.

    Args:
        path: the file; None for standard output.

    Raises:
        DataError: the file cannot be written, or standard output is closed; what the block cannot read or write itself
            must not be an OSError, for it would be reported as this file's.
    """
    if path is None or path == _STDOUT:
        check_stdout()
        yield _write_to_stdout
        return
    # An open file of a shell, such as /dev/fd/3, may hold text already.
    in_place = path.exists() and (not path.is_file() or path.is_relative_to("/dev"))
    with naming(path):
        target = path.resolve()  # a symbolic link stays one
        replaced = target.stat() if target.exists() and not in_place else None
        if replaced is not None and not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        with (
            nullcontext(path) if in_place else new_file(target) as place,
            _open(place, ending=path.suffix, append=in_place) as file,
        ):
            if replaced is not None:  # before any text is in it
                with suppress(OSError):  # some file systems have no modes, and only root gives files away
                    shutil.copymode(target, place)
                    os.chown(place, replaced.st_uid, replaced.st_gid)
            yield lambda text: file.write(text.encode("utf-8"))


def _open(path: Path, *, ending: str, append: bool) -> BinaryIO:
    return cast(BinaryIO, _OPENERS.get(ending, open)(path, "ab" if append else "wb"))


def _write_to_stdout(text: str) -> None:
    # Bytes, because a text stream would write in the encoding of the terminal's locale.
    with naming(STANDARD_OUTPUT):
        sys.stdout.buffer.write(text.encode("utf-8"))
        sys.stdout.buffer.flush()


@contextmanager
def line_counter(
    *, total: int | None = None, hidden: bool = False, console: Console | None = None
) -> Iterator[Callable[[int], None]]:
    """A function that is told how many more lines were translated, and counts them on a terminal, in one passing line.

    Args:
        total: how many there will be, where that is known.
        hidden: show nothing in any case.
        console: where to draw; standard error unless given.
    """
    if hidden or not (is_terminal(sys.stderr) if console is None else console.is_terminal):
        yield lambda num_lines: None
        return
    # Most calls have no terminal, and need none of these.
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from nmt.training.events import describe_seconds

    of_total = "" if total is None else f" of {total:,}"
    count, started = 0, 0.0

    def add(num_lines: int) -> None:
        nonlocal count, started
        started = started or time.monotonic()  # opening the model and waiting for input is not translating
        count += num_lines
        live.update(Text(f"{count:,}{of_total} lines  {describe_seconds(time.monotonic() - started)}"))

    with Live(Text("opening the model"), console=console or Console(stderr=True), transient=True) as live:
        yield add
