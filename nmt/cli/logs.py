"""Where log messages of a command go: standard error, one line each."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

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
