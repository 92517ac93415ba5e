"""Greedy search, a beam of one, against the same in NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from nmt.search import greedy_search


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    length_penalty=st.sampled_from([0.0, 0.6, 1.0, 2.5]),
    limits=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=3, max_size=3),
    scale=st.sampled_from([0.0, 0.5, 3.0]),
    vocabulary_size=st.sampled_from([4, 6, 1024]),
    banned=st.sampled_from([(), (3,), (5, 3, 1)]),
)
def test_greedy_is_what_it_is_in_numpy(toy, seed, length_penalty, limits, scale, vocabulary_size, banned):
    """With every length penalty, and also where all tokens are equal (scale 0)."""
    model = toy.HistoryModel(seed, batch_size=3, vocabulary_size=vocabulary_size, scale=scale)
    banned = [token_id for token_id in banned if token_id < vocabulary_size]
    result = greedy_search(
        model.step,
        model.state(1),
        batch_size=3,
        min_length=np.array([min(pair) for pair in limits], "int32"),
        max_length=np.array([max(pair) for pair in limits], "int32"),
        length_penalty=length_penalty,
        banned_ids=banned,
        **toy.IDS,
    )
    for sentence, pair in enumerate(limits):
        asked = {"min_length": min(pair), "max_length": max(pair), "length_penalty": length_penalty, "banned": banned}
        toy.assert_same(toy.hypotheses(result, sentence), toy.plain_greedy(model, sentence, **asked))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_greedy_takes_the_most_probable_token_at_each_step(toy, seed):
    model = toy.HistoryModel(seed, batch_size=2)
    result = greedy_search(model.step, model.state(1), batch_size=2, max_length=7, min_length=2, **toy.IDS)
    for sentence in range(2):
        ((score, log_prob, ids),) = toy.hypotheses(result, sentence)
        np.testing.assert_allclose([log_prob, score], model.score(sentence, ids, 1.0), rtol=2e-5)
        for t, token_id in enumerate(ids[:6]):
            allowed = [*toy.CONTENT] if t == 0 else [*toy.CONTENT, toy.EOS]
            log_probs = model.log_probs(sentence, ids[:t])
            assert log_probs[token_id] == max(log_probs[allowed])


def test_greedy_ends_a_sentence_without_numbers(toy):
    model = toy.HistoryModel(4, batch_size=2)
    expected = greedy_search(model.step, model.state(1), batch_size=2, max_length=6, **toy.IDS)
    model.table[0, 1:] = np.nan
    model.table[0, toy.advance(0, toy.BOS)] = np.arange(6.0)
    result = greedy_search(model.step, model.state(1), batch_size=2, max_length=6, **toy.IDS)
    assert toy.hypotheses(result, 0) == []
    toy.assert_same(toy.hypotheses(result, 1), toy.hypotheses(expected, 1))


def test_greedy_never_falls_back_on_pad_where_nothing_is_possible(toy):
    logits = np.full((1, 1, 6), -np.inf, "float32")
    logits[..., [toy.PAD, toy.BOS, toy.EOS]] = 0.0
    result = greedy_search(
        lambda token_ids, state: (ops.convert_to_tensor(logits), state),
        (),
        batch_size=1,
        max_length=4,
        min_length=2,
        **toy.IDS,
    )
    assert toy.hypotheses(result, 0) == []
    assert result.token_ids.shape == (1, 1, 1), "there is nothing to go on for"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length_penalty": -1.0}, "length_penalty must be 0 or more"),
        ({"max_length": 0}, "max_length must be at least 1"),
        ({"min_length": 9}, "min_length must not exceed max_length, got 9 and 4"),
        ({"banned_ids": (2,)}, r"banned_ids must not hold eos_id \(2\)"),
    ],
)
def test_greedy_refuses_what_cannot_be_searched(toy, options, message):
    options = {"max_length": 4, **options}
    with pytest.raises(ValueError, match=message):
        greedy_search(lambda token_ids, state: (None, state), (), batch_size=1, **toy.IDS, **options)
