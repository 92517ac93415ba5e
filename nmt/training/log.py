"""The log of a run: what happens, as lines of text."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from nmt.atomic_files import replace_file
from nmt.errors import TrainingError
from nmt.text.vocabulary import MOST_UNKNOWN
from nmt.training.events import CheckpointEvent, EncodingEvent, EndEvent, Reporter, UpdateEvent, ValidationEvent

logger = logging.getLogger(__name__)

figures_logger = logging.getLogger(f"{__name__}.figures")
"""Gets the lines of figures, which a live line on a terminal replaces."""

_SECONDS_BETWEEN_ENCODING_LINES = 15.0

_MUCH_VALIDATION = 0.2
"""The share of the time above which the log says how to validate less."""


@contextmanager
def log_to_file(path: Path) -> Iterator[None]:
    """Append what the package logs to a file while the block runs."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    package = logging.getLogger("nmt")
    level = package.level
    package.addHandler(handler)
    package.setLevel(min(level or logging.INFO, logging.INFO))
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(level)
        handler.close()


class LogReporter(Reporter):
    """Writes a run's events to the log, level INFO; notices are warnings."""

    def __init__(self) -> None:
        self._encoding_logged = 0.0

    def on_encoding(self, event: EncodingEvent) -> None:
        """Log how far it is, a few times a minute."""
        if event.seconds - self._encoding_logged >= _SECONDS_BETWEEN_ENCODING_LINES:
            self._encoding_logged = event.seconds
            figures_logger.info("%s", describe_encoding(event))

    def on_start(self, update: int) -> None:
        """Log where the run begins."""
        if update:
            logger.info("going on after update %s", f"{update:,}")

    def on_update(self, event: UpdateEvent) -> None:
        """Log one line of figures."""
        figures_logger.info("%s", describe_update(event))

    def on_validation(self, event: ValidationEvent) -> None:
        """Log the figures, and the samples below them."""
        found = event.validation
        logger.info(
            "validation after update %s: loss %.4f  perplexity %.2f  accuracy %.1f%%  BLEU %.2f%s  (%.1f s)",
            f"{event.update:,}", found.loss, found.perplexity, 100.0 * found.accuracy, found.bleu,
            "  new best" if event.is_best else "", event.seconds,
        )  # fmt: skip
        if found.unknown_share > MOST_UNKNOWN:
            logger.info(
                "    perplexity and accuracy count <unk>, %.1f%% of the reference tokens, as right answers",
                100.0 * found.unknown_share,
            )
        if found.weights is not None and found.other_loss is not None:
            names = {"ema": "moving average", "raw": "raw weights"}
            other = names["raw" if found.weights == "ema" else "ema"]
            bleu = "" if found.other_bleu is None else f", BLEU {found.other_bleu:.2f}"
            logger.info("    of the %s; %s: loss %.4f%s", names[found.weights], other, found.other_loss, bleu)
        if found.cut_lines:
            logger.info(
                "    %s as long as search.max_length_ratio, max_length_offset and max_length allow: cut, or repeating",
                "1 translation is" if found.cut_lines == 1 else f"{found.cut_lines:,} translations are",
            )
        for sample in found.samples:
            logger.info("    source      %s", sample.source)
            logger.info("    reference   %s", sample.reference)
            logger.info("    hypothesis  %s", sample.hypothesis)

    def on_checkpoint(self, event: CheckpointEvent) -> None:
        """Log where the checkpoint is."""
        logger.info("saving %s (%.2f s)", event.path.name, event.seconds)

    def on_end(self, event: EndEvent) -> None:
        """Log what was cut short, and what share of the time validations took."""
        if event.cut_short:
            logger.warning(
                "the run was ended by %s, which cut short %s: a longer run, or settings for a short one, may do better",
                event.reason, " and ".join(event.cut_short),
            )  # fmt: skip
        share = event.validation_seconds / max(event.trained_seconds, 1e-9)
        logger.log(
            logging.INFO if share <= _MUCH_VALIDATION else logging.WARNING, "%s", describe_validation_time(event)
        )

    def on_notice(self, text: str) -> None:
        """Log a warning."""
        logger.warning("%s", text)


