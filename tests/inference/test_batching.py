"""Limits of length that are found from a training corpus, against a search through all hundredths."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmt.config import SearchSettings
from nmt.translation.lengths import MAX_SOURCE_LENGTH, length_limits, settle_limits


def share_allowed(source, target, hundredths, offset):
    """The share of pairs that a search with this ratio could write, by what searches are really given."""
    search = SearchSettings(max_length_ratio=hundredths / 100, max_length_offset=offset, max_length=10**6)
    return np.mean(length_limits(source, search)[1] >= target)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    count=st.sampled_from([1, 7, 999, 1000, 3456]),
    longest=st.sampled_from([3, 40, 200]),
    offset=st.sampled_from([0, 3, 10]),
)
def test_the_ratio_is_the_smallest_that_holds_all_pairs_but_one_in_a_thousand(seed, count, longest, offset):
    generator = np.random.default_rng(seed)
    source = generator.integers(2, longest + 1, count).astype(np.uint16)
    target = generator.integers(2, 3 * longest, count).astype(np.uint16)
    found = settle_limits(SearchSettings(max_length_offset=offset), source, target, max_source_length=201)
    hundredths = round(100 * found.max_length_ratio)
    assert found.max_length_ratio == hundredths / 100 >= 1.5
    assert share_allowed(source, target, hundredths, offset) >= 0.999
    assert hundredths == 150 or share_allowed(source, target, hundredths - 1, offset) < 0.999


def test_a_product_that_is_no_whole_number_as_a_float_is_seen():
    """2.3 * 100 is 229.99999999999997, so that a limit by 2.3 would be 239, not 240."""
    found = settle_limits(SearchSettings(), np.array([100]), np.array([240]), max_source_length=101)
    assert found.max_length_ratio == 2.31
    assert length_limits(np.array([100]), found)[1] == 241


@pytest.mark.parametrize(
    ("target_length", "max_source_length", "longest"),
    [
        (12, 101, 256),  # 1.5 * 101 + 10 are 161
        (41, 101, 323),  # 3.1 * 101 + 10
        (12, 301, 461),  # 1.5 * 301 + 10
        (910, 101, MAX_SOURCE_LENGTH + 1),  # 90 * 101 + 10 are 9,100
        (12, 5001, 5001),
    ],
)
def test_the_greatest_length_lets_the_ratio_hold(target_length, max_source_length, longest):
    source, target = np.array([10, 10]), np.array([target_length, 5])
    assert settle_limits(SearchSettings(), source, target, max_source_length=max_source_length).max_length == longest


def test_numbers_stay_and_least_lengths_are_allowed():
    source, target = np.array([2, 10]), np.array([40, 50])
    given_numbers = SearchSettings(max_length_ratio=1.2, max_length=60)
    assert settle_limits(given_numbers, source, target, max_source_length=101) == given_numbers
    found = settle_limits(SearchSettings(max_length_ratio=1.2), source, target, max_source_length=101)
    assert (found.max_length_ratio, found.max_length) == (1.2, 256)
    found = settle_limits(SearchSettings(max_length=60), source, target, max_source_length=101)
    assert (found.max_length_ratio, found.max_length) == (15.0, 60)
    found = settle_limits(SearchSettings(min_length_ratio=20, min_length=300), source, target, max_source_length=10)
    assert (found.max_length_ratio, found.max_length) == (20.0, 300)


def test_where_no_corpus_was_looked_at_the_limits_are_those_of_old():
    lengths = np.array([2, 7, 500])
    old = SearchSettings(max_length_ratio=1.5, max_length=256)
    np.testing.assert_array_equal(length_limits(lengths, SearchSettings()), length_limits(lengths, old))
