import keras
import ml_dtypes
import numpy as np
import pytest

from nmt.backend.kernels import array_view, assign_array

ARRAYS = [
    np.arange(15, dtype=np.float32).reshape(3, 5),
    np.arange(15, dtype=np.float32).reshape(5, 3).T,
    np.array(7, np.int64),
    np.zeros((0, 4), np.float32),
    np.array([np.nan, -0.0, np.inf], np.float32),
]


@pytest.mark.parametrize("offset", [0, 8, 20])  # bytes from the alignment that TensorFlow wants
def test_an_assigned_variable_holds_a_copy_wherever_the_array_lies(offset):
    room = np.zeros(4096 + 128, np.uint8)
    begin = -room.ctypes.data % 64 + offset
    array = room[begin : begin + 4096].view(np.float32).reshape(32, 32)
    array[:] = 1.5
    variable = keras.Variable(np.zeros((32, 32), np.float32))
    assign_array(variable, array)
    array[:] = 2.5
    np.testing.assert_array_equal(array_view(variable), np.full((32, 32), 1.5))
    variable.assign_add(np.ones((32, 32), np.float32))
    np.testing.assert_array_equal(array, np.full((32, 32), 2.5))


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_values_arrive_bit_for_bit(array):
    variable = keras.Variable(np.zeros(array.shape), dtype=array.dtype.name)
    assign_array(variable, array)
    found = array_view(variable)
    assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes())


@pytest.mark.parametrize(("dtype", "own"), [("bfloat16", ml_dtypes.bfloat16), ("int32", np.int32)])
def test_a_variable_keeps_its_own_type(dtype, own):
    variable = keras.Variable(np.zeros(3), dtype=dtype)
    assign_array(variable, np.array([1, 2, 3], np.float32 if dtype == "bfloat16" else np.int64))
    assert array_view(variable).dtype == own
    np.testing.assert_array_equal(array_view(variable).astype("float32"), [1, 2, 3])


def test_a_view_costs_no_memory_and_cannot_be_written_to():
    variable = keras.Variable(np.ones((2, 3), np.float32))
    assert np.shares_memory(array_view(variable), array_view(variable))
    with pytest.raises(ValueError, match="read-only"):
        array_view(variable)[0, 0] = 2.0
