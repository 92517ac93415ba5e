"""Batches of token ids: an endless stream with a cursor for training, and a list in length order for validation."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar

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
        batch_tokens: no batch of more than one pair holds more padded tokens of its longer side.
        seed: of the run.
        epoch: which epoch, from 0.
    """
    lengths = source_lengths, target_lengths
    return plan_batches(*lengths, batch_tokens=batch_tokens, generator=np.random.default_rng([seed, epoch]))


def plan_batches(
    source_lengths: np.ndarray, target_lengths: np.ndarray, *, batch_tokens: int, generator: np.random.Generator
) -> BatchPlan:
    """Plan batches of similar lengths in random order, each pair once; the lengths are those of `plan_epoch`."""
    # Neighbours of the order have similar lengths, so that batches cut from it hold little padding.
    pairs = _random_order(source_lengths, target_lengths, batch_tokens=batch_tokens, generator=generator)
    # A first batch of another size moves all cuts, so that no pairs share their batch in every epoch.
    longest = np.maximum(source_lengths, target_lengths)
    bounds = cut(longest[pairs], batch_tokens=batch_tokens, first_share=1.0 - 0.5 * generator.random())
    # Training sees short and long batches mixed.
    return BatchPlan(pairs, bounds[generator.permutation(len(bounds))])


