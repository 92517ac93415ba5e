"""When a run ends, and how long that takes."""

from __future__ import annotations

from dataclasses import dataclass

from nmt.training.state import TrainingState


@dataclass(frozen=True)
class Limits:
    """What ends a run, whichever comes first; None is no limit.

    max_updates: updates.
    max_epochs: whole passes over the corpus.
    max_minutes: wall time of training, validations and earlier starts included; so much is left free of it as the
        last validation took and its checkpoint, since there is one more at the end.
    patience: validations in a row without a new best.
    """

    max_updates: int | None = None
    max_epochs: int | None = None
    max_minutes: float | None = None
    patience: int | None = None

    def reached(self, state: TrainingState) -> str | None:
        """Return which limit a run has reached, in words, or None."""
        if self.max_updates is not None and state.update >= self.max_updates:
            return f"max_updates: {self.max_updates}"
        if self.max_epochs is not None and state.epoch >= self.max_epochs:
            return f"max_epochs: {self.max_epochs}"
        if self.max_minutes is not None and state.trained_seconds + state.closing_seconds >= 60.0 * self.max_minutes:
            return f"max_minutes: {self.max_minutes:g}"
        if self.patience is not None and state.validations_without_best >= self.patience:
            return f"early stopping: no new best in {self.patience} validations"
        return None

    def remaining_seconds(self, state: TrainingState, updates_per_epoch: float) -> float | None:
        """Estimate the wall time until the first limit but early stopping; None where nothing can be said."""
        estimates = []
        if self.max_minutes is not None:
            estimates.append(60.0 * self.max_minutes - state.closing_seconds - state.trained_seconds)
        if state.update:
            per_update = state.trained_seconds / state.update
            if self.max_updates is not None:
                estimates.append((self.max_updates - state.update) * per_update)
            if self.max_epochs is not None:
                estimates.append((self.max_epochs * updates_per_epoch - state.update) * per_update)
        return max(0.0, min(estimates)) if estimates else None
