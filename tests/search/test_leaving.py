"""Sentences that are done leave the batch, and nothing else changes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from nmt.search import beam_search, greedy_search
from nmt.search.loop import Found, write_result


def memory_step(toy, sizes):
    """A step whose table is its memory, and which notes how many sentences it is asked for."""

    def step(token_ids, state, memory):
        sizes.append(int(token_ids.shape[0]))
        code = toy.advance(state["code"], token_ids)
        return toy.look_up(memory["table"], code), {"code": code}

    return step


def both_ways(toy, model, beam_size, **options):
    """The fields of a search in which sentences stay, of one in which they leave, and the batch sizes of that."""
    options |= {"batch_size": model.batch_size, **toy.IDS}
    search = greedy_search if beam_size is None else beam_search
    if beam_size is not None:
        options["beam_size"] = beam_size
    state, sizes = model.state(beam_size or 1), []
    stay = search(model.step, state, **options)
    leave = search(memory_step(toy, sizes), state, memory={"table": ops.convert_to_tensor(model.table)}, **options)
    return toy.numpy_fields(stay), toy.numpy_fields(leave), sizes


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**20),
    beam_size=st.sampled_from([None, 2, 3, 5]),
    limits=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=11),
    length_penalty=st.sampled_from([0.0, 0.6, 1.0, 2.5]),
)
def test_those_that_leave_take_the_same_with_them(toy, seed, beam_size, limits, length_penalty):
    model = toy.HistoryModel(seed, batch_size=len(limits))
    stay, leave, sizes = both_ways(
        toy,
        model,
        beam_size,
        min_length=np.array([min(pair) for pair in limits], "int32"),
        max_length=np.array([max(pair) for pair in limits], "int32"),
        length_penalty=length_penalty,
    )
    for place, (mine, theirs) in enumerate(zip(leave, stay, strict=True)):
        tolerance = 1e-6 if place in (1, 2) else 0  # a logarithm may round otherwise in a batch of another size
        np.testing.assert_allclose(mine, theirs, rtol=tolerance)
    assert sizes == sorted(sizes, reverse=True)
    assert len(sizes) == stay[0].shape[2], "as many steps as without leaving"


@pytest.mark.parametrize("beam_size", [None, 3])
def test_a_step_computes_only_what_is_not_done(toy, beam_size):
    """Limits of 1, 2, 3 ... tokens, and EOS impossible before: a sentence less after each step."""
    model = toy.HistoryModel(5, batch_size=7)
    lengths = np.array([4, 2, 7, 1, 6, 3, 5], "int32")
    _, leave, sizes = both_ways(toy, model, beam_size, min_length=lengths, max_length=lengths)
    assert sizes == [7, 6, 5, 4, 3, 2, 1]
    assert (leave[3][:, 0] == lengths).all()


def test_few_wait_until_it_is_worth_it(toy):
    model = toy.HistoryModel(5, batch_size=17)
    lengths = np.array([1, 2, 3, *[4] * 14], "int32")
    _, _, sizes = both_ways(toy, model, 2, min_length=lengths, max_length=lengths)
    assert sizes == [17, 17, 17, 14], "an eighth of 17 is two and a bit: three leave together"


def test_nothing_leaves_an_empty_batch(toy):
    for beam_size in (None, 2):
        _, leave, sizes = both_ways(toy, toy.HistoryModel(1, batch_size=0), beam_size, max_length=4)
        assert [field.shape for field in leave[1:4]] == [(0, beam_size or 1)] * 3
        assert sizes == []


def test_a_result_is_written_where_its_sentence_was():
    nothing = np.full((3, 2), -np.inf)
    empty = Found(np.zeros((3, 2, 0), np.int32), nothing, nothing, np.zeros((3, 2), np.int32), ())
    first = Found(*(np.array(x) for x in ([[[4, 3], [3, 0]]], [[-1.0, -2.0]], [[-1.5, -2.5]], [[2, 1]])), ())
    later = Found(*(np.array(x) for x in ([[[5, 6, 3], [7, 8, 3]]], [[-3.0, -4.0]], [[-5.0, -6.0]], [[3, 3]])), ())
    result = write_result(empty, first._replace(scores=np.float32(first.scores)), np.array([2]))
    result = write_result(result, later, np.array([0]))
    assert np.array(result.token_ids).tolist() == [
        [[5, 6, 3], [7, 8, 3]],
        [[0, 0, 0], [0, 0, 0]],
        [[4, 3, 0], [3, 0, 0]],
    ]
    assert np.array(result.scores).tolist() == [[-3.0, -4.0], [-np.inf, -np.inf], [-1.0, -2.0]]
    assert np.array(result.lengths).tolist() == [[3, 3], [0, 0], [2, 1]]
