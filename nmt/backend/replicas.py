"""The copies of a model that are trained together, as the training step sees them; here only one.

A replica is a copy of the model on one device; a worker is a process with one replica a device. What is wanted of all
replicas is run by `run`; inside, `own` gives each its share, and `sum` adds tensors up over all replicas of all
workers. Between updates workers agree by `exchange` and `send_text`, which every worker has to call in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, TypeVar

import keras

from nmt.types import Tensor

Share = TypeVar("Share")


class Replicas(Protocol):
    """The copies of a model that are trained together.

    count: replicas of all workers.
    own_numbers: which of them live in this process.
    workers: processes.
    is_chief: whether this process is the one that writes.
    mirrors: whether variables have to be created in `scope`, in the same order on all workers.
    """

    count: int
    own_numbers: range
    workers: int
    is_chief: bool
    mirrors: bool

    def scope(self) -> AbstractContextManager[Any]:
        """Within it variables are created, one copy a replica."""

    def run(self, function: Callable[..., Any], *values: Any) -> Any:
        """Call a function in each replica of this process; values that `run` returned are each replica's own."""

    def own(self, shares: Sequence[Share]) -> Share:
        """Return the share of the replica that asks, of those for the replicas of this process."""

    def sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Add tensors up over all replicas of all workers; to be called in `run`."""

    def mean(self, tensor: Tensor) -> Tensor:
        """Return the mean over all replicas of all workers; to be called in `run`."""

    def own_draws(self, seeds: Sequence[keras.Variable]) -> AbstractContextManager[None]:
        """Within it a replica draws its own random numbers from states (2,) that all began with."""

    def leave_sums_alone(self, optimizer: keras.optimizers.Optimizer) -> None:
        """Let an optimizer apply gradients as they come: they are summed over the replicas already."""

    def first(self, values: Any) -> Any:
        """Return of what `run` returned that of the first replica of this process."""

    def exchange(self, values: Sequence[float]) -> list[float]:
        """Return the sums of some numbers over all workers."""

    def send_text(self, text: str) -> str:
        """Return the chief's text on every worker."""

    def send_variables(self, variables: Sequence[keras.Variable]) -> None:
        """Give variables the values that they have on the chief."""

    def watched(self) -> AbstractContextManager[None]:
        """Within it the loss of another worker is an error that says so."""


class OneReplica:
    """No distribution: everything happens here and now."""

    count = 1
    own_numbers = range(1)
    workers = 1
    is_chief = True
    mirrors = False

    def scope(self) -> AbstractContextManager[Any]:
        """Within it variables are created."""
        return nullcontext()

    def run(self, function: Callable[..., Any], *values: Any) -> Any:
        """Call a function."""
        return function(*values)

    def own(self, shares: Sequence[Share]) -> Share:
        """Return the only share."""
        (share,) = shares
        return share

    def sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the tensors."""
        return list(tensors)

    def mean(self, tensor: Tensor) -> Tensor:
        """Return the tensor."""
        return tensor

    def own_draws(self, seeds: Sequence[keras.Variable]) -> AbstractContextManager[None]:
        """Do nothing."""
        return nullcontext()

    def leave_sums_alone(self, optimizer: keras.optimizers.Optimizer) -> None:
        """Do nothing."""

    def first(self, values: Any) -> Any:
        """Return what `run` returned."""
        return values

    def exchange(self, values: Sequence[float]) -> list[float]:
        """Return the numbers."""
        return list(values)

    def send_text(self, text: str) -> str:
        """Return the text."""
        return text

    def send_variables(self, variables: Sequence[keras.Variable]) -> None:
        """Do nothing."""

    def watched(self) -> AbstractContextManager[None]:
        """Do nothing."""
        return nullcontext()
