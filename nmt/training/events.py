"""What happens in a run, and who is told of it: the log, `metrics.jsonl` and TensorBoard."""

import json
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from nmt.atomic_files import replace_file
from nmt.backend import session
from nmt.errors import TrainingError
from nmt.kinds import describe_seconds
from nmt.streams import Seen
from nmt.text.vocabulary import MOST_UNKNOWN

logger = logging.getLogger(__name__)

figures_logger = logging.getLogger(f"{__name__}.figures")
"""Gets the lines of figures, which a live line on a terminal replaces."""

_SECONDS_BETWEEN_ENCODING_LINES = 15.0

_MUCH_VALIDATION = 0.2
"""The share of the time above which the log says how to validate less."""


@dataclass(frozen=True)
class UpdateEvent:
    """The updates since the last such event.

    update: updates made so far.
    epoch: passes over the corpus begun, counted from 1.
    epoch_share: share of this epoch that is done, 0 to 1.
    loss: mean training loss per real target token, label smoothing included, in nats.
    learning_rate: of the last update.
    gradient_norm: global norm before clipping, of the last update.
    tokens_per_second: real target tokens (EOS counted, padding not).
    padded_share: share of the cells of both sides that held padding, 0 to 1.
    skipped: updates skipped so far because their loss was not finite.
    trained_seconds: wall time of the whole run so far, earlier starts included.
    remaining_seconds: estimate until the first limit is reached; None without one.
    stage: of a mixture, the name of the stage; `epoch` is then the round within it.
    seen: of a mixture, what of each corpus was drawn so far.
    """

    update: int
    epoch: int
    epoch_share: float
    loss: float
    learning_rate: float
    gradient_norm: float
    tokens_per_second: float
    padded_share: float
    skipped: int
    trained_seconds: float
    remaining_seconds: float | None
    stage: str | None = None
    seen: Mapping[str, Seen] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """One validation sentence, its reference and what the model makes of it."""

    source: str
    reference: str
    hypothesis: str


@dataclass(frozen=True)
class SetScores:
    """Loss and BLEU of one of several validation sets, as those of `Validation`."""

    loss: float
    bleu: float


@dataclass(frozen=True)
class Validation:
    """How good the model is on the validation corpus, or of several on the one that decides.

    loss: unsmoothed cross-entropy per real target token, in nats, EOS counted.
    perplexity: exp(loss).
    accuracy: share of real target tokens that get the highest logit, 0 to 1.
    bleu: corpus BLEU of the translations, 0 to 100.
    cut_lines: lines whose translation is as long as allowed, so that it was cut or the model repeats itself.
    unknown_share: share of the reference tokens that are `<unk>`, 0 to 1, which the first three count like others.
    samples: a few translations.
    sets: of several named validation sets each, that which decides first; empty if there is one without a name.
    weights: `ema` or `raw`: of which this is, as they stand higher; None if no moving average is kept.
    other_loss: loss of the others.
    other_bleu: BLEU of the others; None if their loss is the higher one, so that nothing was translated with them.
    """

    loss: float
    perplexity: float
    accuracy: float
    bleu: float
    cut_lines: int = 0
    unknown_share: float = 0.0
    samples: tuple[Sample, ...] = ()
    sets: Mapping[str, SetScores] = field(default_factory=dict)
    weights: str | None = None
    other_loss: float | None = None
    other_bleu: float | None = None

    def score(self, metric: str) -> float:
        """Return the score by `bleu` or `loss`, higher is better; it is not finite if the loss is not."""
        scores = {"bleu": self.bleu, "loss": -self.loss}
        return scores[metric] if math.isfinite(self.loss) else -math.inf


@dataclass(frozen=True)
class ValidationEvent:
    """A validation after `update` updates; `is_best` by the metric that the run is judged by."""

    update: int
    validation: Validation
    is_best: bool
    seconds: float


@dataclass(frozen=True)
class CheckpointEvent:
    """A checkpoint that is being written; `seconds` is how long training waited for that."""

    update: int
    path: Path
    seconds: float


