"""What a training will take, said before it begins: its memory by the estimate, and its speed by some updates."""

import logging
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nmt.backend.machine import in_gib
from nmt.config import Config
from nmt.errors import NMTError
from nmt.models.contract import Vocabularies, model_without_weights
from nmt.recipes import train
from nmt.settings.data import CorpusSettings
from nmt.text import TextPair
from nmt.training import batch_size, events

logger = logging.getLogger(__name__)

UPDATES = 30
_WARMING_UP = 10
_FEWEST_VALIDATION_PAIRS = 10


def memory_needed(config: Config, text: TextPair | None, lengths: tuple[int, int], pairs: int) -> str:
    """Say how much memory a training takes by the estimate, and how much there is.

    TensorFlow must run.

    Args:
        config: the run.
        text: its tokenizers; None takes vocabularies of the size that the settings allow.
        lengths: tokens of the longest source and target, EOS counted.
        pairs: of the training corpus.
    """
    tokenizer = config.data.tokenizer
    if text is None:
        if tokenizer.vocabulary_size is None:
            return "memory: not known before the vocabulary is built, by nmt build-vocab"
        vocabularies = Vocabularies(tokenizer.vocabulary_size, tokenizer.vocabulary_size, shared=tokenizer.joint)
    else:
        vocabularies = Vocabularies(len(text.source.vocabulary), len(text.target.vocabulary), shared=text.joint)
    limit, training = batch_size.find_limit(), config.training
    model = model_without_weights(vocabularies, **config.model.model_dump())
    source, target = lengths
    ram = batch_size.TrainingRam(config, model, limit, pairs=pairs, source_length=source, target_length=target)
    there = f", and there are {limit}" if limit.owner else ""
    if training.batch_tokens == "auto":
        least = in_gib(ram.needed(batch_size.LEAST_AUTO))
        return f"memory: batches are chosen by what there is{there}; the smallest need {least}"
    size = training.settled_batch_tokens
    words = f"memory: batches of {size:,} tokens need about {in_gib(ram.at_most(size))}{there}"
    if not ram.fits(size):
        words += ": too little, lower training.batch_tokens, data.max_length or the size of the model"
    return words


class _Stopwatch(events.Reporter):
    """Notes when each update was reported."""

    def __init__(self) -> None:
        self.seen = list[tuple[int, float, float]]()

    def on_update(self, event: events.UpdateEvent) -> None:
        self.seen.append((event.update, time.monotonic(), event.tokens_per_second))


def measured_speed(config: Config, pairs: Sequence[tuple[str, str]], text: TextPair | None) -> str:
    """Train for some updates on a sample in a directory that is deleted again, and say how fast that was.

    Args:
        config: the run.
        pairs: the sample.
        text: the tokenizers of the run; without them some are learned from the sample.
    """
    clean = [pair for pair in pairs if pair[0].strip() and pair[1].strip() and "\0" not in pair[0] + pair[1]]
    with tempfile.TemporaryDirectory(prefix="nmt-measure-") as name:
        folder, stopwatch = Path(name), _Stopwatch()
        paths = {"train": clean, "validation": clean[:_FEWEST_VALIDATION_PAIRS]}
        data: dict[str, Any] = {"test": None, "store_directory": None}
        for role, chosen in paths.items():
            path = folder / f"{role}.tsv"
            path.write_text(
                "".join("\t".join(side.replace("\t", " ") for side in pair) + "\n" for pair in chosen), "utf-8"
            )
            data[role] = CorpusSettings(pairs=str(path))
        if text is not None:
            text.save(folder / "run")
        run = config.model_copy(
            update={
                "model_directory": str(folder / "run"),
                "data": config.data.model_copy(update=data),
                "search": config.search.model_copy(update={"engine": "keras"}),  # makes none of another kind
            }
        ).with_training(
            max_updates=UPDATES, max_epochs=None, max_minutes=None, early_stopping=None, initialize_from=None,
            validate_every_updates=UPDATES, save_every_updates=UPDATES, log_every_updates=_WARMING_UP,
            tensorboard=False,
        )  # fmt: skip
        package = logging.getLogger("nmt")
        level = package.level
        package.setLevel(logging.ERROR)  # what is said of these updates means nothing
        try:
            train.train(run, reporters=[stopwatch])
        except NMTError as error:
            return f"speed: not measured: {error}"
        finally:
            package.setLevel(level)
    return _told(stopwatch.seen, config.training.max_updates)


def _told(seen: Sequence[tuple[int, float, float]], max_updates: int | None) -> str:
    """The speed once TensorFlow has compiled what it needs, and what it means for the run."""
    later = [each for each in seen if each[0] >= _WARMING_UP]
    if len(later) < 2 or later[-1][0] == later[0][0]:
        return "speed: not measured: the sample gives too few updates"
    seconds = (later[-1][1] - later[0][1]) / (later[-1][0] - later[0][0])
    words = (
        f"speed: {seconds:.2f} s an update, {later[-1][2]:,.0f} target tokens per second, in updates {later[0][0]} to "
        f"{later[-1][0]}"
    )
    if not max_updates:
        return words
    hours = max_updates * seconds / 3600
    return f"{words}: training.max_updates {max_updates:,} would take about {hours:.1f} hours, without validations"
