"""Batches of token ids: an endless stream with a cursor for training, and a list in length order for validation."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nmt.data.sequences import SampledSequences, Sequences, TokenSequences
from nmt.data.store import TokenStore
from nmt.errors import ConfigError, DataError
from nmt.text.pair import TextPair
from nmt.text.sentencepiece_tokenizer import Segmentations
from nmt.text.vocabulary import BOS_ID, EOS_ID
from nmt.types import PAD_ID

_PIECE_PAIRS = 2**18
"""As many pairs at a time are worked on: their temporary arrays stay in the processor's caches."""


@dataclass(frozen=True)
class BatchPlan:
    """The batches of one epoch.

    Attributes:
        pairs: (N,) int32 (int64 beyond 2^31 pairs), the indices of the pairs, batch after batch.
        bounds: (number of batches, 2) int64; batch i holds `pairs[bounds[i, 0]:bounds[i, 1]]`.
    """

    pairs: np.ndarray
    bounds: np.ndarray

    def __len__(self) -> int:
        """Number of batches."""
        return len(self.bounds)

    def __getitem__(self, batch: int) -> np.ndarray:
        """Indices of the pairs of one batch, (B,)."""
        start, end = self.bounds[batch]
        return self.pairs[start:end]


def plan_epoch(
    source_lengths: np.ndarray, target_lengths: np.ndarray, *, batch_tokens: int, seed: int, epoch: int
) -> BatchPlan:
    """Plan an epoch: each pair once, in batches of similar lengths, in random order; the same for the same arguments.

    Args:
        source_lengths: (N,) tokens of each source, EOS counted.
        target_lengths: (N,) tokens of each target, EOS counted.
        batch_tokens: no batch holds more padded tokens of its longer side.
        seed: of the run.
        epoch: which epoch, from 0.

    Raises:
        ConfigError: a pair alone is longer than `batch_tokens`.
    """
    check_fits(source_lengths, target_lengths, batch_tokens=batch_tokens)
    generator = np.random.default_rng([seed, epoch])
    pairs = _random_order(source_lengths, target_lengths, batch_tokens=batch_tokens, generator=generator)
    longest = np.maximum(source_lengths, target_lengths)
    bounds = cut(longest[pairs], batch_tokens=batch_tokens, first_share=1.0 - 0.5 * generator.random())
    return BatchPlan(pairs, bounds[generator.permutation(len(bounds))])


def plan_in_length_order(source_lengths: np.ndarray, target_lengths: np.ndarray, *, batch_tokens: int) -> BatchPlan:
    """Plan batches without chance, short pairs first; a pair longer than `batch_tokens` is a batch of its own."""
    longest = np.maximum(source_lengths, target_lengths)
    pairs = np.lexsort((target_lengths, source_lengths, longest))
    return BatchPlan(pairs, cut(longest[pairs], batch_tokens=batch_tokens, first_share=1.0))


def check_fits(source_lengths: np.ndarray, target_lengths: np.ndarray, *, batch_tokens: int) -> None:
    """Refuse a `batch_tokens` that cannot hold the longest pair.

    Raises:
        ConfigError: a pair alone is longer than `batch_tokens`.
    """
    longest = int(max(source_lengths.max(), target_lengths.max()))
    if longest > batch_tokens:
        raise ConfigError(
            f"batch_tokens must hold the longest pair, {longest} tokens with EOS, got {batch_tokens}: "
            "raise batch_tokens or lower max_length"
        )