@dataclass(frozen=True)
class EndEvent:
    """The end of a run by one of its limits.

    update: updates made.
    reason: the limit, in words.
    trained_seconds: wall time of the whole run, earlier starts included.
    validation_seconds: that of its validations.
    validate_every_updates: as it was set.
    cut_short: what it came before, as clauses; see `Schedule.cut_short`.
    """

    update: int
    reason: str
    trained_seconds: float
    validation_seconds: float
    validate_every_updates: int
    cut_short: tuple[str, ...]


@dataclass(frozen=True)
class EncodingEvent:
    """Encoding of the training corpus, before the run begins.

    pairs: pairs of lines done so far.
    total: pairs of the corpus; None if they were not counted.
    seconds: since it began.
    """

    pairs: int
    total: int | None
    seconds: float

    @property
    def remaining_seconds(self) -> float | None:
        """Estimate of the time left; None if the pairs were not counted."""
        return None if self.total is None else self.seconds * max(0, self.total - self.pairs) / max(1, self.pairs)


class Reporter:
    """Receives events; overrides what it cares for. It must not change the run."""

    def on_encoding(self, event: EncodingEvent) -> None:
        """Take in how far the encoding of a large corpus is: called often, and not at all if it lies encoded."""

    def on_start(self, update: int) -> None:
        """Take in that the run begins, or goes on after so many updates."""

    def on_update(self, event: UpdateEvent) -> None:
        """Take in the figures of the updates since the last call."""

    def on_validation(self, event: ValidationEvent) -> None:
        """Take in a validation."""

    def on_checkpoint(self, event: CheckpointEvent) -> None:
        """Take in that a checkpoint is being written."""

    def on_end(self, event: EndEvent) -> None:
        """Take in that a limit has ended the run; not called if it was interrupted."""

    def on_notice(self, text: str) -> None:
        """Take in a sentence for the user, such as a skipped update or the reason of the end."""

    def close(self) -> None:
        """Flush and release what is held; nothing follows."""


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
        if event.seen:
            figures_logger.info("    seen of %s", describe_seen(event.seen))

    def on_validation(self, event: ValidationEvent) -> None:
        """Log the figures, and the samples below them."""
        for line in describe_validation(event):
            logger.info("%s", line)

    def on_checkpoint(self, event: CheckpointEvent) -> None:
        """Log where the checkpoint is."""
        logger.info("saving %s (%.2f s)", event.path.name, event.seconds)

    def on_end(self, event: EndEvent) -> None:
        """Log what the run ended before, and what share of the time validations took."""
        if event.cut_short:
            logger.warning(
                "the run was ended by %s before %s: a longer run, or settings for a short one, may do better",
                event.reason, " and ".join(event.cut_short),
            )  # fmt: skip
        is_much = event.validation_seconds > _MUCH_VALIDATION * event.trained_seconds
        logger.log(logging.WARNING if is_much else logging.INFO, "%s", describe_validation_time(event))

    def on_notice(self, text: str) -> None:
        """Log a warning."""
        logger.warning("%s", text)


def describe_update(event: UpdateEvent, *, brief: bool = False) -> str:
    """Return one line of figures, in brief those that a person at a terminal looks for."""
    parts = [
        f"update {event.update:,}",
        *([] if event.stage is None else [f"stage {event.stage}"]),
        f"{'epoch' if event.stage is None else 'round'} {event.epoch} ({100.0 * event.epoch_share:.0f}%)",
        f"loss {event.loss:.4f}",
        *([] if brief else [f"learning rate {event.learning_rate:.3g}"]),
        f"{event.tokens_per_second:,.0f} target tokens/s",
        *_left(event.remaining_seconds),
        *([f"{event.skipped} skipped"] if event.skipped else []),
    ]
    return "  ".join(parts)


def describe_seen(seen: Mapping[str, Seen]) -> str:
    """Return what was seen of the corpora of a mixture."""
    return ", ".join(f"{name}: {found.pairs:,} pairs ({found.epochs:.2f} epochs)" for name, found in seen.items())


