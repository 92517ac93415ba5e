import keras
import numpy as np
import pytest

from nmt.checkpoint.weights import random_state, restore_random_state
from nmt.errors import CheckpointError


def test_our_models_have_one_state_and_it_brings_dropout_back(build, batch):
    model = build("transformer")
    before = random_state(model)
    assert before == {"seed_generators/0": [1, 0]}
    first = np.asarray(model(batch, training=True))
    after = random_state(model)
    second = np.asarray(model(batch, training=True))
    assert np.abs(first - second).max() > 0.01
    restore_random_state(model, after)
    np.testing.assert_array_equal(np.asarray(model(batch, training=True)), second)
    restore_random_state(model, before)
    np.testing.assert_array_equal(np.asarray(model(batch, training=True)), first)


def test_every_generator_of_a_keras_model_is_found_by_path():
    layers = keras.layers
    inner = keras.Sequential([layers.Dropout(0.5, seed=5, name="inner")], name="nested")
    model = keras.Sequential([keras.Input((3,)), layers.Dropout(0.5, seed=2**32 - 1, name="outer"), inner])
    assert random_state(model) == {
        "outer/seed_generators/0": [2**32 - 1, 0],
        "nested/inner/seed_generators/0": [5, 0],
    }
    restore_random_state(model, {"outer/seed_generators/0": [7, 2**32 - 2], "nested/inner/seed_generators/0": [6, 1]})
    assert random_state(model)["outer/seed_generators/0"] == [7, 2**32 - 2]


def test_states_that_do_not_fit_are_refused_with_names(build):
    model = build("transformer")
    with pytest.raises(CheckpointError, match="seed_generators/0 is missing; elsewhere is unexpected"):
        restore_random_state(model, {"elsewhere": [0, 0]})
    with pytest.raises(CheckpointError, match="seed_generators/0 is of another length"):
        restore_random_state(model, {"seed_generators/0": [0, 0, 0]})
