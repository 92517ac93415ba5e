"""What a search is given, and what its step returns, checked by shapes and types: once, or while a graph is traced."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import keras
import numpy as np

from nmt.search.step import MemoryStep, Reorder, SpecialIds, static_vocabulary_size
from nmt.types import Memory, State, Tensor

_GREATEST_INT32 = 2**31 - 1


def check_search(
    *,
    step: Any,
    state: State,
    memory: Memory | None,
    batch_size: int | Tensor,
    special: SpecialIds,
    beam_size: int,
    num_hypotheses: int,
    min_length: int | Tensor,
    max_length: int | Tensor,
    length_penalty: float,
) -> None:
    """Refuses what cannot be searched. Of tensors in a graph that is being traced, only shape and type are known.

    Raises:
        ValueError: saying what must hold.
    """
    if not callable(step):
        raise ValueError(f"the step must be a function of token ids and state, got {type(step).__name__}")
    _check_beam(beam_size, num_hypotheses)
    _check_length_penalty(length_penalty)
    _check_special_ids(special)
    known_size = _check_batch_size(batch_size)
    _check_limit("max_length", max_length, known_size, least=1, note=" (EOS counts)")
    _check_limit("min_length", min_length, known_size, least=0)
    if isinstance(min_length, Integral) and isinstance(max_length, Integral) and min_length > max_length:
        raise ValueError(f"min_length must not exceed max_length, got {min_length} and {max_length}")
    _check_leaves("state", state, {"B": known_size, "K": beam_size})
    if memory is not None:
        _check_leaves("memory", memory, {"B": known_size})


def checked_step(step: MemoryStep, special: SpecialIds) -> MemoryStep:
    """The step with a look at the shapes and types of what it returns, which costs nothing in a compiled search."""

    def checked(token_ids: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        returned = step(token_ids, state, memory)
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


def _check_beam(beam_size: int, num_hypotheses: int) -> None:
    if not _is_int(beam_size) or beam_size < 1:
        raise ValueError(f"beam_size must be at least 1, got {beam_size!r}: give an int")
    if not _is_int(num_hypotheses) or not 1 <= num_hypotheses <= beam_size:
        raise ValueError(
            f"num_hypotheses must lie between 1 and beam_size ({beam_size}), got {num_hypotheses!r}: give an int"
        )


def _check_length_penalty(length_penalty: float) -> None:
    """Refuses an exponent for which a longer hypothesis could not be bounded."""
    if not isinstance(length_penalty, Real) or not 0 <= length_penalty < float("inf"):
        raise ValueError(f"length_penalty must be 0 or more, got {length_penalty!r}: 0 turns it off")


def _check_special_ids(special: SpecialIds) -> None:
    """Refuses what is no id in any vocabulary; the step tells how large this one is."""
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


def _check_batch_size(batch_size: int | Tensor) -> int | None:
    """Returns B; None where a graph is traced in which it is unknown."""
    dtype, sizes, value = _described(batch_size)
    if "int" not in dtype or sizes not in ((), None) or (value is not None and value < 0):
        raise ValueError(f"batch_size must be how many sentences there are, an int, got {batch_size!r}")
    return None if value is None else int(value)


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
    vocabulary_size = static_vocabulary_size(logits)
    for name, token_id in special.named:
        if token_id >= vocabulary_size:
            raise ValueError(f"{name} must be one of the {vocabulary_size} tokens of the logits, got {token_id}")


def _check_next_state(who: str, state: State, next_state: State) -> None:
    """Refuses a state that is another nest than the last one, or has leaves of another type, rank or (B, K)."""
    try:
        keras.tree.assert_same_structure(state, next_state)
        same = all(map(_follows, keras.tree.flatten(state), keras.tree.flatten(next_state)))
    except (TypeError, ValueError):
        same = False
    if not same:
        had, got = (keras.tree.map_structure(_in_words, nest) for nest in (state, next_state))
        raise ValueError(
            f"{who} must return the state as it was, the same nest of the same types and ranks that begin with (B, K), "
            f"but had {had} and returned {got}"
        )


def _follows(leaf: Tensor, next_leaf: Tensor) -> bool:
    if not _is_tensor(next_leaf) or _dtype(leaf) != _dtype(next_leaf):
        return False
    sizes, next_sizes = _sizes(leaf), _sizes(next_leaf)
    return sizes is None or next_sizes is None or _fits(next_sizes, (*sizes[:2], *[None] * (len(sizes) - 2)))


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


def _in_words(leaf: Any) -> str:
    return f"{_dtype(leaf)} {_sizes(leaf)}" if _is_tensor(leaf) else type(leaf).__name__


def _is_int(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _dtype(tensor: Tensor) -> str:
    return str(getattr(tensor.dtype, "name", tensor.dtype))


def _sizes(tensor: Tensor) -> tuple[int | None, ...] | None:
    """The shape of a tensor, None for what is unknown: a size, or all."""
    return None if getattr(tensor.shape, "rank", 0) is None else tuple(tensor.shape)
