import keras
import numpy as np
import pytest
from keras import layers, ops

from nmt.backend.functions import value_and_gradients
from nmt.errors import CheckpointError
from nmt.layers.core import TokenEmbedding
from nmt.tying import TieGroup, named_layers, named_variables, tie_groups, variable_roles, verify_ties
from tests import tiny

V, E, D, F = 11, 6, 8, 12
ROLES = ("source_embedding", "target_embedding", "output_projection")
TIED = {
    "none": [],
    "source_target": [("source_embedding", "target_embedding")],
    "target_output": [("target_embedding", "output_projection")],
    "all": [ROLES],
}
MATRICES = {"none": 3, "source_target": 2, "target_output": 2, "all": 1}


def build(kind, ties):
    return tiny.build(tiny.MODELS[kind], tie_embeddings=ties, seed=1)


each_model = pytest.mark.parametrize("kind", ["rnn", "transformer"])
each_setting = pytest.mark.parametrize("ties", TIED)


def width(kind):
    return E if kind == "rnn" else D


def dense(inputs, units):
    return inputs * units + units


def transformer_parameters():
    """Those besides the three matrices, counted by hand: one block a side, final norms and output bias."""
    norm, attention, ffn = 2 * D, dense(D, 3 * D) + dense(D, D), dense(D, F) + dense(F, D)
    return (attention + ffn + 2 * norm) + (2 * attention + ffn + 3 * norm) + 2 * norm + V


@each_model
@each_setting
def test_what_is_written_through_one_role_is_read_through_the_others(kind, ties):
    model = build(kind, ties)
    probe = np.random.default_rng(0).standard_normal((1, width(kind))).astype("float32")
    for writer in ROLES:
        fresh = np.random.default_rng(ROLES.index(writer) + 5).standard_normal((V, width(kind))).astype("float32")
        getattr(model, writer).embeddings.assign(fresh)
        for reader in ROLES:
            tied = writer == reader or any(writer in group and reader in group for group in TIED[ties])
            layer = getattr(model, reader)
            looked_up = np.allclose(np.asarray(layer(np.arange(V))), fresh)
            projected = np.allclose(np.asarray(layer.project(probe)), probe @ fresh.T, atol=1e-5)
            assert looked_up == projected == tied, (writer, reader)


@each_model
@each_setting
def test_groups_name_the_roles_and_the_variable(kind, ties):
    expected = []
    for group in TIED[ties]:
        roles = tuple(f"{role}/embeddings" for role in group)
        expected.append(TieGroup("=".join(group), roles, roles[0], (V, width(kind))))
    assert tie_groups(build(kind, ties)) == expected


@each_model
@each_setting
def test_variables_and_parameters_are_as_many_as_the_ties_leave(kind, ties):
    model, untied = build(kind, ties), build(kind, "none")
    saved = 3 - MATRICES[ties]
    assert len(model.trainable_variables) == len(untied.trainable_variables) - saved
    assert model.count_params() == untied.count_params() - saved * V * width(kind)
    names = named_variables(model)
    assert len(names) == len({id(v) for v in names.values()}) == len(model.weights)
    assert {id(v) for v in names.values()} == {id(v) for v in model.weights}
    if kind == "transformer":
        assert model.count_params() == MATRICES[ties] * V * D + transformer_parameters()


@each_model
@each_setting
def test_a_tied_variable_has_one_slot(kind, ties):
    model, optimizer = build(kind, ties), keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    assert len(optimizer.variables) == 2 + 2 * len(model.trainable_variables)
    verify_ties(model, tie_groups(model), optimizer)


