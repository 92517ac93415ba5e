"""Calls side by side: order, errors, and how many at once."""

import time
from collections import Counter

import pytest

from nmt.backend.threads import map_at_once


def test_calls_side_by_side_give_their_results_in_order():
    running, most, seconds = Counter(), [], (0.05, 0.0, 0.03, 0.0, 0.01)

    def call(index):
        running["now"] += 1
        most.append(running["now"])
        time.sleep(seconds[index])
        running["now"] -= 1
        return index * 10

    assert list(map_at_once(call, range(5), at_once=3)) == [0, 10, 20, 30, 40]
    assert 1 < max(most) <= 3


def test_an_error_is_raised_in_its_place_and_nothing_begins_after_it():
    begun = []

    def call(index):
        begun.append(index)
        time.sleep(0.02)
        if index == 1:
            raise ValueError("no number")
        return index

    results = map_at_once(call, range(50), at_once=2)
    assert next(results) == 0
    with pytest.raises(ValueError, match="no number"):
        next(results)
    assert len(begun) < 10
