"""What a search knows of the model: a step function, the ids with a meaning, and how large the vocabulary is."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from nmt.types import State, Tensor

StepFunction: TypeAlias = Callable[[Tensor, State], tuple[Tensor, State]]
"""Maps the newest token ids (B, K) and the state to logits (B, K, V) and the next state."""

Reorder: TypeAlias = Callable[[State, Tensor], State]
"""Maps the state and parents (B, K) to the state whose row k is row `parents[b, k]` of before."""

IMPOSSIBLE = -float("inf")
"""The log probability of what is banned or does not exist."""


class SpecialIds(NamedTuple):
    """Ids with a meaning for the search. PAD and BOS are never generated; EOS ends a hypothesis."""

    pad: int
    bos: int
    eos: int


def static_vocabulary_size(logits: Tensor) -> int:
    """The last dimension of the logits.

    Raises:
        ValueError: A graph is traced in which it is unknown.
    """
    vocabulary_size = logits.shape[-1]
    if vocabulary_size is None:
        raise ValueError("the last dimension of the logits must be static: reshape them to (..., vocabulary_size)")
    return int(vocabulary_size)
