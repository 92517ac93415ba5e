"""The linear layer is that of Keras."""

import keras
import numpy as np

from nmt.layers.core import Linear, LinearReLU


def test_it_is_the_dense_layer_of_keras():
    generator = np.random.default_rng(4)
    inputs = generator.normal(size=(2, 5, 8)).astype("float32")
    weights = [generator.normal(size=(8, 6)), generator.normal(size=6)]
    cut_off = LinearReLU(6, 8, "linear", dropout=0.0, seed_generator=keras.random.SeedGenerator(1))
    for ours, activation in ((Linear(6, 8, "linear"), None), (cut_off, "relu")):
        theirs = keras.layers.Dense(6, activation=activation)
        theirs.build((None, 8))
        ours.set_weights(weights)
        theirs.set_weights(weights)
        np.testing.assert_allclose(ours(inputs), theirs(inputs), rtol=1e-5, atol=1e-5)
