"""Lines of raw text through any engine: what it is asked, in which batches, and what is said about the outcome.

No Keras here: an engine may do without.
"""

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from nmt.backend.machine import map_at_once
from nmt.config import SearchSettings
from nmt.config.section import AUTO
from nmt.errors import ConfigError
from nmt.text import EOS_ID, UNK_ID, SentencePieceTokenizer, TextPair, Tokenizer
from nmt.text.marks import joined
from nmt.text.vocabulary import MOST_UNKNOWN

_LOGGER = logging.getLogger(__name__)

MAX_SOURCE_LENGTH = 2048
"""Tokens of one line that are read, EOS not counted: attention takes memory by the square of them."""

BATCH_TOKENS = 16384
"""Padded source tokens of all batches that are translated side by side, so that long lines fit into memory."""

Progress: TypeAlias = Callable[[int], None]
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


class Request(NamedTuple):
    """What is asked of an engine about one sentence.

    source_ids: that end with EOS.
    min_length, max_length: of the translation in tokens, EOS counted.
    """

    source_ids: list[int]
    min_length: int
    max_length: int


@dataclass
class Tally:
    """What became of lines, counted over all calls that it is handed to; counted in lines unless said otherwise.

    lines: translated, empty ones left out.
    tokens: in the source of these lines.
    unknown: of these tokens, those that the model has no other token for than UNK.
    unread: longer than `MAX_SOURCE_LENGTH` tokens, so read in part.
    too_long: longer than `max_length`, where translations end, but read.
    untranslated: without a translation, because the model's outputs were not numbers.
    cut: translations, of all that were asked for, as long as allowed.
    max_length: tokens of a translation at most.
    reported: the counts that `report_growth` logged last.
    """

    lines: int = 0
    tokens: int = 0
    unknown: int = 0
    unread: int = 0
    too_long: int = 0
    untranslated: int = 0
    cut: int = 0
    max_length: int = 0
    reported: tuple[int, ...] = ()

    def report_growth(self) -> None:
        """Report what is new, or twice what was reported last: whoever asks batch by batch hears it a few times."""
        counts = (self.unknown, self.unread, self.too_long, self.untranslated, self.cut)
        before = self.reported or (0,) * len(counts)
        if any(count and count >= 2 * old for count, old in zip(counts, before, strict=True)):
            self.report_unknown()
            self.report(so_far=any(before))
            self.reported = counts

    def report(self, *, so_far: bool = False) -> None:
        """Log what is worse than one might think; `so_far` says that some of it was logged before."""
        read, end, apart = MAX_SOURCE_LENGTH, self.max_length, "put one sentence on a line"
        unread = f"longer than {read} tokens, of which only the first {read} are read: {apart}"
        too_long = f"longer than search.max_length, {end} tokens, where translations end: {apart}, or raise it"
        failed = "left untranslated: the model's outputs for them are not numbers, its training must have gone wrong"
        cut = (
            "as long as allowed and may be cut short: unless the model repeats itself, raise search.max_length_ratio, "
            "search.max_length_offset or search.max_length"
        )
        counts = {unread: self.unread, too_long: self.too_long, failed: self.untranslated, cut: self.cut}
        for words, count in counts.items():
            noun = "translation" if words == cut else "line"
            plural, verb = ("", "is") if count == 1 else ("s", "are")
            if count:
                _LOGGER.warning("%s", f"{count:,} {noun}{plural}{' so far' if so_far else ''} {verb} {words}")

    def report_unknown(self) -> None:
        """Log how much of the source the model could not read, if there is anything."""
        if self.unknown:
            _LOGGER.log(
                logging.WARNING if self.unknown > MOST_UNKNOWN * self.tokens else logging.INFO,
                "%s of %s source tokens are unknown to the model (%.2f%%)",
                f"{self.unknown:,}", f"{self.tokens:,}", 100.0 * self.unknown / self.tokens,
            )  # fmt: skip


_NO_LINE_ENDS = str.maketrans("\n\r\0", "   ")
_NOTHING = Translation("", 0.0, 0.0, 0)


