"""Which pairs of a corpus are varied in an epoch, what becomes of them, and how long that is likely to be."""

from __future__ import annotations

import logging
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from random import Random
from typing import Any, NamedTuple

import numpy as np

from nmt.alignment.bitext import word_spans
from nmt.alignment.links import Links, parse_links
from nmt.data.sequences import Sequences, uniform
from nmt.data.store import TokenStore
from nmt.errors import ConfigError, DataError
from nmt.kinds import VARIATIONS, either
from nmt.settings.data import DataSettings
from nmt.text import EOS_ID, UNK_ID, TextPair
from nmt.text.hints import encode_hinted
from nmt.types import PAD_ID
from nmt.variation.changes import MERGED, Change, Languages, Pair
from nmt.variation.hints import Hinted, Hinting, candidates

_LOGGER = logging.getLogger(__name__)

DEFAULT_RATES = {"upper_case": 0.07, "title_case": 0.05, "final_punctuation": 0.2, "typos": 0.05, "noise": 0.0005}
"""The shares of lines that Firefox Translations varies: the modifiers UpperCase, TitleCase, RemoveEndPunct, Typos and
Noise of its configs for OpusTrainer (mozilla/translations, pipeline/train/configs/opustrainer)."""

_MERGE = "merge"
_HINTS = ("tags", "placeholders")
_AT_END = "final_punctuation"
_KEEPING = {"upper_case", "title_case", "typos", _AT_END}
"""Kinds that leave words where they are."""


