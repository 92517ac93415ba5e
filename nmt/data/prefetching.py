"""Preparing batches in the background, while the model works on the one before."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Iterator
from contextlib import suppress
from typing import Protocol, TypeAlias

import numpy as np

from nmt.data.batches import Batch, Cursor
from nmt.text.vocabulary import BOS_ID, EOS_ID
from nmt.types import PAD_ID

_POLL_SECONDS = 0.1


class Stream(Protocol):
    """What can be prefetched: batches with a cursor, such as a `BatchStream`."""

    @property
    def cursor(self) -> Cursor:
        """The next batch to be drawn."""

    def seek(self, cursor: Cursor) -> None:
        """Go to a place of the stream."""

    def batches_in_epoch(self, epoch: int) -> int:
        """Number of batches of an epoch."""

    def __next__(self) -> Batch:
        """The batch at the cursor."""


_Item: TypeAlias = tuple[Batch, Cursor] | BaseException
"""A batch with the cursor behind it, or the error that came in its place."""


class Prefetcher:
    """A stream whose batches are prepared by a thread; to its user it is that stream.

    The cursor is that of what the user has drawn, whatever lies ready. An error of the stream is raised where its batch
    would have been drawn. The stream belongs to the prefetcher until `close`, which leaves it at the user's cursor.

    Args:
        stream: where batches come from.
        capacity: how many may lie ready.
    """

    def __init__(self, stream: Stream, *, capacity: int = 4) -> None:
        self._stream = stream
        self._capacity = capacity
        self._cursor = stream.cursor
        self._error: BaseException | None = None
        self._closed = False
        self._start()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        """The next batch; StopIteration after `close`."""
        if self._closed:
            raise StopIteration
        if self._error is not None:
            raise self._error
        item = self._ready.get()
        if isinstance(item, BaseException):
            self._error = item
            raise item
        batch, self._cursor = item
        return batch

    def __enter__(self) -> Prefetcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def cursor(self) -> Cursor:
        """The next batch that the user will draw."""
        return self._cursor

    def seek(self, cursor: Cursor) -> None:
        """Go to a place of the stream; what lay ready is dropped.

        Raises:
            DataError: there is no such batch.
        """
        self._stop()
        self._error = None
        try:
            self._stream.seek(cursor)
            self._cursor = self._stream.cursor
        finally:
            if not self._closed:
                self._start()

    def batches_in_epoch(self, epoch: int) -> int:
        """Number of batches of an epoch."""
        return self._stream.batches_in_epoch(epoch)

    def close(self) -> None:
        """Stop the thread and wait for its end. May be called again."""
        if not self._closed:
            self._closed = True
            self._stop()
            self._stream.seek(self._cursor)

    def _start(self) -> None:
        self._ready: queue.Queue[_Item] = queue.Queue(self._capacity)
        self._stopping = threading.Event()
        # The thread knows stream, queue and event, not the prefetcher: one that is forgotten is collected and ends it.
        weakref.finalize(self, self._stopping.set)
        arguments = (self._stream, self._ready, self._stopping)
        self._thread = threading.Thread(target=_prepare, args=arguments, name="prefetch-batches", daemon=True)
        self._thread.start()

    def _stop(self) -> None:
        self._stopping.set()
        self._thread.join()


def _prepare(stream: Stream, ready: queue.Queue[_Item], stopping: threading.Event) -> None:
    """Body of the thread: put batches until told to stop or until the stream fails."""
    item: _Item | None = None
    while not stopping.is_set() and not isinstance(item, BaseException):
        try:
            item = next(stream), stream.cursor
        except BaseException as error:  # whatever it is belongs to the user of the stream, not to this thread
            item = error
        while not stopping.is_set():
            with suppress(queue.Full):
                ready.put(item, timeout=_POLL_SECONDS)
                break


EMPTY_BATCH = Batch(*(np.array([[token_id]], np.int32) for token_id in (EOS_ID, BOS_ID, PAD_ID)))
"""What a replica gets in a round that has no batch for it: nothing that counts, as its only target is padding."""


class WorkerShare:
    """The batches of one worker's replicas, round after round, each round in the order of the replicas.

    The cursor is meant between updates; within one it says what the worker has passed.

    Args:
        stream: the whole stream.
        batches_per_update: M, batches that an update takes.
        replicas: R, of all workers.
        own_numbers: which of them are this worker's.
    """

    def __init__(self, stream: Stream, *, batches_per_update: int, replicas: int, own_numbers: range) -> None:
        self._stream = stream
        self._batches = batches_per_update
        self._replicas = replicas
        self._own = own_numbers
        self._drawn = 0  # own batches of this update that were handed out
        self._passed = 0  # batches of this update that the stream has left behind

    def __iter__(self) -> Iterator[Batch]:
        return self

    @property
    def draws_per_update(self) -> int:
        """Batches of this worker in an update, empty ones counted."""
        rounds = -(-self._batches // self._replicas)
        return rounds * len(self._own)

    def __next__(self) -> Batch:
        """The next batch of this worker's replicas; after the last one of an update the stream is at its end."""
        turn, place = divmod(self._drawn, len(self._own))
        number = turn * self._replicas + self._own[place]
        batch = EMPTY_BATCH
        if number < self._batches:
            self._pass_over(number)
            batch = next(self._stream)
            self._passed += 1
        self._drawn += 1
        if self._drawn == self.draws_per_update:
            self._pass_over(self._batches)
            self._drawn = self._passed = 0
        return batch

    @property
    def cursor(self) -> Cursor:
        """The next batch of the whole stream."""
        return self._stream.cursor

    def seek(self, cursor: Cursor) -> None:
        """Go to the beginning of an update.

        Raises:
            DataError: there is no such batch.
        """
        self._stream.seek(cursor)
        self._drawn = self._passed = 0

    def batches_in_epoch(self, epoch: int) -> int:
        """Number of batches of an epoch of the whole stream."""
        return self._stream.batches_in_epoch(epoch)

    def _pass_over(self, number: int) -> None:
        """Move the stream to a batch of this update without building those before it."""
        if number == self._passed:
            return
        epoch, batch = self._stream.cursor
        batch += number - self._passed
        while batch >= (size := self._stream.batches_in_epoch(epoch)):
            epoch, batch = epoch + 1, batch - size
        self._stream.seek(Cursor(epoch, batch))
        self._passed = number
