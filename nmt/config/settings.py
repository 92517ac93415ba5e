"""The root of the settings: everything that describes a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from nmt.config.data import DataSettings, SentencePieceSettings
from nmt.config.model import ModelSettings, TransformerSettings
from nmt.config.paths import FilePath
from nmt.config.search import SearchSettings
from nmt.config.section import AUTO, REQUIRED, Misfit, Section, setting
from nmt.config.training import TrainingSettings

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
