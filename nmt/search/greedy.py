"""Greedy search: the most probable token at each step."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from keras import ops

from nmt.backend.functions import gather_beams, while_loop
from nmt.search.checks import check_search, checked_step
from nmt.search.step import (
    IMPOSSIBLE,
    Limits,
    MemoryStep,
    SearchResult,
    SpecialIds,
    StepFunction,
    empty_result,
    let_leave,
    limits_per_sentence,
    penalty,
    static_vocabulary_size,
    tidy_result,
    with_memory,
)
from nmt.types import Memory, State, Tensor


class GreedyRows(NamedTuple):
    """What the loop carries of the b sentences in the batch; every tensor begins with b. t steps are done."""

    sentences: Tensor
    """(b,) int32: their places in the batch of the beginning."""
    limits: Limits
    """(b,) int32 each."""
    last_ids: Tensor
    """(b, 1) int32: the newest token, at first BOS."""
    log_probs: Tensor
    """(b, 1) float32 of the hypothesis so far; −inf once its logits were not numbers."""
    lengths: Tensor
    """(b, 1) int32: t while the hypothesis is live, its length once it has ended."""
    live: Tensor
    """(b, 1) bool."""
    token_ids: Tensor
    """(b, 1, t) int32: PAD after the end."""
    state: State
    """The caller's, leaves (b, 1, ...)."""
    memory: Memory
    """The caller's, leaves (b, ...)."""


class GreedyState(NamedTuple):
    """What the loop carries."""

    num_steps: Tensor
    """() int32: t."""
    rows: GreedyRows
    """The sentences in the batch."""
    result: SearchResult
    """What was found for those that have left it."""


class GreedySettings(NamedTuple):
    """What stays the same from step to step."""

    special: SpecialIds
    length_penalty: float
    early: bool
    """Whether sentences that are done leave while others stay."""


def greedy_search(
    step: StepFunction | MemoryStep,
    state: State,
    *,
    batch_size: int | Tensor,
    bos_id: int,
    eos_id: int,
    pad_id: int = 0,
    banned_ids: Collection[int] = (),
    max_length: int | Tensor,
    min_length: int | Tensor = 0,
    length_penalty: float = 1.0,
    memory: Memory | None = None,
) -> SearchResult:
    """Follows the most probable allowed token from step to step: `beam_search` with a beam of one, but cheaper.

    Works eagerly and inside a `tf.function`, there with any dimension of the batch unknown. What is unknown there
    cannot be checked: then see to it that state, memory and logits have as many rows as `batch_size` says.

    Args:
        step: Maps the newest token ids (B, 1) int32 and the state to logits (B, 1, V), V static, and the next state.
        state: A nest of tensors whose leaves begin with (B, 1) and may grow along any later axis.
        batch_size: B.
        bos_id: The token that every hypothesis begins with; never generated.
        eos_id: The token that ends a hypothesis.
        pad_id: Fills a result after EOS; never generated.
        banned_ids: More tokens that are never generated; they keep their share of probability.
        max_length: The greatest length, an int or (B,) int32. EOS counts, BOS does not. At this length EOS is forced
            and costs its real log probability.
        min_length: The least length, likewise. Below it EOS is banned, after normalisation.
        length_penalty: The exponent of the penalty in `scores`; it changes nothing else here.
        memory: As in `beam_search`: the third argument of the step, and sentences that are done leave the batch.

    Returns:
        The one hypothesis of every sentence, N = 1.

    Raises:
        ValueError: As in `beam_search`.
    """
    special = SpecialIds(pad=pad_id, bos=bos_id, eos=eos_id, banned=tuple(banned_ids))
    check_search(
        step=step,
        state=state,
        memory=memory,
        batch_size=batch_size,
        special=special,
        beam_size=1,
        num_hypotheses=1,
        min_length=min_length,
        max_length=max_length,
        length_penalty=length_penalty,
    )
    special = special.as_ints
    settings = GreedySettings(
        special=special,
        length_penalty=length_penalty,
        early=memory is not None,
    )
    limits = limits_per_sentence(min_length, max_length, batch_size)
    decode = checked_step(with_memory(step, memory), special)
    hypothesis = while_loop(
        lambda hypothesis: ops.any(hypothesis.rows.live),
        lambda hypothesis: step_greedy(hypothesis, decode, settings),
        start_greedy(state, () if memory is None else memory, limits, batch_size, settings),
    )
    return tidy_result(hypothesis.result, pad_id=special.pad)


