"""What a search is given: a step function, rules, and the numbers that go with them; and what is refused of them.

All is checked by shapes and types, once or while a graph is traced, which costs nothing in a compiled search.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple, TypeAlias

import keras
import numpy as np

from nmt.types import Memory, State, Tensor

StepFunction: TypeAlias = Callable[[Tensor, State], tuple[Tensor, State]]
"""Maps the newest token ids (B, K) and the state to logits (B, K, V) and the next state."""

MemoryStep: TypeAlias = Callable[[Tensor, State, Memory], tuple[Tensor, State]]
"""The same with the memory of the sentences, whose leaves begin with (B,), as its third argument."""

Reorder: TypeAlias = Callable[[State, Tensor], State]
"""Maps the state and parents (B, K) to the state whose row k is row `parents[b, k]` of before."""

AddToScore: TypeAlias = Callable[[State], Tensor]
"""Maps the state after a step to what the score of a hypothesis gets besides if it ends with it, (B, K), at most 0."""

Choose: TypeAlias = Callable[..., Any]
"""Maps extensions, rows, length and settings to the candidates (b, K) that live on, best first, and those that end;
see `nmt.search.beam.choose_best`."""

_GREATEST_INT32 = 2**31 - 1


class View(NamedTuple):
    """What a rule sees of a step, for the K live hypotheses of each of the b sentences.

    logits: (b, K, V) float32, as the step gave them.
    log_normalizers: (b, K, 1) float32: what was subtracted from the logits to make them log probabilities.
    length: () int32, of a hypothesis with the token to come, EOS counted.
    min_length, max_length: (b,) int32, of each sentence.
    state: the rule's own, leaves (b, K, ...).
    token_ids: (b, K, length - 1) int32, the tokens so far, without BOS; None unless the rule `needs_tokens`.
    """

    logits: Tensor
    log_normalizers: Tensor
    length: Tensor
    min_length: Tensor
    max_length: Tensor
    state: State
    token_ids: Tensor | None


class Rule(ABC):
    """Lowers the scores of tokens, or takes tokens away by −inf.

    Rules are asked one after the other, after normalisation: what one takes away keeps its share of probability, as
    banned tokens do. PAD, BOS and banned tokens, the least length and the greatest hold besides and come last; a rule
    that takes EOS away at the greatest length leaves a hypothesis nothing. To sample is to draw a token and to take all
    others away.

    A rule is part of what a search is compiled for: one object, one meaning.
    """

    needs_tokens: ClassVar[bool] = False
    """Whether it looks at the tokens so far; those of all steps, so it may cost more the longer a hypothesis is."""

    only_lowers: ClassVar[bool] = True
    """False if it may also raise a score. Then no bound holds: a sentence is searched until its greatest length."""

    def initial_state(self, batch_size: Tensor, beam_size: int) -> State:
        """Return what the rule knows of empty hypotheses, a nest of tensors (B, K, ...); nothing unless overridden."""
        return ()

    @abstractmethod
    def lower(self, scores: Tensor, view: View) -> Tensor:
        """Change the log probability of each next token, as the rules before left it: (b, K, V) to (b, K, V)."""

    def follow(self, state: State, token_ids: Tensor) -> State:
        """Take note of the tokens (b, K) that hypotheses were extended by; the state is that of each one's parent."""
        return state


class SpecialIds(NamedTuple):
    """Ids with a meaning for the search. EOS ends a hypothesis; PAD, BOS and what is banned are never generated."""

    pad: int
    bos: int
    eos: int
    banned: tuple[int, ...] = ()

    @property
    def as_ints(self) -> SpecialIds:
        """The same ids as Python's ints, which take the type of the tensors that they meet; NumPy's do not."""
        return SpecialIds(int(self.pad), int(self.bos), int(self.eos), tuple(map(int, self.banned)))

    @property
    def never(self) -> frozenset[int]:
        """The ids that no hypothesis holds."""
        return frozenset([self.pad, self.bos, *self.banned])

    @property
    def named(self) -> list[tuple[str, int]]:
        """All of them, with the names of the arguments that they come from."""
        banned = [("each of banned_ids", token_id) for token_id in self.banned]
        return [("pad_id", self.pad), ("bos_id", self.bos), ("eos_id", self.eos), *banned]


class Limits(NamedTuple):
    """Least and greatest length of a hypothesis, EOS counted, BOS not: ints, or (B,) int32 each."""

    min_length: int | Tensor
    max_length: int | Tensor


