"""What a search knows of the model: a step function, the ids with a meaning, and how large the vocabulary is."""

from __future__ import annotations

from collections.abc import Callable
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
    """Ids with a meaning for the search. EOS ends a hypothesis; PAD, BOS and what is banned are never generated."""

    pad: int
    bos: int
    eos: int
    banned: tuple[int, ...] = ()

    @property
    def never(self) -> frozenset[int]:
        """The ids that no hypothesis holds."""
        return frozenset([self.pad, self.bos, *self.banned])

    @property
    def named(self) -> list[tuple[str, int]]:
        """All of them, with the names of the arguments that they come from."""
        return [("pad_id", self.pad), ("bos_id", self.bos), ("eos_id", self.eos)] + [
            ("each of banned_ids", token_id) for token_id in self.banned
        ]


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