def start_greedy(
    state: State, memory: Memory, limits: Limits, batch_size: int | Tensor, settings: GreedySettings
) -> GreedyState:
    """The empty hypothesis of every sentence."""
    rows = GreedyRows(
        sentences=ops.arange(batch_size, dtype="int32"),
        limits=limits,
        last_ids=ops.full((batch_size, 1), settings.special.bos, dtype="int32"),
        log_probs=ops.zeros((batch_size, 1), dtype="float32"),
        lengths=ops.zeros((batch_size, 1), dtype="int32"),
        live=ops.ones((batch_size, 1), dtype="bool"),
        token_ids=ops.zeros((batch_size, 1, 0), dtype="int32"),
        state=state,
        memory=memory,
    )
    return GreedyState(ops.convert_to_tensor(0, dtype="int32"), rows, empty_result(batch_size, 1))


def step_greedy(hypothesis: GreedyState, step: MemoryStep, settings: GreedySettings) -> GreedyState:
    """Extends every live hypothesis by its most probable allowed token, and lets sentences leave that are done."""
    length = hypothesis.num_steps + 1
    rows = extend_rows(hypothesis.rows, length, step, settings)
    scores = rows.log_probs / penalty(rows.lengths, settings.length_penalty)
    found = SearchResult(rows.token_ids, scores, rows.log_probs, rows.lengths)
    rows, result = let_leave(
        rows.live[:, 0], rows, found, hypothesis.result, sentences=rows.sentences, early=settings.early
    )
    return GreedyState(length, rows, result)


def extend_rows(rows: GreedyRows, length: Tensor, step: MemoryStep, settings: GreedySettings) -> GreedyRows:
    """Extends every live hypothesis to `length` tokens."""
    logits, state = step(rows.last_ids, rows.state, rows.memory)
    next_ids, token_log_probs = best_token(logits[:, 0], length, rows.limits, settings)
    log_probs = ops.where(rows.live, rows.log_probs + token_log_probs, rows.log_probs)
    log_probs = ops.where(ops.isnan(log_probs), IMPOSSIBLE, log_probs)
    written_ids = ops.where(rows.live, next_ids, settings.special.pad)
    return rows._replace(
        last_ids=next_ids,
        log_probs=log_probs,
        lengths=ops.where(rows.live, length, rows.lengths),
        live=rows.live & (next_ids != settings.special.eos) & (log_probs > IMPOSSIBLE),
        token_ids=ops.concatenate([rows.token_ids, written_ids[:, :, None]], axis=2),
        state=state,
    )


def best_token(logits: Tensor, length: Tensor, limits: Limits, settings: GreedySettings) -> tuple[Tensor, Tensor]:
    """The most probable allowed token of every sentence.

    Args:
        logits: (B, V).
        length: () int32, of the hypothesis with this token.
        limits: (b,) each.
        settings: The bans.

    Returns:
        Its id (B, 1) int32 and its log probability (B, 1), normalised over the whole vocabulary.
    """
    special, vocabulary_size = settings.special, static_vocabulary_size(logits)
    logits = ops.cast(logits, "float32")
    no_others = special.never | {special.eos}
    never = [IMPOSSIBLE if token_id in no_others else 0.0 for token_id in range(vocabulary_size)]
    others = logits + ops.convert_to_tensor(never, dtype="float32")
    other_ids = ops.cast(ops.argmax(others, axis=-1, keepdims=True), "int32")
    other = gather_beams(others, other_ids)  # (B, 1)
    end = logits[:, special.eos, None]  # (B, 1)
    forced = (length >= limits.max_length)[:, None]
    too_short = (length < limits.min_length)[:, None]
    ends = forced | ((end > other) & ~too_short)
    next_ids = ops.where(ends, special.eos, other_ids)
    best = ops.where(ends, end, other)
    return next_ids, best - ops.logsumexp(logits, axis=-1, keepdims=True)
