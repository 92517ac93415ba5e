"""The search inside a `tf.function` gives what it gives eagerly, and so do the twins of another backend."""

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from nmt.search import beam_search, greedy_search

BEAM_SIZE = 3


def make_step(toy, table):
    """A step whose state holds all tokens fed so far in a growing leaf, and decides by them."""

    def step(token_ids, state):
        history = ops.concatenate([state["history"], token_ids[:, :, None]], axis=2)
        code = toy.advance(state["code"], token_ids)
        # The sum over the history is redundant with the code, so a wrong history shows in the logits.
        fed = ops.cast(ops.sum(history, axis=2) - state["sum"] - token_ids, "float32")
        logits = toy.look_up(table, code) + fed[:, :, None] * ops.arange(table.shape[-1], dtype="float32")
        return logits, {"history": history, "code": code, "sum": state["sum"] + token_ids}

    return step


def make_memory_step(toy):
    """The same with the table as its memory: sentences that are done leave."""
    return lambda token_ids, state, memory: make_step(toy, memory)(token_ids, state)


def start_state(batch_size, beam_size):
    zeros = ops.zeros((batch_size, beam_size), dtype="int32")
    return {"history": ops.zeros((batch_size, beam_size, 0), dtype="int32"), "code": zeros, "sum": zeros}


def beam_of(toy, table, min_length, max_length):
    batch_size = ops.shape(table)[0]
    return beam_search(
        make_step(toy, table),
        start_state(batch_size, BEAM_SIZE),
        batch_size=batch_size,
        beam_size=BEAM_SIZE,
        num_hypotheses=2,
        min_length=min_length,
        max_length=max_length,
        **toy.IDS,
    )


def greedy_of(toy, table, min_length, max_length):
    batch_size = ops.shape(table)[0]
    return greedy_search(
        make_step(toy, table),
        start_state(batch_size, 1),
        batch_size=batch_size,
        min_length=min_length,
        max_length=max_length,
        **toy.IDS,
    )


def leaving_beam_of(toy, table, min_length, max_length):
    batch_size = ops.shape(table)[0]
    return beam_search(
        make_memory_step(toy),
        start_state(batch_size, BEAM_SIZE),
        memory=table,
        batch_size=batch_size,
        beam_size=BEAM_SIZE,
        min_length=min_length,
        max_length=max_length,
        **toy.IDS,
    )


def leaving_greedy_of(toy, table, min_length, max_length):
    batch_size = ops.shape(table)[0]
    return greedy_search(
        make_memory_step(toy),
        start_state(batch_size, 1),
        memory=table,
        batch_size=batch_size,
        min_length=min_length,
        max_length=max_length,
        **toy.IDS,
    )


@pytest.mark.parametrize("search_of", [beam_of, greedy_of, leaving_beam_of, leaving_greedy_of])
@pytest.mark.parametrize("vocabulary_size", [6, 600])
def test_compiled_equals_eager_with_one_trace_for_all_shapes(toy, search_of, vocabulary_size):
    @tf.function(
        autograph=False,
        input_signature=[
            tf.TensorSpec((None, toy.NUM_CODES, vocabulary_size)),
            tf.TensorSpec((None,), tf.int32),
            tf.TensorSpec((None,), tf.int32),
        ],
    )
    def compiled(table, min_length, max_length):
        return search_of(toy, table, min_length, max_length)

    for batch_size in (1, 4):
        model = toy.HistoryModel(batch_size, batch_size, vocabulary_size)
        min_length = tf.range(batch_size)
        max_length = tf.range(batch_size) * 3 + 3
        graph = compiled(model.table, min_length, max_length)
        eager = search_of(toy, ops.convert_to_tensor(model.table), min_length, max_length)
        for mine, theirs in zip(toy.numpy_fields(graph), toy.numpy_fields(eager), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-5)
        assert len(toy.hypotheses(graph, batch_size - 1)) == graph.scores.shape[1]
    assert compiled.experimental_get_tracing_count() == 1


def test_limits_may_be_ints_when_compiled(toy):
    model = toy.HistoryModel(1, batch_size=2)

    @tf.function(autograph=False)
    def compiled(table):
        return beam_of(toy, table, 2, 7)

    graph, eager = compiled(model.table), beam_of(toy, model.table, 2, 7)
    for mine, theirs in zip(toy.numpy_fields(graph), toy.numpy_fields(eager), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5)


@pytest.mark.parametrize(("beam_size", "vocabulary_size"), [(1, 6), (2, 6), (2, 600)])
def test_a_vocabulary_of_unknown_size_is_searched_alike(toy, beam_size, vocabulary_size):
    model = toy.HistoryModel(9, batch_size=1, vocabulary_size=vocabulary_size)

    def search_of(table):
        def step(token_ids, state):
            code = toy.advance(state, token_ids)
            return ops.take(table, code, axis=0), code

        start = ops.zeros((1, beam_size), dtype="int32")
        return beam_search(step, start, batch_size=1, beam_size=beam_size, max_length=5, **toy.IDS)

    compiled = tf.function(search_of, autograph=False, input_signature=[tf.TensorSpec((toy.NUM_CODES, None))])
    for mine, theirs in zip(*map(toy.numpy_fields, (compiled(model.table[0]), search_of(model.table[0]))), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5)


def test_without_the_tensorflow_paths_it_finds_the_same(toy, monkeypatch):
    """What another backend runs: the twins in `keras.ops`."""
    model = toy.HistoryModel(9, batch_size=3, vocabulary_size=600)
    max_length = ops.convert_to_tensor([4, 8, 11], dtype="int32")
    for search_of in (beam_of, greedy_of, leaving_beam_of, leaving_greedy_of):
        usual = search_of(toy, ops.convert_to_tensor(model.table), 2, max_length)
        with monkeypatch.context() as context:
            context.setattr("keras.backend.backend", lambda: "another")
            twins = search_of(toy, ops.convert_to_tensor(model.table), 2, max_length)
        for mine, theirs in zip(toy.numpy_fields(twins), toy.numpy_fields(usual), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-6)
