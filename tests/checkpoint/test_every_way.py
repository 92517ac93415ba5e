"""Whatever becomes of a model, its ties hold: all four settings, both architectures, every way of keeping weights.

Every tie is that of a Transformer, and the tightest that of an RNN too: both take theirs from the same lines.
Each way is judged by the same four things: the values behind every role, the identity of tied variables, the numbers
of trainable variables and of optimizer slots, and one more update, which must be that of a model that was never saved
or copied.
"""

from functools import cache

import keras
import numpy as np
import pytest
from keras import ops

from nmt.backend.functions import value_and_gradients
from nmt.checkpoint.derived import RowMapping, average_contents, change_vocabulary
from nmt.checkpoint.manager import CheckpointManager
from nmt.checkpoint.manifest import read_manifest
from nmt.checkpoint.weights import load_weights, named_slots, random_state, read_contents, restore_random_state
from nmt.training.optimization import EmaWeights, build_adam, build_sgd
from nmt.tying import tie_groups, variable_roles, verify_ties
from tests import tiny

TIES = ("none", "source_target", "target_output", "all")
MATRICES = {"none": 3, "source_target": 2, "target_output": 2, "all": 1}
V = 11


@pytest.fixture(scope="module", params=[*(("transformer", tie) for tie in TIES), ("rnn", "all")], ids="-".join)
def kind_and_tie(request):
    return request.param


@pytest.fixture(scope="module")
def kind(kind_and_tie):
    return kind_and_tie[0]


@pytest.fixture(scope="module")
def tie(kind_and_tie):
    return kind_and_tie[1]


@pytest.fixture(scope="module")
def make(kind, tie):
    """Build a model with dropout of this kind with these ties unless others are given."""
    settings = tiny.with_dropout(tiny.MODELS[kind], 0.2)
    return lambda ties=tie, seed=1: tiny.build(settings, tie_embeddings=ties, seed=seed)


def adam():
    return build_adam(learning_rate=0.01, beta_1=0.9, beta_2=0.98, epsilon=1e-3)


def update(model, optimizer, batch):
    """One eager update, dropout included."""

    def loss():
        logits = model(batch, training=True)
        return ops.mean(ops.logsumexp(logits, axis=-1) - logits[..., 3]), None

    _, _, gradients = value_and_gradients(loss, model.trainable_variables)
    optimizer.apply(gradients, model.trainable_variables)


@pytest.fixture(scope="module")
def updated(make, batch):
    """A model and its optimizer after an update, and the values of all their variables."""
    model, optimizer = make(), adam()
    optimizer.build(model.trainable_variables)
    update(model, optimizer, batch)
    kept = [(variable, np.array(variable.value)) for variable in (*model.variables, *optimizer.variables)]
    return model, optimizer, kept


@pytest.fixture
def trained(updated):
    """A model and its optimizer after an update; what a test does to them is undone for the next."""
    model, optimizer, kept = updated
    for variable, value in kept:
        variable.assign(value)
    return model, optimizer


def values(model, optimizer=None):
    """What is behind every role, and every slot."""
    slots = {} if optimizer is None else named_slots(model, optimizer)
    return {path: np.array(v.value) for path, v in {**variable_roles(model), **slots}.items()}


def assert_same(found, expected, **tolerance):
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_allclose(found[path], value, **{"rtol": 0, "atol": 0, **tolerance}, err_msg=path)


def assert_tied(model, optimizer, ties):
    """The ties are those of the setting; one variable, one pair of slots."""
    assert model.tie_embeddings == ties
    verify_ties(model, model.declared_ties(), optimizer)
    roles = [model.source_embedding, model.target_embedding, model.output_projection]
    assert len({id(role.embeddings) for role in roles}) == MATRICES[ties]
    others = {id(v) for v in model.trainable_variables} - {id(role.embeddings) for role in roles}
    assert len(model.trainable_variables) == len(others) + MATRICES[ties]
    if hasattr(optimizer, "_velocities"):
        assert len(optimizer._momentums) == len(optimizer._velocities) == len(model.trainable_variables)


def test_saved_and_restored(make, tie, trained, batch, tmp_path):
    model, optimizer = trained
    average = EmaWeights(model, 0.5)
    average.update(optimizer.iterations)
    state = {"update": 1, "random": random_state(model)}
    other, others_optimizer = make(seed=9), adam()
    others_average = EmaWeights(other, 0.5)
    with CheckpointManager(tmp_path) as manager:
        manager.save(1, model=model, optimizer=optimizer, ema=average.variables, state=state)
        assert manager.restore(other, others_optimizer, others_average.variables).state == state
    restore_random_state(other, state["random"])
    assert_tied(other, others_optimizer, tie)
    assert_same(values(other, others_optimizer), values(model, optimizer))
    for path, variable in average.variables.items():
        np.testing.assert_array_equal(others_average.variables[path], variable)
    np.testing.assert_array_equal(other(batch), model(batch))
    update(model, optimizer, batch)
    update(other, others_optimizer, batch)
    assert_same(values(other, others_optimizer), values(model, optimizer))
    manifest = read_manifest(tmp_path / "checkpoints/update-00000001")
    assert sum("embeddings" in path for path in manifest.variables) == MATRICES[tie]
    assert [group["name"] for group in manifest.tie_groups] == [group.name for group in tie_groups(model)]


