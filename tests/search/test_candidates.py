"""The best tokens through blocks, against a full sort."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmt.search.beam import block_size, top_tokens


def expected_top(logits, count):
    order = np.argsort(-logits, axis=1, kind="stable")[:, :count]
    exact = logits.astype("float64")
    normalizers = np.log(np.exp(exact - exact.max(1, keepdims=True)).sum(1, keepdims=True)) + exact.max(
        1, keepdims=True
    )
    return np.take_along_axis(exact, order, 1) - normalizers, order, normalizers


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    vocabulary_size=st.sampled_from([5, 511, 512, 1009, 1024, 2000, 7993, 8000]),
    count=st.integers(1, 13),
    num_rows=st.integers(1, 7),
)
def test_top_tokens_are_those_of_a_full_sort(seed, vocabulary_size, count, num_rows):
    count = min(count, vocabulary_size)
    logits = np.random.default_rng(seed).normal(size=(num_rows, vocabulary_size)).astype("float32") * 5
    found = top_tokens(logits, count)
    log_probs, token_ids, normalizers = expected_top(logits, count)
    np.testing.assert_array_equal(found.token_ids, token_ids)
    np.testing.assert_allclose(found.log_probs, log_probs, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.log_normalizers, normalizers, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("vocabulary_size", [1009, 1024])
def test_of_equal_logits_the_lower_id_wins(vocabulary_size):
    logits = np.zeros((2, vocabulary_size), "float32")
    logits[1, [900, 700, 40, 3, 800]] = 1.0
    token_ids = np.asarray(top_tokens(logits, 4).token_ids)
    assert token_ids.tolist() == [[0, 1, 2, 3], [3, 40, 700, 800]]


@pytest.mark.parametrize("greatest", [200.0, -200.0])
def test_logits_far_from_zero_are_normalised_without_overflow(greatest):
    logits = np.full((1, 1024), greatest - 60, "float32")
    logits[0, 5] = greatest
    np.testing.assert_allclose(np.asarray(top_tokens(logits, 2).log_probs), [[0.0, -60.0]], atol=1e-4)


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_ids_stay_within_the_vocabulary_whatever_the_logits(value):
    for vocabulary_size in (6, 1009):
        logits = np.full((3, vocabulary_size), value, "float32")
        token_ids = np.asarray(top_tokens(logits, 6).token_ids)
        assert token_ids.min() >= 0
        assert token_ids.max() < vocabulary_size


@given(vocabulary_size=st.integers(1, 70_000), count=st.integers(1, 60))
def test_there_are_always_enough_blocks(vocabulary_size, count):
    size = block_size(vocabulary_size, count)
    if size is not None:
        assert -(-vocabulary_size // size) >= count
