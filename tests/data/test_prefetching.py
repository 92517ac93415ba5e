import gc
import threading
import time

import numpy as np
import pytest

from nmt.data import BatchStream, Cursor, Prefetcher
from nmt.errors import DataError

SECONDS_TO_WAIT = 120.0  # before it is taken to hang


class Counting:
    """A stream whose batches are numbers; fails at one of them."""

    def __init__(self, fail_at=None):
        self.cursor = Cursor(0, 0)
        self.fail_at = fail_at
        self.drawn = 0

    def __next__(self):
        number = self.cursor.batch
        if number == self.fail_at:
            raise DataError(f"batch {number} is broken")
        self.drawn += 1
        self.cursor = Cursor(0, number + 1)
        return number

    def seek(self, cursor):
        if cursor.batch < 0:
            raise DataError("no such place")
        self.cursor = cursor

    def batches_in_epoch(self, epoch):
        return 100 + epoch


def wait_until(condition):
    limit = time.monotonic() + SECONDS_TO_WAIT
    while not condition() and time.monotonic() < limit:
        time.sleep(0.005)
    assert condition()


def prefetching_threads():
    return [thread for thread in threading.enumerate() if thread.name == "prefetch-batches"]


def test_batches_and_cursors_are_those_of_the_stream(store):
    plain = BatchStream(store, batch_tokens=40, seed=6)
    with Prefetcher(BatchStream(store, batch_tokens=40, seed=6), capacity=3) as prefetcher:
        for _ in range(3 * plain.batches_in_epoch(0)):
            assert prefetcher.cursor == plain.cursor
            for array, other in zip(next(prefetcher), next(plain), strict=True):
                assert np.array_equal(array, other)
            assert prefetcher.cursor == plain.cursor


def test_no_more_lies_ready_than_the_capacity_and_the_cursor_does_not_see_it():
    stream = Counting()
    with Prefetcher(stream, capacity=3) as prefetcher:
        assert next(prefetcher) == 0
        wait_until(lambda: stream.drawn == 5)  # one drawn, three ready, one in the hand of the thread
        time.sleep(0.05)
        assert stream.drawn == 5
        assert prefetcher.cursor == Cursor(0, 1)


def test_seeking_drops_what_lay_ready():
    with Prefetcher(Counting(), capacity=3) as prefetcher:
        assert [next(prefetcher) for _ in range(4)] == [0, 1, 2, 3]
        prefetcher.seek(Cursor(0, 40))
        assert prefetcher.cursor == Cursor(0, 40)
        assert [next(prefetcher) for _ in range(4)] == [40, 41, 42, 43]
        with pytest.raises(DataError, match="no such place"):
            prefetcher.seek(Cursor(0, -1))


def test_an_error_comes_where_its_batch_would_have_come():
    with Prefetcher(Counting(fail_at=2), capacity=4) as prefetcher:
        assert [next(prefetcher), next(prefetcher)] == [0, 1]
        for _ in range(2):
            with pytest.raises(DataError, match="batch 2 is broken"):
                next(prefetcher)
        assert prefetcher.cursor == Cursor(0, 2)
        prefetcher.seek(Cursor(0, 7))
        assert next(prefetcher) == 7


def test_closing_ends_the_thread_and_gives_the_stream_back():
    stream = Counting()
    prefetcher = Prefetcher(stream, capacity=2)
    assert [next(prefetcher), next(prefetcher)] == [0, 1]
    prefetcher.close()
    prefetcher.close()
    assert not prefetching_threads()
    assert stream.cursor == prefetcher.cursor == Cursor(0, 2)
    with pytest.raises(StopIteration):
        next(prefetcher)


def test_a_forgotten_prefetcher_ends_its_thread():
    prefetcher = Prefetcher(Counting())
    next(prefetcher)
    del prefetcher
    gc.collect()
    wait_until(lambda: not prefetching_threads())


def test_the_length_of_an_epoch_is_that_of_the_stream():
    with Prefetcher(Counting()) as prefetcher:
        assert prefetcher.batches_in_epoch(3) == 103
        assert iter(prefetcher) is prefetcher
