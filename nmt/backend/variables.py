"""Between variables and NumPy arrays, with as little new memory as can be: its pages cost more time than copying."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf


def array_view(variable: keras.Variable) -> np.ndarray:
    """Return the value of a variable to be read at once, without a copy where it lies in main memory.

    An update that comes later may or may not be seen in it.

    Returns:
        An array of the shape and type of the variable, which must not be written to.
    """
    tensor = tf.convert_to_tensor(variable.value)
    try:
        return np.asarray(memoryview(tensor))
    except (TypeError, ValueError, BufferError):  # of a type that Python has no word for, such as bfloat16
        return np.asarray(tensor.numpy())


def assign_array(variable: keras.Variable, array: np.ndarray) -> None:
    """Give a variable a copy of an array's values, in its own type.

    Args:
        variable: of any floating or integer type.
        array: of the same shape.
    """
    values = tf.raw_ops.DeepCopy(x=array)  # `tf.convert_to_tensor` would copy twice
    variable.value.assign(tf.cast(values, variable.dtype))
