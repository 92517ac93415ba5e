import threading
import time

import numpy as np
import pytest

from nmt.data import TokenStore
from nmt.data.corpus import CorpusReport
from nmt.data.sequences import TokenSequences
from nmt.errors import DataError
from nmt.streams import BatchStream, Cursor

SECONDS_TO_WAIT = 120.0  # before it is taken to hang


class Counting(BatchStream):
    """A stream whose batches are numbers; fails at one of them."""

    def __init__(self, fail_at=None):
        one = TokenSequences.from_lists([[3]])
        super().__init__(TokenStore(None, one, one, CorpusReport(1, 1, 0, 0, 0, 9), ""), batch_tokens=9, seed=1)
        self.fail_at = fail_at
        self.drawn = 0

    def batch_at(self, place):
        if place.batch == self.fail_at:
            raise DataError(f"batch {place.batch} is broken")
        self.drawn += 1
        return place.batch

    def batches_in_epoch(self, epoch):
        return 100 + epoch


def wait_until(condition):
    limit = time.monotonic() + SECONDS_TO_WAIT
    while not condition() and time.monotonic() < limit:
        time.sleep(0.005)
    assert condition()


def prefetching_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("prefetch-batches")]


def test_batches_and_cursors_are_those_of_the_stream(store):
    plain = BatchStream(store, batch_tokens=40, seed=6)
    with BatchStream(store, batch_tokens=40, seed=6) as prefetched:
        for _ in range(3 * plain.batches_in_epoch(0)):
            assert prefetched.cursor == plain.cursor
            for array, other in zip(next(prefetched), next(plain), strict=True):
                assert np.array_equal(array, other)
            assert prefetched.cursor == plain.cursor


def test_no_more_lies_ready_than_the_capacity_and_the_cursor_does_not_see_it(monkeypatch):
    monkeypatch.setattr("nmt.streams.stream._BATCHES_AHEAD", 4)
    with Counting() as stream:
        assert next(stream) == 0
        wait_until(lambda: stream.drawn == 5)  # one drawn, four ready
        time.sleep(0.05)
        assert stream.drawn == 5
        assert stream.cursor == Cursor(0, 1)


def test_seeking_drops_what_lay_ready():
    with Counting() as stream:
        assert [next(stream) for _ in range(4)] == [0, 1, 2, 3]
        stream.seek(Cursor(0, 40))
        assert stream.cursor == Cursor(0, 40)
        assert [next(stream) for _ in range(4)] == [40, 41, 42, 43]
        with pytest.raises(DataError, match="must be one of the 100 batches"):
            stream.seek(Cursor(0, -1))
        assert next(stream) == 44


def test_an_error_comes_where_its_batch_would_have_come():
    with Counting(fail_at=2) as stream:
        assert [next(stream), next(stream)] == [0, 1]
        for _ in range(2):
            with pytest.raises(DataError, match="batch 2 is broken"):
                next(stream)
        assert stream.cursor == Cursor(0, 2)
        stream.seek(Cursor(0, 7))
        assert next(stream) == 7


def test_the_end_of_the_block_ends_the_thread_and_leaves_the_stream_at_its_cursor():
    stream = Counting()
    with stream:
        assert [next(stream), next(stream)] == [0, 1]
        assert prefetching_threads()
    assert not prefetching_threads()
    assert stream.cursor == Cursor(0, 2)
    assert next(stream) == 2
