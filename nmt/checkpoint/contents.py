"""What one checkpoint keeps, in memory. Surgery on checkpoints is functions from contents to contents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nmt.checkpoint.json_files import is_count, is_number
from nmt.checkpoint.manifest import AVERAGE, MODEL, OPTIMIZER
from nmt.errors import CheckpointError


@dataclass(frozen=True)
class Contents:
    """What one checkpoint keeps, as arrays and JSON values.

    update: updates made.
    score: of the validation after this update, higher is better; None without one.
    model: the weights by role path, each variable once.
    average: their moving average by role path; None where none is kept.
    optimizer: slots by the role path of their variable; None where none are kept.
    state: the state of the run.
    tie_groups, variables, optimizer_class, facts: see `Manifest`.
    """

    update: int
    score: float | None
    model: Mapping[str, np.ndarray]
    average: Mapping[str, np.ndarray] | None = None
    optimizer: Mapping[str, np.ndarray] | None = None
    state: Mapping[str, Any] = field(default_factory=dict)
    tie_groups: tuple[dict[str, Any], ...] = ()
    variables: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    optimizer_class: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def arrays(self) -> dict[str, Mapping[str, np.ndarray]]:
        """The arrays of each file."""
        parts = {MODEL: self.model, AVERAGE: self.average, OPTIMIZER: self.optimizer}
        return {name: part for name, part in parts.items() if part is not None}


def check_contents(contents: Contents) -> None:
    """Refuse what could be written, but would not be read again.

    Raises:
        CheckpointError: update or score are no such numbers, the state is of another update, or the moving average is
            of variables that the model does not have.
    """
    if not is_count(contents.update):
        raise CheckpointError(f"update must be a whole number of 0 or more, got {contents.update!r}")
    if contents.score is not None and not is_number(contents.score):
        raise CheckpointError(f"score must be a finite number or None, got {contents.score!r}")
    if not is_of_update(contents.state, contents.update):
        raise CheckpointError(
            f"the state must be of update {contents.update}, as its checkpoint, got {contents.state['update']!r}"
        )
    shapes = {path: array.shape for path, array in contents.model.items()}
    strangers = [path for path, array in (contents.average or {}).items() if shapes.get(path) != array.shape]
    if strangers:
        raise CheckpointError(
            f"a moving average must be of variables of the model, of their shapes, got {', '.join(strangers)}"
        )


def is_of_update(state: Mapping[str, Any], update: int) -> bool:
    """Return whether the state of a run, if it tells its update, tells this one."""
    return "update" not in state or (is_count(state["update"]) and state["update"] == update)


def slot_variable(slot: str, variables: Iterable[str]) -> str | None:
    """Return the variable that a slot of an optimizer belongs to, None for one that belongs to the optimizer itself.

    Args:
        slot: `<kind>/<role path>`, or a name of another kind, such as `iterations`.
        variables: role paths; of several that fit the longest is meant: `a/kernel`, not `kernel`.
    """
    return max((path for path in variables if slot.endswith(f"/{path}")), key=len, default=None)
