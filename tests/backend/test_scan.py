import keras
import numpy as np
import pytest
from keras import ops

from nmt.backend.functions import Spec, compile_function, scan, value_and_gradients

INPUTS = np.random.default_rng(3).standard_normal((5, 2, 4)).astype("float32")  # (T, B, I)


@pytest.fixture
def kernel():
    return keras.Variable(np.random.default_rng(4).standard_normal((4, 4)) * 0.4, dtype="float32")


def step_with(kernel):
    def step(carried, position):
        hidden, total = carried
        hidden = ops.tanh(ops.matmul(hidden, kernel) + position)
        return hidden, total + ops.sum(hidden, axis=-1)

    return step


def plain_scan(step, carried, inputs, *, reverse):
    """The same as a loop in Python."""
    results = []
    for position in reversed(inputs) if reverse else inputs:
        carried = step(carried, position)
        results.append(carried)
    results = results[::-1] if reverse else results
    return tuple(ops.stack(leaves) for leaves in zip(*results, strict=True)), carried


@pytest.mark.parametrize("reverse", [False, True])
def test_compiled_and_eager_scan_equal_a_loop_in_python_with_gradients(kernel, reverse):
    step = step_with(kernel)

    def loss(loop, inputs):
        initial = (ops.zeros((2, 4)), ops.zeros((2,)))

        def function():
            (hidden, totals), (last, _) = loop(step, initial, inputs, reverse=reverse)
            weights = ops.cast(ops.arange(ops.shape(inputs)[0]) + 1, "float32")
            return ops.sum(hidden * weights[:, None, None]) + ops.sum(last * 3.0) + ops.sum(totals), hidden

        return value_and_gradients(function, [kernel])

    compiled = compile_function(lambda inputs: loss(scan, inputs), [Spec((None, 2, 4), "float32")])
    for length in (5, 3, 1):
        expected_value, expected_hidden, expected_gradients = loss(plain_scan, INPUTS[:length])
        for value, hidden, gradients in (compiled(INPUTS[:length]), loss(scan, INPUTS[:length])):
            np.testing.assert_allclose(value, expected_value, rtol=1e-5)
            np.testing.assert_allclose(hidden, expected_hidden, atol=1e-5)
            np.testing.assert_allclose(gradients[0], expected_gradients[0], atol=1e-4)


def test_reverse_begins_at_the_last_position(kernel):
    def add(carried, position):
        return (carried[0] * 10.0 + position,)

    results, last = scan(add, (ops.zeros(()),), np.array([1.0, 2.0, 3.0], "float32"), reverse=True)
    np.testing.assert_array_equal(results[0], [321.0, 32.0, 3.0])
    assert float(last[0]) == 321.0