def describe_validation(event: ValidationEvent) -> Iterator[str]:
    """Yield the figures of a validation, what is to be known about them, and the samples, line by line."""
    found, best = event.validation, "  new best" if event.is_best else ""
    yield (
        f"validation after update {event.update:,}: loss {found.loss:.4f}  perplexity {found.perplexity:.2f}  "
        f"accuracy {100.0 * found.accuracy:.1f}%  BLEU {found.bleu:.2f}{best}  ({event.seconds:.1f} s)"
    )
    if found.unknown_share > MOST_UNKNOWN:
        share = f"{100.0 * found.unknown_share:.1f}%"
        yield f"    perplexity and accuracy count <unk>, {share} of the reference tokens, as right answers"
    if found.weights is not None and found.other_loss is not None:
        names = {"ema": "moving average", "raw": "raw weights"}
        this, other = names.pop(found.weights), *names.values()
        bleu = "" if found.other_bleu is None else f", BLEU {found.other_bleu:.2f}"
        yield f"    of the {this}; {other}: loss {found.other_loss:.4f}{bleu}"
    if found.cut_lines:
        cut = "1 translation is" if found.cut_lines == 1 else f"{found.cut_lines:,} translations are"
        limits = "search.max_length_ratio, max_length_offset and max_length"
        yield f"    {cut} as long as {limits} allow: cut, or repeating"
    for name, scores in found.sets.items():
        yield f"    {name}: loss {scores.loss:.4f}  BLEU {scores.bleu:.2f}"
    for sample in found.samples:
        yield from (f"    {name:<11} {text}" for name, text in asdict(sample).items())


def describe_validation_time(event: EndEvent) -> str:
    """Return what share of the time validations took, and what to set if that is much."""
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
    pairs = f"{event.pairs:,} pairs"
    if event.total:
        pairs = f"{event.pairs:,} of {event.total:,} pairs ({100.0 * event.pairs / event.total:.0f}%)"
    speed = f"{event.pairs / max(event.seconds, 1e-9):,.0f} pairs/s"
    return "  ".join([f"encoding the training corpus: {pairs}", speed, *_left(event.remaining_seconds)])


def _left(seconds: float | None) -> list[str]:
    return [] if seconds is None else [f"{describe_seconds(seconds)} left"]


class MetricsFile(Reporter):
    """Appends what is reported to `metrics.jsonl`.

    If the disk refuses, the run ends with a `TrainingError`: it goes on from its last checkpoint, and so loses no
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
            content, kept = self._path.read_bytes() if self._path.exists() else b"", []
            for line in content.split(b"\n")[:-1]:  # what is behind the last end was torn by a kill
                with suppress(ValueError):
                    record = json.loads(line)
                    if record["update"] <= update and record.get("kind") != "end":
                        kept.append(line + b"\n")
            replace_file(self._path, b"".join(kept))
            self._file = self._path.open("a", encoding="utf-8")

    def on_update(self, event: UpdateEvent) -> None:
        """Write a line of kind `update`."""
        figures = asdict(event)
        of_mixture = {"stage": figures.pop("stage"), "seen": figures.pop("seen")}
        if event.stage is not None:
            figures |= of_mixture | {"seen": {name: found._asdict() for name, found in event.seen.items()}}
        self._write("update", figures)

    def on_validation(self, event: ValidationEvent) -> None:
        """Write a line of kind `validation`, without the samples."""
        figures = asdict(event.validation)
        del figures["samples"]
        if not figures["sets"]:
            del figures["sets"]
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


class TensorBoardReporter(Reporter):
    """Writes figures and sample translations as TensorBoard events.

    Args:
        directory: where the event files go; each start of a run adds one.
    """

    def __init__(self, directory: Path) -> None:
        self._writer = session.event_file(directory)

    def on_update(self, event: UpdateEvent) -> None:
        """Write loss, learning rate, gradient norm and speed."""
        for name in ("loss", "learning_rate", "gradient_norm", "tokens_per_second", "padded_share"):
            session.write_event(self._writer, f"training/{name}", getattr(event, name), event.update)

    def on_validation(self, event: ValidationEvent) -> None:
        """Write loss, perplexity, accuracy, BLEU and the samples."""
        for name in ("loss", "perplexity", "accuracy", "bleu"):
            session.write_event(self._writer, f"validation/{name}", getattr(event.validation, name), event.update)
        for number, sample in enumerate(event.validation.samples, start=1):
            table = "".join(f"| {name} | {text} |\n" for name, text in asdict(sample).items())
            session.write_event(self._writer, f"validation/sample_{number}", f"| | |\n|---|---|\n{table}", event.update)

    def close(self) -> None:
        """Flush and close the file."""
        self._writer.close()