def plan_in_length_order(source_lengths: np.ndarray, target_lengths: np.ndarray, *, batch_tokens: int) -> BatchPlan:
    """Plan batches without chance, short pairs first; a pair longer than `batch_tokens` is a batch of its own."""
    longest = np.maximum(source_lengths, target_lengths)
    pairs = np.lexsort((target_lengths, source_lengths, longest))
    return BatchPlan(pairs, cut(longest[pairs], batch_tokens=batch_tokens, first_share=1.0))


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
        # No batch holds more pairs than if all were as long as its first one; how many less, the longest so far tells.
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
    # The lengths of one side divide the pairs into strips, those of the other order them within a strip.
    outer, inner = target_lengths, source_lengths
    if generator.random() < 0.5:
        outer, inner = inner, outer
    strip_of_length = _strips(outer, inner, batch_tokens=batch_tokens, phase=generator.random())
    # Every other strip runs downwards, so that the end of one and the begin of the next have similar lengths too.
    width = int(inner.max()) + 1
    upwards = (strip_of_length + generator.integers(2)) % 2 == 0
    # Pairs of equal lengths come in the order of a shuffle.
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
    # The lower bits of a sorted key say where in the shuffle the pair stands.
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
    # Tokens of all pairs, by the length of their outer side.
    tokens_of_length = np.zeros(int(outer.max()) + 1)
    for piece in _pieces(len(outer)):
        longest = np.maximum(outer[piece], inner[piece])
        tokens_of_length += np.bincount(outer[piece], weights=longest, minlength=len(tokens_of_length))
    # A length belongs to the strip in which the middle of its tokens falls; the phase moves the borders.
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
        weights: (B, 1) float32, of the pairs in the training loss; None if all count alike.
    """

    source_ids: np.ndarray
    target_input_ids: np.ndarray
    target_output_ids: np.ndarray
    weights: np.ndarray | None = None


class Cursor(NamedTuple):
    """A place in the endless stream: the next batch to be drawn.

    Attributes:
        epoch: which pass through the corpus, from 0.
        batch: which batch of that pass, from 0.
    """

    epoch: int
    batch: int


EMPTY_BATCH = Batch(np.array([[EOS_ID]], np.int32), np.array([[BOS_ID]], np.int32), np.array([[PAD_ID]], np.int32),
                    np.ones((1, 1), np.float32))  # fmt: skip
"""What a replica gets in a round that has no batch for it: nothing that counts, as its only target is padding."""

_BATCHES_AHEAD = 5
"""As many batches are prepared in the background, in the hand of the thread or ready."""


AnyCursor = TypeVar("AnyCursor")


class Variation(Protocol):
    """Changes pairs of a corpus by chance: what a pair becomes follows from its number and the epoch."""

    def lengths(self, indices: np.ndarray, *, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens to plan with of source and target of n pairs, (n,) each, no fewer than unchanged."""

    def draw(self, indices: np.ndarray, *, epoch: int, room: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Source and target of B pairs, each as token ids (B, longest) and mask; no pair is longer than `room`."""

    def tell(self) -> None:
        """Log how many pairs were changed, and how many could not be."""


class Stream(ABC, Generic[AnyCursor]):
    """Batches of training data without end, of which a cursor says which is next.

    The replicas of a run take the batches of an update in turn, round after round. A stream hands out those of its own
    replicas and builds no others; its cursor is that of the whole stream, and within an update it says what is passed.

    In a `with` block, a thread prepares the next batches while the model works on the one before. To its user it is the
    same stream: the cursor is that of what was drawn, whatever lies ready, and an error is raised where its batch would
    have been drawn.

    Args:
        start: the first place.
        batches_per_update: M, of all replicas.
        replicas: R, of all workers.
        own_numbers: which of them draw from this stream.
    """

    def __init__(
        self, start: AnyCursor, *, batches_per_update: int = 1, replicas: int = 1, own_numbers: range = range(1)
    ) -> None:
        self._batches_per_update = batches_per_update
        self._own = [turn + number for turn in range(0, batches_per_update, replicas) for number in own_numbers]
        self._update, self._drawn = start, 0  # where the update began, and how many of its own were built
        self._cursor = self._update
        self.variations: Sequence[Variation] = ()
        self._thread: ThreadPoolExecutor | None = None
        self._ready: deque[Future[tuple[Batch, AnyCursor]]] = deque()

    @abstractmethod
    def seek(self, cursor: AnyCursor) -> None:
        """Go to a place of the stream, the beginning of an update.

        Raises:
            DataError: there is no such batch; the corpus or the batch size is not that of the cursor.
        """

    @abstractmethod
    def batches_in_epoch(self, epoch: int) -> int:
        """Number of batches of an epoch; epochs differ by a few."""

    @abstractmethod
    def batch_at(self, place: AnyCursor) -> Batch:
        """The batch at a place of the whole stream; the cursor stays."""

    @abstractmethod
    def behind(self, place: AnyCursor, batches: int, *, updates: int = 0) -> AnyCursor:
        """The place that is so many batches behind another, and the end of so many updates."""

    def described(self, place: AnyCursor) -> dict[str, Any]:
        """What is to be reported of a place besides epoch and batch, by the names that `UpdateEvent` has for it."""
        return {}

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        """The batch at the cursor; the cursor moves to the next one."""
        if self._thread is None:
            batch, self._cursor = self._draw()
            return batch
        while len(self._ready) <= _BATCHES_AHEAD:
            self._ready.append(self._thread.submit(self._draw))
        batch, self._cursor = self._ready[0].result()
        self._ready.popleft()  # not before: a signal may break off the wait
        return batch

    def __enter__(self) -> Self:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prefetch-batches")
        return self

    def __exit__(self, *_: object) -> None:
        self._go_to(self._cursor)
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None
        for variation in self.variations:
            variation.tell()

    @property
    def cursor(self) -> AnyCursor:
        """The next batch to be drawn."""
        return self._cursor

    @property
    def draws_per_update(self) -> int:
        """Batches of this stream's replicas in an update, empty ones counted."""
        return len(self._own)

    def _draw(self) -> tuple[Batch, AnyCursor]:
        """The next batch of the own replicas and the cursor behind it; what fails is tried again by the next call."""
        number, size = self._own[self._drawn], self._batches_per_update
        batch = self.batch_at(self.behind(self._update, number)) if number < size else EMPTY_BATCH
        if self._drawn + 1 < len(self._own):
            self._drawn += 1
            return batch, self.behind(self._update, min(number + 1, size))
        self._update, self._drawn = self.behind(self._update, size, updates=1), 0
        return batch, self._update

    def _go_to(self, cursor: AnyCursor) -> None:
        """Begin an update at a place, once the thread has let go; what lay ready is dropped."""
        for future in self._ready:
            future.cancel()
        wait(self._ready)
        self._ready.clear()
        self._update, self._drawn, self._cursor = cursor, 0, cursor


class BatchStream(Stream[Cursor]):
    """Batches of a training corpus, epoch after epoch, without end.

    Each epoch holds every pair once, in other batches and in another order than the last; seed and epoch decide both.
    So a stream that is sent to a cursor goes on exactly as the one that reported it.

    Args:
        store: the N pairs.
        batch_tokens: no batch holds more padded tokens of its longer side: B * max(S, T) <= batch_tokens.
        seed: 0 or more.
        segmentations: of the pieces of source and target, to cut words in another way in each epoch; None leaves them
            as they are in the store.
        variation: changes the pairs in each epoch; not together with segmentations.
        batches_per_update, replicas, own_numbers: see `Stream`.

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
        variation: Variation | None = None,
        batches_per_update: int = 1,
        replicas: int = 1,
        own_numbers: range = range(1),
    ) -> None:
        super().__init__(
            Cursor(0, 0), batches_per_update=batches_per_update, replicas=replicas, own_numbers=own_numbers
        )
        self._store, self._variation = store, variation
        self.variations = [] if variation is None else [variation]
        self._batch_tokens = batch_tokens
        self._seed = seed
        self._sampled: list[SampledSequences] | None = None
        refuse_long_pairs(store.longest, batch_tokens)
        if segmentations is not None:
            sides = zip((store.source, store.target), segmentations, strict=True)
            self._sampled = [SampledSequences(*side, seed=(seed, number)) for number, side in enumerate(sides)]
        self._plans: dict[int, BatchPlan] = {}

    def seek(self, cursor: Cursor) -> None:
        """Go to a place of the stream, the beginning of an update.

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
        self._go_to(cursor)

    def batches_in_epoch(self, epoch: int) -> int:
        """Number of batches of an epoch; epochs differ by a few."""
        return len(self._plan_of(epoch))

    def batch_at(self, place: Cursor) -> Batch:
        """The batch at a place of the whole stream, as it is stored or cut in this epoch; the cursor stays."""
        indices = self._plan_of(place.epoch)[place.batch]
        weights = None if self._store.weights is None else self._store.weights[indices, None]
        if self._variation is not None:
            room = self._batch_tokens // len(indices)
            (source_ids, _), varied = self._variation.draw(indices, epoch=place.epoch, room=room)
            return teacher_forced(source_ids, *varied)._replace(weights=weights)
        if self._sampled is None:
            return assemble(self._store.source, self._store.target, indices)._replace(weights=weights)
        source, target = (side.draw(indices, epoch=place.epoch) for side in self._sampled)
        return assemble(source, target, np.arange(len(indices)))._replace(weights=weights)

    def behind(self, place: Cursor, batches: int, *, updates: int = 0) -> Cursor:
        """The place that is so many batches behind another; an epoch is not planned before a batch of it is needed."""
        epoch, batch = place.epoch, place.batch + batches
        while batch and batch >= (size := self.batches_in_epoch(epoch)):
            epoch, batch = epoch + 1, batch - size
        return Cursor(epoch, batch)

    def _plan_of(self, epoch: int) -> BatchPlan:
        """The plan of an epoch; the last two are kept, because the thread runs ahead into the next epoch."""
        plans = self._plans
        if epoch not in plans:
            # A new dictionary, not a changed one: the other thread may be reading the old one. What is dropped is
            # dropped before the new plan is made, which takes much memory.
            plans = self._plans = dict(list(plans.items())[-1:])
            lengths = self._store.source_lengths, self._store.target_lengths
            if self._sampled is not None:
                lengths = self._sampled[0].lengths(epoch), self._sampled[1].lengths(epoch)
            if self._variation is not None:
                likely = self._variation.lengths(np.arange(len(self._store)), epoch=epoch)
                lengths = np.minimum(likely[0], self._batch_tokens), np.minimum(likely[1], self._batch_tokens)
            plan = plan_epoch(*lengths, batch_tokens=self._batch_tokens, seed=self._seed, epoch=epoch)
            plans = self._plans = {**plans, epoch: plan}
        return plans[epoch]


def refuse_long_pairs(longest: int, batch_tokens: int) -> None:
    """Refuse batches that would not hold the longest pair, whose tokens are counted with EOS.

    Raises:
        ConfigError: saying how long it is.
    """
    if longest > batch_tokens:
        raise ConfigError(
            f"batch_tokens must hold the longest pair, {longest} tokens with EOS, got {batch_tokens}: "
            "raise batch_tokens or lower max_length"
        )


def evaluation_batches(
    pairs: Sequence[tuple[str, str]], *, text: TextPair, batch_tokens: int, tag: str | None = None
) -> list[Batch]:
    """All pairs of a validation or test corpus as batches, none dropped, short ones first.

    An empty line is a sequence of EOS alone. A pair longer than `batch_tokens` is a batch of its own.

    Args:
        pairs: lines of both sides, at least one pair.
        text: the tokenizers.
        batch_tokens: padded tokens of the longer side in one batch.
        tag: of `text`, to be put before each sequence of its side.
    """
    sides = zip((text.source, text.target), zip(*pairs, strict=True), text.begins(tag), strict=True)
    source, target = (
        TokenSequences.from_lists([[*begin, *ids, EOS_ID] for ids in tokenizer.encode_batch(lines)])
        for tokenizer, lines, begin in sides
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
    return teacher_forced(source.padded(indices)[0], *target.padded(indices))


def teacher_forced(source_ids: np.ndarray, target_output_ids: np.ndarray, target_mask: np.ndarray) -> Batch:
    """The batch of source ids (B, S), and of target ids (B, T) with their mask."""
    target_input_ids = np.empty_like(target_output_ids)
    target_input_ids[:, 0] = BOS_ID
    target_input_ids[:, 1:] = target_output_ids[:, :-1]
    target_input_ids[~target_mask] = PAD_ID  # the EOS of shorter targets, moved one place to the right
    return Batch(source_ids, target_input_ids, target_output_ids)
