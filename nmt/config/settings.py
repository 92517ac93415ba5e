"""The root of the settings: everything that describes a run."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Any

from nmt.config.data import DataSettings, SentencePieceSettings
from nmt.config.model import ModelSettings, TransformerSettings
from nmt.config.search import SearchSettings
from nmt.config.section import AUTO, REQUIRED, FilePath, Misfit, Section, setting
from nmt.config.training import NoamSettings, PlateauSettings, TrainingSettings

FORMAT_VERSION = 1
"""The version of the files that `write` writes; `load` reads it and all before it."""

STORE_NAME = "token_store"


class Config(Section):
    """Everything that describes a run: what to learn from, what to train and how to search."""

    model_directory: FilePath = setting(
        REQUIRED, "Where settings, vocabulary, checkpoints and logs of the run are kept.", may_change=True
    )
    seed: int = setting(
        42,
        "All chance of a run follows from it: weights, order, dropout, sampled subwords, and which lines a tokenizer "
        "learns from where there are more than it takes.",
        at_least=0,
        at_most=2**32 - 1,
    )
    data: DataSettings = setting(REQUIRED, "The languages, the corpora and how text becomes tokens.")
    model: ModelSettings = setting(TransformerSettings(), "The architecture and its sizes.")
    training: TrainingSettings = setting(TrainingSettings(), "Batches, limits, saving, and the updates.")
    search: SearchSettings = setting(SearchSettings(), "How translations are looked for.", may_change=True)

    @property
    def token_store_directory(self) -> str:
        """Where the encoded corpora are kept: `data.store_directory`, or its place in the model directory."""
        return self.data.store_directory or os.path.join(self.model_directory, STORE_NAME)

    @property
    def named_files(self) -> dict[str, tuple[str, ...]]:
        """The files that are read for the run, by the setting that names them."""
        data = self.data
        corpora = {"train": data.train, "validation": data.validation, "test": data.test}
        files = {
            f"data.{name}.{side}": paths
            for name, corpus in corpora.items()
            if corpus is not None
            for side, paths in (("source", corpus.source_paths), ("target", corpus.target_paths))
        }
        if isinstance(data.tokenizer, SentencePieceSettings):
            files["data.tokenizer.model"] = data.tokenizer.model_paths
        return files

    def with_training(self, **changes: Any) -> Config:
        """Return the same run with other values in the section `training`, which are not checked."""
        return self.model_copy(update={"training": self.training.model_copy(update=changes)})

    def misfits(self) -> Iterator[Misfit]:
        """Yields misfits between sections."""
        tie = self.model.tie_embeddings
        if tie in ("source_target", "all") and not self.data.tokenizer.joint:
            yield Misfit(
                "model.tie_embeddings",
                f"must be none or target_output where data.tokenizer.joint is false, got {tie}: one embedding for both "
                "languages needs one vocabulary, so try data.tokenizer.joint true, or target_output",
            )
        batch_tokens, max_length = self.training.batch_tokens, self.data.max_length
        key = "batch_tokens"
        if batch_tokens == AUTO:  # chosen to hold the longest pair, but not above what an update shall hold
            key = "effective_batch_tokens"
            batch_tokens = self.training.effective_batch_tokens or max_length + 1
        if batch_tokens <= max_length:
            yield Misfit(
                f"training.{key}",
                f"must be above data.max_length, got {batch_tokens} and {max_length}: a batch holds at least one pair "
                f"and its closing token, so try {key} {max_length + 1} or data.max_length "
                f"{max(batch_tokens - 1, 1)}",
            )


_SMALLEST_USEFUL_PEAK = 1e-5
_LARGEST_USEFUL_ADAM_RATE = 0.1


def advice(config: Config) -> list[str]:
    """Returns remarks on settings that are valid but doubtful, one line each; the run may go on."""
    return [
        *_about_limits(config),
        *_about_learning_rate(config),
        *_about_data(config),
        *_about_averaging(config),
        *_about_initial_weights(config),
    ]


def _about_limits(config: Config) -> Iterator[str]:
    training, last = config.training, config.training.max_updates
    effective = training.effective_batch_tokens
    if effective is not None and training.batch_tokens != AUTO and effective % training.batch_tokens:
        batches = round(effective / training.batch_tokens)
        yield (
            f"training.effective_batch_tokens {effective} is no multiple of batch_tokens {training.batch_tokens}: "
            f"an update takes a whole number of batches, about {batches}"
        )
    if last is None:
        return
    if training.validate_every_updates > last:
        yield (
            f"training.validate_every_updates {training.validate_every_updates} is above max_updates {last}: "
            "there is no validation before the end"
        )
    stopping = training.early_stopping
    if stopping is not None and stopping.patience * training.validate_every_updates >= last:
        yield (
            f"training.early_stopping cannot act: patience {stopping.patience} times validate_every_updates "
            f"{training.validate_every_updates} reaches max_updates {last}"
        )


def _about_learning_rate(config: Config) -> Iterator[str]:
    training = config.training
    schedule, optimizer, last = training.schedule, training.optimizer, training.max_updates
    if last is not None and schedule.warmup_updates >= last:
        yield (
            f"training.schedule.warmup_updates {schedule.warmup_updates} is not below max_updates {last}: "
            "the learning rate never reaches its peak"
        )
    rate = optimizer.learning_rate
    if isinstance(schedule, NoamSettings):
        peak = rate / math.sqrt(config.model.hidden_size * schedule.warmup_updates)
        if peak < _SMALLEST_USEFUL_PEAK:
            yield (
                f"training.schedule noam peaks at a learning rate of {peak:.1g}: its "
                f"training.optimizer.learning_rate is a factor, usually 1 or 2, and it is {rate:g}"
            )
    elif optimizer.type != "sgd" and rate >= _LARGEST_USEFUL_ADAM_RATE:
        yield f"training.optimizer.learning_rate {rate:g} is very high for {optimizer.type}: usual are 0.0001 to 0.005"
    if isinstance(schedule, PlateauSettings) and last is not None and training.validate_every_updates > last:
        yield "training.schedule plateau never lowers the learning rate: there is no validation before the end"


def _about_data(config: Config) -> Iterator[str]:
    data = config.data
    if data.source_language == data.target_language:
        yield f"data.source_language and data.target_language are both {data.source_language}"
    for name, corpus in (("train", data.train), ("validation", data.validation), ("test", data.test)):
        if corpus is not None and name != "train" and set(corpus.source_paths) & set(data.train.source_paths):
            yield f"data.{name}.source is also read for training: its scores say nothing about new text"
    if config.search.max_length != AUTO and config.search.max_length < data.max_length:
        yield (
            f"search.max_length {config.search.max_length} is below data.max_length {data.max_length}: "
            "long sentences are translated only in part"
        )


def _about_averaging(config: Config) -> Iterator[str]:
    training = config.training
    decay, last = training.ema_decay, training.max_updates
    if decay is not None and last is not None and last * (1 - decay) < 1:
        yield (
            f"training.ema_decay {decay} averages over about {round(1 / (1 - decay))} updates, but max_updates is "
            f"{last}: so short a run averages over about the last ninth of its updates, {(10 + last) // 9}"
        )


def _about_initial_weights(config: Config) -> Iterator[str]:
    training = config.training
    if training.on_tie_change != "error" and training.initialize_from is None:
        yield f"training.on_tie_change {training.on_tie_change} means nothing without training.initialize_from"
