"""How a run stops in good order, and how its workers stay in step: one clock, stops all know of, one validation."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from nmt.training.events import Validation

if TYPE_CHECKING:  # the command line needs `Interrupted` before TensorFlow is imported
    import keras

    from nmt.backend.replicas import Replicas

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What ends a run in good order: Ctrl-C, a scheduler, a terminal that is closed."""

_FIGURES = ("loss", "perplexity", "accuracy", "bleu")
"""What the other workers need of a validation."""


class Interrupted(BaseException):
    """A run was stopped by a signal, after its checkpoint was saved.

    No `Exception`: Keras wraps those that pass through a layer, and one can while a model is being traced.

    Args:
        signal_number: the signal; a process that ends because of it exits with 128 + signal_number.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number


class Lockstep:
    """What one worker does to stay in step with the others. All workers call the same methods in the same order.

    The first signal that asks for a stop is only noted, and raised by `check`, so that an update is never torn apart;
    inside `interruptible` it is raised at once. The second one falls back to what Python does by default.

    Args:
        replicas: those of the run.
    """

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas
        self._asked: int | None = None  # the signal that this worker got
        self._agreed: int | None = None  # the one that all workers know of
        self._interruptible = False
        self._heeded: list[int] = []

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note signals that ask this worker to stop, while the block runs; see `handling_stops` for when not."""
        with handling_stops(self._note) as self._heeded:
            yield

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let a signal to this worker break off the block at once, for work that can be done again."""
        if self._asked is not None:
            raise Interrupted(self._asked)
        self._interruptible = True
        try:
            yield
        finally:
            self._interruptible = False

    def check(self) -> None:
        """Raise `Interrupted` if a signal came; of several workers only if all know of it."""
        if self._agreed is not None:
            raise Interrupted(self._agreed)

    def agreed(self, seconds: float) -> float:
        """Return the chief's time, and take in whether any worker was asked to stop."""
        asked = [float(number == self._asked) for number in STOP_SIGNALS]
        seconds, *asked = self._replicas.exchange([seconds if self._replicas.is_chief else 0.0, *asked])
        stops = [number for number, count in zip(STOP_SIGNALS, asked, strict=True) if count]
        self._agreed = max(stops, default=self._agreed)
        return seconds

    def judged(self, judge: Callable[[], Validation]) -> Validation:
        """Return the chief's validation, of which the other workers get the figures alone.

        Args:
            judge: validates; called on the chief.

        Raises:
            Interrupted: on all workers, if a signal broke it off.
        """
        self.check()
        validation, found = None, {}
        if self._replicas.is_chief:
            try:
                validation = judge()
                found = {name: getattr(validation, name) for name in _FIGURES}
            except Interrupted as interrupted:
                found = {"signal": interrupted.signal_number}
        found = json.loads(self._replicas.send_text(json.dumps(found)))
        if "signal" in found:
            self._agreed = found["signal"]
            self.check()
        return validation or Validation(**found)

    def restored(
        self, state: dict[str, Any] | None, parts: Iterable[Mapping[str, keras.Variable]]
    ) -> dict[str, Any] | None:
        """Return the state that the chief restored, and give variables the values that they have there.

        Args:
            state: what the chief restored, JSON values; None if there was nothing, and on other workers.
            parts: variables by name.
        """
        for part in parts:
            self._replicas.send_variables(list(part.values()))
        return json.loads(self._replicas.send_text(json.dumps(state)))

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._asked = number
        if self._replicas.workers == 1:
            self._agreed = number
        for other in self._heeded:
            signal.signal(other, signal.default_int_handler if other == signal.SIGINT else signal.SIG_DFL)
        if self._interruptible:
            self._interruptible = False
            raise Interrupted(number)


@contextmanager
def handling_stops(handler: Any) -> Iterator[list[int]]:
    """Handle the stop signals while the block runs, but for those that the process ignores, as `nohup` has it.

    Outside the main thread Python cannot handle signals, and nothing is done.

    Args:
        handler: as for `signal.signal`; the system's own ends a wait at once that Python cannot break off.

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
