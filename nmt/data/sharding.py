"""Each worker's share of the one stream of batches.

An update takes the next M batches of the stream, whoever trains: the replicas take turns, so that batch i of an update
is that of replica i mod R in its round i // R. A worker draws those of its own replicas and passes over the others
without building them. The cursor is that of the whole stream and means the same for any number of replicas; so a run
goes on with other ones, where it was.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nmt.data.batches import Batch, Cursor
from nmt.data.prefetching import Stream
from nmt.text.vocabulary import BOS_ID, EOS_ID
from nmt.types import PAD_ID

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
        return self.rounds * len(self._own)

    @property
    def rounds(self) -> int:
        """Batches of one replica in an update."""
        return -(-self._batches // self._replicas)

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