class Changes:
    """Kinds of variation with their rates, each drawn on its own for each line.

    Args:
        rates: probability of each kind for a line; empty for the `DEFAULT_RATES`.
        seed: integers of 0 or more.
        languages: of source and target, as codes.
        tokenized: which words links count, see `nmt.alignment.links.LinksOf`.

    Raises:
        ConfigError: there is no such kind.
    """

    def __init__(
        self, rates: Mapping[str, float], *, seed: Sequence[int], languages: Languages, tokenized: bool = False
    ) -> None:
        rates = {word: rate for word, rate in (rates or DEFAULT_RATES).items() if rate}
        order = [*VARIATIONS.built]
        for word in rates:
            VARIATIONS[word]  # refuses what is none
        self.rates = {word: rates[word] for word in sorted(rates, key=order.index)}
        self.hinting: dict[str, Hinting] = {word: VARIATIONS[word] for word in self.rates if word in _HINTS}
        special = {_MERGE, *self.hinting}
        self.changes: dict[str, Change] = {
            word: VARIATIONS[word] if VARIATIONS.is_ours(word) else _checked(word, VARIATIONS[word])
            for word in self.rates
            if word not in special
        }
        self._seed, self._languages, self._tokenized = tuple(seed), languages, tokenized

    def drawn(self, lines: np.ndarray, *, epoch: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """What chance says of lines in an epoch; it depends on no other line.

        Returns:
            for each kind which lines get it, (n,); how many lines are merged if any are, the line itself counted,
            (n,) from 2; and the seed of each line's own changes, (n,) uint64.
        """
        draws = np.random.SeedSequence([*self._seed, epoch]).generate_state(2 + len(self.rates), np.uint64)
        places = lines.astype(np.uint64)
        masks = {
            word: uniform(draw, places) < rate for (word, rate), draw in zip(self.rates.items(), draws[2:], strict=True)
        }
        merged = 2 + (uniform(draws[0], places) * (MERGED - 1)).astype(np.int64)
        return masks, merged, (uniform(draws[1], places) * 2.0**53).astype(np.uint64)

    def changed(self, pair: Pair, words: Sequence[str], seed: int, links: Links | None = None) -> Pair | Hinted:
        """A pair after some kinds of changes, in the order of the registry.

        Args:
            pair: source and target.
            words: the kinds.
            seed: of what they draw.
            links: between the words of the pair. Without them, or if another kind has moved words, there are no hints.
        """
        chance = Random(seed)
        hinting = [self.hinting[word] for word in words if word in self.hinting]
        for word in words:
            if word in self.changes:
                before, pair = pair, self.changes[word](pair, chance, self._languages)
                # Links count words, so these must stay where they are; at the end of a line no link is harmed.
                if links and (word not in _KEEPING or (word != _AT_END and self._counts(before) != self._counts(pair))):
                    links = None
        if not hinting or not links:
            return pair
        counts = self._counts(pair)
        links = {link for link in links if link[0] < counts[0] and link[1] < counts[1]}
        found = candidates(pair, links, tokenized=self._tokenized)
        return hinting[-1](pair, found, chance) if found else pair

    def _counts(self, pair: Pair) -> list[int]:
        return [len(word_spans(line, tokenized=self._tokenized)) for line in pair]


def _checked(word: str, change: Change) -> Change:
    """A kind of a user's own, which must give a pair of lines: a line feed within a text becomes a space."""

    def checked(pair: Pair, chance: Random, languages: Languages) -> Pair:
        found: Any = change(pair, chance, languages)
        if not (isinstance(found, tuple | list) and len(found) == 2 and all(isinstance(text, str) for text in found)):
            raise ConfigError(f"data.variation {word} must return source and target, two texts, got {found!r:.80}")
        return found[0].replace("\n", " "), found[1].replace("\n", " ")

    return checked


def describe_rates(rates: Mapping[str, float]) -> str:
    """The kinds and their rates, for logs."""
    return ", ".join(f"{word} {rate:g}" for word, rate in (rates or DEFAULT_RATES).items() if rate) or "none"


class _Growth(NamedTuple):
    """Tokens of a changed line: `slope` times those before plus `offset`, in 90 of 100 lines no more."""

    slope: float
    offset: float


_SAMPLE, _COVERED = 512, 0.9


class VariedPairs:
    """The pairs of a corpus, varied in each epoch in another way; fulfils `nmt.streams.stream.Variation`.

    What a pair becomes follows from seed, epoch and its number. Batches are planned before text is varied, by lengths
    that cover 90 % of the changed lines of a sample. A pair that becomes longer than its batch has room for, or than
    `data.max_length`, stays as it is; so does one whose target would hold a token that the vocabulary does not
    have. Both are counted.

    Args:
        store: the N pairs, with their text.
        text: the tokenizers.
        changes: what is varied.
        name: of the corpus, for logs.

    Raises:
        DataError: the store has no text, or for hints no links.
    """

    def __init__(self, store: TokenStore, text: TextPair, changes: Changes, *, name: str = "train") -> None:
        if not store.texts:
            raise DataError(
                f"{store.path}: the token store must hold the text of its pairs for variation, got ids only"
            )
        if changes.hinting and len(store.texts) < 3:
            raise DataError(f"{store.path}: the token store must hold links between words for hints, got text only")
        self._store, self._changes, self._name = store, changes, name
        self._tokenizers = (text.source, text.target)
        self._longest = store.report.max_length + 1
        self._growth = self._measured()
        self._counts = Counter[str]()

    def lengths(self, indices: np.ndarray, *, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens to plan with of source and target of n pairs, (n,) each, at most `data.max_length` and EOS."""
        found = [
            lengths[indices].astype(np.int64) for lengths in (self._store.source_lengths, self._store.target_lengths)
        ]
        masks, merged, _ = self._changes.drawn(indices, epoch=epoch)
        if _MERGE in masks:
            rows = np.flatnonzero(masks[_MERGE])
            for lengths, grown in zip(found, self._merged(indices[rows], merged[rows])[1], strict=True):
                lengths[rows] = grown
        for side, lengths in enumerate(found):
            for word, growth in self._growth.items():
                rows, (slope, offset) = np.flatnonzero(masks[word]), growth[side]
                lengths[rows] = np.maximum(lengths[rows], np.ceil(slope * lengths[rows] + offset).astype(np.int64))
            np.minimum(lengths, self._longest, out=lengths)
        return found[0], found[1]

    def draw(self, indices: np.ndarray, *, epoch: int, room: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Source and target of B pairs, each as token ids (B, longest) and mask; no pair is longer than `room`.

        Raises:
            DataError: a sequence or a line of the store cannot be read.
        """
        if self._counts["pairs"] >= len(self._store):  # an epoch's worth
            self.tell()
        rows, before, varied, hints = self._varied(indices, epoch)
        new: list[dict[int, list[int]]] = []
        for side, tokenizer in enumerate(self._tokenizers):
            changed = [
                (row, pair[side])
                for row, old, pair in zip(rows, before, varied, strict=True)
                if pair[side] != old[side]
            ]
            token_ids = encode_hinted(tokenizer, [line for _, line in changed])
            new.append({row: [*ids, EOS_ID] for (row, _), ids in zip(changed, token_ids, strict=True)})
        sides, refused = self._store.sides, set[int]()
        limit = min(room, self._longest)
        for found in new:
            long = {row for row, ids in found.items() if len(ids) > limit}
            empty = {row for row, ids in found.items() if len(ids) < 2}
            self._counts["too long for their batch"] += len(long - refused)
            self._counts["that would be empty"] += len(empty - refused)
            refused |= long | empty
        unknown = {row for row, ids in new[1].items() if UNK_ID in ids} - refused
        unknown -= {row for row in unknown if UNK_ID in sides[1][indices[row]]}
        self._counts["with a target token that the vocabulary lacks"] += len(unknown)
        refused |= unknown
        changed_rows = {*new[0], *new[1]}
        self._counts["pairs"] += len(indices)
        self._counts["drawn"] += len(rows)
        self._counts["varied"] += len(changed_rows - refused)
        self._counts["without what could be changed"] += len(rows) - len(changed_rows)
        for row, number in hints.items():
            if row not in refused:
                self._counts.update({"hints": number, "with hints": number > 0, "without hints": number == 0})
        return [
            _replaced(sequences, indices, {row: ids for row, ids in found.items() if row not in refused})
            for sequences, found in zip(sides, new, strict=True)
        ]

    def tell(self) -> None:
        """Log how many pairs were varied since it was last said, and how many could not be."""
        counts, self._counts = self._counts, Counter[str]()
        pairs, drawn, varied = (counts.pop(word, 0) for word in ("pairs", "drawn", "varied"))
        hints, hinted, without = (counts.pop(word, 0) for word in ("hints", "with hints", "without hints"))
        if hinted or without:
            _LOGGER.info(
                "hints of %s: %s words in %s pairs; %s pairs that were drawn got none, since none of their words is "
                "linked one to one to another one, or other changes moved them",
                self._name, *(f"{count:,}" for count in (hints, hinted, without)),
            )  # fmt: skip
        if drawn:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in counts.items() if count)
            _LOGGER.info(
                "variation of %s: %s of %s pairs were drawn, %s varied, %s left as they are%s",
                self._name, *(f"{count:,}" for count in (drawn, pairs, varied, drawn - varied)),
                f": {reasons}" if reasons else "",
            )  # fmt: skip

    def _varied(
        self, indices: np.ndarray, epoch: int
    ) -> tuple[list[int], list[Pair], list[Pair | Hinted], dict[int, int]]:
        """The rows of indices that are drawn, their pairs before and after, and how many hints are in some rows."""
        masks, merged, seeds = self._changes.drawn(indices, epoch=epoch)
        rows = np.flatnonzero(np.logical_or.reduce([*masks.values(), np.zeros(len(indices), bool)]))
        counts = np.ones(len(rows), np.int64)
        if _MERGE in masks:
            merging = np.flatnonzero(masks[_MERGE][rows])
            counts[merging] = self._merged(indices[rows[merging]], merged[rows[merging]])[0]
        ends = np.cumsum(counts)
        lines = np.repeat(indices[rows].astype(np.int64) - (ends - counts), counts) + np.arange(int(counts.sum()))
        pairs = self._pairs(lines % len(self._store))
        hinted = [row for row in rows.tolist() if any(masks[word][row] for word in self._changes.hinting)]
        links = dict(zip(hinted, self._links(indices[hinted]), strict=True))
        before, after, hints = list[Pair](), list[Pair | Hinted](), dict[int, int]()
        for row, start, end in zip(rows.tolist(), (ends - counts).tolist(), ends.tolist(), strict=True):
            before.append(pairs[start])
            pair = VARIATIONS[_MERGE](pairs[start:end]) if end > start + 1 else pairs[start]
            words = [word for word, mask in masks.items() if mask[row]]
            of_pair = links.get(row) if end == start + 1 else None
            after.append(self._changes.changed(pair, words, int(seeds[row]), of_pair))
            if row in links:
                source, _ = after[-1]
                hints[row] = 0 if isinstance(source, str) else len(source) // 3
        return rows.tolist(), before, after, hints

    def _links(self, lines: np.ndarray) -> list[Links]:
        """The links of some pairs."""
        texts = self._store.texts[2].contents(lines) if len(lines) else ()
        return [parse_links(content.decode("utf-8")).possible for content in texts]

    def _merged(self, indices: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """How many pairs each of n becomes one with, itself counted, and the tokens of both sides then, (n,) each.

        As many as wanted, or the most that are within `data.max_length`; behind the last pair comes the first.
        """
        counts = np.ones(len(indices), np.int64)
        sides = (self._store.source_lengths, self._store.target_lengths)
        found = [lengths[indices].astype(np.int64) for lengths in sides]
        fits = np.ones(len(indices), bool)
        for number in range(1, MERGED):
            others = (indices.astype(np.int64) + number) % len(self._store)
            grown = [lengths + side[others] - 1 for lengths, side in zip(found, sides, strict=True)]
            fits &= (wanted > number) & (grown[0] <= self._longest) & (grown[1] <= self._longest)
            counts += fits
            found = [np.where(fits, new, old) for new, old in zip(grown, found, strict=True)]
        return counts, found

    def _pairs(self, lines: np.ndarray) -> list[Pair]:
        """The text of some pairs."""
        if not len(lines):
            return []
        sides = self._store.texts[:2]
        source, target = ([content.decode("utf-8") for content in side.contents(lines)] for side in sides)
        return list(zip(source, target, strict=True))

    def _measured(self) -> dict[str, tuple[_Growth, _Growth]]:
        """How the kinds of changes lengthen lines of both sides, by lines from all parts of the corpus."""
        count = min(_SAMPLE, len(self._store))
        lines = np.arange(count, dtype=np.int64) * len(self._store) // count
        before, found = self._pairs(lines), {}
        links = self._links(lines) if self._changes.hinting else [None] * count
        for word in (*self._changes.changes, *self._changes.hinting):
            linked = enumerate(zip(before, links, strict=True))
            after = [self._changes.changed(pair, [word], seed, of_pair) for seed, (pair, of_pair) in linked]
            sides = []
            for side, tokenizer in enumerate(self._tokenizers):
                lengths = self._store.sides[side].lengths[lines].astype(np.float64)
                grown = [1 + len(ids) for ids in encode_hinted(tokenizer, [pair[side] for pair in after])]
                slope = float(sum(grown) / lengths.sum())
                sides.append(_Growth(slope, max(0.0, float(np.quantile(grown - slope * lengths, _COVERED)))))
            found[word] = (sides[0], sides[1])
        return found


def variations_of(
    data: DataSettings, text: TextPair, stores: Mapping[str, TokenStore], *, seed: int
) -> dict[str, VariedPairs]:
    """The variation of each training corpus, as the settings have it; none if they have none.

    Args:
        data: the settings.
        text: the tokenizers.
        stores: the encoded corpora by their names in the settings.
        seed: of the run.
    """
    if data.variation is None:
        return {}
    found, languages = dict[str, VariedPairs](), (data.source_language, data.target_language)
    for name, store in stores.items():
        key, tokenized = (seed, zlib.crc32(name.encode())), data.corpora[name].alignment_tokenized
        changes = Changes(data.variation, seed=key, languages=languages, tokenized=tokenized)
        found[name] = VariedPairs(store, text, changes, name=name)
    return found


def _replaced(
    sequences: Sequences, indices: np.ndarray, new: Mapping[int, Sequence[int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Some sequences as the rows of an array (B, longest) with its mask, others in the place of some rows."""
    stored, _ = sequences.padded(indices)
    if not new:
        return stored, _
    lengths = sequences.lengths[indices].astype(np.int64)
    lengths[[*new]] = [len(ids) for ids in new.values()]
    mask = np.arange(int(lengths.max())) < lengths[:, None]
    token_ids = np.full(mask.shape, PAD_ID, np.int32)
    width = min(mask.shape[1], stored.shape[1])
    token_ids[:, :width] = stored[:, :width]
    for row, ids in new.items():
        token_ids[row] = PAD_ID
        token_ids[row, : len(ids)] = ids
    return token_ids, mask


def vary_pairs(pairs: Iterable[Pair], changes: Changes) -> Iterator[tuple[Pair, bool]]:
    """Yield pairs varied, and whether they were; lines that are merged are taken out of those that follow."""
    remaining, line = iter(pairs), 0
    for pair in remaining:
        masks, merged, seeds = changes.drawn(np.array([line]), epoch=0)
        words = [word for word, mask in masks.items() if mask[0]]
        group = [pair]
        if _MERGE in words:
            group += islice(remaining, int(merged[0]) - 1)
        line += len(group)
        source, target = changes.changed(VARIATIONS[_MERGE](group) if len(group) > 1 else pair, words, int(seeds[0]))
        found = str(source), target  # without links, there are no hints
        if not all(text.strip() for text in found) and all(text.strip() for text in pair):
            found = pair  # a change leaves no side empty
        yield found, found != pair


def rates_of(given: Sequence[str]) -> dict[str, float]:
    """Understand kinds with rates as a command line has them, `typos:0.1`; a kind alone is for every line.

    Raises:
        ConfigError: a kind is there twice, is none or writes what no text is, or a rate is no probability.
    """
    rates = dict[str, float]()
    for text in given:
        word, _, share = text.partition(":")
        try:
            rate = float(share or 1)
        except ValueError:
            rate = -1.0
        if word not in VARIATIONS.built:
            known = [kind for kind in VARIATIONS.built if kind not in _HINTS]
            raise ConfigError(f"--with {word}: must be {either(known)}: {VARIATIONS.remedy(word, known)}")
        if word in _HINTS:
            raise ConfigError(
                f"--with {word}: puts symbols of a vocabulary into the source, which no file of text can hold: train "
                "with it by data.variation, and give hints by nmt translate --hints"
            )
        if not 0 <= rate <= 1 or (":" in text and not share):
            raise ConfigError(f"--with {text}: must be a kind with a rate from 0 to 1: try {word}:0.1")
        if word in rates:
            raise ConfigError(f"--with {word} must be given once, got it twice: give one rate")
        rates[word] = rate
    return rates
