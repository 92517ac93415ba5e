"""Between the variables of a model and the arrays of a checkpoint: what must fit, and proof that it did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from nmt.backend.variables import array_view, assign_array
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


def check_values(
    variables: Mapping[str, keras.Variable],
    arrays: Mapping[str, np.ndarray],
    *,
    source: str,
    described: Mapping[str, Mapping[str, Any]],
) -> None:
    """Refuse values that variables cannot hold: of another kind, or beyond the range of their type.

    Rounding float32 to a shorter floating-point type is no loss of this sort.

    Args:
        variables: what is to be restored, by name.
        arrays: what there is for them, by name.
        source: what the error calls the checkpoint's side.
        described: what the manifest says of types, where it does; files hold float32 or int64.

    Raises:
        CheckpointError: listing all such variables.
    """
    problems = []
    for name, variable in variables.items():
        found = str(described.get(name, {}).get("dtype", arrays[name].dtype))
        wanted = str(variable.dtype)
        if (_kind(found), arrays[name].dtype.kind) != (_kind(wanted), "f" if _kind(wanted) == "float" else "i"):
            problems.append(f"{name} must be of type {wanted}, but is of {found}")
        elif not _holds(array_view(variable).dtype, arrays[name]):
            problems.append(f"{name} must be of type {wanted}, but has values beyond its range")
    if problems:
        raise CheckpointError(f"{source} does not fit: {'; '.join(problems)}")


def check_finite(arrays: Mapping[str, np.ndarray], *, source: str) -> None:
    """Refuse weights that no model can work with; 60 million numbers take some 15 ms.

    Raises:
        CheckpointError: naming those that are not finite.
    """
    broken = [name for name, array in arrays.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]
    if broken:
        raise CheckpointError(
            f"{source} must hold finite numbers, but in {', '.join(broken)} some are not: take another checkpoint"
        )


def assign(variables: Mapping[str, keras.Variable], arrays: Mapping[str, np.ndarray]) -> None:
    """Give variables the values of a checkpoint, in their own types."""
    for name, variable in variables.items():
        assign_array(variable, arrays[name])


def verify_values(variables: Mapping[str, keras.Variable], arrays: Mapping[str, np.ndarray]) -> None:
    """Prove that variables hold these values, to the last bit of their own type.

    Raises:
        CheckpointError: naming those that do not.
    """
    wrong = [name for name, variable in variables.items() if not _equal(array_view(variable), arrays[name])]
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


def _kind(dtype: str) -> str:
    """Return what sort of numbers a type holds: `float`, `int` or `bool`."""
    return "float" if "float" in dtype else "bool" if dtype == "bool" else "int"


def _holds(dtype: np.dtype, array: np.ndarray) -> bool:
    """Return whether a type of the same kind has room for each value of a float32 or int64 array."""
    if dtype == array.dtype:
        return True
    with np.errstate(over="ignore"):
        cast = array.astype(dtype)
    if array.dtype.kind != "f":
        return np.array_equal(cast.astype(array.dtype), array)
    return np.array_equal(np.isfinite(cast.astype(np.float64)), np.isfinite(array))


def _equal(value: np.ndarray, stored: np.ndarray) -> bool:
    """Compare bits, so that NaN equals NaN and -0.0 is not 0.0."""
    expected = np.asarray(stored).astype(value.dtype, copy=False)
    bits = f"u{value.dtype.itemsize}"
    return value.shape == expected.shape and np.array_equal(value.view(bits), expected.view(bits))