def describe_update(event: UpdateEvent) -> str:
    """Return one line of figures."""
    parts = [
        f"update {event.update:,}",
        f"epoch {event.epoch} ({100.0 * event.epoch_share:.0f}%)",
        f"loss {event.loss:.4f}",
        f"learning rate {event.learning_rate:.3g}",
        f"{event.tokens_per_second:,.0f} target tokens/s",
    ]
    if event.remaining_seconds is not None:
        parts.append(f"{describe_seconds(event.remaining_seconds)} left")
    if event.skipped:
        parts.append(f"{event.skipped} skipped")
    return "  ".join(parts)


def describe_validation_time(event: EndEvent) -> str:
    """Return what share of the time validations took, and what to set where that is much."""
    whole, part = max(event.trained_seconds, 1e-9), event.validation_seconds
    text = f"validation took {part / whole:.0%} of the time ({_span(part)} of {_span(whole)})"
    if part <= _MUCH_VALIDATION * whole:
        return text
    usual = (whole - part) * _MUCH_VALIDATION / (1.0 - _MUCH_VALIDATION)  # seconds that would have been that share
    every = math.ceil(event.validate_every_updates * part / max(usual, 1e-9))
    rarer = f"set training.validate_every_updates to {every:,} or more" if every <= event.update else "train longer"
    return f"{text}: {rarer}, or give data.validation fewer lines"


def _span(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60.0 else describe_seconds(seconds)


def describe_encoding(event: EncodingEvent) -> str:
    """Return how far encoding is, in one line."""
    parts = [f"encoding the training corpus: {event.pairs:,} pairs"]
    if event.total:
        parts = [
            f"{parts[0].removesuffix(' pairs')} of {event.total:,} pairs ({100.0 * event.pairs / event.total:.0f}%)"
        ]
    parts.append(f"{event.pairs / max(event.seconds, 1e-9):,.0f} pairs/s")
    if event.remaining_seconds is not None:
        parts.append(f"{describe_seconds(event.remaining_seconds)} left")
    return "  ".join(parts)


def describe_seconds(seconds: float) -> str:
    """Return a span of time as h:mm:ss, or m:ss below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class MetricsFile(Reporter):
    """Appends what is reported to `metrics.jsonl`.

    Where the disk refuses, the run ends with a `TrainingError`: it goes on from its last checkpoint, and so loses no
    figure.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def on_start(self, update: int) -> None:
        """Open the file, and drop lines of updates that an interrupted start made and that will be made again.

        What an earlier start took for the end goes too.
        """
        with self._writing():
            kept = _lines_up_to(self._path, update) if self._path.exists() else []
            replace_file(self._path, "".join(kept).encode("utf-8"))
            self._file = self._path.open("a", encoding="utf-8")

    def on_update(self, event: UpdateEvent) -> None:
        """Write a line of kind `update`."""
        self._write("update", asdict(event))

    def on_validation(self, event: ValidationEvent) -> None:
        """Write a line of kind `validation`, without the samples."""
        figures = asdict(event.validation)
        del figures["samples"]
        own = {"update": event.update, "is_best": event.is_best, "seconds": event.seconds}
        self._write("validation", own | figures)

    def on_end(self, event: EndEvent) -> None:
        """Write a line of kind `end`."""
        self._write("end", asdict(event))

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            with suppress(OSError):  # all was flushed, but for what has been refused already
                self._file.close()

    def _write(self, kind: str, figures: dict[str, Any]) -> None:
        if self._file is not None:
            with self._writing():
                self._file.write(json.dumps({"kind": kind, **figures}) + "\n")
                self._file.flush()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise TrainingError(
                f"{self._path}: cannot be written: {error.strerror}; the checkpoints are intact: mend that, and the "
                "same command goes on with the run"
            ) from error


def _lines_up_to(path: Path, update: int) -> list[str]:
    """Return the whole lines of updates up to `update`; a line torn by a kill is dropped."""
    kept = []
    for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if record["update"] <= update and record.get("kind") != "end":
            kept.append(line + "\n")
    return kept


class TensorBoardReporter(Reporter):
    """Writes figures and sample translations as TensorBoard events.

    Args:
        directory: where the event files go; each start of a run adds one.
    """

    def __init__(self, directory: Path) -> None:
        from nmt.backend.event_file import EventFile  # which imports TensorFlow, and the rest of this module is light

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