@each_model
def test_the_gradient_of_a_tied_variable_is_the_sum_of_its_roles(kind):
    """Ids repeat; the untied model with equal matrices gives what each role contributes."""
    tied, untied = build(kind, "all"), build(kind, "none")
    for path, variable in variable_roles(untied).items():
        variable.assign(variable_roles(tied)[path])
    source, target = np.array([[4, 4, 5, 2, 0]]), np.array([[1, 6, 6, 4, 6, 7, 2]])

    def gradients(model):
        variables = model.trainable_variables

        def loss():
            logits = model((source, target))
            return ops.sum(ops.logsumexp(logits, axis=-1) - logits[..., 4]), None

        found = dict(zip(map(id, variables), value_and_gradients(loss, variables)[2], strict=True))
        return {role: np.asarray(found[id(getattr(model, role).embeddings)]) for role in ROLES}

    parts = gradients(untied)
    total = sum(parts.values())
    assert all(np.abs(part).max() > 1e-3 for part in parts.values())
    for role in ROLES:
        np.testing.assert_allclose(gradients(tied)[role], total, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kind", "ties"), [*(("rnn", ties) for ties in TIED), ("transformer", "all")])
def test_every_broken_tie_is_named(kind, ties):
    for role in ROLES:
        model = build(kind, ties)
        groups = tie_groups(model)
        replacement = TokenEmbedding(V, width(kind), name=role)
        replacement.embeddings.assign(getattr(model, role).embeddings)  # equal values do not make a tie
        object.__setattr__(model, role, replacement)
        broken = [group for group in groups if f"{role}/embeddings" in group.roles]
        if broken:
            with pytest.raises(CheckpointError, match=f"{broken[0].name} must be one variable, but it is 2"):
                verify_ties(model, groups)
        else:
            verify_ties(model, groups)


def test_a_tie_that_nobody_declared_is_named():
    with pytest.raises(CheckpointError, match="source_embedding=target_embedding is one variable but must not be"):
        verify_ties(build("rnn", "source_target"), [])


def test_a_role_that_is_not_there_is_named():
    groups = [TieGroup("a=b", ("a/x", "b/x"), "a/x", (3,))]
    with pytest.raises(CheckpointError, match="a=b must be one variable, but the model has no a/x, b/x"):
        verify_ties(build("rnn", "none"), groups)


def test_two_slots_for_one_variable_are_noticed():
    model, optimizer = build("rnn", "all"), keras.optimizers.SGD(0.1, momentum=0.9)
    optimizer.build([*model.trainable_variables, model.target_embedding.embeddings])
    with pytest.raises(CheckpointError, match="has 2 slots in the optimizer instead of 1"):
        verify_ties(model, tie_groups(model), optimizer)


def test_no_slot_for_a_tied_variable_is_noticed():
    model, optimizer = build("rnn", "all"), keras.optimizers.SGD(0.1)
    optimizer.build([v for v in model.trainable_variables if v is not model.source_embedding.embeddings])
    with pytest.raises(CheckpointError, match="has 0 slots in the optimizer instead of 1"):
        verify_ties(model, tie_groups(model), optimizer)


def test_a_tied_variable_that_is_not_trained_by_the_model_is_noticed():
    layer, embedding = layers.Layer(), layers.Embedding(V, E)
    embedding.build(())
    for name in ("first", "second"):
        object.__setattr__(layer, name, embedding)  # past Keras's tracking
    with pytest.raises(CheckpointError, match="first=second is counted 0 times among the trainable variables"):
        verify_ties(layer, tie_groups(layer))


class Tied(layers.Layer):
    """Keeps the embedding it projects with."""

    def __init__(self, tied_to, **kwargs):
        super().__init__(**kwargs)
        self.tied_to = tied_to
        self.built = True

    def call(self, inputs):
        return ops.matmul(inputs, ops.transpose(self.tied_to.embeddings))


def functional():
    embedding = layers.Embedding(V, E, name="embedding")
    ids = keras.Input((5,), name="ids")
    return keras.Model(ids, Tied(embedding, name="output")(layers.Dense(E, name="dense")(embedding(ids))))


def sequential():
    embedding = layers.Embedding(V, E, name="embedding")
    return keras.Sequential(
        [keras.Input((5,)), embedding, layers.Dense(E, name="dense"), Tied(embedding, name="output")]
    )


@pytest.mark.parametrize("make", [functional, sequential])
def test_functional_and_sequential_models(make):
    model = make()
    roles = ("embedding/embeddings", "output/tied_to/embeddings")
    group = TieGroup("embedding=output/tied_to", roles, roles[0], (V, E))
    assert tie_groups(model) == [group]
    assert sorted(named_variables(model)) == ["dense/bias", "dense/kernel", "embedding/embeddings"]
    verify_ties(model, [group])
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(np.ones((2, 5)), np.ones((2, 5, V)), verbose=0)
    verify_ties(model, [group], model.optimizer)
    assert len(named_variables(model)) == 3  # states of optimizer and metrics are no weights


def test_nested_models():
    outer = keras.Sequential([keras.Input((5,)), keras.Sequential([functional()], name="middle")], name="outer")
    (group,) = tie_groups(outer)
    assert all(role.startswith("middle/functional") for role in group.roles)
    assert len(named_variables(outer)) == len(outer.weights) == 3


def test_a_clone_that_lost_its_tie_is_refused():
    model = functional()
    groups = tie_groups(model)
    clone = keras.models.clone_model(model, clone_function=_copy)
    with pytest.raises(CheckpointError, match="embedding=output/tied_to must be one variable, but it is 2"):
        verify_ties(clone, groups)


def _copy(layer):
    if isinstance(layer, Tied):
        other = layers.Embedding(V, E)
        other.build(())
        return Tied(other, name=layer.name)
    return type(layer).from_config(layer.get_config())


class Private(layers.Layer):
    """Two layers and two weights of one name, in private attributes, in a list and in a mapping."""

    def __init__(self):
        super().__init__()
        self._first, self._second = layers.Dense(3, name="d"), layers.Dense(3, name="d")
        self._list = [layers.Dense(3, name="d")]
        self.mapping = {"x": layers.Dense(3, name="d")}
        self._weights_of_own = [self.add_weight(shape=(2,), name="d"), self.add_weight(shape=(2,), name="d")]
        for layer in (self._first, self._second, *self._list, self.mapping["x"]):
            layer.build((None, 4))


def test_layers_of_one_name_do_not_hide_each_other():
    layer = Private()
    assert {id(v) for v in named_variables(layer).values()} == {id(v) for v in layer.weights}
    assert list(named_variables(layer)) == list(named_variables(Private()))
    assert tie_groups(layer) == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.Bidirectional(layers.LSTM(4)),
        lambda: layers.RNN([layers.LSTMCell(3), layers.GRUCell(4)]),
        lambda: layers.TimeDistributed(layers.Dense(3)),
        layers.BatchNormalization,
        lambda: layers.SeparableConv1D(3, 2),
    ],
)
def test_layers_of_keras_are_covered_and_not_tied(make):
    layer = make()
    layer(np.zeros((2, 5, 8), "float32"))
    assert {id(v) for v in named_variables(layer).values()} == {id(v) for v in layer.weights}
    assert tie_groups(layer) == []


def test_layers_are_named_once_by_their_first_path():
    model = build("rnn", "all")
    named = named_layers(model)
    assert named[""] is model
    assert named["source_embedding"] is model.output_projection
    assert not {"target_embedding", "output_projection"} & set(named)