class LineTranslator(ABC):
    """What translates lines of raw text, whatever the engine.

    Args:
        text: the tokenizers of the model.
        search: how translations are looked for; what `SearchSettings()` says unless given.
        segmentation: how words of the text were cut before the model saw it; translations are joined again.
    """

    def __init__(self, text: TextPair, search: SearchSettings | None = None, *, segmentation: str = "none") -> None:
        self.text = text
        self.search = search or SearchSettings()
        self.segmentation = segmentation
        self._tally = Tally()

    def translate(
        self,
        lines: Iterable[str],
        *,
        beam_size: int | None = None,
        length_penalty: float | None = None,
        batch_size: int | None = None,
        progress: Progress | None = None,
        tally: Tally | None = None,
    ) -> list[str]:
        """Translate each line; an empty line stays empty.

        Args:
            lines: raw text, one sentence each.
            beam_size: hypotheses kept a sentence, 1 is greedy search; as in `search` unless given.
            length_penalty: exponent of Wu et al. (2016), eq. 14; as in `search` unless given.
            batch_size: sentences translated at once; as in `search` unless given.
            progress: is told of every batch how many lines it held.
            tally: as for `n_best`.

        Returns:
            One translation a line, in the order of the lines, none with a line break in it.

        Raises:
            ConfigError: a setting is out of range.
            TypeError: `lines` is one text instead of several, or one of them is no text.
        """
        best = self.n_best(
            lines,
            1,
            beam_size=beam_size,
            length_penalty=length_penalty,
            batch_size=batch_size,
            progress=progress,
            tally=tally,
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
        tally: Tally | None = None,
    ) -> list[list[Translation]]:
        """Find the best translations of each line with their scores.

        Args:
            lines: raw text, one sentence each.
            num_hypotheses: translations wanted a line, at most `beam_size`.
            beam_size: hypotheses kept a sentence; as in `search` unless given.
            length_penalty: exponent of Wu et al. (2016), eq. 14; as in `search` unless given.
            batch_size: sentences translated at once; as in `search` unless given.
            progress: is told of every batch how many lines it held.
            tally: counts what became of the lines, for you to `report`; else the translator counts, and warns of
                what is new or has doubled since.

        Returns:
            The translations of each line, best first; fewer than wanted if the model has no more. That of an empty
            line is empty, with score 0.

        Raises:
            ConfigError: a setting is out of range.
            TypeError: `lines` is one text instead of several, or one of them is no text.
        """
        settings = changed_search(
            self.search, beam_size=beam_size, length_penalty=length_penalty, batch_size=batch_size
        )
        lines = _checked_lines(lines)
        check_num_hypotheses(num_hypotheses, settings)
        counted, at_once = self._tally if tally is None else tally, self.batches_at_once()
        token_ids = _encode(lines, self.text.source, settings, counted)
        translations = [[_NOTHING] if not ids else [] for ids in token_ids]
        spoken = [place for place, ids in enumerate(token_ids) if ids]  # lines that say something
        if progress is not None and len(spoken) < len(token_ids):
            progress(len(token_ids) - len(spoken))

        # What is asked of the engine about each of the others, and in which batches.
        lengths = np.array([len(token_ids[place]) + 1 for place in spoken], dtype=np.int64)
        limits = zip(*(limit.tolist() for limit in length_limits(lengths, settings)), strict=True)
        requests = [Request([*token_ids[place], EOS_ID], *limit) for place, limit in zip(spoken, limits, strict=True)]
        batches = plan_batches(lengths, batch_size=settings.batch_size, at_once=at_once)

        def search(batch: np.ndarray) -> list[list[Translation]]:
            asked = [requests[place] for place in batch]
            return self.search_batch(asked, num_hypotheses=num_hypotheses, settings=settings)

        for batch, results in zip(batches, map_at_once(search, batches, at_once=at_once), strict=True):
            for index, found in zip(batch, results, strict=True):
                translations[spoken[index]] = found
            if progress is not None:
                progress(len(batch))

        # What became of the lines.
        counted.lines += len(spoken)
        counted.untranslated += sum(not found for found in translations)
        for place, request in zip(spoken, requests, strict=True):
            counted.cut += sum(found.num_tokens == request.max_length for found in translations[place])
        if tally is None:
            counted.report_growth()
        return translations

    def batches_at_once(self) -> int:
        """Return how many batches to search side by side: one, unless an engine gains by more."""
        return 1

    def text_of(self, token_ids: Sequence[int]) -> str:
        """Detokenise, on what no reader of lines takes for two: a vocabulary may hold a carriage return, or bytes."""
        return joined(self.text.target.decode(token_ids).translate(_NO_LINE_ENDS), self.segmentation)

    @abstractmethod
    def search_batch(
        self, requests: Sequence[Request], *, num_hypotheses: int, settings: SearchSettings
    ) -> list[list[Translation]]:
        """Translate a batch; the translations of each sentence come best first."""