class Settings(NamedTuple):
    """What stays the same from step to step.

    beam_size: K.
    num_hypotheses: N.
    length_penalty, length_penalty_offset: See `nmt.search.beam.penalty`.
    stops_at_first: Whether a sentence is done with the first N hypotheses that have ended.
    with_token_scores: Whether the log probability of each token is kept.
    add_to_score: What else belongs to a score.
    reorder: How the state follows its beams; that of a single one stays.
    rules: Asked in this order.
    choose: Which extensions of a beam live on, and which end; None for the best.
    """

    special: SpecialIds
    beam_size: int
    num_hypotheses: int
    length_penalty: float
    length_penalty_offset: float = 0.0
    stops_at_first: bool = False
    with_token_scores: bool = False
    add_to_score: AddToScore | None = None
    reorder: Reorder = lambda state, _: state
    rules: tuple[Rule, ...] = ()
    choose: Choose | None = None

    @property
    def is_greedy(self) -> bool:
        """Whether there is one live hypothesis, which its best extension continues."""
        return self.beam_size == 1 and self.choose is None


def check_search(
    step: Any, state: State, memory: Memory | None, batch_size: int | Tensor, limits: Limits, settings: Settings
) -> None:
    """Refuses what cannot be searched. Of tensors in a graph that is being traced, only shape and type are known.

    Raises:
        ValueError: saying what must hold.
    """
    special, beam_size, num_hypotheses, length_penalty, offset = settings[:5]
    if not callable(step):
        raise ValueError(f"the step must be a function of token ids and state, got {type(step).__name__}")
    if not _is_int(beam_size) or beam_size < 1:
        raise ValueError(f"beam_size must be at least 1, got {beam_size!r}: give an int")
    if not _is_int(num_hypotheses) or not 1 <= num_hypotheses <= beam_size:
        raise ValueError(
            f"num_hypotheses must lie between 1 and beam_size ({beam_size}), got {num_hypotheses!r}: give an int"
        )
    # With an exponent below 0 a longer hypothesis could not be bounded.
    if not isinstance(length_penalty, Real) or not 0 <= length_penalty < float("inf"):
        raise ValueError(f"length_penalty must be 0 or more, got {length_penalty!r}: 0 turns it off")
    if not isinstance(offset, Real) or not 0 <= offset < float("inf"):
        raise ValueError(f"length_penalty_offset must be 0 or more, got {offset!r}: 0 for a power of the length")

    for rule in settings.rules:
        if not isinstance(rule, Rule):
            raise ValueError(f"each of the rules must be a Rule, got {rule!r}")

    # What is no id in any vocabulary; how large this one is, the logits tell.
    for name, token_id in special.named:
        if not _is_int(token_id) or token_id < 0:
            raise ValueError(f"{name} must be a token id, an int of 0 or more, got {token_id!r}")
    if special.eos == special.pad:
        raise ValueError(
            f"eos_id and pad_id must differ, got {special.eos} for both: where the vocabulary has no PAD, give bos_id "
            "as pad_id"
        )
    if special.eos in special.banned:
        raise ValueError(f"banned_ids must not hold eos_id ({special.eos}), or no hypothesis can end: use min_length")

    dtype, sizes, value = _described(batch_size)
    if "int" not in dtype or sizes not in ((), None) or (value is not None and value < 0):
        raise ValueError(f"batch_size must be how many sentences there are, an int, got {batch_size!r}")
    known_size = None if value is None else int(value)
    _check_limit("max_length", limits.max_length, known_size, least=1, note=" (EOS counts)")
    _check_limit("min_length", limits.min_length, known_size, least=0)
    if isinstance(limits.min_length, Integral) and isinstance(limits.max_length, Integral) and limits[0] > limits[1]:
        raise ValueError(f"min_length must not exceed max_length, got {limits[0]} and {limits[1]}")
    _check_leaves("state", state, {"B": known_size, "K": beam_size})
    if memory is not None:
        _check_leaves("memory", memory, {"B": known_size})


