"""Linear layers in both precisions: values and gradients against NumPy in float64, on rounded factors."""

from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf

from nmt.backend.functions import Spec, compile_function
from nmt.backend.kernels import drop, kept_scale
from nmt.backend.products import factor_type, linear, products_in
from nmt.layers.core import LinearReLU

linear_relu = partial(linear, relu=True)

PRECISIONS = {"float32": 1e-5, "bfloat16": 2.0**-7}
IN_EACH = pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.bfloat16)])


def rounded(array, precision):
    return tf.cast(tf.cast(array, precision), "float64").numpy()


@pytest.fixture
def arrays():
    generator = np.random.default_rng(5)
    return [generator.normal(size=shape).astype("float32") for shape in ((2, 3, 7), (7, 5), (5,), (2, 3, 5))]


def outcome(function, arrays, precision):
    """Outputs of a layer and the gradients of their weighted sum by inputs, kernel and bias."""
    *arguments, weights = (tf.constant(array) for array in arrays)
    with products_in(precision), tf.GradientTape() as tape:
        tape.watch(arguments)
        outputs = function(*arguments)
        total = tf.reduce_sum(tf.cast(outputs, "float32") * weights)
    return outputs, tape.gradient(total, arguments)


def expected(arrays, precision, factor):
    """The same in NumPy; `factor` maps the outputs before it to what they are multiplied by."""
    inputs, kernel, bias = (rounded(array, precision) for array in arrays[:3])
    outputs = inputs @ kernel + bias
    by_outputs = rounded(arrays[3], precision) * factor(outputs)
    rows = by_outputs.reshape(-1, 5)
    gradients = by_outputs @ kernel.T, inputs.reshape(-1, 7).T @ rows, rows.sum(0)
    return outputs * factor(outputs), gradients


@IN_EACH
@pytest.mark.parametrize(
    ("function", "factor"), [(linear, np.ones_like), (linear_relu, lambda outputs: outputs > 0)], ids=["linear", "relu"]
)
def test_values_and_gradients(arrays, precision, function, factor):
    outputs, gradients = outcome(function, arrays, precision)
    wanted, wanted_gradients = expected(arrays, precision, factor)
    assert outputs.dtype == precision
    tolerance = PRECISIONS[precision] * 8
    np.testing.assert_allclose(tf.cast(outputs, "float64"), wanted, atol=tolerance)
    for gradient, other in zip(gradients, wanted_gradients, strict=True):
        assert gradient.dtype == "float32"
        np.testing.assert_allclose(gradient, other, atol=tolerance)


@IN_EACH
def test_dropping_within_is_dropping_after(arrays, precision):
    seed, rate = tf.constant([3, 8]), 0.4
    outputs, gradients = outcome(lambda *a: linear_relu(*a, rate=rate, seed=seed), arrays, precision)
    apart, others = outcome(lambda *a: drop(linear_relu(*a), rate, seed), arrays, precision)
    np.testing.assert_array_equal(tf.cast(outputs, "float32"), tf.cast(apart, "float32"))
    assert 0 < np.count_nonzero(outputs) < np.count_nonzero(outcome(linear_relu, arrays, precision)[0])
    for gradient, other in zip(gradients, others, strict=True):
        np.testing.assert_allclose(gradient, other, atol=PRECISIONS[precision] * 4, rtol=PRECISIONS[precision])


@pytest.mark.bfloat16
def test_a_bias_gathers_thousands_of_small_gradients():
    """In bfloat16 a running sum of ones ends at 256."""
    with products_in("bfloat16"), tf.GradientTape() as tape:
        bias = tf.zeros((2,))
        tape.watch(bias)
        total = tf.reduce_sum(tf.cast(linear(tf.ones((3000, 3)), tf.ones((3, 2)), bias), "float32"))
    np.testing.assert_allclose(tape.gradient(total, bias), [3000.0, 3000.0], rtol=2.0**-8)


@pytest.mark.bfloat16
def test_the_precision_is_that_of_the_block_also_where_it_is_compiled(arrays):
    def product(inputs):
        return tf.cast(linear(inputs, *arrays[1:3]), "float32")

    compiled = compile_function(product, [Spec((None, None, 7), "float32")])
    with products_in("bfloat16"):
        assert factor_type(arrays[1]) == "bfloat16"
        coarse = compiled(arrays[0])
    assert factor_type(arrays[1]) == "float32"
    np.testing.assert_array_equal(compiled(arrays[0]), coarse)  # it keeps what it was traced with
    error = np.abs(product(arrays[0]) - coarse).max()
    assert 1e-4 < error < 0.1


def test_a_layer_drops_only_while_training():
    layer = LinearReLU(50, 4, "inner", dropout=0.5, seed_generator=keras.random.SeedGenerator(2))
    layer.bias.assign(np.ones(50))
    inputs = np.zeros((6, 4), "float32")
    np.testing.assert_array_equal(layer(inputs), np.ones((6, 50)))
    assert set(np.unique(layer(inputs, training=True))) == {0.0, kept_scale(0.5)}