def test_averaged(make, tie, trained, batch, tmp_path):
    model, optimizer = trained
    with CheckpointManager(tmp_path / "run") as manager:
        manager.save(2, model=model)
        before = values(model)
        update(model, optimizer, batch)
        manager.save(3, model=model)
    both = [read_contents(tmp_path / "run", f"update-{number}").contents for number in (2, 3)]
    with CheckpointManager(tmp_path / "average") as manager:
        manager.write(average_contents(both))
    averaged, by_hand = make(seed=9), make(seed=8)
    load_weights(tmp_path / "average", averaged)
    for path, value in values(model).items():
        variable_roles(by_hand)[path].assign(((before[path].astype("float64") + value) / 2).astype("float32"))
    for each in (averaged, by_hand):
        restore_random_state(each, random_state(model))
    optimizers = adam(), adam()
    for each, its_optimizer in zip((averaged, by_hand), optimizers, strict=True):
        its_optimizer.build(each.trainable_variables)
        assert_same(values(each), values(by_hand))
        update(each, its_optimizer, batch)
        assert_tied(each, its_optimizer, tie)
    assert_same(values(averaged, optimizers[0]), values(by_hand, optimizers[1]))


def test_moved_to_a_vocabulary_in_another_order(make, tie, trained, batch, tmp_path):
    """Tokens renamed in the model and in the text: nothing else changes, also not in the next update."""
    model, optimizer = trained
    order = [0, 1, 2, 3, *np.random.default_rng(5).permutation(np.arange(4, V)).tolist()]  # order[new] = old
    mapping = RowMapping(V, tuple((old,) for old in order))
    with CheckpointManager(tmp_path / "run") as manager:
        manager.save(2, model=model, optimizer=optimizer)
    contents = change_vocabulary(read_contents(tmp_path / "run").contents, {"source": mapping, "target": mapping})
    other, others_optimizer = make(seed=9), adam()
    with CheckpointManager(tmp_path / "new") as manager:
        manager.write(contents)
        manager.restore(other, others_optimizer)
    restore_random_state(other, random_state(model))
    assert_tied(other, others_optimizer, tie)

    def in_old_order(found):
        rows = [path for path in found if path.endswith("/embeddings") or path.endswith("output_bias")]
        return {**found, **{path: found[path][np.argsort(order)] for path in rows}}

    assert_same(in_old_order(values(other, others_optimizer)), values(model, optimizer))
    assert not np.array_equal(
        values(other)["target_embedding/embeddings"], values(model)["target_embedding/embeddings"]
    )
    update(model, optimizer, batch)
    update(other, others_optimizer, tuple(np.argsort(order)[side].astype("int32") for side in batch))
    assert_same(in_old_order(values(other, others_optimizer)), values(model, optimizer), rtol=1e-4, atol=2e-6)


def test_untied_and_tied_again(make, tie, trained, batch, tmp_path):
    """Copies of one matrix merge into that matrix; without moments, the next update is that of the model before."""
    model, _ = trained
    plain = build_sgd(learning_rate=0.5, momentum=0.0, nesterov=False)
    plain.build(model.trainable_variables)
    untied, tied = make("none", seed=8), make(seed=9)
    with CheckpointManager(tmp_path / "first") as manager:
        manager.save(2, model=model)
        change = manager.restore(untied, on_tie_change="average").tie_change
    assert_tied(untied, None, "none")
    assert (change is None) == (tie == "none")
    assert_same(values(untied), values(model))
    with CheckpointManager(tmp_path / "second") as manager:
        manager.save(2, model=untied)
        change = manager.restore(tied, on_tie_change="average").tie_change
    assert tie == "none" or [merged.largest_difference for merged in change.merged] == [0.0]
    others_optimizer = build_sgd(learning_rate=0.5, momentum=0.0, nesterov=False)
    others_optimizer.build(tied.trainable_variables)
    assert_tied(tied, others_optimizer, tie)
    restore_random_state(tied, random_state(model))
    update(model, plain, batch)
    update(tied, others_optimizer, batch)
    assert_same(values(tied), values(model))


def test_exported_to_a_keras_file(tie, trained, batch, tmp_path):
    model, optimizer = trained
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy", jit_compile=False)
    model.save(tmp_path / "model.keras")
    other = keras.models.load_model(tmp_path / "model.keras")
    assert_tied(other, other.optimizer, tie)
    assert_same(values(other, other.optimizer), values(model, optimizer))
    update(model, optimizer, batch)
    update(other, other.optimizer, batch)
    assert_same(values(other, other.optimizer), values(model, optimizer))


def test_cloned(make, tie, trained, batch):
    model, _ = trained
    other = keras.models.clone_model(model)
    other.set_weights(model.get_weights())
    restore_random_state(other, random_state(model))
    optimizers = adam(), adam()
    for each, its_optimizer in zip((model, other), optimizers, strict=True):
        its_optimizer.build(each.trainable_variables)
        update(each, its_optimizer, batch)
    assert_tied(other, optimizers[1], tie)
    assert_same(values(other, optimizers[1]), values(model, optimizers[0]))
    described = keras.models.model_from_json(model.to_json())
    assert_tied(described, None, tie)
    assert {path: value.shape for path, value in values(described).items()} == {
        path: value.shape for path, value in values(model).items()
    }


@pytest.fixture(scope="module")
def weight_file(tmp_path_factory):
    """The path of a weight file of a kind of model with these ties, which is written once."""
    folder = tmp_path_factory.mktemp("weights")

    @cache
    def weight_file(kind, ties):
        path = folder / f"{kind}-{ties}.weights.h5"
        tiny.build(tiny.with_dropout(tiny.MODELS[kind], 0.2), tie_embeddings=ties, seed=1).save_weights(path)
        return path

    return weight_file


def test_weight_files_of_other_ties_are_refused(make, kind, tie, weight_file):
    """Keras itself would take the last of three matrices without a word."""
    model = make(seed=9)
    for other in TIES:
        if other != tie:
            with pytest.raises(Exception, match=f"saved with tie_embeddings {other}, but the model has {tie}"):
                model.load_weights(weight_file(kind, other))
    model.load_weights(weight_file(kind, tie))
