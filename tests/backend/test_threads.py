"""Calls side by side: order, errors, and how many at once."""

import threading
import time

import pytest

from nmt.backend.machine import map_at_once


def test_calls_side_by_side_give_their_results_in_order():
    running, most, second_is_done = set(), [], threading.Event()

    def call(index):
        running.add(index)
        most.append(len(running))
        if index == 0:
            assert second_is_done.wait(60.0), "nothing ran beside it"
        if index == 1:
            second_is_done.set()
        running.remove(index)
        return index * 10

    assert list(map_at_once(call, range(5), at_once=3)) == [0, 10, 20, 30, 40]
    assert max(most) <= 3


def test_an_error_is_raised_in_its_place_and_nothing_begins_after_it():
    begun = []

    def call(index):
        begun.append(index)
        time.sleep(0.02)
        if index == 1:
            raise ValueError("no number")
        return index

    results = map_at_once(call, range(5000), at_once=2)
    assert next(results) == 0
    with pytest.raises(ValueError, match="no number"):
        next(results)
    count = len(begun)
    time.sleep(0.1)
    assert len(begun) == count < 5000
