"""Lines in and out, and the standard streams, each of which may be closed, or full, or a pipe that nobody reads."""

from __future__ import annotations

import errno
import json
import logging
import os
import select
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO, TypeAlias, cast

from nmt.atomic_files import new_file
from nmt.errors import DataError
from nmt.kinds import describe_seconds

if TYPE_CHECKING:
    from rich.console import Console

STANDARD_OUTPUT = "standard output"

CHUNK_LINES = 10_000
"""Lines that are sorted by length and translated together, at most."""

PATIENCE_SECONDS = 0.05
"""How long to wait for more of standard input before what has come is translated."""

Write: TypeAlias = Callable[[str], object]
"""Writes text somewhere."""

_BLOCK_BYTES = 1 << 16
_STDOUT = Path("/dev/stdout")

CHUNK_CHARACTERS = 1 << 24
"""Characters of such lines, at most, unless the last one has more: memory does not grow with the length of lines."""

_COMPRESSIONS = {".gz": "gzip", ".xz": "lzma", ".bz2": "bz2", ".zst": "zstandard"}
"""The module that compresses an output file, by the end of its name."""


class NamedStdout:
    """Standard output that says its name if it cannot be written to; if there is none, that is said.

    Python sets `sys.stdout` to None if the stream is closed, and whoever prints to it meanwhile (help pages too)
    would not notice, or end in a traceback.

    Args:
        stream: the real one, or None.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    @property
    def closed(self) -> bool:
        """Whether nothing can be written."""
        return self._stream is None or self._stream.closed

    def write(self, text: str) -> int:
        """Write text; returns its length.

        Raises:
            DataError: it cannot be written.
            BrokenPipeError: nobody reads it any more.
        """
        check_stdout()
        with naming(STANDARD_OUTPUT):
            return cast(TextIO, self._stream).write(text)

    def flush(self) -> None:
        """Write what is held back; raises what `write` raises."""
        if self._stream is not None:
            with naming(STANDARD_OUTPUT):
                self._stream.flush()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return not self.closed and cast(TextIO, self._stream).isatty()

    def __getattr__(self, name: str) -> Any:
        """Whatever else a stream has."""
        return getattr(self._stream, name)


@contextmanager
def named_stdout() -> Iterator[None]:
    """Put a `NamedStdout` in the place of standard output while the block runs."""
    with redirect_stdout(cast(TextIO, NamedStdout(sys.stdout))):
        yield


@contextmanager
def naming(place: Path | str) -> Iterator[None]:
    """Turn what the system says about an output into an error with its name; a closed pipe is another matter.

    Raises:
        DataError: the block could not write.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise DataError(f"{place}: cannot be written: {error.strerror or error}") from error


def check_stdout() -> None:
    """Refuse a closed standard output before the work whose result goes there.

    Raises:
        DataError: it is closed.
    """
    if sys.stdout is None or sys.stdout.closed:
        raise DataError("standard output is closed, where the result goes: leave it open, or name a file")


def settle_stdout() -> None:
    """Write what is still held back, or let it be forgotten: else Python tries again as it ends, and complains."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        with suppress(OSError, ValueError):  # it is no file, as in tests
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def hold_descriptors() -> None:
    """Open `/dev/null` at each of the descriptors 0 to 2 that is closed.

    Else the next file to be opened would get its number, and what libraries say on their standard error would be
    written into it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is this one


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a standard stream is there and is a terminal."""
    return stream is not None and stream.isatty()


_ROOM = "nmt"


class _StderrHandler(logging.Handler):
    """Writes to what `sys.stderr` is at that moment: a live progress line puts itself in between."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a message, with its level if that is a warning or worse."""
        if sys.stderr is None:
            return
        try:
            level = f"nmt: {record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
            sys.stderr.write(f"{level}{self.format(record)}\n")
            sys.stderr.flush()
        except Exception:
            self.handleError(record)


