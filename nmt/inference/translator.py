"""Raw text in, raw text out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from nmt.backend import session
from nmt.backend.functions import Spec, compile_function
from nmt.checkpoint.weights import load_weights
from nmt.config import Config, SearchSettings
from nmt.errors import CheckpointError
from nmt.inference.model_directory import FoundModel, find_model
from nmt.inference.translation import LineTranslator, Translation, banned_ids, decoded, length_limits
from nmt.models.builder import build_model
from nmt.models.contract import Seq2Seq, Vocabularies
from nmt.search import SearchResult, beam_search, greedy_search
from nmt.text import BOS_ID, EOS_ID, PAD_ID, TextPair
from nmt.types import PathLike, Tensor


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


def open_model(directory: PathLike, *, checkpoint: str | None = None, weights: str | None = None) -> OpenedModel:
    """Open a trained model.

    Args:
        directory: the model directory, or a checkpoint in it.
        checkpoint: `best`, `latest` or `update-N`; the best, else the latest unless given.
        weights: `ema` or `raw`; unless given the moving average where it was kept, or what validation found better.

    Raises:
        CheckpointError: there is no such model or checkpoint, or it cannot be trusted.
        ConfigError: the settings cannot be read.
        DataError: the vocabulary cannot be read.
    """
    return open_found(find_model(directory, checkpoint=checkpoint, weights=weights))


def open_found(found: FoundModel) -> OpenedModel:
    """Open what `find_model` found, with all that it was asked; raises what `open_model` raises."""
    config, text = found.config, TextPair.load(found.directory)
    model = build_model(vocabularies_of(text), seed=config.seed, **config.model.model_dump())
    loaded = load_weights(found.directory, model, checkpoint=found.checkpoint, weights=found.weights)
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


_SIGNATURE = (
    Spec((None, None), "int32"),  # source ids (B, S)
    Spec((None,), "int32"),  # least lengths (B,)
    Spec((None,), "int32"),  # greatest lengths (B,)
    Spec((), "int32"),  # B
    Spec((), "int32"),  # the greatest of the greatest lengths
)


class Translator(LineTranslator):
    """Translates lines of text with a model, its text processing and a search.

    A translator is made for one model and looks at its weights anew each time: of a model in training it shows the
    present state. The search is compiled once for each beam size, length penalty, number of hypotheses and ban that is
    asked for, and then serves batches of every shape.

    Args:
        model: any encoder-decoder of the contract.
        text: the tokenizers it was trained with.
        search: how translations are looked for; what `SearchSettings()` says unless given.
        segmentation: how words of the text were cut before the model saw it; translations are joined again.
    """

    def __init__(
        self, model: Seq2Seq, text: TextPair, search: SearchSettings | None = None, *, segmentation: str = "none"
    ) -> None:
        super().__init__(text, search, segmentation=segmentation)
        self.model = model
        self._compiled: dict[tuple[Any, ...], Callable[..., SearchResult]] = {}
        self._lock = Lock()

    @classmethod
    def load(cls, directory: PathLike, *, checkpoint: str | None = None, weights: str | None = None) -> Translator:
        """Load a trained model from its directory, which is all that is needed.

        Args:
            directory: the model directory, or a checkpoint in it, RUN/checkpoints/update-N.
            checkpoint: `best`, `latest` or `update-N`; the best, else the latest unless given.
            weights: `ema` or `raw`; the moving average where it was kept unless given.

        Raises:
            CheckpointError: there is no such model or checkpoint, or it cannot be trusted.
            ConfigError: its settings cannot be read.
            DataError: its vocabulary cannot be read.
        """
        return cls.of(open_model(directory, checkpoint=checkpoint, weights=weights))

    @classmethod
    def of(cls, opened: OpenedModel) -> Translator:
        """Return a translator with an opened model, which searches as its settings say."""
        config = opened.config
        return cls(opened.model, opened.text, config.search, segmentation=config.data.segmentation)

    def batches_at_once(self) -> int:
        """Return one batch a processor core: two searches on a core each are done sooner than two by both cores."""
        return session.searches_at_once()

    def search_batch(
        self, source_ids: np.ndarray, source_lengths: np.ndarray, *, num_hypotheses: int, settings: SearchSettings
    ) -> list[list[Translation]]:
        """Translate a batch: source ids (B, S) that end with EOS, and their lengths (B,)."""
        least, greatest = length_limits(source_lengths, settings)
        banned = banned_ids(settings, self.text.target)
        search = self._search_function(settings.beam_size, num_hypotheses, settings.length_penalty, banned)
        result = search(source_ids, least, greatest, np.int32(len(source_ids)), greatest.max())
        token_ids, scores, log_probs, lengths = (np.asarray(part) for part in result)  # (B, N, T), the rest (B, N)
        return [
            [
                Translation(
                    decoded(token_ids[row, rank, :length].tolist(), self.text.target),
                    float(scores[row, rank]),
                    float(log_probs[row, rank]),
                    length,
                )
                for rank, length in enumerate(lengths[row].tolist())
                if length > 0  # else there is no such hypothesis
            ]
            for row in range(len(source_ids))
        ]

    def _search_function(
        self, beam_size: int, num_hypotheses: int, length_penalty: float, banned: tuple[int, ...]
    ) -> Callable[..., SearchResult]:
        """The compiled search, which takes what `_SIGNATURE` lists."""
        key = (beam_size, num_hypotheses, length_penalty, banned)
        with self._lock:
            if key not in self._compiled:
                self._compiled[key] = compile_function(_model_search(self.model, *key), _SIGNATURE)
            return self._compiled[key]


def _model_search(
    model: Seq2Seq, beam_size: int, num_hypotheses: int, length_penalty: float, banned: tuple[int, ...]
) -> Callable[..., Any]:
    """A function from source ids to hypotheses, to be compiled."""

    def search(
        source_ids: Tensor, least_lengths: Tensor, greatest_lengths: Tensor, batch_size: Tensor, most_steps: Tensor
    ) -> SearchResult:
        memory = model.encode(source_ids)
        state = model.initial_state(memory, beam_size, most_steps)

        shared: dict[str, Any] = {
            "memory": memory,
            "batch_size": batch_size,
            "bos_id": BOS_ID,
            "eos_id": EOS_ID,
            "pad_id": PAD_ID,
            "banned_ids": banned,
            "max_length": greatest_lengths,
            "min_length": least_lengths,
            "length_penalty": length_penalty,
        }
        if beam_size == 1:
            return greedy_search(model.decoder(), state, **shared)
        return beam_search(model.decoder(), state, beam_size=beam_size, num_hypotheses=num_hypotheses, **shared)

    return search
