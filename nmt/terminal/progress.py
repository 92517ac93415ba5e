"""Live lines on a terminal's standard error; nothing anywhere else, where the log says it all."""

from __future__ import annotations

import logging

from rich.console import Console
from rich.live import Live
from rich.text import Text

from nmt.training import events


class LiveProgress(events.Reporter):
    """One line that shows how training goes, below what is logged.

    While it is shown, the log's own lines of figures are kept from the terminal; the log file has them.

    Args:
        console: where to draw; standard error unless given.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._live = Live(
            Text("starting"), console=console or Console(stderr=True), transient=True, refresh_per_second=4
        )
        self._figures = ""
        self._best: float | None = None

    def on_encoding(self, event: events.EncodingEvent) -> None:
        """Show how far the encoding of the corpus is."""
        self._show(events.describe_encoding(event))

    def on_update(self, event: events.UpdateEvent) -> None:
        """Show the figures."""
        self._show(events.describe_update(event, brief=True))

    def on_validation(self, event: events.ValidationEvent) -> None:
        """Remember the best BLEU."""
        if event.is_best:
            self._best = event.validation.bleu
        self._show(self._figures)

    def __enter__(self) -> LiveProgress:
        for handler in logging.getLogger("nmt").handlers:
            handler.addFilter(_is_no_figure)
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()
        for handler in logging.getLogger("nmt").handlers:
            handler.removeFilter(_is_no_figure)

    def _show(self, figures: str) -> None:
        self._figures = figures
        best = "" if self._best is None else f"  best BLEU {self._best:.2f}"
        self._live.update(Text(f"{figures}{best}", no_wrap=True, overflow="ellipsis"))


def _is_no_figure(record: logging.LogRecord) -> bool:
    return record.name != events.figures_logger.name