def plan_batches(
    lengths: Sequence[int] | np.ndarray, *, batch_size: int, at_once: int = 1, batch_tokens: int = BATCH_TOKENS
) -> list[np.ndarray]:
    """Put sentences of like length together, the longest first, so that too little memory shows at once.

    Args:
        lengths: tokens of each sentence.
        batch_size: sentences a batch, at most; fewer if they are long, or if some of the batches that are
            translated side by side would have none.
        at_once: batches side by side.
        batch_tokens: padded tokens of all of these.

    Returns:
        The places of the sentences of each batch, each place once.
    """
    batches: list[np.ndarray] = []
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    batch_size = min(batch_size, -(-len(order) // at_once))
    while len(order):
        longest = max(1, int(lengths[order[0]]))
        size = max(1, min(batch_size, batch_tokens // at_once // longest))
        batches.append(order[:size])
        order = order[size:]
    return batches


def length_limits(source_lengths: np.ndarray, settings: SearchSettings) -> tuple[np.ndarray, np.ndarray]:
    """Compute the limits of each translation from the length of its source.

    Args:
        source_lengths: (B,) tokens, EOS counted.
        settings: ratios, offset and absolute bounds.

    Returns:
        Least and greatest length of each translation in tokens, EOS counted, (B,) int32 each.
    """
    longest = settings.settled_max_length
    relative = np.floor(settings.settled_max_length_ratio * source_lengths) + settings.max_length_offset
    least = np.maximum(np.floor(settings.min_length_ratio * source_lengths), settings.min_length)
    least = np.minimum(least, longest)
    greatest = np.clip(np.maximum(relative, least), 1, longest)  # what is asked for at least is allowed
    return least.astype(np.int32), greatest.astype(np.int32)


def settle_limits(
    settings: SearchSettings, source_lengths: np.ndarray, target_lengths: np.ndarray, *, max_source_length: int
) -> SearchSettings:
    """Find what `auto` is for limits of length, from pairs that training sees.

    The ratio is the smallest number of hundredths, 1.5 or more, with which all pairs but one in 1,000 are allowed. The
    greatest length lets it hold for sources of training's length, but beyond the longest source that is read it does
    not follow: a few odd pairs must not let a model that repeats itself go on for ever.

    Args:
        settings: limits that are numbers stay.
        source_lengths: (N,) tokens of each source, EOS counted.
        target_lengths: (N,) likewise.
        max_source_length: that training reads, EOS counted.
    """
    ratio, offset = settings.max_length_ratio, settings.max_length_offset
    if ratio == AUTO:
        source, beyond = source_lengths.astype(np.int32), target_lengths.astype(np.int32) - offset
        # floor(a * S) + offset >= T for a whole T exactly if a >= (T - offset) / S
        needed = np.maximum(-(-100 * beyond // source), math.ceil(100 * settings.settled_max_length_ratio))
        spared = len(needed) // 1000
        hundredths = int(np.partition(needed, -1 - spared)[-1 - spared])
        # As a float a * S may be just below a whole number, which `length_limits` then rounds down.
        while np.count_nonzero(np.floor(hundredths / 100 * source) < beyond) > spared:
            hundredths += 1
        ratio = hundredths / 100
    length = settings.max_length
    if length == AUTO:
        allowed = math.floor(ratio * max_source_length) + offset
        length = max(settings.settled_max_length, max_source_length, min(allowed, MAX_SOURCE_LENGTH + 1))
    return settings.model_copy(update={"max_length_ratio": ratio, "max_length": length})


def _checked_lines(lines: Iterable[str]) -> list[str]:
    if isinstance(lines, str | bytes):
        raise TypeError(f"lines must be a list of lines, got one {type(lines).__name__}: pass [line]")
    lines = list(lines)
    for number, line in enumerate(lines, 1):
        if not isinstance(line, str):
            raise TypeError(f"lines must be a list of str, got {type(line).__name__} as line {number}")
    return lines


def check_num_hypotheses(num_hypotheses: int, settings: SearchSettings) -> None:
    """Refuse to look for more hypotheses than the beam holds.

    Raises:
        ConfigError: naming both.
    """
    if type(num_hypotheses) is bool or not isinstance(num_hypotheses, Integral):
        raise ConfigError(f"the number of hypotheses must be an int, got {num_hypotheses!r}")
    if not 1 <= num_hypotheses <= settings.beam_size:
        raise ConfigError(
            f"the number of hypotheses must be 1 to beam_size ({settings.beam_size}), got {num_hypotheses}: "
            f"set the beam size to {num_hypotheses}"
        )


def changed_search(search: SearchSettings, **changes: Any) -> SearchSettings:
    """Return the search with some settings replaced; None keeps one.

    Raises:
        ConfigError: a setting is out of range.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    settings = search.model_copy(update=given)
    for name, kind, least in (("beam_size", Integral, 1), ("batch_size", Integral, 1), ("length_penalty", Real, 0)):
        value = getattr(settings, name)
        if isinstance(value, bool) or not isinstance(value, kind) or not least <= float(value) < math.inf:
            raise ConfigError(
                f"{name} must be {least} or more, got {value!r}: give {'a float' if kind is Real else 'an int'}"
            )
    return settings


def banned_ids(settings: SearchSettings, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return the tokens that no translation may hold, besides PAD and BOS: UNK, or none."""
    allowed = (
        tokenizer.type != SentencePieceTokenizer.type if settings.allow_unknown is None else settings.allow_unknown
    )
    return () if allowed else (UNK_ID,)


def _encode(lines: Sequence[str], tokenizer: Tokenizer, settings: SearchSettings, tally: Tally) -> list[list[int]]:
    """Token ids of each line, without EOS, and counted; what is too long to be read is cut."""
    token_ids = tokenizer.encode_batch(lines)
    tally.max_length = settings.settled_max_length
    tally.tokens += sum(map(len, token_ids))
    tally.unknown += sum(ids.count(UNK_ID) for ids in token_ids)
    tally.unread += sum(len(ids) > MAX_SOURCE_LENGTH for ids in token_ids)
    tally.too_long += sum(tally.max_length < len(ids) <= MAX_SOURCE_LENGTH for ids in token_ids)
    return [ids[:MAX_SOURCE_LENGTH] for ids in token_ids]
