"""What both searches refuse, in words of their own, eagerly and while a graph is traced."""

import re

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from nmt.search import beam_search, greedy_search

B, K, V = 2, 3, 11
IDS = {"bos_id": 1, "eos_id": 2, "pad_id": 0}


def step(token_ids, state):
    return ops.zeros((*ops.shape(token_ids), V)), state


def search(name, step=step, state=(), memory=None, **options):
    options = {"batch_size": B, "max_length": 4, **IDS, **options}
    if name == "beam":
        return beam_search(step, state, beam_size=K, memory=memory, **options)
    return greedy_search(step, state, memory=memory, **options)


def beams(name):
    return K if name == "beam" else 1


@pytest.fixture(params=["beam", "greedy"])
def name(request):
    return request.param


@pytest.fixture(params=["eager", "graph"])
def refused(request):
    """Expects a refusal with these words, eagerly or of the function that is traced."""

    def expect(message, call):
        with pytest.raises(ValueError, match=message) as caught:
            call() if request.param == "eager" else tf.function(call, autograph=False)()
        assert "node" not in str(caught.value), "words of TensorFlow"

    return expect


@pytest.mark.parametrize("which", ["bos_id", "eos_id", "pad_id"])
@pytest.mark.parametrize("token_id", [-1, V, 2.0, "2", None, True])
def test_special_ids_are_tokens_of_the_logits(name, refused, which, token_id):
    within = "one of the 11 tokens of the logits" if token_id == V else "a token id, an int of 0 or more"
    refused(f"{which} must be {within}, got {token_id!r}", lambda: search(name, **{which: token_id}))


def test_the_last_token_may_be_special_and_one_id_may_begin_and_end(name):
    def likes_four(token_ids, state):
        return ops.one_hot(ops.full_like(token_ids, 4), V) * 5.0, state

    result = search(name, likes_four, bos_id=V - 1, eos_id=V - 1, pad_id=0, max_length=np.int64(3))
    assert np.asarray(result.token_ids)[:, 0].tolist() == [[4, 4, V - 1]] * B


def test_ids_may_be_of_any_integer_type(name):
    plain = search(name, bos_id=1, eos_id=2, pad_id=0, banned_ids=[5])
    ids = np.array([1, 2, 0, 5])  # of 64 bits
    other = search(name, bos_id=ids[0], eos_id=ids[1], pad_id=ids[2], banned_ids=ids[3:])
    for before, after in zip(plain, other, strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(("token_id", "message"), [(V, "one of the 11 tokens"), (-1, "an int of 0 or more, got -1")])
def test_banned_ids_are_tokens_of_the_logits(name, refused, token_id, message):
    refused(message, lambda: search(name, banned_ids=[4, token_id]))


def test_the_end_is_not_padding(name, refused):
    refused("eos_id and pad_id must differ, got 2 for both", lambda: search(name, pad_id=2))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("max_length", 2.5, "max_length must be an int, or integers of shape (B,) with B = 2, got float64 ()"),
        ("max_length", "4", "max_length must be an int"),
        ("max_length", None, "max_length must be an int"),
        ("max_length", np.array([4, 4, 4]), "of shape (B,) with B = 2, got int64 (3,)"),
        ("max_length", np.array([[4], [4]]), "of shape (B,) with B = 2, got int64 (2, 1)"),
        ("max_length", np.array([4, 0]), "max_length must be at least 1 (EOS counts), and an int32, got 0"),
        ("max_length", 2**31, "and an int32, got 2147483648"),
        ("min_length", -1, "min_length must be at least 0, and an int32, got -1"),
        ("min_length", np.array([0.0, 1.0]), "min_length must be an int"),
        ("length_penalty", "1", "length_penalty must be 0 or more, got '1'"),
        ("length_penalty", float("inf"), "length_penalty must be 0 or more, got inf"),
        ("batch_size", -1, "batch_size must be how many sentences there are, an int, got -1"),
        ("batch_size", 2.0, "batch_size must be how many"),
        ("batch_size", None, "batch_size must be how many"),
        ("batch_size", np.array([2]), "batch_size must be how many"),
        ("step", "decoder", "the step must be a function of token ids and state, got str"),
    ],
)
def test_arguments_out_of_range_or_of_another_type(name, refused, option, value, message):
    refused(re.escape(message), lambda: search(name, **{option: value}))


