"""Between the variables of a model and the arrays of a checkpoint: what must fit, and proof that it did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from nmt.backend import memory
from nmt.errors import CheckpointError
from nmt.tying import tie_groups, variable_roles


def describe_variables(variables: Mapping[str, keras.Variable]) -> dict[str, dict[str, Any]]:
    """Return shape and type of each variable, as the manifest keeps them."""
    return {path: {"shape": list(v.shape), "dtype": str(v.dtype)} for path, v in variables.items()}


def describe_ties(model: keras.Layer) -> tuple[dict[str, Any], ...]:
    """Return the tie groups of a model, as the manifest keeps them."""
    return tuple(
        {"name": g.name, "roles": list(g.roles), "variable": g.variable, "shape": list(g.shape)}
        for g in tie_groups(model)
    )


def check_shapes(variables: Mapping[str, keras.Variable], shapes: Mapping[str, Sequence[int]], *, source: str) -> None:
    """Compare variables with what a checkpoint has for them.

    Args:
        variables: what is to be restored, by name.
        shapes: what there is, by name.
        source: what the error calls the checkpoint's side.

    Raises:
        CheckpointError: listing everything that is missing, unexpected or of another shape.
    """
    problems = [f"{name} is missing" for name in variables if name not in shapes]
    problems += [f"{name} is unexpected" for name in shapes if name not in variables]
    problems += [
        f"{name} must be of shape {tuple(variable.shape)}, but is of {tuple(shapes[name])}"
        for name, variable in variables.items()
        if name in shapes and tuple(shapes[name]) != tuple(variable.shape)
    ]
    if problems:
        raise CheckpointError(f"{source} does not fit: {'; '.join(problems)}")


def assign(variables: Mapping[str, keras.Variable], arrays: Mapping[str, np.ndarray]) -> None:
    """Give variables the values of a checkpoint, in their own types."""
    for name, variable in variables.items():
        memory.assign(variable, arrays[name])


def verify_values(variables: Mapping[str, keras.Variable], arrays: Mapping[str, np.ndarray]) -> None:
    """Prove that variables hold these values, to the last bit of their own type.

    Raises:
        CheckpointError: naming those that do not.
    """
    wrong = [name for name, variable in variables.items() if not _equal(memory.view(variable), arrays[name])]
    if wrong:
        raise CheckpointError(f"restored, but of other values than in the checkpoint: {', '.join(wrong)}")


def role_arrays(
    model: keras.Layer, arrays: Mapping[str, np.ndarray]
) -> tuple[dict[str, keras.Variable], dict[str, np.ndarray]]:
    """Return, for every role of every variable that `arrays` has, the variable behind it and what it must hold."""
    roles = variable_roles(model)
    values = {id(roles[path]): array for path, array in arrays.items()}
    wanted = {path: variable for path, variable in roles.items() if id(variable) in values}
    return wanted, {path: values[id(variable)] for path, variable in wanted.items()}


def _equal(value: np.ndarray, stored: np.ndarray) -> bool:
    """Compare bits, so that NaN equals NaN and -0.0 is not 0.0."""
    expected = np.asarray(stored).astype(value.dtype, copy=False)
    bits = f"u{value.dtype.itemsize}"
    return value.shape == expected.shape and np.array_equal(value.view(bits), expected.view(bits))
