"""What happens in a run, as told to whoever reports it (a progress line, log files, a notebook)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class UpdateEvent:
    """The updates since the last such event.

    update: updates made so far.
    epoch: passes over the corpus begun, counted from 1.
    epoch_share: share of this epoch that is done, 0 to 1.
    loss: mean training loss a real target token, label smoothing included, in nats.
    learning_rate: of the last update.
    gradient_norm: global norm before clipping, of the last update.
    tokens_per_second: real target tokens (EOS counted, padding not).
    padded_share: share of the cells of both sides that held padding, 0 to 1.
    skipped: updates skipped so far because their loss was not finite.
    trained_seconds: wall time of the whole run so far, earlier starts included.
    remaining_seconds: estimate until the first limit is reached; None without one.
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


@dataclass(frozen=True)
class Sample:
    """One validation sentence, its reference and what the model makes of it."""

    source: str
    reference: str
    hypothesis: str


@dataclass(frozen=True)
class Validation:
    """How good the model is on the validation corpus.

    loss: unsmoothed cross-entropy a real target token, in nats, EOS counted.
    perplexity: exp(loss).
    accuracy: share of real target tokens that get the highest logit, 0 to 1.
    bleu: corpus BLEU of the translations, 0 to 100.
    cut_lines: lines whose translation is as long as allowed, so that it was cut or the model repeats itself.
    unknown_share: share of the reference tokens that are `<unk>`, 0 to 1, which the first three count like others.
    samples: a few translations.
    weights: `ema` or `raw`: of which this is, as they stand higher; None where no moving average is kept.
    other_loss: loss of the others.
    other_bleu: BLEU of the others; None where their loss is the higher one, so that nothing was translated with them.
    """

    loss: float
    perplexity: float
    accuracy: float
    bleu: float
    cut_lines: int = 0
    unknown_share: float = 0.0
    samples: tuple[Sample, ...] = ()
    weights: str | None = None
    other_loss: float | None = None
    other_bleu: float | None = None


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
    cut_short: what did not come to its end, in words.
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
    total: pairs of the corpus; None where they were not counted.
    seconds: since it began.
    """

    pairs: int
    total: int | None
    seconds: float

    @property
    def remaining_seconds(self) -> float | None:
        """Estimate of the time left; None where the pairs were not counted."""
        return None if self.total is None else self.seconds * max(0, self.total - self.pairs) / max(1, self.pairs)


class Reporter:
    """Receives events; overrides what it cares for. It must not change the run."""

    def on_encoding(self, event: EncodingEvent) -> None:
        """Take in how far the encoding of a large corpus is: called often, and not at all where it lies encoded."""

    def on_start(self, update: int) -> None:
        """Take in that the run begins, or goes on after so many updates."""

    def on_update(self, event: UpdateEvent) -> None:
        """Take in the figures of the updates since the last call."""

    def on_validation(self, event: ValidationEvent) -> None:
        """Take in a validation."""

    def on_checkpoint(self, event: CheckpointEvent) -> None:
        """Take in that a checkpoint is being written."""

    def on_end(self, event: EndEvent) -> None:
        """Take in that a limit has ended the run; not called where it was interrupted."""

    def on_notice(self, text: str) -> None:
        """Take in a sentence for the user, such as a skipped update or the reason of the end."""

    def close(self) -> None:
        """Flush and release what is held; nothing follows."""
