"""The standard streams of a process, each of which may be closed, or full, or a pipe that nobody reads any more."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any, TextIO, cast

from nmt.errors import DataError

STANDARD_OUTPUT = "standard output"


class NamedStdout:
    """Standard output that says its name where it cannot be written to; where there is none, that is said.

    Python sets `sys.stdout` to None where the stream is closed, and whoever prints to it meanwhile (help pages too)
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
        """Write a message, with its level where that is a warning or worse."""
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
