"""The figures of a run for TensorBoard."""

from __future__ import annotations

from pathlib import Path

from nmt.backend.event_file import EventFile
from nmt.training.events import Reporter, UpdateEvent, ValidationEvent


class TensorBoardReporter(Reporter):
    """Writes figures and sample translations as TensorBoard events.

    Args:
        directory: where the event files go; each start of a run adds one.
    """

    def __init__(self, directory: Path) -> None:
        self._events = EventFile(directory)

    def on_update(self, event: UpdateEvent) -> None:
        """Write loss, learning rate, gradient norm and speed."""
        for name in ("loss", "learning_rate", "gradient_norm", "tokens_per_second", "padded_share"):
            self._events.scalar(f"training/{name}", getattr(event, name), event.update)

    def on_validation(self, event: ValidationEvent) -> None:
        """Write loss, perplexity, accuracy, BLEU and the samples."""
        for name in ("loss", "perplexity", "accuracy", "bleu"):
            self._events.scalar(f"validation/{name}", getattr(event.validation, name), event.update)
        for number, sample in enumerate(event.validation.samples, start=1):
            rows = (("source", sample.source), ("reference", sample.reference), ("hypothesis", sample.hypothesis))
            table = "".join(f"| {name} | {text} |\n" for name, text in rows)
            self._events.text(f"validation/sample_{number}", f"| | |\n|---|---|\n{table}", event.update)

    def close(self) -> None:
        """Flush and close the file."""
        self._events.close()
