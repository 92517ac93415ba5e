import time
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
from keras import ops

from nmt.backend.functions import Spec, call_layer, compile_function, value_and_gradients


def test_a_signature_is_traced_once_for_all_shapes():
    traces = []

    def double(values):
        traces.append(1)
        return values * 2

    compiled = compile_function(double, [Spec((None, None), "float32")])
    for shape in ((2, 3), (5, 1), (1, 7)):
        np.testing.assert_array_equal(compiled(np.ones(shape, "float32")), np.full(shape, 2.0))
    assert len(traces) == 1


def test_threads_trace_one_after_another():
    """TensorFlow 2.21 died of a segmentation fault in threads that traced side by side."""
    inside, seen = [], []

    def function_of(number):
        def function(values):
            inside.append(number)
            time.sleep(0.05)
            seen.append(list(inside))
            inside.remove(number)
            return values + number

        return compile_function(function, [Spec((None,), "int32")])

    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda number: function_of(number)(np.arange(2)), range(3)))
    np.testing.assert_array_equal(results, [[0, 1], [1, 2], [2, 3]])
    assert sorted(seen) == [[0], [1], [2]]


def test_gradients_of_repeated_rows_are_added_up():
    table = keras.Variable(np.ones((5, 2)), name="table")
    unused = keras.Variable(np.ones((3,)), name="unused")

    def function():
        rows = ops.take(table, np.array([1, 3, 1, 1]), axis=0)
        return ops.sum(rows * np.array([[1.0], [2.0], [3.0], [4.0]], "float32")), "rest"

    value, rest, gradients = value_and_gradients(function, [table, unused])
    assert float(value) == 20.0
    assert rest == "rest"
    expected = np.zeros((5, 2))
    expected[1], expected[3] = 8.0, 2.0
    np.testing.assert_array_equal(gradients[0], expected)
    np.testing.assert_array_equal(gradients[1], np.zeros(3))


class Dropped(keras.layers.Layer):
    """A layer that draws by a generator of its own."""

    def __init__(self, seed):
        super().__init__()
        self.dropout = keras.layers.Dropout(0.5, seed=seed)

    def call(self, inputs, training=False):
        return self.dropout(inputs, training=training)


def test_layers_that_are_alike_draw_by_their_own_generators_again_and_again():
    def drawn(compiled):
        layers, inputs = [Dropped(1), Dropped(2)], np.ones((4, 32), "float32")
        for layer in layers:
            layer(inputs)

        def draw():
            order = [layers[0], layers[1], layers[0], layers[1]]
            return [call_layer(each, layers[0].call, inputs, training=True) for each in order]

        draw = compile_function(draw, []) if compiled else draw
        return np.stack([np.stack(draw()), np.stack(draw())]), [layer.dropout.seed_generator.state for layer in layers]

    found, states = drawn(compiled=True)
    expected, expected_states = drawn(compiled=False)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(states, expected_states)
    assert len(np.unique(found.reshape(8, -1), axis=0)) == 8
