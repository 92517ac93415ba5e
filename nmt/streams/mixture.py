"""The stream of a mixture: rounds of pairs of several corpora, cut into batches, stage after stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from nmt.data.batches import Batch, BatchPlan, plan_batches, refuse_long_pairs, teacher_forced
from nmt.data.sequences import SampledSequences
from nmt.data.store import TokenStore
from nmt.errors import DataError
from nmt.streams.shares import ROUND_PAIRS, EndlessOrder, Stage
from nmt.streams.stream import Stream, Variation
from nmt.text.sentencepiece_tokenizer import Segmentations
from nmt.types import PAD_ID

ROUND_BATCHES = 16
"""Of a round at least: those cut from fewer pairs hold a fifth of padding and more."""

_SAMPLED_LENGTHS = 4096


@dataclass(frozen=True)
class MixedCorpus:
    """A corpus of a mixture.

    Attributes:
        name: its own.
        store: its pairs.
        tag_id: what is put before each sequence of a side; None for nothing.
        variation: changes the pairs in each epoch; all corpora of a mixture have one, or none.
        tag_side: 0 if that is the source, 1 if it is the target.
    """

    name: str
    store: TokenStore
    tag_id: int | None = None
    variation: Variation | None = None
    tag_side: int = 0


class MixtureCursor(NamedTuple):
    """A place in the stream of a mixture: the next batch to be drawn.

    With the seed and the settings it says all: how far each corpus was passed through is counted from it.

    Attributes:
        epoch: which round of the stage, from 0.
        batch: which batch of that round, from 0.
        stage_updates: updates that have ended in the stage.
        stage_ends: where each stage before ended: its last round, and how many batches of that were drawn.
    """

    epoch: int = 0
    batch: int = 0
    stage_updates: int = 0
    stage_ends: tuple[tuple[int, int], ...] = ()


class Seen(NamedTuple):
    """What was drawn of a corpus: pairs, and passes through it, of which the last may not be whole."""

    pairs: int
    epochs: float


class _Begin(NamedTuple):
    """What a stage finds when it begins, of each of the C corpora.

    Attributes:
        left: places of its endless order that were planned and not drawn; they come first.
        fresh: the place from which on nothing was planned.
        seen: pairs drawn so far, (C,).
    """

    left: tuple[np.ndarray, ...]
    fresh: tuple[int, ...]
    seen: np.ndarray


class _Round(NamedTuple):
    """The batches of a round, of R pairs.

    Attributes:
        plan: its batches.
        corpora: the number of the corpus of each pair, (R,).
        places: where it stands in the endless order of its corpus, (R,).
        pairs: its number in the corpus, (R,).
        epochs: the epoch of that corpus, (R,).
        counts: pairs of each corpus before each batch, and at the end, (batches + 1, C).
        size: batches that are drawn; less than there are if the stage ends before.
        is_last: whether the stage ends with it.
    """

    plan: BatchPlan
    corpora: np.ndarray
    places: np.ndarray
    pairs: np.ndarray
    epochs: np.ndarray
    counts: np.ndarray
    size: int
    is_last: bool


class MixtureStream(Stream[MixtureCursor]):
    """Batches of several corpora, mixed by the weights of one stage after the other, without end.

    Pairs are planned in rounds. What a round holds follows from seed, stage and its number alone: of each corpus its
    exact share, in an order in which each pass through the corpus has every pair once. A round is cut into batches as
    an epoch of one corpus is. A stage ends after the batch that fulfils it, and what its last round had planned beyond
    comes first in the next stage, so that passes stay whole.

    Args:
        corpora: what is mixed.
        stages: at least one; the last one has no end.
        batch_tokens, seed, segmentations: as for `BatchStream`.
        round_pairs: the most pairs of a round.
        share: which batches are drawn here, see `Stream`.

    Raises:
        ConfigError: a pair alone is longer than `batch_tokens`, or a weight is too small.
    """

    def __init__(
        self,
        corpora: Sequence[MixedCorpus],
        stages: Sequence[Stage],
        *,
        batch_tokens: int,
        seed: int,
        segmentations: tuple[Segmentations, Segmentations] | None = None,
        round_pairs: int = ROUND_PAIRS,
        batches_per_update: int = 1,
        replicas: int = 1,
        own_numbers: range = range(1),
    ) -> None:
        super().__init__(
            MixtureCursor(), batches_per_update=batches_per_update, replicas=replicas, own_numbers=own_numbers
        )
        self.corpora, self.stages = corpora, stages
        self._batch_tokens, self._seed = batch_tokens, seed
        refuse_long_pairs(max(each.store.longest + (each.tag_id is not None) for each in corpora), batch_tokens)
        self._sizes = [len(each.store) for each in corpora]
        fewest = ROUND_BATCHES * batch_tokens // max(1, round(_mean_length([each.store for each in corpora])))
        limits = {"at_most": round_pairs, "at_least": fewest}
        self._round_pairs = [stage.round_pairs(self._sizes, **limits) for stage in stages]
        self._orders = [EndlessOrder(len(each.store), seed=seed, name=each.name) for each in corpora]
        self._sampled: list[list[SampledSequences]] | None = None
        if segmentations is not None:
            self._sampled = [
                [
                    SampledSequences(side, table, seed=(seed, number, order.key))
                    for number, (side, table) in enumerate(zip(each.store.sides, segmentations, strict=True))
                ]
                for each, order in zip(corpora, self._orders, strict=True)
            ]
        self.variations = [each.variation for each in corpora if each.variation is not None]
        nothing = tuple(np.empty(0, np.int64) for _ in corpora)
        self._begins: dict[tuple[tuple[int, int], ...], _Begin] = {
            (): _Begin(nothing, (0,) * len(corpora), np.zeros(len(corpora), np.int64))
        }
        self._rounds: dict[tuple[tuple[tuple[int, int], ...], int], _Round] = {}

    def seek(self, cursor: MixtureCursor) -> None:
        """Go to a place of the stream, the beginning of an update.

        Raises:
            DataError: there is no such batch; a corpus, a stage or the batch size is not that of the cursor.
        """
        ends = tuple((int(last), int(batches)) for last, batches in cursor.stage_ends)
        cursor = MixtureCursor(*cursor[:3], ends)
        known = len(ends) < len(self.stages)
        for at in range(len(ends)):
            known = known and ends[at][1] <= self._round_of(ends[:at], ends[at][0]).size
        if not (known and 0 <= cursor.batch < self._round_of(ends, cursor.epoch).size):
            raise DataError(
                f"the stored place in the training data must be one of the mixture, got batch {cursor.batch} of round "
                f"{cursor.epoch} of stage {len(ends) + 1}: a corpus, a stage or batch_tokens must have changed"
            )
        self._go_to(cursor)

    def batches_in_epoch(self, epoch: int) -> int:
        """Number of batches of a round of the stage at the cursor."""
        return self._round_of(self.cursor.stage_ends, epoch).size

    def behind(self, place: MixtureCursor, batches: int, *, updates: int = 0) -> MixtureCursor:
        """The place that is so many batches behind another, and the end of so many updates."""
        number, batch, ended, ends = place
        batch, ended = batch + batches, ended + updates
        while True:
            limit = self.stages[len(ends)].updates
            size = self._round_of(ends, number).size if batch else 0  # no round is planned before it is needed
            if updates and limit is not None and ended >= limit and batch <= size:
                return MixtureCursor(0, 0, 0, (*ends, (number, batch)))
            if not batch or batch < size:
                return MixtureCursor(number, batch, ended, ends)
            batch -= size
            if self._round_of(ends, number).is_last:
                # An update belongs to the stage of its last batch.
                ends, number, ended = (*ends, (number, size)), 0, updates if batch else 0
            else:
                number += 1

    def batch_at(self, place: MixtureCursor) -> Batch:
        """The batch at a place of the whole stream; the cursor stays."""
        found = self._round_of(place.stage_ends, place.epoch)
        chosen = found.plan[place.batch]
        corpora, pairs, epochs = found.corpora[chosen], found.pairs[chosen], found.epochs[chosen]
        parts: list[list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = [[], []]
        is_weighed = any(each.store.weights is not None for each in self.corpora)
        weights = np.ones((len(chosen), 1), np.float32) if is_weighed else None  # of a corpus without weights 1
        for rows, number, epoch in _groups(corpora, epochs if self._drawn_anew else np.zeros_like(epochs)):
            corpus, indices = self.corpora[number], pairs[rows]
            if weights is not None and corpus.store.weights is not None:
                weights[rows, 0] = corpus.store.weights[indices]
            if corpus.variation is not None:
                room = self._batch_tokens // len(chosen) - (corpus.tag_id is not None)
                varied = corpus.variation.draw(indices, epoch=epoch, room=room)
            for side, sequences in enumerate(corpus.store.sides):
                if corpus.variation is not None:
                    token_ids, mask = varied[side]
                elif self._sampled is not None:
                    drawn = self._sampled[number][side].draw(indices, epoch=epoch)
                    token_ids, mask = drawn.padded(np.arange(len(indices)))
                else:
                    token_ids, mask = sequences.padded(indices)
                if side == corpus.tag_side and corpus.tag_id is not None:
                    token_ids = np.insert(token_ids, 0, corpus.tag_id, axis=1)
                    mask = np.insert(mask, 0, True, axis=1)
                parts[side].append((rows, token_ids, mask))
        (source_ids, _), target = (_merged(side, len(chosen)) for side in parts)
        return teacher_forced(source_ids, *target)._replace(weights=weights)

    def described(self, place: MixtureCursor) -> dict[str, Any]:
        """The stage of a place, and what was drawn of each corpus before it."""
        return {"stage": self.stages[len(place.stage_ends)].name, "seen": self.seen(place)}

    def cut_short(self, place: MixtureCursor) -> str | None:
        """Which stage has not begun."""
        begun = len(place.stage_ends) + (place[:3] != (0, 0, 0) or not place.stage_ends)
        missed = [stage.name for stage in self.stages[begun:]]
        return f"stage {' and stage '.join(missed)} began" if missed else None

    def seen(self, place: MixtureCursor) -> dict[str, Seen]:
        """What was drawn of each corpus before a place, by its name."""
        begin, stage = self._begin_of(place.stage_ends), self.stages[len(place.stage_ends)]
        drawn = begin.seen + stage.upto(place.epoch * self._round_pairs[len(place.stage_ends)])
        if place.batch:
            drawn = drawn + self._round_of(place.stage_ends, place.epoch).counts[place.batch]
        counts = zip(self.corpora, drawn.tolist(), self._sizes, strict=True)
        return {corpus.name: Seen(count, count / size) for corpus, count, size in counts}

    def _begin_of(self, ends: tuple[tuple[int, int], ...]) -> _Begin:
        """What the stage behind some others finds; nothing before the last round of each of them is planned for it."""
        if ends not in self._begins:
            *before, (number, batches) = ends
            begin, found = self._begin_of(tuple(before)), self._round_of(tuple(before), number)
            start, end = self._span(len(before), number)
            begun, stop = self.stages[len(before)].upto(start), self._stops(len(before), start, end)
            undrawn = np.concatenate([found.plan[at] for at in range(batches, len(found.plan))] or [np.empty(0, int)])
            left, fresh = [], []
            for corpus, (old, first) in enumerate(zip(begin.left, begin.fresh, strict=True)):
                own = found.places[undrawn[found.corpora[undrawn] == corpus]]
                left.append(np.sort(np.concatenate([own, old[stop[corpus] :]])))
                fresh.append(first + max(0, int(stop[corpus]) - len(old)))
            seen = begin.seen + begun + found.counts[batches]
            self._begins = {**self._begins, ends: _Begin(tuple(left), tuple(fresh), seen)}
        return self._begins[ends]

    def _span(self, stage: int, number: int) -> tuple[int, int]:
        """Where a round begins and ends among the pairs of its stage."""
        start, end = (self._round_pairs[stage] * at for at in (number, number + 1))
        last = self.stages[stage].last_pair(self._sizes)
        return start, end if last is None else min(end, last)

    def _stops(self, stage: int, start: int, end: int) -> np.ndarray:
        """Pairs of each corpus up to the end of a round; a short one takes none back by how shares are rounded."""
        return np.maximum(self.stages[stage].upto(start), self.stages[stage].upto(end))

    def _round_of(self, ends: tuple[tuple[int, int], ...], number: int) -> _Round:
        """A round of the stage behind those that ended; the last two are kept, since the thread runs ahead."""
        key, rounds = (ends, number), self._rounds
        if key not in rounds:
            # New dictionaries, not changed ones: the other thread may be reading the old one.
            self._rounds = dict(list(rounds.items())[-1:])
            found = self._planned(ends, number)
            self._rounds = rounds = {**self._rounds, key: found}
        return rounds[key]

    def _planned(self, ends: tuple[tuple[int, int], ...], number: int) -> _Round:
        begin, at = self._begin_of(ends), len(ends)
        stage, (start, end) = self.stages[at], self._span(at, number)
        begun, stop = stage.upto(start), self._stops(at, start, end)
        corpora = np.repeat(np.arange(len(self.corpora), dtype=np.int16), stop - begun)
        places, pairs, epochs = (np.empty(len(corpora), np.int64) for _ in range(3))
        lengths = np.empty((2, len(corpora)), np.int32)
        for corpus, order in enumerate(self._orders):
            own = np.flatnonzero(corpora == corpus)
            # What was left over comes first, then what nobody has planned.
            within, left = np.arange(begun[corpus], stop[corpus]), begin.left[corpus]
            fresh = begin.fresh[corpus] + within - len(left)
            places[own] = (
                np.where(within < len(left), left[np.minimum(within, len(left) - 1)], fresh) if len(left) else fresh
            )
            pairs[own], epochs[own] = order.pairs_at(places[own])
            lengths[:, own] = self._lengths(corpus, pairs[own], epochs[own])
        generator = np.random.default_rng([self._seed, at, number])
        plan = plan_batches(*lengths, batch_tokens=self._batch_tokens, generator=generator)
        counts = _counts(plan, corpora, len(self.corpora))
        size, is_last = len(plan), False
        if stage.epochs is not None:
            reached = begun[stage.of] + counts[1:, stage.of] >= stage.wanted(self._sizes)
            is_last = bool(reached[-1])
            size = int(np.argmax(reached)) + 1 if is_last else size
        return _Round(plan, corpora, places, pairs, epochs, counts, size, is_last)

    @property
    def _drawn_anew(self) -> bool:
        """Whether pairs are others in each epoch."""
        return self._sampled is not None or bool(self.variations)

    def _lengths(self, corpus: int, pairs: np.ndarray, epochs: np.ndarray) -> np.ndarray:
        """Tokens of some pairs of a corpus, (2, n), as they are stored, or cut or varied in their epochs."""
        found, lengths = self.corpora[corpus], np.empty((2, len(pairs)), np.int32)
        if not self._drawn_anew:
            lengths[:] = found.store.source_lengths[pairs], found.store.target_lengths[pairs]
        else:
            for rows, _, epoch in _groups(np.zeros_like(epochs), epochs):
                if found.variation is not None:
                    lengths[:, rows] = found.variation.lengths(pairs[rows], epoch=epoch)
                elif self._sampled is not None:
                    sides = self._sampled[corpus]
                    lengths[:, rows] = [side.lengths_of(pairs[rows], epoch=epoch) for side in sides]
        lengths[found.tag_side] += found.tag_id is not None
        return np.minimum(lengths, self._batch_tokens)


def _mean_length(stores: Sequence[TokenStore]) -> float:
    """Tokens of the longer side of a pair, by some of each corpus, those of all corpora alike."""
    means = list[float]()
    for store in stores:
        step = max(1, len(store) // _SAMPLED_LENGTHS)
        sides = (np.asarray(lengths[::step]) for lengths in (store.source_lengths, store.target_lengths))
        means.append(float(np.maximum(*sides).mean()))
    return sum(means) / len(means)


def _groups(corpora: np.ndarray, epochs: np.ndarray) -> Iterator[tuple[np.ndarray, int, int]]:
    """Rows that are of one corpus and one epoch of it, with these two, for each that there is."""
    order = np.lexsort((epochs, corpora))
    changes = (np.diff(corpora[order]) != 0) | (np.diff(epochs[order]) != 0)
    for rows in np.split(order, np.flatnonzero(changes) + 1) if len(order) else ():
        yield rows, int(corpora[rows[0]]), int(epochs[rows[0]])


def _merged(parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Put the rows of several arrays in their places in one: token ids (B, longest) with PAD behind, and the mask."""
    longest = max(token_ids.shape[1] for _, token_ids, _ in parts)
    token_ids, mask = np.full((size, longest), PAD_ID, np.int32), np.zeros((size, longest), bool)
    for rows, part_ids, part_mask in parts:
        token_ids[rows, : part_ids.shape[1]] = part_ids
        mask[rows, : part_ids.shape[1]] = part_mask
    return token_ids, mask


def _counts(plan: BatchPlan, corpora: np.ndarray, number: int) -> np.ndarray:
    """Pairs of each corpus before each batch of a plan, and in all, (batches + 1, C) int64."""
    counts = np.zeros((len(plan) + 1, number), np.int64)
    in_order = corpora[plan.pairs]
    for corpus in range(number):
        before = np.concatenate([[0], np.cumsum(in_order == corpus)])
        counts[1:, corpus] = np.cumsum(before[plan.bounds[:, 1]] - before[plan.bounds[:, 0]])
    return counts
