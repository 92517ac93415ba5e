"""Raw text in, raw text out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nmt.backend.functions import Spec, compile_function
from nmt.config import SearchSettings
from nmt.data.sequences import TokenSequences
from nmt.errors import ConfigError
from nmt.inference.batching import MAX_SOURCE_LENGTH, length_limits, plan_batches
from nmt.inference.opening import open_model
from nmt.models.contract import Seq2Seq
from nmt.search import SearchResult, beam_search, greedy_search
from nmt.text import BOS_ID, EOS_ID, PAD_ID, TextPair
from nmt.types import PathLike, Tensor

_LOGGER = logging.getLogger(__name__)
_SIGNATURE = (
    Spec((None, None), "int32"),  # source ids (B, S)
    Spec((None,), "int32"),  # least lengths (B,)
    Spec((None,), "int32"),  # greatest lengths (B,)
    Spec((), "int32"),  # B
    Spec((), "int32"),  # the greatest of the greatest lengths
)

Progress = Callable[[int], None]
"""Is told how many more sentences have been translated."""


class Translation(NamedTuple):
    """One translation of a sentence.

    text: detokenised, one line.
    score: log probability / length penalty; higher is better.
    log_prob: sum of the log probabilities of its tokens, EOS among them.
    num_tokens: its tokens, EOS counted; 0 for the translation of an empty line.
    """

    text: str
    score: float
    log_prob: float
    num_tokens: int


_NOTHING = Translation("", 0.0, 0.0, 0)


class Translator:
    """Translates lines of text with a model, its text processing and a search.

    A translator is made for one model and looks at its weights anew each time: of a model in training it shows the
    present state. The search is compiled once for each beam size, length penalty and number of hypotheses that is asked
    for, and then serves batches of every shape.

    Args:
        model: any encoder-decoder of the contract.
        text: the tokenizers it was trained with.
        search: how translations are looked for; what `SearchSettings()` says unless given.
    """

    def __init__(self, model: Seq2Seq, text: TextPair, search: SearchSettings | None = None) -> None:
        self.model = model
        self.text = text
        self.search = search or SearchSettings()
        self._compiled: dict[tuple[int, int, float], Callable[..., SearchResult]] = {}

    @classmethod
    def load(cls, directory: PathLike, *, checkpoint: str | None = None, weights: str | None = None) -> Translator:
        """Load a trained model from its directory, which is all that is needed.

        Args:
            directory: the model directory.
            checkpoint: `best`, `latest` or `update-N`; the best, else the latest unless given.
            weights: `ema` or `raw`; the moving average where it was kept unless given.

        Raises:
            CheckpointError: there is no such model or checkpoint, or it cannot be trusted.
            ConfigError: its settings cannot be read.
            DataError: its vocabulary cannot be read.
        """
        opened = open_model(directory, checkpoint=checkpoint, weights=weights)
        return cls(opened.model, opened.text, opened.config.search)

    def translate(
        self,
        lines: Iterable[str],
        *,
        beam_size: int | None = None,
        length_penalty: float | None = None,
        batch_size: int | None = None,
        progress: Progress | None = None,
    ) -> list[str]:
        """Translate each line; an empty line stays empty.

        Args:
            lines: raw text, one sentence each.
            beam_size: hypotheses kept a sentence, 1 is greedy search; as in `search` unless given.
            length_penalty: exponent of Wu et al. (2016), eq. 14; as in `search` unless given.
            batch_size: sentences translated at once; as in `search` unless given.
            progress: is told of every batch how many lines it held.

        Returns:
            One translation a line, in the order of the lines, none with a line break in it.

        Raises:
            ConfigError: a setting is out of range.
            TypeError: `lines` is one text instead of several.
        """
        best = self.n_best(
            lines, 1, beam_size=beam_size, length_penalty=length_penalty, batch_size=batch_size, progress=progress
        )
        return [translations[0].text if translations else "" for translations in best]

    def n_best(
        self,
        lines: Iterable[str],
        num_hypotheses: int,
        *,
        beam_size: int | None = None,
        length_penalty: float | None = None,
        batch_size: int | None = None,
        progress: Progress | None = None,
    ) -> list[list[Translation]]:
        """Find the best translations of each line with their scores.

        Args:
            lines: raw text, one sentence each.
            num_hypotheses: translations wanted a line, at most `beam_size`.
            beam_size: as for `translate`, like all that follow.
            length_penalty: likewise.
            batch_size: likewise.
            progress: likewise.

        Returns:
            The translations of each line, best first; fewer than wanted where the model has no more. That of an empty
            line is empty, with score 0.

        Raises:
            ConfigError: a setting is out of range.
            TypeError: `lines` is one text instead of several.
        """
        if isinstance(lines, str):
            raise TypeError("lines must be a list of lines, got one str: pass [line]")
        settings = self._settings(beam_size=beam_size, length_penalty=length_penalty, batch_size=batch_size)
        if not 1 <= num_hypotheses <= settings.beam_size:
            raise ConfigError(
                f"the number of hypotheses must be 1 to beam_size ({settings.beam_size}), got {num_hypotheses}: "
                "raise beam_size"
            )
        token_ids = self._encode(list(lines), settings)
        translations = [[_NOTHING] if not ids else [] for ids in token_ids]
        spoken = [place for place, ids in enumerate(token_ids) if ids]  # lines that say something
        if progress is not None and len(spoken) < len(token_ids):
            progress(len(token_ids) - len(spoken))
        sequences = TokenSequences.from_lists([[*token_ids[place], EOS_ID] for place in spoken])
        for batch in plan_batches(sequences.lengths, batch_size=settings.batch_size):
            source_ids, _ = sequences.padded(batch)
            found = self._search_batch(source_ids, sequences.lengths[batch], num_hypotheses, settings)
            for index, hypotheses in zip(batch, found, strict=True):
                translations[spoken[index]] = hypotheses
            if progress is not None:
                progress(len(batch))
        self._report_missing(translations)
        _, greatest = length_limits(sequences.lengths, settings)
        _report_cut([translations[place] for place in spoken], greatest)
        return translations

    def _settings(self, **changes: Any) -> SearchSettings:
        """The search with some settings replaced; None keeps one."""
        given = {name: value for name, value in changes.items() if value is not None}
        settings = self.search.model_copy(update=given)
        for name, least in (("beam_size", 1), ("batch_size", 1), ("length_penalty", 0)):
            if not getattr(settings, name) >= least:
                raise ConfigError(f"{name} must be {least} or more, got {getattr(settings, name)}")
        return settings

    def _encode(self, lines: Sequence[str], settings: SearchSettings) -> list[list[int]]:
        """Token ids of each line, without EOS; what is too long to be read is cut, and said."""
        token_ids = self.text.source.encode_batch(lines)
        longest = max(map(len, token_ids), default=0)
        if longest > MAX_SOURCE_LENGTH:
            count = sum(len(ids) > MAX_SOURCE_LENGTH for ids in token_ids)
            _LOGGER.warning(
                "%s longer than %d tokens, of which only the first %d are read: put one sentence on a line",
                _lines_are(count), MAX_SOURCE_LENGTH, MAX_SOURCE_LENGTH,
            )  # fmt: skip
        elif longest > settings.max_length:
            count = sum(len(ids) > settings.max_length for ids in token_ids)
            _LOGGER.warning(
                "%s longer than search.max_length, %d tokens, where translations end: put one sentence on a line, "
                "or raise it",
                _lines_are(count), settings.max_length,
            )  # fmt: skip
        return [ids[:MAX_SOURCE_LENGTH] for ids in token_ids]

    def _search_batch(
        self, source_ids: np.ndarray, source_lengths: np.ndarray, num_hypotheses: int, settings: SearchSettings
    ) -> list[list[Translation]]:
        """Translate a batch: source ids (B, S) that end with EOS, and their lengths (B,)."""
        least, greatest = length_limits(source_lengths, settings)
        search = self._search_function(settings.beam_size, num_hypotheses, settings.length_penalty)
        result = search(source_ids, least, greatest, np.int32(len(source_ids)), greatest.max())
        arrays = [np.asarray(part) for part in result]
        return [self._read(*(array[row] for array in arrays)) for row in range(len(source_ids))]

    def _read(
        self, token_ids: np.ndarray, scores: np.ndarray, log_probs: np.ndarray, lengths: np.ndarray
    ) -> list[Translation]:
        """The hypotheses of a sentence that exist, as text: token ids (N, T), the rest (N,)."""
        return [
            Translation(
                _on_one_line(self.text.target.decode(token_ids[rank, : lengths[rank]].tolist())),
                float(scores[rank]),
                float(log_probs[rank]),
                int(lengths[rank]),
            )
            for rank in range(len(lengths))
            if lengths[rank] > 0
        ]

    def _search_function(
        self, beam_size: int, num_hypotheses: int, length_penalty: float
    ) -> Callable[..., SearchResult]:
        """The compiled search, which takes what `_SIGNATURE` lists."""
        key = (beam_size, num_hypotheses, length_penalty)
        if key not in self._compiled:
            search = _model_search(self.model, *key)
            self._compiled[key] = compile_function(search, _SIGNATURE)
        return self._compiled[key]

    def _report_missing(self, translations: Sequence[Sequence[Translation]]) -> None:
        count = sum(not found for found in translations)
        if count:
            _LOGGER.warning(
                "%s left untranslated: the model's outputs for them are not numbers, its training must have gone wrong",
                f"{count:,} lines are" if count > 1 else "1 line is",
            )


def _model_search(model: Seq2Seq, beam_size: int, num_hypotheses: int, length_penalty: float) -> Callable[..., Any]:
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
            "max_length": greatest_lengths,
            "min_length": least_lengths,
            "length_penalty": length_penalty,
        }
        if beam_size == 1:
            return greedy_search(model.decode_step, state, **shared)
        return beam_search(model.decode_step, state, beam_size=beam_size, num_hypotheses=num_hypotheses, **shared)

    return search


def _report_cut(translations: Sequence[Sequence[Translation]], greatest_lengths: np.ndarray) -> None:
    """Mention the hypotheses that the search ended: those of sentence i with `greatest_lengths[i]` tokens, (N,)."""
    pairs = zip(translations, greatest_lengths, strict=True)
    count = sum(found.num_tokens == greatest for hypotheses, greatest in pairs for found in hypotheses)
    if count:
        _LOGGER.warning(
            "%s as long as allowed and may be cut short: unless the model repeats itself, raise "
            "search.max_length_ratio, search.max_length_offset or search.max_length",
            f"{count:,} translations are" if count > 1 else "1 translation is",
        )


def _on_one_line(text: str) -> str:
    """Text that no reader of lines can take for two: a vocabulary may hold a stray carriage return."""
    return text.replace("\n", " ").replace("\r", " ")


def _lines_are(count: int) -> str:
    return "1 line is" if count == 1 else f"{count:,} lines are"
