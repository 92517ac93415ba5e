import keras
import numpy as np
import pytest
from keras import ops

from nmt.checkpoint.weights import named_slots, optimizer_class
from nmt.errors import CheckpointError
from nmt.tying import named_variables

OPTIMIZERS = {
    "Adam": (lambda: keras.optimizers.Adam(0.1, amsgrad=True), ["momentums", "velocities", "velocity_hats"]),
    "AdamW": (lambda: keras.optimizers.AdamW(0.1), ["momentums", "velocities"]),
    "SGD": (lambda: keras.optimizers.SGD(0.1), []),
    "SGD with momentum": (lambda: keras.optimizers.SGD(0.1, momentum=0.9), ["momentums"]),
    "Nadam": (lambda: keras.optimizers.Nadam(0.1), ["momentums", "velocities"]),
    "RMSprop": (
        lambda: keras.optimizers.RMSprop(0.1, momentum=0.5, centered=True),
        ["velocities", "momentums", "average_gradients"],
    ),
    "Adagrad": (lambda: keras.optimizers.Adagrad(0.1), ["accumulators"]),
    "Adadelta": (lambda: keras.optimizers.Adadelta(0.1), ["accumulated_grads", "accumulated_delta_vars"]),
    "Adamax": (lambda: keras.optimizers.Adamax(0.1), ["m", "u"]),
    "Ftrl": (lambda: keras.optimizers.Ftrl(0.1), ["accumulators", "linears"]),
    "Lion": (lambda: keras.optimizers.Lion(0.1), ["momentums"]),
    "Lamb": (lambda: keras.optimizers.Lamb(0.1), ["momentums", "velocities"]),
    "Adafactor": (lambda: keras.optimizers.Adafactor(0.1), ["r", "c", "v"]),
}


def gradients(model, step):
    random = np.random.default_rng(step)
    return [ops.convert_to_tensor(random.standard_normal(v.shape), dtype="float32") for v in model.trainable_variables]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_slots_are_named_by_the_role_path_of_their_variable(small_model, name):
    make, kinds = OPTIMIZERS[name]
    model, optimizer = small_model(), make()
    slots = named_slots(model, optimizer)
    trained = [path for path, v in named_variables(model).items() if v.trainable]
    assert len(trained) == 4
    expected = {f"{kind}/{path}" for kind in kinds for path in trained} | {"iterations"}
    assert set(slots) - {"u_product"} == expected
    for path in trained:
        for kind in kinds if name != "Adafactor" else ["v"]:
            assert slots[f"{kind}/{path}"].shape == named_variables(model)[path].shape


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_slots_are_all_that_the_next_updates_need(small_model, name):
    """An optimizer that was given the slots of another goes on as that one does; the learning rate is given by hand."""
    make, _ = OPTIMIZERS[name]
    model, optimizer, twin, other = small_model(), make(), small_model(), make()
    for step in range(2):
        optimizer.apply(gradients(model, step), model.trainable_variables)
    kept = {path: np.asarray(slot) for path, slot in named_slots(model, optimizer).items()}
    for path, slot in named_slots(twin, other).items():
        slot.assign(kept[path])
    for path, variable in named_variables(twin).items():
        variable.assign(named_variables(model)[path])
    for step in range(2, 4):
        optimizer.apply(gradients(model, step), model.trainable_variables)
        other.apply(gradients(model, step), twin.trainable_variables)
    for path, variable in named_variables(twin).items():
        np.testing.assert_array_equal(np.asarray(variable), np.asarray(named_variables(model)[path]), err_msg=path)


def test_optimizers_within_optimizers_become_prefixes(small_model):
    slots = named_slots(small_model(), keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1, momentum=0.9)))
    assert {"step_counter", "dynamic_scale", "inner_optimizer/iterations"} <= set(slots)
    assert "inner_optimizer/momentums/dense/kernel" in slots
    assert not any("learning_rate" in name for name in slots)


def test_the_class_of_an_optimizer_tells_those_within_it(small_model):
    inner = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1, momentum=0.9))
    assert optimizer_class(keras.optimizers.Adam()) == "Adam"
    assert optimizer_class(inner) == "LossScaleOptimizer(SGD)"
    inner.build(small_model().trainable_variables)
    assert optimizer_class(inner) == "LossScaleOptimizer(SGD)"


def test_a_tied_variable_has_one_slot_of_each_kind(build):
    names = {ties: set(named_slots(build("rnn", ties), keras.optimizers.Adam())) for ties in ("none", "all")}
    both = {
        f"{kind}/{role}/embeddings"
        for kind in ("momentums", "velocities")
        for role in ("target_embedding", "output_projection")
    }
    assert names["none"] - names["all"] == both
    assert "momentums/source_embedding/embeddings" in names["all"]


def test_an_optimizer_of_another_model_is_refused_by_name(small_model):
    optimizer = keras.optimizers.Adam()
    optimizer.build(small_model().trainable_variables)
    with pytest.raises(
        CheckpointError, match=r"Adam holds variables of no variable of the model: .*dense_kernel_momentum"
    ):
        named_slots(small_model(), optimizer)