def checked_step(step: StepFunction | MemoryStep, special: SpecialIds, *, with_memory: bool) -> MemoryStep:
    """The step as a function of three arguments, with a look at the shapes and types of what it returns."""

    def checked(token_ids: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        returned = step(token_ids, state, *([memory] if with_memory else []))
        if not isinstance(returned, tuple | list) or len(returned) != 2:
            count = f" of {len(returned)}" if isinstance(returned, tuple | list) else ""
            raise ValueError(f"the step must return (logits, next state), got {type(returned).__name__}{count}")
        logits, next_state = returned
        _check_logits(logits, token_ids, special)
        _check_next_state("the step", state, next_state)
        return logits, next_state

    return checked


def checked_reorder(reorder: Reorder) -> Reorder:
    """The same for what reorders the state."""

    def checked(state: State, parents: Tensor) -> State:
        reordered = reorder(state, parents)
        _check_next_state("reorder", state, reordered)
        return reordered

    return checked


def _check_limit(name: str, limit: int | Tensor, batch_size: int | None, *, least: int, note: str = "") -> None:
    dtype, sizes, values = _described(limit)
    if "int" not in dtype or (sizes and not _fits(sizes, (batch_size,))):
        raise ValueError(f"{name} must be an int, or integers of shape (B,) with B = {batch_size}, got {dtype} {sizes}")
    wrong = np.zeros(0) if values is None else values[(values < least) | (values > _GREATEST_INT32)]
    if wrong.size:
        raise ValueError(f"{name} must be at least {least}{note}, and an int32, got {wrong.flat[0]}")


def _check_leaves(what: str, nest: Any, begin: Mapping[str, int | None]) -> None:
    """Refuses a nest with a leaf whose first axes have other sizes."""
    wanted = tuple(begin.values())
    for path, leaf in keras.tree.flatten_with_path(nest):
        sizes = _sizes(leaf) if _is_tensor(leaf) else ()
        if sizes is not None and not _fits(sizes[: len(wanted)], wanted):
            got = f"shape {sizes}" if _is_tensor(leaf) else type(leaf).__name__
            place = f" at {'/'.join(map(str, path))!r}" if path else ""
            axes = ", ".join(begin)
            raise ValueError(
                f"every leaf of the {what} must be a tensor that begins with ({axes}) = {wanted}, got {got}{place}"
            )


def _check_logits(logits: Tensor, token_ids: Tensor, special: SpecialIds) -> None:
    if not _is_tensor(logits):
        raise ValueError(f"the logits must be a tensor (B, K, V), got {type(logits).__name__}")
    dtype, sizes, rows = _dtype(logits), _sizes(logits), _sizes(token_ids) or (None, None)
    if not ("float" in dtype or "int" in dtype):
        raise ValueError(f"the logits must be floats, got {dtype}")
    if sizes is None or not _fits(sizes, (*rows, None)):
        raise ValueError(f"the logits must be (B, K, V) with (B, K) = {rows}, got {sizes}: reshape them")
    for name, token_id in special.named:
        if sizes[-1] is not None and token_id >= sizes[-1]:
            raise ValueError(f"{name} must be one of the {sizes[-1]} tokens of the logits, got {token_id}")


def _check_next_state(who: str, state: State, next_state: State) -> None:
    """Refuses a state that is another nest than the last one, or has leaves of another type, rank or (B, K)."""

    def follows(leaf: Tensor, next_leaf: Tensor) -> bool:
        if not _is_tensor(next_leaf) or _dtype(leaf) != _dtype(next_leaf):
            return False
        sizes, next_sizes = _sizes(leaf), _sizes(next_leaf)
        return sizes is None or next_sizes is None or _fits(next_sizes, (*sizes[:2], *[None] * (len(sizes) - 2)))

    def in_words(leaf: Any) -> str:
        return f"{_dtype(leaf)} {_sizes(leaf)}" if _is_tensor(leaf) else type(leaf).__name__

    try:
        same = all(keras.tree.flatten(keras.tree.map_structure(follows, state, next_state)))
    except (TypeError, ValueError):  # another nest
        same = False
    if not same:
        had, got = (keras.tree.map_structure(in_words, nest) for nest in (state, next_state))
        raise ValueError(
            f"{who} must return the state as it was, the same nest of the same types and ranks that begin with (B, K), "
            f"but had {had} and returned {got}"
        )


def _fits(sizes: tuple[int | None, ...], wanted: tuple[int | None, ...]) -> bool:
    """Whether a shape is of the wanted rank and sizes; None is any size."""
    return len(sizes) == len(wanted) and all(
        size == want or size is None or want is None for size, want in zip(sizes, wanted, strict=True)
    )


def _described(value: Any) -> tuple[str, tuple[int | None, ...] | None, np.ndarray | None]:
    """Type, shape and value of a number or a tensor; no value in a graph that is being traced."""
    try:
        array = np.asarray(value)
    except (NotImplementedError, TypeError, ValueError):
        return (_dtype(value), _sizes(value), None) if _is_tensor(value) else (type(value).__name__, (), None)
    return array.dtype.name, array.shape, array


def _is_int(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _dtype(tensor: Tensor) -> str:
    return str(getattr(tensor.dtype, "name", tensor.dtype))


def _sizes(tensor: Tensor) -> tuple[int | None, ...] | None:
    """The shape of a tensor, None for what is unknown: a size, or all."""
    return None if getattr(tensor.shape, "rank", 0) is None else tuple(tensor.shape)
