"""What a search knows of the model: a step function, the ids with a meaning, and how large the vocabulary is."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple, TypeAlias, cast

from nmt.types import Memory, State, Tensor

StepFunction: TypeAlias = Callable[[Tensor, State], tuple[Tensor, State]]
"""Maps the newest token ids (B, K) and the state to logits (B, K, V) and the next state."""

MemoryStep: TypeAlias = Callable[[Tensor, State, Memory], tuple[Tensor, State]]
"""The same with the memory of the sentences, whose leaves begin with (B,), as its third argument."""

Reorder: TypeAlias = Callable[[State, Tensor], State]
"""Maps the state and parents (B, K) to the state whose row k is row `parents[b, k]` of before."""

IMPOSSIBLE = -float("inf")
"""The log probability of what is banned or does not exist."""


class SpecialIds(NamedTuple):
    """Ids with a meaning for the search. PAD and BOS are never generated; EOS ends a hypothesis."""

    pad: int
    bos: int
    eos: int


def never_generated(banned_ids: Collection[int], *, pad_id: int, bos_id: int, eos_id: int) -> frozenset[int]:
    """The ids that no hypothesis may hold: those that are banned, PAD and BOS.

    Raises:
        ValueError: EOS is banned, so that no hypothesis could end.
    """
    if eos_id in banned_ids:
        raise ValueError(f"banned_ids must not hold eos_id ({eos_id}), or no hypothesis can end: use min_length")
    return frozenset([pad_id, bos_id, *banned_ids]) - {eos_id}


def with_memory(step: StepFunction | MemoryStep, memory: Memory | None) -> MemoryStep:
    """The step as a function of three arguments; without a memory it has two and the third is left out."""
    if memory is not None:
        return cast("MemoryStep", step)
    plain = cast("StepFunction", step)
    return lambda token_ids, state, _: plain(token_ids, state)


def static_vocabulary_size(logits: Tensor) -> int:
    """The last dimension of the logits.

    Raises:
        ValueError: A graph is traced in which it is unknown.
    """
    vocabulary_size = logits.shape[-1]
    if vocabulary_size is None:
        raise ValueError("the last dimension of the logits must be static: reshape them to (..., vocabulary_size)")
    return int(vocabulary_size)
