"""Role paths and ties of models of every make: what shares a variable is found, by a name that copies keep."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from nmt.errors import CheckpointError
from nmt.layers import TiedEmbeddingsTransposed
from nmt.tying import named_layers, named_variables, tie_groups, variable_roles, verify_ties

T, V, E, F = 5, 11, 6, 3


def names(model):
    return [group.name for group in tie_groups(model)]


def two_sided():
    """One embedding for two inputs, and for the output."""
    embedding = layers.Embedding(V, E, name="embedding")
    source, target = keras.Input((T,), name="source"), keras.Input((T,), name="target")
    hidden = layers.Add(name="add")([embedding(source), layers.Dense(E, name="dense")(embedding(target))])
    return keras.Model([source, target], TiedEmbeddingsTransposed(embedding, name="output")(hidden))


def siamese():
    """A whole model called twice, whose inner layer is called twice itself."""
    dense, ids = layers.Dense(E, name="dense"), keras.Input((E,), name="inner")
    tower = keras.Model(ids, dense(dense(ids)), name="tower")
    left, right = keras.Input((E,), name="left"), keras.Input((E,), name="right")
    return keras.Model([left, right], layers.Dense(F, name="head")(layers.Add(name="add")([tower(left), tower(right)])))


def repeated():
    dense = layers.Dense(E, name="dense")
    return keras.Sequential([keras.Input((E,)), dense, layers.ReLU(name="relu"), dense])


def branches_of_two_models():
    """A layer called in a model within and outside of it."""
    dense, inner = layers.Dense(E, name="dense"), keras.Input((E,), name="inner")
    outer = keras.Input((E,), name="outer")
    return keras.Model(outer, dense(keras.Sequential([inner, dense], name="block")(outer)))


class Attached(layers.Layer):
    """A layer that holds the variable of another one."""

    def __init__(self, kernel, **kwargs):
        super().__init__(**kwargs)
        self.kernel = kernel

    def call(self, inputs):
        return ops.matmul(inputs, self.kernel)


def attached():
    dense, inputs = layers.Dense(E, use_bias=False, name="dense"), keras.Input((E,), name="inputs")
    hidden = dense(inputs)
    return keras.Model(inputs, Attached(dense.kernel, name="other")(hidden))


class Kept(keras.Model):
    """The same layers in a list, a mapping, an attribute and a private attribute."""

    def __init__(self):
        super().__init__()
        self.first, second = layers.Dense(E, name="d"), layers.Dense(E, name="d")
        self.listed = [self.first, [second]]
        self.mapped = {"x": second}
        self._private = layers.TimeDistributed(second, name="private")
        self.build(None)

    def build(self, input_shape):
        for layer in (self.first, self.mapped["x"]):
            layer.build((None, E))


def wrapped():
    dense, inputs = layers.Dense(E, name="dense"), keras.Input((T, E), name="inputs")
    return keras.Model(inputs, layers.TimeDistributed(dense, name="each")(dense(inputs)))


class Subclass(keras.Model):
    """A Functional model with a list of its layers."""

    def __init__(self, inputs, outputs, **kwargs):
        super().__init__(inputs, outputs, **kwargs)
        self.blocks = [self.get_layer("dense")]


def functional_subclass():
    dense, inputs = layers.Dense(E, use_bias=False, name="dense"), keras.Input((E,), name="inputs")
    return Subclass(inputs, dense(dense(inputs)))


TIES = {
    two_sided: ["embedding=embedding@2=output/tied_to"],
    siamese: [f"tower/dense/{v}=tower/dense@2/{v}=tower@2/dense/{v}=tower@2/dense@2/{v}" for v in ("bias", "kernel")],
    repeated: [f"dense/{v}=dense@2/{v}" for v in ("bias", "kernel")],
    branches_of_two_models: [f"block/dense/{v}=dense/{v}" for v in ("bias", "kernel")],
    attached: ["dense=other"],
    Kept: [
        *(f"first/{v}=listed/0/{v}" for v in ("bias", "kernel")),
        *(f"listed/1/0/{v}=mapped/x/{v}=private/layer/{v}" for v in ("bias", "kernel")),
    ],
    wrapped: [f"dense/{v}=each/layer/{v}" for v in ("bias", "kernel")],
    functional_subclass: ["blocks/0=blocks/0@2"],
}


@pytest.mark.parametrize("make", TIES)
def test_every_role_is_named_and_every_variable_once(make):
    model = make()
    assert names(model) == TIES[make]
    assert {id(v) for v in named_variables(model).values()} == {id(v) for v in model.weights}
    assert len(named_variables(model)) == len(model.weights)
    assert tie_groups(make()) == tie_groups(model)  # automatic names of what has no variables do not count
    optimizer = keras.optimizers.SGD(momentum=0.9)
    optimizer.build(model.trainable_variables)
    verify_ties(model, tie_groups(model), optimizer)


class Mapped(keras.Model):
    """A model whose layers lie in a mapping with keys that look alike."""

    def __init__(self, mapped):
        super().__init__()
        self.mapped = mapped
        for value in mapped.values():
            layer = value["b"] if isinstance(value, dict) else value
            if not layer.built:
                layer.build((None, T, E))
        self.built = True


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (lambda layer: {"a/b": layer(), "a": {"b": layer()}}, "mapped/a/b"),
        (lambda layer: {0: layer(), "0": layer()}, "mapped/0"),
        (lambda layer: {"a/layer": layer(), "a": layers.TimeDistributed(layer())}, "mapped/a/layer"),
    ],
)
def test_two_layers_of_one_path_are_refused(make, path):
    """A checkpoint would keep only one of both."""
    model = Mapped(make(lambda: layers.Dense(F)))
    with pytest.raises(CheckpointError, match=f"must lead to one variable, but '{path}/bias' leads to two"):
        named_variables(model)
    with pytest.raises(CheckpointError, match=f"must lead to one layer, but '{path}' leads to two"):
        named_layers(Mapped(make(lambda: layers.Dropout(0.5))))
    shared = layers.Dense(F)
    assert len(named_variables(Mapped(make(lambda: shared)))) == 2  # the same one twice is no matter


@pytest.mark.parametrize("make", [two_sided, siamese])
def test_roles_stay_in_copies_and_files(make, tmp_path):
    model = make()
    model.save(tmp_path / "m.keras")
    for copy in (
        keras.models.load_model(tmp_path / "m.keras"),
        keras.models.model_from_json(model.to_json()),
        keras.models.clone_model(model),
    ):
        assert list(variable_roles(copy)) == list(variable_roles(model))
        verify_ties(copy, tie_groups(model))


def test_one_more_call_elsewhere_changes_no_name():
    model = two_sided()
    before = list(named_variables(model))
    embedding, more = model.get_layer("embedding"), keras.Input((T,), name="more")
    keras.Model(more, embedding(more))
    assert names(model) == TIES[two_sided]  # that call is in no graph of this model
    again = keras.Model([*model.inputs, more], [model.output, embedding(more)])
    assert names(again) == ["embedding=embedding@2=embedding@3=output/tied_to"]
    assert list(named_variables(again)) == before


def test_a_clone_that_lost_the_second_call_is_refused():
    model = two_sided()

    def untied(layer):
        return layer if layer.name != "output" else layers.Dense(V, name="output")

    clone = keras.models.clone_model(model, clone_function=untied)
    with pytest.raises(CheckpointError, match="but the model has no output/tied_to/embeddings; embedding=embedding@2"):
        verify_ties(clone, tie_groups(model))


def test_a_copy_that_lost_a_repeated_layer_is_refused():
    """Keras 3.15 writes a layer that a Sequential model lists twice only once, and says nothing."""
    model = repeated()
    with pytest.raises(CheckpointError, match="the model has no dense@2/bias"):
        verify_ties(keras.models.model_from_json(model.to_json()), tie_groups(model))


def test_optimizers_that_scale_the_loss_are_looked_into():
    model = two_sided()
    embeddings = model.get_layer("embedding").embeddings
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(momentum=0.9))
    optimizer.build(model.trainable_variables)
    verify_ties(model, tie_groups(model), optimizer)
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(momentum=0.9))
    optimizer.inner_optimizer.build([*model.trainable_variables, embeddings])
    optimizer.built = True
    with pytest.raises(CheckpointError, match="output/tied_to has 2 slots in the optimizer instead of 1"):
        verify_ties(model, tie_groups(model), optimizer)


def test_freezing_what_is_tied_breaks_no_tie():
    model, optimizer = two_sided(), keras.optimizers.SGD(momentum=0.9)
    optimizer.build(model.trainable_variables)
    model.get_layer("embedding").trainable = False
    verify_ties(model, tie_groups(model), optimizer)


def test_what_is_written_in_one_role_is_read_in_all():
    model = two_sided()
    roles = {path: v for path, v in variable_roles(model).items() if v.shape == (V, E)}
    assert sorted(roles) == ["embedding/embeddings", "embedding@2/embeddings", "output/tied_to/embeddings"]
    for value, written in enumerate(roles.values()):
        written.assign(np.full((V, E), value))
        assert all(float(ops.min(read)) == value for read in roles.values())
