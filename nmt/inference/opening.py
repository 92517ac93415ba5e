"""Opening a model directory: settings, tokenizers and the model with its trained weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nmt.checkpoint import load_weights
from nmt.checkpoint.selection import split_checkpoint
from nmt.config import Config
from nmt.errors import CheckpointError
from nmt.inference.model_directory import read_settings
from nmt.models.builder import build_model
from nmt.models.contract import Seq2Seq, Vocabularies
from nmt.text import TextPair
from nmt.types import PathLike


class OpenedModel(NamedTuple):
    """All that a model directory holds, ready for use.

    config: its settings, overrides included.
    text: the tokenizers.
    model: with the weights of the checkpoint.
    checkpoint: name of the checkpoint that was read.
    weights: `ema` or `raw`, which of its weights these are.
    """

    config: Config
    text: TextPair
    model: Seq2Seq
    checkpoint: str
    weights: str


def open_model(
    directory: PathLike,
    *,
    checkpoint: str | None = None,
    weights: str | None = None,
    overrides: Sequence[str] = (),
) -> OpenedModel:
    """Open a trained model.

    Args:
        directory: the model directory, or a checkpoint in it, RUN/checkpoints/update-N.
        checkpoint: `best`, `latest` or `update-N`; the best, else the latest unless given.
        weights: `ema` or `raw`; unless given the moving average where it was kept, or what validation found better.
        overrides: settings of the form "search.beam_size=4".

    Raises:
        CheckpointError: there is no such model or checkpoint, or it cannot be trusted.
        ConfigError: the settings cannot be read, or an override does not fit.
        DataError: the vocabulary cannot be read.
    """
    directory, checkpoint = split_checkpoint(directory, checkpoint)
    config = read_settings(directory, overrides)
    text = TextPair.load(directory)
    model = build_model(vocabularies_of(text), seed=config.seed, **config.model.model_dump())
    loaded = load_weights(directory, model, checkpoint=checkpoint, weights=weights)
    check_tokenizers(text, loaded.path, loaded.manifest.facts)
    return OpenedModel(config, text, model, loaded.name, loaded.weights)


def check_tokenizers(text: TextPair, checkpoint: Path, facts: Mapping[str, Any]) -> None:
    """Refuse tokenizers of the right size that are not those of the training: translations would be garbage.

    Args:
        text: the tokenizers.
        checkpoint: what the error names.
        facts: of its manifest; one that records no tokenizers fits any.

    Raises:
        CheckpointError: naming the checkpoint.
    """
    if facts.get("tokenizers") not in (None, text.fingerprints):
        raise CheckpointError(
            f"{checkpoint}: was trained with other tokenizers than those in the model directory: bring back its "
            "tokenizer and vocabulary files"
        )


def vocabularies_of(text: TextPair) -> Vocabularies:
    """What a model has to know of the tokenizers: the sizes, and whether both sides mean the same by their ids."""
    source, target = text.source.vocabulary, text.target.vocabulary
    return Vocabularies(len(source), len(target), shared=source.fingerprint == target.fingerprint)
