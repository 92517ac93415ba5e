"""Batches of training data without end, of which a cursor says which is next: any stream, and that of one corpus."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar

import numpy as np

from nmt.data.batches import EMPTY_BATCH, Batch, BatchPlan, assemble, plan_epoch, refuse_long_pairs, teacher_forced
from nmt.data.sequences import SampledSequences
from nmt.data.store import TokenStore
from nmt.errors import DataError
from nmt.text.sentencepiece_tokenizer import Segmentations

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

    def cut_short(self, place: AnyCursor) -> str | None:
        """What a run that ends at a place has not come to, as a clause; None if it has come to all."""
        return None

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


class Cursor(NamedTuple):
    """A place in the endless stream: the next batch to be drawn.

    Attributes:
        epoch: which pass through the corpus, from 0.
        batch: which batch of that pass, from 0.
    """

    epoch: int
    batch: int


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
