"""Raw text in, raw text out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from nmt.backend import session
from nmt.backend.functions import Spec, compile_function
from nmt.checkpoint.weights import load_weights
from nmt.config import Config, SearchSettings
from nmt.data.sequences import TokenSequences
from nmt.errors import CheckpointError
from nmt.inference.model_directory import FoundModel, find_model
from nmt.inference.translation import LineTranslator, Request, Translation, banned_ids
from nmt.models.contract import DecodingModel, Seq2Seq, Vocabularies, build_model
from nmt.search import Rule, SearchResult, beam_search
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
        weights: `ema` or `raw`; unless given the moving average if it was kept, or what validation found better.

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


class CompiledFor(NamedTuple):
    """The arguments of `beam_search` that are part of its graph; all the rest may differ from batch to batch."""

    beam_size: int
    num_hypotheses: int
    length_penalty: float
    banned_ids: tuple[int, ...]
    rules: tuple[Rule, ...] = ()


class Translator(LineTranslator):
    """Translates lines of text with a model, its text processing and a search.

    A translator is made for one model and looks at its weights anew each time: of a model in training it shows the
    present state. The search is compiled once for each beam size, length penalty, number of hypotheses and ban that is
    asked for, and then serves batches of every shape.

    Args:
        model: a `Seq2Seq`, or an ensemble or whatever else decodes as one does.
        text: the tokenizers it was trained with.
        search: how translations are looked for; what `SearchSettings()` says unless given.
        segmentation: how words of the text were cut before the model saw it; translations are joined again.
        rules: what else is asked of the tokens of a translation.
    """

    def __init__(
        self,
        model: DecodingModel,
        text: TextPair,
        search: SearchSettings | None = None,
        *,
        segmentation: str = "none",
        rules: Sequence[Rule] = (),
    ) -> None:
        super().__init__(text, search, segmentation=segmentation)
        self.model = model
        self.rules = tuple(rules)
        self._compiled: dict[CompiledFor, Callable[..., SearchResult]] = {}
        self._lock = Lock()

    @classmethod
    def load(cls, directory: PathLike, *, checkpoint: str | None = None, weights: str | None = None) -> Translator:
        """Load a trained model from its directory, which is all that is needed.

        Args:
            directory: the model directory, or a checkpoint in it, RUN/checkpoints/update-N.
            checkpoint: `best`, `latest` or `update-N`; the best, else the latest unless given.
            weights: `ema` or `raw`; the moving average if it was kept unless given.

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
        self, requests: Sequence[Request], *, num_hypotheses: int, settings: SearchSettings
    ) -> list[list[Translation]]:
        """Translate a batch."""
        banned = banned_ids(settings, self.text.target)
        wanted = CompiledFor(settings.beam_size, num_hypotheses, settings.length_penalty, banned, self.rules)
        sources = TokenSequences.from_lists([request.source_ids for request in requests])
        source_ids, _ = sources.padded(np.arange(len(requests)))
        least, greatest = (np.array([request[place] for request in requests], np.int32) for place in (1, 2))
        result = self._search_function(wanted)(source_ids, least, greatest, np.int32(len(requests)), greatest.max())
        found = []
        for rows in zip(*map(np.asarray, result), strict=True):  # token ids (N, T), the rest (N,)
            hypotheses = zip(*(row.tolist() for row in rows), strict=True)
            found.append(
                [
                    Translation(self.text_of(token_ids[:length]), score, log_prob, length)
                    for token_ids, score, log_prob, length in hypotheses
                    if length > 0  # else there is no such hypothesis
                ]
            )
        return found

    def _search_function(self, wanted: CompiledFor) -> Callable[..., SearchResult]:
        """The compiled search, which takes what `_SIGNATURE` lists."""
        model = self.model

        def search(
            source_ids: Tensor, least_lengths: Tensor, greatest_lengths: Tensor, batch_size: Tensor, most_steps: Tensor
        ) -> SearchResult:
            memory = model.encode(source_ids)
            return beam_search(
                model.decoder(),
                model.initial_state(memory, wanted.beam_size, most_steps),
                memory=memory,
                batch_size=batch_size,
                bos_id=BOS_ID,
                eos_id=EOS_ID,
                pad_id=PAD_ID,
                min_length=least_lengths,
                max_length=greatest_lengths,
                **wanted._asdict(),
            )

        with self._lock:
            if wanted not in self._compiled:
                self._compiled[wanted] = compile_function(search, _SIGNATURE)
            return self._compiled[wanted]
