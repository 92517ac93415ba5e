"""Lines of raw text through any engine: what it is asked, in which batches, and what is said about the outcome.

No Keras here: an engine may do without.
"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import chain, islice
from numbers import Integral, Real
from threading import Lock
from typing import Any, ClassVar, NamedTuple, TypeAlias, TypeVar

import numpy as np

from nmt.backend.machine import map_at_once, stay_in_process
from nmt.config import SearchSettings
from nmt.control.controls import NO_CONTROL, Control, Controls, Sampling, check_controls
from nmt.control.hints import HintFinder, Hints, with_hints
from nmt.errors import ConfigError
from nmt.text import EOS_ID, UNK_ID, SentencePieceTokenizer, TextPair, Tokenizer
from nmt.text.hints import Stretches, encode_hinted
from nmt.text.marks import joined
from nmt.text.vocabulary import MOST_UNKNOWN
from nmt.translation.flags import Flag, flags_of
from nmt.translation.lengths import MAX_SOURCE_LENGTH, length_limits, plan_batches

_LOGGER = logging.getLogger(__name__)

Progress: TypeAlias = Callable[[int], None]
"""Is told how many more sentences have been translated."""

Tags: TypeAlias = str | Sequence[str | None] | None
"""One tag for all lines, or that of each, None for none."""


class Translation(NamedTuple):
    """One translation of a sentence.

    text: detokenised, one line.
    score: log probability / length penalty; higher is better.
    log_prob: sum of the log probabilities of its tokens, EOS among them; with a `search.repetition_penalty`, of what
        that leaves of them.
    num_tokens: its tokens, EOS counted; 0 for the translation of an empty line.
    finished: whether it came to an end; if nothing could, because the model excludes it, it is the best beginning.
    tokens: what it is made of, if the scores of tokens are asked for.
    token_scores: the log probability of each of them.
    flags: why it deserves a look, see `nmt.translation.flags.Flag`; `n_best` sets them.
    constraints: of each phrase that must appear, whether it stands in the text, likewise.
    engine: what searched, `keras` or `ctranslate2`.
    shortlist: whether probabilities are those among the tokens of a shortlist, see `nmt.control.shortlist`.
    """

    text: str
    score: float
    log_prob: float
    num_tokens: int
    finished: bool = True
    tokens: tuple[str, ...] = ()
    token_scores: tuple[float, ...] = ()
    flags: tuple[Flag, ...] = ()
    constraints: Mapping[str, bool] = {}
    engine: str = "keras"
    shortlist: bool = False


class Request(NamedTuple):
    """What is asked of an engine about one sentence.

    source_ids: of the sentence as each model of an ensemble, or the only one, cuts it; each ends with EOS.
    min_length, max_length: of the translation in tokens, EOS counted.
    control: what is asked of its words.
    sampling: how it is drawn, None to search for the best.
    line, sample, part: which line, which of its samples and, of a line that is split, which part this is; what is
        drawn depends on nothing else.
    first_id: the symbol of a tag that the translation begins with; it is no part of it, of its length or its score.
    """

    source_ids: tuple[list[int], ...]
    min_length: int
    max_length: int
    control: Control = NO_CONTROL
    sampling: Sampling | None = None
    line: int = 0
    sample: int = 0
    part: int = 0
    first_id: int | None = None


@dataclass
class Tally:
    """What became of lines, counted over all calls that it is handed to; counted in lines unless said otherwise.

    lines: translated, empty ones left out.
    tokens: in the source of these lines.
    unknown: of these tokens, those that the model has no other token for than UNK.
    unread: longer than `MAX_SOURCE_LENGTH` tokens, so read in part.
    too_long: longer than `max_length`, where translations end, but read.
    untranslated: without a translation, because the model's outputs were not numbers.
    refused: without a translation, because none can be as asked: not searched.
    unsatisfied: without a translation, because none is as asked and as short as allowed.
    cut: translations, of all that were asked for, as long as allowed.
    unfinished: translations that came to no end, because the model excludes it.
    translations: all that were asked for.
    target_tokens: of all these, EOS counted.
    repetitive, copied: of these, those with such a flag.
    max_length: tokens of a translation at most.
    reported: the counts that `report_growth` logged last.
    first_refused: what is wrong with the first of those that were refused.
    first_unsatisfied: the numbers of the first of those.
    """

    lines: int = 0
    tokens: int = 0
    unknown: int = 0
    unread: int = 0
    too_long: int = 0
    untranslated: int = 0
    refused: int = 0
    unsatisfied: int = 0
    cut: int = 0
    unfinished: int = 0
    translations: int = 0
    target_tokens: int = 0
    repetitive: int = 0
    copied: int = 0
    max_length: int = 0
    reported: tuple[int, ...] = ()
    first_refused: list[str] = field(default_factory=list)
    first_unsatisfied: list[int] = field(default_factory=list)

    def count(self, requests: Sequence[Request], found: Sequence[Sequence[Translation]]) -> None:
        """Count what was found for requests, and the lines for which nothing was, by what was asked of them."""
        self.lines += len({request.line for request in requests})
        with_any = {(each.line, each.part) for each, translations in zip(requests, found, strict=True) if translations}
        left = {each.line: each.control for each in requests if (each.line, each.part) not in with_any}
        self.untranslated += sum(control.asks_nothing for control in left.values())
        unsatisfied = [line + 1 for line, control in left.items() if not control.asks_nothing]
        self.unsatisfied += len(unsatisfied)
        self.first_unsatisfied += unsatisfied[: _NAMED_LINES - len(self.first_unsatisfied)]
        for request, translations in zip(requests, found, strict=True):
            self.cut += sum(translation.num_tokens == request.max_length for translation in translations)
            self.unfinished += sum(not translation.finished for translation in translations)
            self.translations += len(translations)
            self.target_tokens += sum(translation.num_tokens for translation in translations)
            self.repetitive += sum(Flag.REPETITION in translation.flags for translation in translations)
            self.copied += sum(Flag.COPY in translation.flags for translation in translations)

    def count_refused(self, reasons: Mapping[int, str]) -> None:
        """Count lines that are not searched, and why; lines have their numbers from 0."""
        self.lines += len(reasons)
        self.refused += len(reasons)
        named = [f"line {line + 1}: {reason}" for line, reason in reasons.items()]
        self.first_refused += named[: _NAMED_LINES - len(self.first_refused)]

    def add(self, other: Tally) -> None:
        """Add what another tally has counted."""
        for name in {each.name for each in fields(self)} - {"max_length", "reported"}:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.max_length = other.max_length
        del self.first_refused[_NAMED_LINES:], self.first_unsatisfied[_NAMED_LINES:]

    def report_growth(self) -> None:
        """Report what is new, or twice what was reported last: whoever asks batch by batch hears it a few times."""
        counts = (
            self.unknown, self.unread, self.too_long, self.untranslated, self.refused, self.unsatisfied, self.cut,
            self.unfinished, self.repetitive, self.copied,
        )  # fmt: skip
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
        refused = f"left untranslated, as nothing can be as asked: {_first(self.first_refused, self.refused, '; ')}"
        unmet = (
            "left untranslated: no translation that is short enough is as asked: raise search.max_length_ratio, "
            "search.max_length_offset or search.max_length, or ask for less; by number: "
            f"{_first(self.first_unsatisfied, self.unsatisfied, ', ')}"
        )
        counts = {unread: self.unread, too_long: self.too_long, failed: self.untranslated, refused: self.refused}
        unfinished = "without an end, which the model excludes: its training must have gone wrong, or rules take all"
        counts |= {unmet: self.unsatisfied, cut: self.cut, unfinished: self.unfinished}
        for words, count in counts.items():
            noun = "translation" if words in (cut, unfinished) else "line"
            plural, verb = ("", "is") if count == 1 else ("s", "are")
            if count:
                _LOGGER.warning("%s", f"{count:,} {noun}{plural}{' so far' if so_far else ''} {verb} {words}")
        if self.repetitive + self.copied > MOST_ODD * self.translations:
            _LOGGER.warning(
                "of %s translation%s%s, %s say words again and again, and %s copy the source: the field flags of "
                "--format jsonl, or of Translation, tells which",
                f"{self.translations:,}", "s" * (self.translations != 1),
                " so far" if so_far else "", f"{self.repetitive:,}", f"{self.copied:,}",
            )  # fmt: skip

    def report_unknown(self) -> None:
        """Log how much of the source the model could not read, if there is anything."""
        if self.unknown:
            _LOGGER.log(
                logging.WARNING if self.unknown > MOST_UNKNOWN * self.tokens else logging.INFO,
                "%s of %s source tokens are unknown to the model (%.2f%%)",
                f"{self.unknown:,}", f"{self.tokens:,}", 100.0 * self.unknown / self.tokens,
            )  # fmt: skip


MOST_ODD = 0.01
"""Share of translations that may be repetitive or copies without a warning: test sets have none."""
_NAMED_LINES = 5


def _first(named: Sequence[Any], count: int, separator: str) -> str:
    return separator.join(map(str, named)) + (f"{separator}..." if count > len(named) else "")


_Found: TypeAlias = tuple[int, list[Translation]]
"""The number of a request, and its translations."""


def _merged(first: Sequence[Translation], second: Sequence[Translation]) -> list[Translation]:
    """Those of two searches together, best first."""
    texts = {each.text for each in first}
    return sorted([*first, *(each for each in second if each.text not in texts)], key=lambda each: -each.score)


NO_LINE_ENDS = str.maketrans("\n\r\0", "   ")
"""What stands in place of characters that some readers take for the end of a line."""

_NOTHING = Translation("", 0.0, 0.0, 0)


LINES_AHEAD = 1000
"""Lines of a stream that are read and translated together, unless told otherwise."""


class LineTranslator(ABC):
    """What translates lines of raw text, whatever the engine. Several threads may use one at the same time.

    Args:
        text: the tokenizers of the model.
        search: how translations are looked for; what `SearchSettings()` says unless given.
        segmentation: how words of the text were cut before the model saw it; translations are joined again.
        sources: tokenizers of the source, one for each model of an ensemble; that of `text` unless given.

    Raises:
        RuntimeError: this process was forked from one in which the engine runs.
    """

    engine_name: ClassVar[str]
    """The library, as people call it."""

    computes_with: ClassVar[str] = "keras"
    """What `search.engine` calls it."""

    def __init__(
        self,
        text: TextPair,
        search: SearchSettings | None = None,
        *,
        segmentation: str = "none",
        sources: Sequence[Tokenizer] = (),
    ) -> None:
        stay_in_process(self.engine_name)
        self.text = text
        self.sources = tuple(sources) or (text.source,)
        self.search = search or SearchSettings()
        self.segmentation = segmentation
        self.controls = Controls(text.target, segmentation=segmentation)
        self.hints = HintFinder(text.source.normalized)
        self._tally = Tally()
        self._lock = Lock()

    def translate(
        self,
        lines: Iterable[str],
        *,
        beam_size: int | None = None,
        length_penalty: float | None = None,
        batch_size: int | None = None,
        progress: Progress | None = None,
        controls: Sequence[Control] | None = None,
        sampling: Sampling | None = None,
        first_line: int = 0,
        tally: Tally | None = None,
        hints: Hints | None = None,
    ) -> list[str]:
        """Translate each line; an empty line stays empty.

        Args:
            lines: raw text, one sentence each.
            beam_size: hypotheses kept a sentence, 1 is greedy search; as in `search` unless given.
            length_penalty: exponent of the length; as in `search` unless given.
            batch_size: sentences translated at once; as in `search` unless given.
            progress: is told of every batch how many lines it held.
            controls: as for `n_best`, like what follows.
            sampling: how translations are drawn, instead of looking for the best.
            first_line: the number of the first line in all that is translated.
            tally: as for `n_best`.
            hints: translations of terms, `{"Haus": "house"}`, for all lines or for each, which a model that was trained
                with hints reads beside them; they are hints of the controls too.

        Returns:
            One translation a line, in the order of the lines, none with a line break in it.

        Raises:
            ConfigError: a setting is out of range, or the model was trained without hints.
            TypeError: `lines` is one text instead of several, or one of them is no text.
        """
        if hints is not None:
            lines = checked_lines(lines, first_line)
            controls = with_hints(controls, hints, len(lines))
        best = self.n_best(
            lines,
            1,
            beam_size=beam_size,
            length_penalty=length_penalty,
            batch_size=batch_size,
            progress=progress,
            controls=controls,
            sampling=sampling,
            first_line=first_line,
            tally=tally,
        )
        return [translations[0].text if translations else "" for translations in best]

    def stream(
        self,
        lines: Iterable[str],
        *,
        lines_ahead: int = LINES_AHEAD,
        beam_size: int | None = None,
        length_penalty: float | None = None,
        batch_size: int | None = None,
        controls: Iterable[Control] | None = None,
        sampling: Sampling | None = None,
    ) -> Iterator[str]:
        """Translate lines as they come, one translation for each, in their order; there may be endlessly many.

        When a translation is asked for and none is at hand, the next `lines_ahead` lines are read, sorted by length and
        translated together. So memory holds no more lines than these, and nothing is read before it is needed. A large
        number is faster; 1 answers each line before the next is read.

        Args:
            lines: raw text, one sentence each.
            lines_ahead: lines that are read together; there are fewer at the end alone.
            beam_size: as for `translate`, like what follows.
            length_penalty: exponent of the length.
            batch_size: sentences translated at once.
            controls: what is asked of the words of each translation, read in step with the lines.
            sampling: how translations are drawn; they are those that `translate` draws of all lines.

        Returns:
            An iterator for one thread. What `lines` raises comes when its place is read; what was read with it and not
            yet translated is lost.

        Raises:
            ConfigError: a setting is out of range; when it is read, that there is no control for a line.
            TypeError: `lines` is one text instead of several; when it is read, that a line is no text.
        """
        settings = {"beam_size": beam_size, "length_penalty": length_penalty, "batch_size": batch_size}
        changed_search(self.search, **settings)
        refuse_one_text(lines)
        if type(lines_ahead) is bool or not isinstance(lines_ahead, Integral) or lines_ahead < 1:
            raise ConfigError(f"lines_ahead must be 1 or more, got {lines_ahead!r}: give an int")
        rest, asked = iter(lines), None if controls is None else iter(controls)

        def translations() -> Iterator[str]:
            first = 0
            while chunk := list(islice(rest, int(lines_ahead))):
                own = None if asked is None else list(islice(asked, len(chunk)))
                yield from self.translate(chunk, controls=own, sampling=sampling, first_line=first, **settings)
                first += len(chunk)

        return translations()

    def n_best(
        self,
        lines: Iterable[str],
        num_hypotheses: int,
        *,
        beam_size: int | None = None,
        length_penalty: float | None = None,
        batch_size: int | None = None,
        progress: Progress | None = None,
        controls: Sequence[Control] | None = None,
        sampling: Sampling | None = None,
        first_line: int = 0,
        parts_of: Sequence[int] | None = None,
        token_scores: bool = False,
        tally: Tally | None = None,
    ) -> list[list[Translation]]:
        """Find the best translations of each line with their scores.

        Args:
            lines: raw text, one sentence each.
            num_hypotheses: translations wanted a line, at most `beam_size`.
            beam_size: hypotheses kept a sentence; as in `search` unless given.
            length_penalty: exponent of the length; as in `search` unless given.
            batch_size: sentences translated at once; as in `search` unless given.
            progress: is told of every batch how many lines it held.
            controls: what is asked of the words of each translation, one a line.
            sampling: how translations are drawn; then there are `num_hypotheses` of each line, in the order drawn.
            first_line: the number of the first line in all that is translated; draws depend on the number of a line.
            parts_of: if `lines` are parts of lines, of which line each is one, from 0; of each line in a row.
            token_scores: whether each translation tells its tokens and their log probabilities.
            tally: counts what became of the lines, for you to `report`; else the translator counts, and warns of
                what is new or has doubled since.

        Returns:
            The translations of each line, best first; fewer than wanted if the model has no more. That of an empty
            line is empty, with score 0. Each has its flags.

        Raises:
            ConfigError: a setting is out of range.
            TypeError: `lines` is one text instead of several, or one of them is no text.
        """
        changes = {"beam_size": beam_size, "length_penalty": length_penalty, "batch_size": batch_size}
        settings, lines = changed_search(self.search, **changes), checked_lines(lines, first_line)
        if sampling is None:
            check_num_hypotheses(num_hypotheses, settings)
        stay_in_process(self.engine_name)
        counted = Tally() if tally is None else tally
        asked = [NO_CONTROL] * len(lines) if controls is None else list(controls)
        check_controls(asked, len(lines), sampling, diverse_groups=settings.diverse_groups)
        token_ids = encode_lines([*map(self.hints.line, lines, asked)], self.sources, settings, counted)
        translations = [[] if any(ids) else [_NOTHING._replace(engine=self.computes_with)] for ids in token_ids]
        spoken = [place for place, ids in enumerate(token_ids) if any(ids)]  # lines that say something
        numbers = [first_line + place for place in (range(len(lines)) if parts_of is None else parts_of)]
        refused = self._refused({place: asked[place] for place in spoken}, numbers)
        counted.count_refused({numbers[place]: reason for place, reason in refused.items()})
        spoken = [place for place in spoken if place not in refused]
        if progress is not None and len(spoken) < len(token_ids):
            progress(len(token_ids) - len(spoken))

        draws, wanted = (num_hypotheses, 1) if sampling else (1, num_hypotheses)
        first_of = {number: place for place, number in reversed([*enumerate(numbers)])}
        requests = [
            Request(ids, least, most, asked[place], sampling, numbers[place], draw, place - first_of[numbers[place]])
            for place, (ids, least, most) in zip(spoken, _limited(token_ids, spoken, settings), strict=True)
            for draw in range(draws)
        ]
        requests = self._begun(requests)
        found, done = [list[Translation]() for _ in requests], 0
        for batch in self._searched(requests, wanted, settings=settings, token_scores=token_scores):
            for index, each in batch:
                found[index] = each
            done, before = done + len(batch), done
            if progress is not None:
                progress(done // draws - before // draws)  # lines of which the last sample is drawn
        for index, request in enumerate(requests):
            place = first_of[request.line] + request.part
            found[index] = [self._with_flags(each, lines[place], request) for each in found[index]]
            translations[place] += found[index]

        counted.count(requests, found)
        if tally is None:
            with self._lock:
                self._tally.add(counted)
                self._tally.report_growth()
        return translations

    def _refused(self, asked: Mapping[int, Control], numbers: Sequence[int]) -> dict[int, str]:
        """The places of lines whose translation cannot be as asked, and why."""
        reasons = dict[int, str]()
        for place, control in asked.items():
            self.refuse_control(control, place=f"line {numbers[place] + 1}")
            try:
                self.controls.check(control)
            except ConfigError as error:
                reasons[place] = str(error)
        return reasons

    def refuse_control(self, control: Control, *, place: str) -> None:  # noqa: B027, an engine that can do all has none
        """Refuse what the engine cannot do about the words of a translation; a ConfigError begins with the place."""

    def _searched(
        self, requests: Sequence[Request], num_hypotheses: int, *, settings: SearchSettings, token_scores: bool
    ) -> Iterator[list[_Found]]:
        """Search batch by batch, first without phrases that must appear, then with them what lacks any.

        A search that makes room for phrases may miss what a plain one finds. So whatever the plain search finds that
        has the phrases counts too, and what is best is never worse than the plain translation if that has them.

        Yields:
            What is found with a batch.
        """
        plain = [request._replace(control=request.control.without_phrases) for request in requests]
        having = dict[int, list[Translation]]()
        for batch in self._in_batches(plain, num_hypotheses, settings=settings, token_scores=token_scores):
            done = list[_Found]()
            for index, translations in batch:
                asked = requests[index].control
                met = [each for each in translations if not asked.must_appear or self._has_phrases(each, asked)]
                if asked.must_appear and len(met) < num_hypotheses:
                    having[index] = met
                else:
                    done.append((index, met))
            yield done
        lacking = sorted(having)
        again = [requests[index] for index in lacking]
        for batch in self._in_batches(again, num_hypotheses, settings=settings, token_scores=token_scores):
            yield [
                (lacking[place], _merged(having[lacking[place]], translations)[:num_hypotheses])
                for place, translations in batch
            ]

    def begins(self, tag: str | None) -> tuple[list[list[int]], list[int]]:
        """Return the token ids that the source, as each model cuts it, and the target of a line with a tag begin with.

        Raises:
            ConfigError: a model does not know the tag.
        """
        _, target = self.text.begins(tag)
        return [replace(self.text, source=each, joint=False).begins(tag)[0] for each in self.sources], target

    def begins_of(self, tags: Tags, count: int) -> list[tuple[list[list[int]], list[int]]]:
        """Return the same for so many lines, of which all have one tag, or each its own, or none.

        Raises:
            ConfigError: a model does not know a tag, or there is not one a line.
        """
        each = [tags] * count if tags is None or isinstance(tags, str) else list(tags)
        if len(each) != count:
            raise ConfigError(f"there must be one tag a pair, got {len(each)} for {count} pairs: give None for no tag")
        known = {tag: self.begins(tag) for tag in dict.fromkeys(each)}
        return [known[tag] for tag in each]

    def _begun(self, requests: Sequence[Request]) -> list[Request]:
        """Put the symbol of each tag that is asked for before the source, or before the target."""
        begun = list[Request]()
        begins = self.begins_of([each.control.tag for each in requests], len(requests))
        for request, (sources, target) in zip(requests, begins, strict=True):
            source_ids = tuple([*begin, *ids] for begin, ids in zip(sources, request.source_ids, strict=True))
            begun.append(request._replace(source_ids=source_ids, first_id=target[0] if target else None))
        return begun

    def _has_phrases(self, translation: Translation, asked: Control) -> bool:
        return translation.finished and all(self.controls.met(asked, translation.text).values())

    def _in_batches(
        self, requests: Sequence[Request], num_hypotheses: int, *, settings: SearchSettings, token_scores: bool
    ) -> Iterator[list[_Found]]:
        """Search in batches of about equal lengths."""
        at_once, batches = self.batches_at_once(), list[np.ndarray]()
        longest = np.array([max(map(len, request.source_ids)) for request in requests], np.int64)
        begun = np.array([request.first_id is not None for request in requests], bool)
        for places in (np.flatnonzero(begun), np.flatnonzero(~begun)):  # those with a tag take another first step
            planned = plan_batches(longest[places], batch_size=settings.batch_size, at_once=at_once)
            batches += [places[batch] for batch in planned]

        def search(batch: np.ndarray) -> list[list[Translation]]:
            return self.search_batch(
                [requests[each] for each in batch],
                num_hypotheses=num_hypotheses,
                settings=settings,
                token_scores=token_scores,
            )

        for batch, results in zip(batches, map_at_once(search, batches, at_once=at_once), strict=True):
            yield list(zip(batch.tolist(), results, strict=True))

    def batches_at_once(self) -> int:
        """Return how many batches to search side by side: one, unless an engine gains by more."""
        return 1

    def text_of(self, token_ids: Sequence[int]) -> str:
        """Detokenise, on what no reader of lines takes for two: a vocabulary may hold a carriage return, or bytes."""
        return joined(self.text.target.decode(token_ids).translate(NO_LINE_ENDS), self.segmentation)

    @cached_property
    def _unknown_text(self) -> str:
        """What UNK looks like in a text."""
        return self.text_of([UNK_ID]).strip()

    def _with_flags(self, translation: Translation, line: str, request: Request) -> Translation:
        """The same, told what is odd about it and which phrases it has."""
        text, control = translation.text, request.control
        constraints = self.controls.met(control, text)
        flags = flags_of(
            line,
            text,
            unknown=any(UNK_ID in ids for ids in request.source_ids)
            or (bool(self._unknown_text) and self._unknown_text in text),
            unread=any(len(ids) > MAX_SOURCE_LENGTH for ids in request.source_ids),
            cut=translation.num_tokens == request.max_length,
            finished=translation.finished,
            satisfied=all(constraints.values()) and self.controls.keeps(control, text),
        )
        return translation._replace(flags=flags, constraints=constraints)

    @abstractmethod
    def search_batch(
        self, requests: Sequence[Request], *, num_hypotheses: int, settings: SearchSettings, token_scores: bool = False
    ) -> list[list[Translation]]:
        """Translate a batch; the translations of each sentence come best first."""


def _limited(
    token_ids: Sequence[tuple[list[int], ...]], places: Sequence[int], settings: SearchSettings
) -> list[tuple[tuple[list[int], ...], int, int]]:
    """The ids of some lines, each ending with EOS, and the least and greatest length of their translations."""
    lengths = np.array([len(token_ids[place][0]) + 1 for place in places], np.int64)
    least, greatest = (limit.tolist() for limit in length_limits(lengths, settings))
    ended = [tuple([*ids, EOS_ID] for ids in token_ids[place]) for place in places]
    return list(zip(ended, least, greatest, strict=True))


def flag_of_none(asked: Control) -> Flag:
    """Return why a line has no translation."""
    return Flag.FAILED if asked.asks_nothing else Flag.UNSATISFIED


def checked_lines(lines: Iterable[str], first_line: int = 0) -> list[str]:
    """Return the lines as a list.

    Raises:
        TypeError: they are one text instead of several, or one of them is no text.
    """
    refuse_one_text(lines)
    lines = list(lines)
    for number, line in enumerate(lines, first_line + 1):
        if not isinstance(line, str):
            raise TypeError(f"lines must be a list of str, got {type(line).__name__} as line {number}")
    return lines


def refuse_one_text(lines: Iterable[str]) -> None:
    """Refuse what is one text instead of several.

    Raises:
        TypeError: saying what to pass.
    """
    if isinstance(lines, str | bytes):
        raise TypeError(f"lines must be a list of lines, got one {type(lines).__name__}: pass [line]")


Pair = TypeVar("Pair", bound=tuple[str, Any])


def checked_pairs(pairs: Iterable[Pair]) -> list[Pair]:
    """Return pairs of a source and a target as a list.

    Raises:
        TypeError: they are one pair instead of several, or one of them is no pair with a text as source.
    """
    pairs = list(pairs)
    for number, pair in enumerate(pairs, 1):
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2 or not isinstance(pair[0], str):
            raise TypeError(f"pairs must be a list of (source, target), got {pair!r} as pair {number}")
    return pairs


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
            f"set the beam size (--beam-size) to {num_hypotheses}"
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
    if settings.beam_size % settings.diverse_groups:
        raise ConfigError(
            f"the beam size must be a multiple of search.diverse_groups, {settings.diverse_groups}, got "
            f"{settings.beam_size}"
        )
    return settings


def banned_ids(settings: SearchSettings, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return the tokens that no translation may hold, besides PAD and BOS: UNK, or none."""
    allowed = (
        tokenizer.type != SentencePieceTokenizer.type if settings.allow_unknown is None else settings.allow_unknown
    )
    return () if allowed else (UNK_ID,)


def encode_lines(
    lines: Sequence[str | Stretches], tokenizers: Sequence[Tokenizer], settings: SearchSettings, tally: Tally
) -> list[tuple[list[int], ...]]:
    """Token ids of each line by each tokenizer, without EOS, and counted; what is too long to be read is cut."""
    by_tokenizer = {tokenizer: encode_hinted(tokenizer, lines) for tokenizer in dict.fromkeys(tokenizers)}
    token_ids = list(zip(*(by_tokenizer[tokenizer] for tokenizer in tokenizers), strict=True))
    tally.max_length = settings.settled_max_length
    for ids in chain(*by_tokenizer.values()):
        tally.tokens += len(ids)
        tally.unknown += ids.count(UNK_ID)
    longest = [max(map(len, each)) for each in token_ids]
    tally.unread += sum(length > MAX_SOURCE_LENGTH for length in longest)
    tally.too_long += sum(tally.max_length < length <= MAX_SOURCE_LENGTH for length in longest)
    return [tuple(ids[:MAX_SOURCE_LENGTH] for ids in each) for each in token_ids]
