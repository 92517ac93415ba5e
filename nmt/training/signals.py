"""Ctrl-C, SIGTERM and SIGHUP: stop at a place from which the run can go on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What ends a run in good order: Ctrl-C, a scheduler, a terminal that is closed."""


class Interrupted(BaseException):
    """A run was stopped by a signal, after its checkpoint was saved.

    No `Exception`: Keras wraps those that pass through a layer, and one can while a model is being traced.

    Args:
        signal_number: the signal; a process that ends because of it exits with 128 + signal_number.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Let the system end the process at a signal, for a wait that Python cannot break off and that guards nothing."""
    with _handling(signal.SIG_DFL):
        yield


class StopRequest:
    """Remembers that a signal asked the run to stop.

    The first signal is only noted, and raised by `check`, so that an update is never torn apart; inside
    `interruptible` it is raised at once. The second one falls back to what Python does by default.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._interruptible = False
        self._heeded: list[int] = []

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals while the block runs; see `_handling` for where not."""
        with _handling(self._handle) as self._heeded:
            yield

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let a signal break off the block at once, for work that can be done again."""
        self.check()
        self._interruptible = True
        try:
            yield
        finally:
            self._interruptible = False

    def check(self) -> None:
        """Raise `Interrupted` if a signal came."""
        if self.signal_number is not None:
            raise Interrupted(self.signal_number)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = number
        for other in self._heeded:
            signal.signal(other, signal.default_int_handler if other == signal.SIGINT else signal.SIG_DFL)
        if self._interruptible:
            self._interruptible = False
            raise Interrupted(number)


@contextmanager
def _handling(handler: Any) -> Iterator[list[int]]:
    """Handle the stop signals while the block runs, but for those that the process ignores, as `nohup` has it.

    Outside the main thread Python cannot handle signals, and nothing is done.

    Args:
        handler: as for `signal.signal`.

    Yields:
        The signals that are handled.
    """
    if threading.current_thread() is not threading.main_thread():
        yield []
        return
    heeded: list[int] = [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, handler) for number in heeded}
    try:
        yield heeded
    finally:
        for number, before in previous.items():
            signal.signal(number, before)