def show_everything() -> None:
    """Show also what is logged for those who look for a defect, until `log_to_stderr` ends."""
    logging.getLogger(_ROOM).setLevel(logging.DEBUG)


@contextmanager
def log_to_stderr() -> Iterator[None]:
    """Show what the toolkit logs while the block runs: INFO and above."""
    logger = logging.getLogger(_ROOM)
    level, propagate = logger.level, logger.propagate
    handler = _StderrHandler()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def file_chunks(path: Path) -> Iterator[list[str]]:
    """The lines of a file in chunks of `CHUNK_LINES`, decompressed if it is compressed.

    Raises:
        DataError: the file cannot be read or is not UTF-8, with its line.
    """
    from nmt.data.lines import read_lines

    return chunked(read_lines(path), CHUNK_LINES)


def chunked(lines: Iterator[str], chunk_lines: int) -> Iterator[list[str]]:
    """Yield lines in chunks of so many, or fewer that have `CHUNK_CHARACTERS` together."""
    chunk, characters = list[str](), 0
    for line in lines:
        chunk.append(line)
        characters += len(line)
        if len(chunk) == chunk_lines or characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def stdin_chunks() -> Iterator[list[str]]:
    r"""The lines of standard input in chunks: all that has arrived, up to `CHUNK_LINES`.

    So a filter between two programs answers while its input stays open. A line ends at `\n` and nowhere else.

    Raises:
        DataError: standard input is closed; while reading: it cannot be read, or a line is not UTF-8, with its number.
    """
    if sys.stdin is None:
        raise DataError("standard input is closed: give a file")
    return _chunks_of(sys.stdin.buffer)


def _chunks_of(stream: BinaryIO) -> Iterator[list[str]]:
    from nmt.data.lines import compression, decode_line

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
            if number == 0 and (kind := compression(chunk[0])) is not None:
                raise DataError(f"standard input is compressed by {kind}: decompress it first, or give a file")
            yield [decode_line(line, "standard input", number + place) for place, line in enumerate(chunk, start=1)]
            number += len(chunk)


def json_line(content: Any) -> str:
    """Write an object as one line, in which nothing is taken for the end of a line by any reader."""
    text = json.dumps(content, ensure_ascii=False)
    for character in ("\x85", "\u2028", "\u2029"):
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f"{text}\n"


