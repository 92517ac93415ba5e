"""Completing a translation that somebody has begun: several ways to go on, each with another next word.

What is given is read in one pass of the decoder up to its last space, as the tokenizer cuts it; the rest is matched
byte by byte, over all cuts. A few steps then look for the most probable next words, whatever their cut: a word is known
when what follows does not belong to it. Hypotheses with the same next word make a group, and each group is searched to
its end with a beam of its own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from nmt.control.phrases import is_unspaced, is_word
from nmt.errors import ConfigError
from nmt.search.continuation import Begun, Continuation, Kept, Seeds
from nmt.search.step import Limits
from nmt.text import BOS_ID, EOS_ID, UNK_ID, Tokenizer
from nmt.translation.lengths import length_penalty
from nmt.translation.line_translator import NO_LINE_ENDS, Translation

BEAM_SIZE = 2
"""Hypotheses of each next word, unless told otherwise."""

KEPT_SOURCES = 16

_ROW_MULTIPLE = 4
"""Rows of a step are filled up to a multiple, so that they come in few shapes: each has kernels of its own."""


class Word(NamedTuple):
    """The first word of a continuation.

    text: with the space before it, if there is one; the sign itself where no word stands.
    is_open: whether it may go on.
    """

    text: str
    is_open: bool

    @property
    def is_begun(self) -> bool:
        """Whether there is anything of it."""
        return self.text not in ("", " ")


@cache
def _goes_on(character: str) -> bool:
    """Whether a character may be one of several of a word."""
    return is_word(character) and not is_unspaced(character)


def first_word(continuation: bytes, *, new: bool) -> Word:
    """Return the first word of a continuation.

    Args:
        continuation: UTF-8 that may end within a character.
        new: whether it begins a word, so that spaces before it mean nothing.
    """
    try:
        text = continuation.decode()
    except UnicodeDecodeError as error:
        is_cut = error.reason == "unexpected end of data"
        text = continuation[: error.start].decode() if is_cut else continuation.decode(errors="replace")
    body = text.lstrip(" ")
    space = "" if new or len(body) == len(text) else " "
    size = 0
    while size < len(body) and _goes_on(body[size]):
        size += 1
    return Word(space + body[: max(size, 1)], is_open=size == len(body))


class Spelling:
    """Which tokens can go on with a text that is given.

    Args:
        surfaces: the UTF-8 that each token adds to the text.
    """

    def __init__(self, surfaces: Sequence[bytes]) -> None:
        self.surfaces = surfaces
        self._order = np.array(sorted(filter(surfaces.__getitem__, range(len(surfaces))), key=surfaces.__getitem__))
        self._sorted = [surfaces[token_id] for token_id in self._order]
        self._ids: dict[bytes, list[int]] = defaultdict(list)
        for token_id, surface in enumerate(surfaces):
            if surface:
                self._ids[surface].append(token_id)
        self._longest = max(map(len, surfaces), default=0)
        self.ends_word = np.array([_ends_word(surface) for surface in surfaces])

    def within(self, rest: bytes) -> list[tuple[int, list[int]]]:
        """The tokens that cover a part of the rest from its start, by the size of that part."""
        sizes = range(1, min(len(rest), self._longest + 1))
        return [(size, self._ids[rest[:size]]) for size in sizes if rest[:size] in self._ids]

    def covering(self, rest: bytes) -> np.ndarray:
        """The tokens that begin with all of the rest."""
        first = bisect_left(self._sorted, rest)
        last = bisect_left(self._sorted, True, first, key=lambda surface: not surface.startswith(rest))
        return self._order[first:last]

    def fewest(self, rest: bytes) -> dict[int, int]:
        """The fewest tokens that spell the last bytes of the rest, by how many bytes, if any do."""
        fewest = {0: 0}
        for left in range(1, len(rest) + 1):
            missing = rest[len(rest) - left :]
            counts = [fewest[left - size] for size, _ in self.within(missing) if left - size in fewest]
            if len(self.covering(missing)):
                counts.append(0)
            if counts:
                fewest[left] = 1 + min(counts)
        return fewest


def _ends_word(surface: bytes) -> bool:
    """Whether a token ends a word before it for certain."""
    text = surface.decode(errors="ignore")
    return bool(text) and surface.startswith(text[0].encode()) and not _goes_on(text[0])


class Beginning(NamedTuple):
    """What is given.

    text: as the user wrote it.
    forced: token ids of it up to its last space.
    rest: what has to follow, UTF-8.
    spelled: how many of the last bytes of that tokens can spell.
    starts: whether nothing is forced, so that a space may come first.
    new_word: whether what follows begins a word.
    size: tokens that all of it takes.
    """

    text: str
    forced: list[int]
    rest: bytes
    spelled: frozenset[int]
    starts: bool
    new_word: bool
    size: int


def read_beginning(prefix: str, tokenizer: Tokenizer, spelling: Spelling, *, may_force: bool) -> Beginning:
    """Cut what is given into what the tokenizer makes of it up to its last space, and the rest.

    Args:
        prefix: one line.
        tokenizer: of the target.
        spelling: of its tokens.
        may_force: whether anything may be forced.

    Raises:
        ConfigError: the vocabulary cannot spell it, or it is no line.
    """
    if prefix.translate(NO_LINE_ENDS) != prefix:
        raise ConfigError(f"a prefix must be one line without line ends, got {prefix!r}")
    text = tokenizer.normalized(prefix)
    new_word = not text or prefix.endswith(" ")
    given = (text + " " * (new_word and bool(text))).encode()
    forced = tokenizer.encode(given.decode().rpartition(" ")[0]) if may_force else []
    spelled = b"".join(spelling.surfaces[token_id] for token_id in forced).lstrip(b" ")
    if UNK_ID in forced or not given.startswith(spelled):
        forced, spelled = [], b""
    rest = given[len(spelled) :]
    fewest = spelling.fewest(rest if forced else b" " + rest)
    if len(rest) not in fewest and (forced or len(rest) + 1 not in fewest):
        raise ConfigError(f"the prefix {prefix!r} cannot be spelled by the tokens of the model")
    own_cut = len(tokenizer.encode(text))
    size = max(own_cut, len(forced) + min(fewest.get(len(rest), own_cut), fewest.get(len(rest) + 1, own_cut)))
    return Beginning(prefix, forced, rest, frozenset(fewest), not forced, new_word, size)


class Hypothesis(NamedTuple):
    """One way to go on.

    log_prob: of all its tokens, forced ones among them.
    token_ids: after what is forced.
    row: of the hypothesis that it extends.
    rest: what is still to be spelled of the text that is given.
    continuation: what it adds to that, UTF-8.
    word: the first word of that.
    """

    log_prob: float
    token_ids: tuple[int, ...]
    row: int
    rest: bytes
    continuation: bytes
    word: Word


@dataclass
class Group:
    """The hypotheses with one next word.

    value: log probability of what is given and the word.
    live: best first.
    finished: the best that has ended, and its score.
    """

    value: float
    live: list[Hypothesis] = field(default_factory=list)
    finished: Hypothesis | None = None
    score: float = -np.inf


class Lengths(NamedTuple):
    """How long a translation may be, EOS counted, and what its length makes of its score."""

    least: int
    greatest: int
    penalty: Callable[[int], float]


class NextWords:
    """The search for the next words, from outside of the graph: which hypotheses go on.

    Args:
        beginning: what is given.
        spelling: of the target's tokens.
        log_prob: of what is forced.
        never: (V,) float32, −inf for what is not written.
        count: n, words that are wanted.
        beam_size: hypotheses of each.
        lengths: of whole translations.
    """

    def __init__(
        self,
        beginning: Beginning,
        spelling: Spelling,
        log_prob: float,
        *,
        never: np.ndarray,
        count: int,
        beam_size: int,
        lengths: Lengths,
    ) -> None:
        self.beginning, self.spelling, self.never = beginning, spelling, never
        self.count, self.beam_size, self.lengths = count, beam_size, lengths
        self.groups: dict[str, Group] = {}
        self.live = [Hypothesis(log_prob, (), 0, beginning.rest, b"", Word("", True))]

    @property
    def found_all(self) -> bool:
        """Whether no hypothesis is left whose next word is not known."""
        return not any(hypothesis.word.is_open or hypothesis.rest for hypothesis in self.live)

    def extend(self, log_probs: np.ndarray) -> None:
        """Extend all live hypotheses by a token.

        Args:
            log_probs: (R, V) float32 of what may follow each.
        """
        length = len(self.beginning.forced) + len(self.live[0].token_ids) + 1
        log_probs = log_probs + self.never
        if length < self.lengths.least:
            log_probs[:, EOS_ID] = -np.inf
        if length >= self.lengths.greatest:
            end = log_probs[:, EOS_ID].copy()
            log_probs[:] = -np.inf
            log_probs[:, EOS_ID] = end
        opened, grouped = list[Hypothesis](), defaultdict[str, list[Hypothesis]](list)
        for row, hypothesis in enumerate(self.live):
            own = log_probs[row]
            if hypothesis.rest:
                extended = self._matching(hypothesis, row, own)
            elif not hypothesis.word.is_open:
                grouped[hypothesis.word.text] += self._best(hypothesis, row, own, self.beam_size + 1)
                continue
            elif hypothesis.word.is_begun:
                extended = self._closing(hypothesis, row, own)
            else:
                extended = self._best(hypothesis, row, own, 4 * self.count)
            for each in extended:
                if each.rest or each.word.is_open:
                    opened.append(each)
                else:
                    grouped[each.word.text].append(each)
                    value = max(each.log_prob, self.groups.get(each.word.text, Group(-np.inf)).value)
                    self.groups.setdefault(each.word.text, Group(value)).value = value
        self._keep(opened, grouped, length)

    def _closing(self, hypothesis: Hypothesis, row: int, own: np.ndarray) -> list[Hypothesis]:
        """The best extensions that end a word, from which its group begins, and the best that go on with it."""
        ends = np.where(self.spelling.ends_word, own, -np.inf)
        ends[EOS_ID] = own[EOS_ID]
        word = hypothesis.word._replace(is_open=False)
        greatest = ends.max()
        if greatest > -np.inf:
            value = hypothesis.log_prob + greatest + float(np.log(np.exp(ends - greatest).sum()))
            group = self.groups.setdefault(word.text, Group(value))
            group.value = max(group.value, value)
        closed = self._best(hypothesis._replace(word=word), row, ends, self.beam_size + 1)
        goes_on = np.where(self.spelling.ends_word, -np.inf, own)
        goes_on[EOS_ID] = -np.inf
        return closed + self._best(hypothesis, row, goes_on, 2 * self.count)

    def _best(self, hypothesis: Hypothesis, row: int, own: np.ndarray, count: int) -> list[Hypothesis]:
        """The most probable extensions of a hypothesis that has spelled what is given."""
        return [self._extended(hypothesis, row, own, token_id, b"") for token_id in _top(own, count)]

    def _matching(self, hypothesis: Hypothesis, row: int, own: np.ndarray) -> list[Hypothesis]:
        """The most probable extensions that agree with what is given."""
        found = list[Hypothesis]()
        rest, is_first = hypothesis.rest, self.beginning.starts and not hypothesis.token_ids
        for missing in (rest, b" " + rest) if is_first else (rest,):
            covering = self.spelling.covering(missing)
            for place in _top(own[covering], 4 * self.count):
                found.append(self._extended(hypothesis, row, own, int(covering[place]), missing))
            for size, token_ids in self.spelling.within(missing):
                if len(missing) - size in self.beginning.spelled:
                    found += [self._extended(hypothesis, row, own, token_id, missing) for token_id in token_ids]
        if rest == b" ":  # the text may also end in a space
            found.append(self._extended(hypothesis, row, own, EOS_ID, rest))
        return [each for each in found if each.log_prob > -np.inf]

    def _extended(self, hypothesis: Hypothesis, row: int, own: np.ndarray, token_id: int, missing: bytes) -> Hypothesis:
        """A hypothesis with one more token, of which some may be missing of what is given."""
        surface, word = self.spelling.surfaces[token_id], hypothesis.word
        rest, continuation = missing[len(surface) :], hypothesis.continuation + surface[len(missing) :]
        if token_id == EOS_ID:
            rest, word = b"", Word(word.text if word.is_begun else "", False)
        elif word.is_open and not rest:
            word = first_word(continuation, new=self.beginning.new_word)
        token_ids = (*hypothesis.token_ids, token_id)
        return Hypothesis(hypothesis.log_prob + float(own[token_id]), token_ids, row, rest, continuation, word)

    def _keep(self, opened: list[Hypothesis], grouped: dict[str, list[Hypothesis]], length: int) -> None:
        """Choose the hypotheses that live on: of the best words, and of those that might still become better."""
        ranked = sorted(self.groups, key=lambda text: -self.groups[text].value)[: self.count]
        self.groups = {text: self.groups[text] for text in ranked}
        worst = self.groups[ranked[-1]].value if len(ranked) == self.count else -np.inf
        for text, group in self.groups.items():
            best = sorted(grouped[text], key=lambda each: -each.log_prob)
            for each in best[: self.beam_size]:
                score = each.log_prob / self.lengths.penalty(length)
                if each.token_ids[-1] == EOS_ID and score > group.score:
                    group.finished, group.score = each, score
            group.live = [each for each in best if each.token_ids[-1] != EOS_ID][: self.beam_size]

        # Open words by their text, so that no cut of one takes the place of another.
        cuts: dict[tuple[bytes, str], int] = {}
        kept = list[Hypothesis]()
        for each in sorted(opened, key=lambda each: -each.log_prob):
            key = (each.rest, each.word.text)
            has_room = cuts[key] < self.beam_size if key in cuts else len(cuts) < 2 * self.count
            if each.log_prob > worst and has_room:
                cuts[key] = cuts.get(key, 0) + 1
                kept.append(each)
        self.live = [each for group in self.groups.values() for each in group.live] + kept

    def seeds(self) -> Seeds:
        """The groups as the graph wants them; tokens with those that are forced."""
        forced, width = self.beginning.forced, self.beam_size
        groups = list(self.groups.values())
        rows = [[group.finished, *group.live] + [None] * (width - len(group.live)) for group in groups]
        size = max(len(each.token_ids) for row in rows for each in row if each)
        token_ids = np.zeros((len(groups), 1 + width, len(forced) + size), np.int32)
        for place, row in enumerate(rows):
            for column, each in enumerate(row):
                if each:
                    written = [*forced, *each.token_ids]
                    token_ids[place, column, : len(written)] = written
        live = [row[1:] for row in rows]
        finished = [[group.finished] for group in groups]
        return Seeds(
            np.array([[each.row if each else 0 for each in row] for row in live], np.int32),
            np.array([[each.token_ids[-1] if each else 0 for each in row] for row in live], np.int32),
            np.array([[each.log_prob if each else -np.inf for each in row] for row in live], np.float32),
            token_ids,
            np.array([[group.score] for group in groups], np.float32),
            np.array([[each.log_prob if each else -np.inf for each in row] for row in finished], np.float32),
            np.array(
                [[len(forced) + len(each.token_ids) if each else 0 for each in row] for row in finished], np.int32
            ),
        )


def _top(values: np.ndarray, count: int) -> list[int]:
    """The places of the greatest values, greatest first, without those that are −inf."""
    places = np.argpartition(values, -count)[-count:] if len(values) > count else np.arange(len(values))
    return [int(place) for place in places[np.argsort(-values[places], kind="stable")] if values[place] > -np.inf]


class Completer:
    """Completes translations of one source after the other; remembers the last sources.

    Args:
        continuation: the compiled parts of the search.
        look: returns something of each weight; what is remembered is forgotten when it changes. None if that cannot be
            told: then nothing is remembered.
        tokenizer: of the target.
        segmentation: how words of the text were cut before the model saw it.
    """

    def __init__(
        self, continuation: Continuation, look: Callable[[], Any] | None, tokenizer: Tokenizer, segmentation: str
    ) -> None:
        self.continuation, self.look, self.tokenizer = continuation, look, tokenizer
        self.spelling = Spelling(tokenizer.surfaces(segmentation))
        self.never = np.zeros(len(self.spelling.surfaces), np.float32)
        self.never[list(continuation.settings.special.never)] = -np.inf
        self._memories: OrderedDict[tuple[tuple[int, ...], ...], Any] = OrderedDict()
        self._matrix: Any = None
        self._seen: np.ndarray | None = None
        self._lock = Lock()

    def complete(
        self,
        source_ids: Sequence[Sequence[int]],
        prefix: str,
        count: int,
        *,
        limits: tuple[int, int],
        room: int,
        begin: Sequence[int] = (),
    ) -> list[Translation]:
        """Find translations that begin as given and differ in their next word, best first.

        Args:
            source_ids: as each model cuts it, EOS at the end.
            prefix: what is given.
            count: n.
            limits: least and greatest length of a translation.
            room: tokens that it may have at least beyond what is given.
            begin: the symbol of a tag that stands before it, if there is one.

        Raises:
            ConfigError: the vocabulary cannot spell what is given.
        """
        continuation, settings = self.continuation, self.continuation.settings
        beginning = read_beginning(prefix, self.tokenizer, self.spelling, may_force=not settings.rules)
        least, greatest = limits[0], max(limits[1], beginning.size + room)
        offset = settings.length_penalty_offset
        lengths = Lengths(least, greatest, lambda length: length_penalty(length, settings.length_penalty, offset))
        bounds = Limits(np.int32(least), np.int32(greatest))
        kept = self._kept_of(source_ids)
        given = np.array([[BOS_ID, *begin, *beginning.forced]], np.int32)
        log_probs, log_prob, begun = continuation.read(given, np.int32(1 + len(begin)), bounds, kept)
        words = NextWords(
            beginning,
            self.spelling,
            float(log_prob),
            never=self.never,
            count=count,
            beam_size=settings.beam_size,
            lengths=lengths,
        )
        words.extend(np.asarray(log_probs))
        while not words.found_all:
            log_probs, begun = self._step(words, bounds, begun, kept)
            words.extend(np.asarray(log_probs)[: len(words.live)])
        return self._finished(words, bounds, begun, kept)

    def _step(self, words: NextWords, limits: Limits, begun: Begun, kept: Kept) -> tuple[Any, Begun]:
        """Extend what lives in the graph, with copies of the last row up to a multiple of rows."""
        live = words.live + [words.live[-1]] * (-len(words.live) % _ROW_MULTIPLE)
        parents = np.array([each.row for each in live], np.int32)
        token_ids = np.array([each.token_ids for each in live], np.int32)
        return self.continuation.extend(parents, token_ids[:, -1], token_ids, limits, begun, kept)

    def _finished(self, words: NextWords, limits: Limits, begun: Begun, kept: Kept) -> list[Translation]:
        """Search each group to its end, and return its best translation."""
        if not words.groups:
            return []
        seeds = words.seeds()
        if words.live:
            result = self.continuation.finish(seeds, limits, begun, kept)
            rows = [np.asarray(each)[:, 0].tolist() for each in result[:4]]
        else:
            rows = [each[:, 0].tolist() for each in (seeds.token_ids, seeds.scores, seeds.final, seeds.lengths)]
        found = [
            Translation(
                self._text(words.beginning, token_ids[:length]),
                score,
                log_prob,
                length,
                finished=token_ids[length - 1] == EOS_ID,
            )
            for token_ids, score, log_prob, length in zip(*rows, strict=True)
            if length > 0
        ]
        return sorted(found, key=lambda each: -each.score)

    def _text(self, beginning: Beginning, token_ids: Sequence[int]) -> str:
        """What is given, as it is, and what tokens add to it."""
        rest, first = beginning.rest, len(beginning.forced)
        added = b"".join(self.spelling.surfaces[token_id] for token_id in token_ids[first:])
        if beginning.starts and not rest.startswith(b" "):
            added = added.removeprefix(b" ")
        text = added[len(rest) :].decode(errors="replace").translate(NO_LINE_ENDS).rstrip(" ")
        return beginning.text + (text.lstrip(" ") if beginning.new_word else text)

    def _kept_of(self, source_ids: Sequence[Sequence[int]]) -> Kept:
        """What the encoder makes of a source, which may have been seen before, and the output matrix."""
        key, given = tuple(map(tuple, source_ids)), [np.array([ids], np.int32) for ids in source_ids]
        if self.look is None:
            return Kept(self.continuation.encode(*given), self.continuation.output_matrix())
        seen = np.asarray(self.look())
        with self._lock:
            if self._seen is None or not np.array_equal(seen, self._seen):
                self._memories.clear()
                self._seen, self._matrix = seen, self.continuation.output_matrix()
            if key not in self._memories:
                self._memories[key] = self.continuation.encode(*given)
                while len(self._memories) > KEPT_SOURCES:
                    self._memories.popitem(last=False)
            self._memories.move_to_end(key)
            return Kept(self._memories[key], self._matrix)
