"""Greedy search: the most probable token at each step."""

from __future__ import annotations

from typing import NamedTuple

from keras import ops

from nmt.backend.gather import gather_beams
from nmt.backend.loops import while_loop
from nmt.search.result import SearchResult, tidy_result
from nmt.search.scoring import Limits, check_length_penalty, check_limits, limits_per_sentence, penalty
from nmt.search.step import IMPOSSIBLE, SpecialIds, StepFunction, static_vocabulary_size
from nmt.types import State, Tensor


class GreedyState(NamedTuple):
    """What the loop carries. t steps are done."""

    num_steps: Tensor
    """() int32: t."""
    last_ids: Tensor
    """(B, 1) int32: the newest token, at first BOS."""
    log_probs: Tensor
    """(B, 1) float32 of the hypothesis so far; −inf once its logits were not numbers."""
    lengths: Tensor
    """(B, 1) int32: t while the hypothesis is live, its length once it has ended."""
    live: Tensor
    """(B, 1) bool."""
    token_ids: Tensor
    """(B, 1, t) int32: PAD after the end."""
    state: State
    """The caller's, leaves (B, 1, ...)."""


class GreedySettings(NamedTuple):
    """What stays the same from step to step."""

    special: SpecialIds
    limits: Limits
    length_penalty: float


def greedy_search(
    step: StepFunction,
    state: State,
    *,
    batch_size: int | Tensor,
    bos_id: int,
    eos_id: int,
    pad_id: int = 0,
    max_length: int | Tensor,
    min_length: int | Tensor = 0,
    length_penalty: float = 1.0,
) -> SearchResult:
    """Follows the most probable allowed token from step to step: `beam_search` with a beam of one, but cheaper.

    Works eagerly and inside a `tf.function`, there with any dimension of the batch unknown.

    Args:
        step: Maps the newest token ids (B, 1) int32 and the state to logits (B, 1, V), V static, and the next state.
        state: A nest of tensors whose leaves begin with (B, 1) and may grow along any later axis.
        batch_size: B.
        bos_id: The token that every hypothesis begins with; never generated.
        eos_id: The token that ends a hypothesis.
        pad_id: Fills a result after EOS; never generated.
        max_length: The greatest length, an int or (B,) int32. EOS counts, BOS does not. At this length EOS is forced
            and costs its real log probability.
        min_length: The least length, likewise. Below it EOS is banned, after normalisation.
        length_penalty: The exponent of the penalty in `scores`; it changes nothing else here.

    Returns:
        The one hypothesis of every sentence, N = 1.

    Raises:
        ValueError: A negative `length_penalty`, ints that are no limits, or a vocabulary of unknown size.
    """
    check_length_penalty(length_penalty)
    check_limits(min_length, max_length)
    settings = GreedySettings(
        special=SpecialIds(pad=pad_id, bos=bos_id, eos=eos_id),
        limits=limits_per_sentence(min_length, max_length, batch_size),
        length_penalty=length_penalty,
    )
    hypothesis = while_loop(
        lambda hypothesis: ops.any(hypothesis.live),
        lambda hypothesis: step_greedy(hypothesis, step, settings),
        start_greedy(state, batch_size, settings),
    )
    return finish_greedy(hypothesis, settings)


def start_greedy(state: State, batch_size: int | Tensor, settings: GreedySettings) -> GreedyState:
    """The empty hypothesis of every sentence."""
    return GreedyState(
        num_steps=ops.convert_to_tensor(0, dtype="int32"),
        last_ids=ops.full((batch_size, 1), settings.special.bos, dtype="int32"),
        log_probs=ops.zeros((batch_size, 1), dtype="float32"),
        lengths=ops.zeros((batch_size, 1), dtype="int32"),
        live=ops.ones((batch_size, 1), dtype="bool"),
        token_ids=ops.zeros((batch_size, 1, 0), dtype="int32"),
        state=state,
    )


def step_greedy(hypothesis: GreedyState, step: StepFunction, settings: GreedySettings) -> GreedyState:
    """Extends every live hypothesis by its most probable allowed token."""
    logits, state = step(hypothesis.last_ids, hypothesis.state)
    length = hypothesis.num_steps + 1
    next_ids, token_log_probs = best_token(logits[:, 0], length, settings)
    log_probs = ops.where(hypothesis.live, hypothesis.log_probs + token_log_probs, hypothesis.log_probs)
    log_probs = ops.where(ops.isnan(log_probs), IMPOSSIBLE, log_probs)
    written_ids = ops.where(hypothesis.live, next_ids, settings.special.pad)
    return GreedyState(
        num_steps=length,
        last_ids=next_ids,
        log_probs=log_probs,
        lengths=ops.where(hypothesis.live, length, hypothesis.lengths),
        live=hypothesis.live & (next_ids != settings.special.eos) & (log_probs > IMPOSSIBLE),
        token_ids=ops.concatenate([hypothesis.token_ids, written_ids[:, :, None]], axis=2),
        state=state,
    )


def best_token(logits: Tensor, length: Tensor, settings: GreedySettings) -> tuple[Tensor, Tensor]:
    """The most probable allowed token of every sentence.

    Args:
        logits: (B, V).
        length: () int32, of the hypothesis with this token.
        settings: The bans.

    Returns:
        Its id (B, 1) int32 and its log probability (B, 1), normalised over the whole vocabulary.
    """
    special, vocabulary_size = settings.special, static_vocabulary_size(logits)
    logits = ops.cast(logits, "float32")
    never = [IMPOSSIBLE if token_id in special else 0.0 for token_id in range(vocabulary_size)]
    others = logits + ops.convert_to_tensor(never, dtype="float32")
    other_ids = ops.cast(ops.argmax(others, axis=-1, keepdims=True), "int32")
    other = gather_beams(others, other_ids)  # (B, 1)
    end = logits[:, special.eos, None]  # (B, 1)
    forced = (length >= settings.limits.max_length)[:, None]
    too_short = (length < settings.limits.min_length)[:, None]
    ends = forced | ((end > other) & ~too_short)
    next_ids = ops.where(ends, special.eos, other_ids)
    best = ops.where(ends, end, other)
    return next_ids, best - ops.logsumexp(logits, axis=-1, keepdims=True)


def finish_greedy(hypothesis: GreedyState, settings: GreedySettings) -> SearchResult:
    """The hypotheses with their scores."""
    scores = hypothesis.log_probs / penalty(hypothesis.lengths, settings.length_penalty)
    return tidy_result(
        hypothesis.token_ids, scores, hypothesis.log_probs, hypothesis.lengths, pad_id=settings.special.pad
    )
