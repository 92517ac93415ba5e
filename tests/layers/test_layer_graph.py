import keras
import numpy as np
from keras import layers

from nmt.layers.tied_output import (
    connected_layers,
    follow,
    is_sharing,
    layers_before,
    running_layer,
    shared_layers,
    steps_between,
)

E, F = 6, 3
RUNNING = []


@keras.saving.register_keras_serializable(package="tests")
class Pair(layers.Layer):
    """Owns two layers, and notes which layer runs while it is called."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first, self.second = layers.Dense(F), layers.Dense(E)

    def call(self, inputs):
        RUNNING.append(running_layer())
        return self.second(self.first(inputs))


def graph():
    """Two branches that meet: left -> pair -> sum <- right, and a layer called elsewhere."""
    left, right = keras.Input((E,), name="left"), keras.Input((E,), name="right")
    pair, dense = Pair(name="pair"), layers.Dense(E, name="dense")
    pair(dense(keras.Input((E,), name="elsewhere")))
    return keras.Model([left, right], layers.Add(name="sum")([pair(left), dense(right)]))


def test_what_an_input_depends_on_comes_first_and_other_graphs_do_not_come():
    model = graph()
    names = [layer.name for layer in connected_layers([model.get_layer("sum").output])]
    assert sorted(names) == ["dense", "left", "pair", "right", "sum"]
    assert {layer.name for layer in connected_layers([model.inputs[0]])} == set(names)
    assert next(iter(connected_layers([model.inputs[0]]))).name == "left"
    assert list(connected_layers([keras.KerasTensor((2, E)), layers.Dense(F)])) == []


def test_what_each_call_depends_on():
    model = graph()
    calls = layers_before([model.get_layer("dense")])
    assert [[layer.name for layer in before] for before in calls] == [["dense", "elsewhere"], ["dense", "right"]]
    assert [layer.name for layer in layers_before([model.output])[0]] == ["sum", "pair", "dense", "left", "right"]
    assert layers_before([layers.Dense(F)]) == []


def test_steps_lead_to_the_same_place_in_a_copy():
    model = keras.Sequential(
        [keras.Input((E,)), keras.Sequential([keras.Input((E,)), Pair(name="pair")], name="block")]
    )
    second = model.get_layer("block").get_layer("pair").second
    steps = steps_between(model, second)
    assert steps == ["block", "pair", 1]
    assert follow(model, steps) is second
    copy = keras.Sequential.from_config(model.get_config())
    assert follow(copy, steps) is copy.get_layer("block").get_layer("pair").second
    assert steps_between(model, layers.Dense(F)) is None
    assert follow(model, ["block", "pair", 2]) is None


def test_the_outermost_layer_runs():
    model = keras.Sequential([keras.Input((E,)), Pair()])
    model(np.ones((2, E), "float32"))
    assert RUNNING[-1] is model
    assert running_layer() is None


def test_nothing_is_shared_outside_of_files(tmp_path):
    seen = []

    @keras.saving.register_keras_serializable(package="tests")
    class Witness(layers.Layer):
        def get_config(self):
            seen.append(is_sharing())
            return super().get_config()

        @classmethod
        def from_config(cls, config):
            seen.append(shared_layers() is not None)
            return cls(**config)

    model = keras.Sequential([keras.Input((E,)), Witness()])
    keras.models.clone_model(model)
    assert set(seen) == {False}
    seen.clear()
    model.save(tmp_path / "m.keras")
    keras.models.load_model(tmp_path / "m.keras")
    assert seen == [True, True]
