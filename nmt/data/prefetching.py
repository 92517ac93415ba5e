"""Preparing batches in the background, while the model works on the one before."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple, Protocol

from nmt.data.batches import Batch, Cursor

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


class _Item(NamedTuple):
    """A batch with the cursor behind it, or the error that came in its place."""

    batch: Batch | None
    cursor: Cursor | None
    error: BaseException | None


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
        if item.batch is None or item.cursor is None:
            self._error = item.error or StopIteration()
            raise self._error
        self._cursor = item.cursor
        return item.batch

    def __enter__(self) -> Prefetcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
    while not stopping.is_set():
        try:
            batch = next(stream)
            item = _Item(batch, stream.cursor, None)
        except BaseException as error:  # whatever it is belongs to the user of the stream, not to this thread
            item = _Item(None, None, error)
        _put(item, ready, stopping)
        if item.error is not None:
            return


def _put(item: _Item, ready: queue.Queue[_Item], stopping: threading.Event) -> None:
    while not stopping.is_set():
        try:
            ready.put(item, timeout=_POLL_SECONDS)
        except queue.Full:
            continue
        return
