"""How the workers of one run stay in step: the chief's clock, stops that all of them know of, one validation for all.

With one worker all of this is that worker's own business, and nothing is sent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import keras

from nmt.backend.replicas import Replicas
from nmt.training.events import Validation
from nmt.training.signals import STOP_SIGNALS, Interrupted, StopRequest


class Lockstep:
    """What one worker does to stay in step with the others. All workers call the same methods in the same order.

    Args:
        replicas: those of the run.
    """

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas
        self._alone = replicas.workers == 1
        self._stop = StopRequest()
        self._agreed_stop: int | None = None

    def listening(self) -> AbstractContextManager[None]:
        """Note signals that ask this worker to stop, while the block runs."""
        return self._stop.listening()

    def interruptible(self) -> AbstractContextManager[None]:
        """Let a signal to this worker break off the block at once, for work that can be done again."""
        return self._stop.interruptible()

    def check_within_update(self) -> None:
        """Raise `Interrupted` if a signal came; of several workers none may break off what the others go on with."""
        if self._alone:
            self._stop.check()

    def check(self) -> None:
        """Raise `Interrupted` if a signal came; of several workers only where all know of it."""
        if self._alone:
            self._stop.check()
        elif self._agreed_stop is not None:
            raise Interrupted(self._agreed_stop)

    def agreed(self, seconds: float) -> float:
        """Return the chief's time, and take in whether any worker was asked to stop."""
        if self._alone:
            return seconds
        asked = [float(number == self._stop.signal_number) for number in STOP_SIGNALS]
        seconds, *asked = self._replicas.exchange([seconds if self._replicas.is_chief else 0.0, *asked])
        stops = [number for number, count in zip(STOP_SIGNALS, asked, strict=True) if count]
        self._agreed_stop = max(stops, default=self._agreed_stop)
        return seconds

    def judged(self, judge: Callable[[], Validation]) -> Validation:
        """Return the chief's validation, of which the other workers get the figures alone.

        Args:
            judge: validates; called on the chief.

        Raises:
            Interrupted: on all workers, if a signal broke it off.
        """
        if self._alone:
            return judge()
        self.check()
        validation = None
        found: dict[str, Any] = {}
        if self._replicas.is_chief:
            try:
                validation = judge()
                found = {name: getattr(validation, name) for name in _FIGURES}
            except Interrupted as interrupted:
                found = {"signal": interrupted.signal_number}
        found = json.loads(self._replicas.send_text(json.dumps(found)))
        if "signal" in found:
            self._agreed_stop = found["signal"]
            self.check()
        return validation or Validation(**found)

    def restored(
        self, state: dict[str, Any] | None, parts: Iterable[Mapping[str, keras.Variable]]
    ) -> dict[str, Any] | None:
        """Return the state that the chief restored, and give variables the values that they have there.

        Args:
            state: what the chief restored, JSON values; None where there was nothing, and on other workers.
            parts: variables by name.
        """
        if self._alone:
            return state
        for part in parts:
            self._replicas.send_variables(list(part.values()))
        return json.loads(self._replicas.send_text(json.dumps(state)))


_FIGURES = ("loss", "perplexity", "accuracy", "bleu")
"""What the other workers need of a validation."""
