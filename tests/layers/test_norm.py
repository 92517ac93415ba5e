"""Layer normalisation is that of Keras, values and gradients."""

import keras
import numpy as np
import tensorflow as tf

from nmt.layers.core import LAYER_NORM_EPSILON, LayerNorm


def test_it_is_the_layer_of_keras():
    generator = np.random.default_rng(3)
    inputs = tf.constant(generator.normal(2.0, 3.0, (2, 5, 8)).astype("float32"))
    ours, theirs = LayerNorm(8, name="norm"), keras.layers.LayerNormalization(epsilon=LAYER_NORM_EPSILON)
    theirs.build((None, None, 8))
    for name in ("gamma", "beta"):
        values = generator.normal(size=8)
        getattr(ours, name).assign(values)
        getattr(theirs, name).assign(values)
    results = []
    for layer in (ours, theirs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs)
            loss = tf.reduce_sum(outputs**3)
        results.append([outputs, *tape.gradient(loss, [inputs, *(v.value for v in layer.trainable_variables)])])
    for mine, other in zip(*results, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-4)


def test_a_vector_without_deviations_stays_a_number():
    outputs = LayerNorm(4, name="norm")(np.full((1, 4), 7.0, "float32"))
    np.testing.assert_array_equal(outputs, np.zeros((1, 4)))
