"""Layer normalisation: the closed form against its plain twin."""

import numpy as np
import pytest
import tensorflow as tf

from nmt.backend.kernels import layer_norm


def plain_layer_norm(inputs, gamma, beta, epsilon):
    deviations = inputs - tf.reduce_mean(inputs, axis=-1, keepdims=True)
    variances = tf.reduce_mean(deviations * deviations, axis=-1, keepdims=True)
    return deviations * tf.math.rsqrt(variances + epsilon) * gamma + beta


@pytest.mark.parametrize("shape", [(3, 6), (2, 3, 6), (2, 1, 3, 6)])
def test_values_and_gradients_are_those_of_the_twin(shape):
    generator = np.random.default_rng(4)
    arguments = [tf.constant(generator.normal(1.0, 2.0, size), "float32") for size in (shape, (6,), (6,))]
    weights = tf.constant(generator.normal(size=shape), "float32")
    results = []
    for function in (layer_norm, plain_layer_norm):
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            outputs = function(*arguments, 1e-5)
            total = tf.reduce_sum(outputs * weights)
        results.append((outputs, tape.gradient(total, arguments)))
    (outputs, gradients), (plain_outputs, plain_gradients) = results
    np.testing.assert_array_equal(outputs, plain_outputs)
    for gradient, other in zip(gradients, plain_gradients, strict=True):
        np.testing.assert_allclose(gradient, other, atol=1e-5)
