"""What of a run must survive an interruption, weights and optimizer aside."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from nmt.errors import CheckpointError


@dataclass(frozen=True)
class Pending:
    """Sums since the last report, so that an interrupted run logs the same figures.

    loss: summed training loss, in nats.
    tokens: real target tokens.
    cells: cells of both sides, padding counted.
    real_cells: cells of both sides that held a token.
    seconds: wall time of these updates.
    learning_rate: of the last update.
    gradient_norm: of the last update.
    """

    loss: float = 0.0
    tokens: int = 0
    cells: int = 0
    real_cells: int = 0
    seconds: float = 0.0
    learning_rate: float = 0.0
    gradient_norm: float = 0.0


@dataclass(frozen=True)
class TrainingState:
    """The place of a run. It is replaced as a whole after each update and each validation.

    update: updates made.
    epoch, batch: the cursor, the next batch to be drawn.
    random: states of the seed generators; filled in when the state is saved.
    schedule: state of the learning rate schedule; likewise.
    metric: what the scores are, a key of `METRICS`.
    best_score: best validation score, higher is better; None before the first.
    validations_without_best: validations since then.
    validated_update: the update after which the last validation was made, 0 before the first.
    skipped: updates skipped because the loss was not finite.
    skipped_in_row: those of them since the last good one.
    trained_seconds: wall time, earlier starts included.
    pending: sums since the last report.
    """

    update: int = 0
    epoch: int = 0
    batch: int = 0
    random: dict[str, list[int]] = field(default_factory=dict)
    schedule: dict[str, Any] = field(default_factory=dict)
    metric: str = "bleu"
    best_score: float | None = None
    validations_without_best: int = 0
    validated_update: int = 0
    skipped: int = 0
    skipped_in_row: int = 0
    trained_seconds: float = 0.0
    pending: Pending = field(default_factory=Pending)

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainingState:
        """Return the state that `to_json` wrote.

        Raises:
            CheckpointError: if another version of the toolkit wrote it.
        """
        try:
            return replace(cls(**values), pending=Pending(**values["pending"]))
        except (KeyError, TypeError) as error:
            raise CheckpointError(
                f"the state of the run was saved by another version of nmt ({error}): go on with that version, or "
                "start anew with --overwrite"
            ) from error
