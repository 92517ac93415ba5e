"""Values that the variables of a model cannot hold are refused before anything changes."""

import keras
import numpy as np
import pytest

from nmt.checkpoint.manager import CheckpointManager
from nmt.checkpoint.weights import load_weights
from nmt.errors import CheckpointError
from nmt.tying import named_variables


class Holder(keras.Layer):
    """A layer with one variable of any type."""

    def __init__(self, dtype, value):
        super().__init__()
        self.value = keras.Variable(np.asarray(value), dtype=dtype, trainable=False, name="value")
        self.built = True


def held(layer):
    return np.asarray(keras.ops.cast(layer.value, "float32")).tolist()


REFUSED = [
    ("float32", 300.7, "uint8", "must be of type uint8, but is of float32"),
    ("float32", 2.0, "int32", "must be of type int32, but is of float32"),
    ("int32", 2, "float32", "must be of type float32, but is of int32"),
    ("bool", True, "int32", "must be of type int32, but is of bool"),
    ("int32", 1, "bool", "must be of type bool, but is of int32"),
]


@pytest.mark.parametrize(("before", "value", "after", "problem"), REFUSED)
def test_another_kind_of_values_is_refused(tmp_path, before, value, after, problem):
    model = Holder(after, [1, 0])
    with CheckpointManager(tmp_path) as manager:
        manager.save(1, model=Holder(before, [value, 0]))
        with pytest.raises(CheckpointError, match=f"update-00000001 does not fit: value {problem}$"):
            manager.restore(model)
    with pytest.raises(CheckpointError, match=f"does not fit: value {problem}$"):
        load_weights(tmp_path, model)
    assert held(model) == [1, 0]


@pytest.mark.parametrize(
    ("before", "value", "after", "expected"),
    [
        ("float32", 1 + 2**-20, "bfloat16", 1.0),
        ("float32", -65504.0, "float16", -65504.0),
        ("float16", 0.5, "float32", 0.5),
        ("int32", -128, "int8", -128),
        ("bool", True, "bool", 1),
        ("uint8", 200, "int64", 200),
    ],
)
def test_another_type_of_the_same_kind_takes_what_it_has_room_for(tmp_path, before, value, after, expected):
    restored, loaded = Holder(after, [0, 1]), Holder(after, [0, 1])
    with CheckpointManager(tmp_path) as manager:
        manager.save(1, model=Holder(before, [value, 0]))
        manager.restore(restored)
    load_weights(tmp_path, loaded)
    assert held(restored) == held(loaded) == [expected, 0]


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_readers_refuse_weights_that_are_not_finite_by_name(tmp_path, small_model, number):
    model, other = small_model(), small_model()
    variables = named_variables(model)
    average = {path: keras.Variable(variable) for path, variable in variables.items() if variable.trainable}
    variables["dense/kernel"].assign(np.full((3, 4), number))
    with CheckpointManager(tmp_path) as manager:
        manager.save(1, model=model, ema=average)
        assert manager.restore(other, None, average) is not None  # whoever trains on may have a way out
    before = {path: np.asarray(variable) for path, variable in named_variables(small_model()).items()}
    for path, variable in named_variables(other).items():
        variable.assign(before[path])
    message = r"update-00000001 \(raw\) must hold finite numbers, but in dense/kernel some are not: take another"
    with pytest.raises(CheckpointError, match=message):
        load_weights(tmp_path, other, weights="raw")
    for path, variable in named_variables(other).items():
        np.testing.assert_array_equal(np.asarray(variable), before[path])
    assert load_weights(tmp_path, other, weights="ema").weights == "ema"