@contextmanager
def text_output(path: Path | None) -> Iterator[Write]:
    """A function that writes text to a file, or to standard output, flushed each time.

    A file gets its name when it is whole, so what stood there before survives a failure; it is compressed if the
    name ends in `.gz`, `.xz`, `.bz2` or `.zst`. What it replaces hands on its mode and owner, and is not replaced if it
    may not be written to. What is no ordinary file (`/dev/null`, a named pipe) is written to as it is.

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
        replaced = None if in_place else check_replaceable(target)
        with (
            nullcontext(path) if in_place else new_file(target) as place,
            _open(place, ending=path.suffix, append=in_place) as file,
        ):
            if replaced is not None:  # before any text is in it
                hand_on_mode(target, place, replaced)
            yield lambda text: file.write(text.encode("utf-8"))


def check_replaceable(path: Path) -> os.stat_result | None:
    """Return what a file is that is there already.

    Raises:
        OSError: it may not be written to.
    """
    if not path.exists():
        return None
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return path.stat()


def hand_on_mode(target: Path, place: Path, replaced: os.stat_result) -> None:
    """Give the file that will replace another one its mode and owner, as far as that can be."""
    with suppress(OSError):  # some file systems have no modes, and only root gives files away
        shutil.copymode(target, place)
        os.chown(place, replaced.st_uid, replaced.st_gid)


def compressor(ending: str) -> Callable[[bytes], bytes]:
    """Return what compresses a part of a file by itself: parts one behind the other are a file again.

    Raises:
        ConfigError: it is to be zstd, and the package zstandard is not installed.
    """
    if ending == ".zst":
        from nmt.data.lines import load_zstandard

        return cast(Callable[[bytes], bytes], load_zstandard().ZstdCompressor(write_checksum=True).compress)
    if ending not in _COMPRESSIONS:
        return bytes
    compress = import_module(_COMPRESSIONS[ending]).compress
    return partial(compress, mtime=0) if ending == ".gz" else compress


def _open(path: Path, *, ending: str, append: bool) -> BinaryIO:
    mode = "ab" if append else "wb"
    if ending == ".zst":
        from nmt.data.lines import load_zstandard

        zstandard = load_zstandard()
        context = zstandard.ZstdCompressor(write_checksum=True)
        return cast(BinaryIO, zstandard.open(path, mode, cctx=context))
    if ending == ".gz":
        from gzip import GzipFile

        file = path.open(mode)
        made = GzipFile(filename="", mode=mode, fileobj=file, mtime=0)  # else its header has the temporary name
        made.myfileobj = cast(Any, file)  # which it closes
        return cast(BinaryIO, made)
    module = import_module(_COMPRESSIONS.get(ending, "io"))
    return cast(BinaryIO, module.open(path, mode))


def _write_to_stdout(text: str) -> None:
    # Bytes, because a text stream would write in the encoding of the terminal's locale.
    with naming(STANDARD_OUTPUT):
        sys.stdout.buffer.write(text.encode("utf-8"))
        sys.stdout.buffer.flush()


_LOG_SECONDS = 60.0
"""How often progress is logged if there is no terminal to show it on."""

logger = logging.getLogger(__name__)


@contextmanager
def line_counter(
    *,
    total: int | None = None,
    before: int = 0,
    hidden: bool = False,
    console: Console | None = None,
    waiting: str = "opening the model",
) -> Iterator[Callable[[int], None]]:
    """A function that is told how many more lines were translated, and says how many there are, how fast, how long yet.

    On a terminal that is one passing line. Elsewhere it is logged once a minute if the number of lines is known.

    Args:
        total: how many there will be, if that is known.
        before: how many of these were translated before.
        hidden: show nothing in any case.
        console: where to draw; standard error unless given.
        waiting: what is done before the first.
    """
    lines = _CountedLines(total, before)
    if hidden or not (is_terminal(sys.stderr) if console is None else console.is_terminal):

        def log(num_lines: int) -> None:
            lines.add(num_lines)
            if not hidden and total is not None and lines.seconds >= _LOG_SECONDS * (lines.logged + 1):
                lines.logged = int(lines.seconds / _LOG_SECONDS)
                logger.info("%s", lines.describe())

        yield log
        return
    # Most calls have no terminal, and need none of these.
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    def show(num_lines: int) -> None:
        lines.add(num_lines)
        live.update(Text(lines.describe()))

    with Live(Text(waiting), console=console or Console(stderr=True), transient=True) as live:
        yield show


class _CountedLines:
    """How many lines were translated, since when.

    Args:
        total: how many there will be, if that is known.
        before: how many were translated before.
    """

    def __init__(self, total: int | None, before: int) -> None:
        self.total, self.count, self.logged = total, before, 0
        self._began: tuple[float, int] | None = None

    @property
    def seconds(self) -> float:
        """Since the first of them were done: opening the model and waiting for input is not translating."""
        return 0.0 if self._began is None else time.monotonic() - self._began[0]

    def add(self, num_lines: int) -> None:
        """Count some more."""
        self.count += num_lines
        self._began = self._began or (time.monotonic(), self.count)

    def describe(self) -> str:
        """Return the counts in one line."""
        rate = (self.count - self._began[1]) / self.seconds if self._began and self.seconds else 0.0
        words = [
            f"{self.count:,}{'' if self.total is None else f' of {self.total:,}'} lines",
            describe_seconds(self.seconds),
        ]
        if rate:
            words.append(f"{rate:,.1f} lines/s")
            if self.total is not None:
                words.append(f"{describe_seconds(max(0, self.total - self.count) / rate)} left")
        return "  ".join(words)