def cut(longest: np.ndarray, *, batch_tokens: int, first_share: float) -> np.ndarray:
    """Cut an order of pairs into batches, each as large as `batch_tokens` allows.

    Args:
        longest: (N,) tokens of the longer side of each pair, in order.
        batch_tokens: largest (number of pairs) * (longest pair) of a batch of more than one pair.
        first_share: size of the first batch, as a share of `batch_tokens`; it moves all cuts after it.

    Returns:
        (number of batches, 2) int64: begin and end of each batch.
    """
    ends: list[int] = []
    start, limit = 0, int(batch_tokens * first_share)
    while start < len(longest):
        window = longest[start : start + max(1, limit // int(longest[start]))]
        cells = np.maximum.accumulate(window) * np.arange(1, len(window) + 1)  # rises, so it can be searched
        start += max(1, int(np.searchsorted(cells, limit, side="right")))
        ends.append(start)
        limit = batch_tokens
    return np.stack([np.array([0, *ends[:-1]], dtype=np.int64), np.array(ends, dtype=np.int64)], axis=1)


def _random_order(
    source_lengths: np.ndarray, target_lengths: np.ndarray, *, batch_tokens: int, generator: np.random.Generator
) -> np.ndarray:
    """All pairs in one order in which neighbours have similar lengths, (N,)."""
    outer, inner = target_lengths, source_lengths
    if generator.random() < 0.5:
        outer, inner = inner, outer
    strip_of_length = _strips(outer, inner, batch_tokens=batch_tokens, phase=generator.random())
    width = int(inner.max()) + 1
    upwards = (strip_of_length + generator.integers(2)) % 2 == 0
    count = len(outer)
    shuffled = np.arange(count, dtype=np.int32 if count <= 2**31 else np.int64)
    generator.shuffle(shuffled)
    # Cell and place in one number: no two are equal, so any sort gives the same order on every machine, and the order
    # of pairs of one cell is that of the shuffle. Sorting numbers is faster than sorting indices, and half the memory.
    place_bits = np.int64(count.bit_length())
    keys = np.empty(count, dtype=np.int64)
    for piece in _pieces(count):
        pairs = shuffled[piece]
        strip, length = strip_of_length[outer[pairs]], inner[pairs].astype(np.int64)
        cell = strip * width + np.where(upwards[outer[pairs]], length, width - 1 - length)
        keys[piece] = (cell << place_bits) | np.arange(piece.start, piece.stop)
    keys.sort()
    order = np.empty_like(shuffled)
    for piece in _pieces(count):
        order[piece] = shuffled[keys[piece] & ((1 << place_bits) - 1)]
    return order


def _strips(outer: np.ndarray, inner: np.ndarray, *, batch_tokens: int, phase: float) -> np.ndarray:
    """The strip of each length of the outer side, (largest length + 1,); strips hold about the same number of tokens.

    Padding comes from the width of a strip on one side, and from the range of lengths within a batch on the other. With
    n batches the two balance near sqrt(n) strips; measured on image captions, sqrt(2 n) is best or nearly so for
    batches of 512 to 25,000 tokens.
    """
    tokens_of_length = np.zeros(int(outer.max()) + 1)
    for piece in _pieces(len(outer)):
        longest = np.maximum(outer[piece], inner[piece])
        tokens_of_length += np.bincount(outer[piece], weights=longest, minlength=len(tokens_of_length))
    total = tokens_of_length.sum()
    number_of_strips = max(1.0, np.sqrt(2.0 * total / batch_tokens))
    middle = np.cumsum(tokens_of_length) - tokens_of_length / 2.0
    strip = np.floor(middle / total * number_of_strips + phase).astype(np.int64)
    return np.unique(strip, return_inverse=True)[1]  # without gaps, so that neighbours run in opposite directions


def _pieces(count: int) -> Iterator[slice]:
    """Slices of a few pairs each, together all of them."""
    for start in range(0, count, _PIECE_PAIRS):
        yield slice(start, min(start + _PIECE_PAIRS, count))


class Batch(NamedTuple):
    """Token ids of B pairs, int32, PAD behind each sequence.

    Attributes:
        source_ids: (B, S), closed by EOS.
        target_input_ids: (B, T), BOS and the target without its EOS: what the decoder reads.
        target_output_ids: (B, T), the target closed by EOS: what the decoder is to write.
    """

    source_ids: np.ndarray
    target_input_ids: np.ndarray
    target_output_ids: np.ndarray


class Cursor(NamedTuple):
    """A place in the endless stream: the next batch to be drawn.

    Attributes:
        epoch: which pass through the corpus, from 0.
        batch: which batch of that pass, from 0.
    """

    epoch: int
    batch: int


class BatchStream:
    """Batches of a training corpus, epoch after epoch, without end.

    Each epoch holds every pair once, in other batches and in another order than the last; seed and epoch decide both.
    So a stream that is sent to a cursor goes on exactly as the one that reported it.

    Args:
        store: the N pairs.
        batch_tokens: no batch holds more padded tokens of its longer side: B * max(S, T) <= batch_tokens.
        seed: 0 or more.
        segmentations: of the pieces of source and target, to cut words in another way in each epoch; None leaves them
            as they are in the store.

    Raises:
        ConfigError: a pair alone is longer than `batch_tokens`.
    """

    def __init__(
        self,
        store: TokenStore,
        *,
        batch_tokens: int,
        seed: int,
        segmentations: tuple[Segmentations, Segmentations] | None = None,
    ) -> None:
        self._store = store
        self._batch_tokens = batch_tokens
        self._seed = seed
        self._sampled: list[SampledSequences] | None = None
        check_fits(store.source_lengths, store.target_lengths, batch_tokens=batch_tokens)
        if segmentations is not None:
            sides = zip((store.source, store.target), segmentations, strict=True)
            self._sampled = [SampledSequences(*side, seed=(seed, number)) for number, side in enumerate(sides)]
        self._cursor = Cursor(epoch=0, batch=0)
        self._plans: dict[int, BatchPlan] = {}

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        """The batch at the cursor; the cursor moves to the next one."""
        epoch, number = self._cursor
        plan = self._plan_of(epoch)
        batch = self._batch(epoch, plan[number])
        self._cursor = Cursor(epoch, number + 1) if number + 1 < len(plan) else Cursor(epoch + 1, 0)
        return batch

    @property
    def cursor(self) -> Cursor:
        """The next batch to be drawn."""
        return self._cursor

    def seek(self, cursor: Cursor) -> None:
        """Go to a place of the stream.

        Raises:
            DataError: there is no such batch; the corpus or the batch size is not that of the cursor.
        """
        cursor = Cursor(*cursor)
        size = self.batches_in_epoch(cursor.epoch) if cursor.epoch >= 0 else 0
        if not 0 <= cursor.batch < size:
            raise DataError(
                f"the stored place in the training data must be one of the {size} batches of epoch {cursor.epoch}, "
                f"got batch {cursor.batch}: the corpus or batch_tokens must have changed"
            )
        self._cursor = cursor

    def batches_in_epoch(self, epoch: int) -> int:
        """Number of batches of an epoch; epochs differ by a few."""
        return len(self._plan_of(epoch))

    def _batch(self, epoch: int, indices: np.ndarray) -> Batch:
        """The pairs of a batch as they are stored, or as they are cut in this epoch."""
        if self._sampled is None:
            return assemble(self._store.source, self._store.target, indices)
        source, target = (side.draw(indices, epoch=epoch) for side in self._sampled)
        return assemble(source, target, np.arange(len(indices)))

    def _lengths(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of each source and each target in an epoch, (N,) each."""
        if self._sampled is None:
            return self._store.source_lengths, self._store.target_lengths
        source, target = (side.lengths(epoch) for side in self._sampled)
        return source, target

    def _plan_of(self, epoch: int) -> BatchPlan:
        """The plan of an epoch; the last two are kept, because a prefetcher runs ahead into the next epoch."""
        plans = self._plans
        if epoch not in plans:
            # A new dictionary, not a changed one: a prefetcher's thread may be reading the old one. What is dropped is
            # dropped before the new plan is made, which takes much memory.
            plans = self._plans = dict(list(plans.items())[-1:])
            lengths = self._lengths(epoch)
            plan = plan_epoch(*lengths, batch_tokens=self._batch_tokens, seed=self._seed, epoch=epoch)
            plans = self._plans = {**plans, epoch: plan}
        return plans[epoch]


def evaluation_batches(pairs: Iterable[tuple[str, str]], *, text: TextPair, batch_tokens: int) -> list[Batch]:
    """All pairs of a validation or test corpus as batches, none dropped, short ones first.

    An empty line is a sequence of EOS alone. A pair longer than `batch_tokens` is a batch of its own.

    Args:
        pairs: lines of both sides, as `read_pairs` gives them.
        text: the tokenizers.
        batch_tokens: padded tokens of the longer side in one batch.
    """
    pairs = list(pairs)
    if not pairs:
        return []
    source, target = (
        TokenSequences.from_lists([[*ids, EOS_ID] for ids in tokenizer.encode_batch(lines)])
        for tokenizer, lines in zip((text.source, text.target), zip(*pairs, strict=True), strict=True)
    )
    plan = plan_in_length_order(source.lengths, target.lengths, batch_tokens=batch_tokens)
    return [assemble(source, target, plan[i]) for i in range(len(plan))]


def assemble(source: Sequences, target: Sequences, indices: np.ndarray) -> Batch:
    """Some pairs as a batch.

    Args:
        source: sequences closed by EOS.
        target: sequences closed by EOS.
        indices: (B,) which pairs.
    """
    source_ids, _ = source.padded(indices)
    target_output_ids, target_mask = target.padded(indices)
    target_input_ids = np.empty_like(target_output_ids)
    target_input_ids[:, 0] = BOS_ID
    target_input_ids[:, 1:] = target_output_ids[:, :-1]
    target_input_ids[~target_mask] = PAD_ID  # the EOS of shorter targets, moved one place to the right
    return Batch(source_ids, target_input_ids, target_output_ids)