@pytest.mark.parametrize(("option", "value"), [("beam_size", 2.0), ("beam_size", "4"), ("num_hypotheses", 1.0)])
def test_beams_are_counted_in_ints(option, value):
    with pytest.raises(ValueError, match=rf"{option} must .*, got {value!r}: give an int"):
        beam_search(step, (), batch_size=B, max_length=4, **IDS, **{option: value})


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (lambda k: (B * k, V), "the logits must be (B, K, V) with (B, K) = (2, {k}), got ({bk}, 11): reshape them"),
        (lambda k: (B, V), "got (2, 11)"),
        (lambda k: (B, k + 1, V), "with (B, K) = (2, {k}), got (2, {more}, 11)"),
        (lambda k: (B + 1, k, V), "with (B, K) = (2, {k}), got (3, {k}, 11)"),
        (lambda k: (B, k, 1, V), "got (2, {k}, 1, 11)"),
        (lambda k: (), "got ()"),
    ],
)
def test_logits_of_another_shape(name, refused, shape, message):
    k = beams(name)
    words = re.escape(message.format(k=k, bk=B * k, more=k + 1))
    refused(words, lambda: search(name, lambda token_ids, state: (ops.zeros(shape(k)), state)))


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda logits, state: logits, "the step must return (logits, next state), got "),
        (lambda logits, state: None, "the step must return (logits, next state), got NoneType"),
        (lambda logits, state: (logits, state, ()), "the step must return (logits, next state), got tuple of 3"),
        (lambda logits, state: (None, state), "the logits must be a tensor (B, K, V), got NoneType"),
        (lambda logits, state: (logits > 0, state), "the logits must be floats, got bool"),
    ],
)
def test_a_step_that_returns_something_else(name, refused, returned, message):
    k = beams(name)
    refused(re.escape(message), lambda: search(name, lambda token_ids, state: returned(ops.zeros((B, k, V)), state)))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            lambda k: ops.zeros((B + 1, k)),
            "of the state must be a tensor that begins with (B, K) = (2, {k}), got shape",
        ),
        (lambda k: {"keys": [ops.zeros((B * k, 5))]}, "at 'keys/0'"),
        (lambda k: (ops.zeros((B, k + 1, 5)),), "got shape (2, {more}, 5) at '0'"),
        (lambda k: {"length": 0}, "got int at 'length'"),
        (lambda k: {"cache": None}, "got NoneType at 'cache'"),
        (lambda k: ops.zeros((B,)), "got shape (2,)"),
    ],
)
def test_a_state_whose_leaves_begin_with_something_else(name, refused, state, message):
    k = beams(name)
    refused(re.escape(message.format(k=k, more=k + 1)), lambda: search(name, state=state(k)))


def test_a_memory_of_another_batch(name, refused):
    message = re.escape("every leaf of the memory must be a tensor that begins with (B) = (2,), got shape (3, 5)")
    refused(message, lambda: search(name, lambda ids, state, memory: step(ids, state), memory=[ops.zeros((3, 5))]))


@pytest.mark.parametrize(
    "change",
    [
        lambda state: [state],
        lambda state: {},
        lambda state: {**state, "more": state["sum"]},
        lambda state: {"sum": ops.cast(state["sum"], "float32")},
        lambda state: {"sum": state["sum"][:, :, None]},
        lambda state: {"sum": state["sum"][:1]},
        lambda state: {"sum": None},
    ],
)
def test_a_state_that_changes_its_structure_type_or_rank(name, refused, change):
    k = beams(name)
    had = re.escape(f"but had {{'sum': 'int32 (2, {k})'}} and returned ")
    state = {"sum": np.zeros((B, k), "int32")}
    refused(
        f"the step must return the state as it was, .*{had}", lambda: search(name, state=state, step=changed(change))
    )
    if name == "beam":
        message = f"reorder must return the state as it was, .*{had}"
        refused(message, lambda: search(name, state=state, reorder=lambda state, parents: change(state)))


def changed(change):
    return lambda token_ids, state: (step(token_ids, ())[0], change(state))


def test_what_is_unknown_while_a_graph_is_traced_is_no_fault(name):
    k = beams(name)

    @tf.function(
        input_signature=[tf.TensorSpec(None, "float32"), tf.TensorSpec((), "int32"), tf.TensorSpec((None,), "int32")],
        autograph=False,
    )
    def compiled(state, batch_size, max_length):
        return search(name, state=state, batch_size=batch_size, max_length=max_length)

    assert compiled(np.zeros((B, k), "float32"), B, [3, 4]).token_ids.shape[:2] == (B, k)
