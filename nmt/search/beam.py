"""Beam search over the sentences of a batch, through a step function."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import keras
from keras import ops

from nmt.backend.functions import gather_beams, while_loop
from nmt.search.checks import check_search, checked_reorder, checked_step
from nmt.search.step import (
    IMPOSSIBLE,
    Limits,
    MemoryStep,
    Reorder,
    SearchResult,
    SpecialIds,
    StepFunction,
    empty_result,
    let_leave,
    limits_per_sentence,
    penalty,
    static_vocabulary_size,
    tidy_result,
    top_tokens,
    with_memory,
)
from nmt.types import Memory, State, Tensor


class Finished(NamedTuple):
    """The N best finished hypotheses of each sentence, best first; (b, N) each."""

    scores: Tensor
    """float32; −inf where none has finished yet."""
    log_probs: Tensor
    """float32, likewise."""
    lengths: Tensor
    """int32, EOS counted."""


class BeamRows(NamedTuple):
    """What the loop carries of the b sentences in the batch; every tensor begins with b.

    t steps are done; N hypotheses a sentence are wanted.
    """

    sentences: Tensor
    """(b,) int32: their places in the batch of the beginning."""
    limits: Limits
    """(b,) int32 each."""
    last_ids: Tensor
    """(b, K) int32: the newest token of every live hypothesis, at first BOS."""
    log_probs: Tensor
    """(b, K) float32 of the live hypotheses, best first; −inf where there is none. All −inf: the sentence is done."""
    token_ids: Tensor
    """(b, N + K, t) int32: the N finished hypotheses, then the K live ones."""
    finished: Finished
    state: State
    """The caller's, leaves (b, K, ...), one row a live hypothesis."""
    memory: Memory
    """The caller's, leaves (b, ...)."""


class BeamState(NamedTuple):
    """What the loop carries."""

    num_steps: Tensor
    """() int32: t, the length of every live hypothesis."""
    rows: BeamRows
    """The sentences in the batch."""
    result: SearchResult
    """What was found for those that have left it."""


class BeamSettings(NamedTuple):
    """What stays the same from step to step."""

    special: SpecialIds
    beam_size: int
    num_hypotheses: int
    length_penalty: float
    reorder: Reorder
    early: bool
    """Whether sentences that are done leave while others stay."""


class Candidates(NamedTuple):
    """The best extensions of all live hypotheses of a sentence, best first, C a sentence."""

    log_probs: Tensor
    """(b, C) float32 of the whole hypothesis; −inf where there is none."""
    parents: Tensor
    """(b, C) int32: the live hypothesis that is extended, in [0, K)."""
    token_ids: Tensor
    """(b, C) int32: by which token."""


def beam_search(
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
    beam_size: int = 5,
    length_penalty: float = 1.0,
    num_hypotheses: int | None = None,
    reorder: Reorder | None = None,
    memory: Memory | None = None,
) -> SearchResult:
    """Searches the best hypotheses of every sentence, keeping `beam_size` live ones at each step.

    A step looks at the 2K best extensions of the K live hypotheses, so that K live ones remain when K end together.
    A hypothesis ends where its EOS is among the K best of them; it is then scored,
    score = log probability / ((5 + length) / 6) ** length_penalty (Wu et al. 2016, eq. 14; EOS counts), and frozen.
    A sentence is done when no live hypothesis can reach the N best finished ones any more: log probabilities only
    fall and the penalty only grows, so log probability / penalty(max_length) bounds whatever can come of a live
    one. This holds for every `length_penalty` of 0 or more, and is tight where `max_length` is.

    A beam of one is greedy search: it looks at one extension, and nothing is left when that ends.

    Works eagerly and inside a `tf.function`, there with any dimension of the batch unknown. What is unknown there
    cannot be checked: then see to it that state, memory and logits have as many rows as `batch_size` says.

    Args:
        step: Maps the newest token ids (B, K) int32 and the state to logits (B, K, V) and the next state. V is static.
            Called first with BOS everywhere. It should be free of side effects. What does not change from step to
            step (the memory of the source) is never copied for the beams: see `memory`.
        state: A nest (tuples, named tuples, lists, dictionaries) of tensors whose leaves begin with (B, K). A leaf
            may grow along any later axis. Without state: `()`.
        batch_size: B.
        bos_id: The token that every hypothesis begins with; never generated, in no result.
        eos_id: The token that ends a hypothesis; part of the result.
        pad_id: Fills a result after EOS; never generated.
        banned_ids: More tokens that are never generated; they keep their share of probability.
        max_length: The greatest length, an int or (B,) int32. EOS counts, BOS does not. At this length only EOS is
            allowed and costs its real log probability, so every hypothesis returned is a finished one.
        min_length: The least length, likewise. Below it EOS is banned, after normalisation. Where tensors contradict
            each other, `max_length` holds.
        beam_size: K.
        length_penalty: The exponent, 0 or more.
        num_hypotheses: N, how many of the best hypotheses are wanted, K unless given. Fewer take fewer steps to be
            sure of.
        reorder: Maps the state and the parents (B, K) int32 to the state whose row k is row `parents[b, k]` of
            before, where a model knows a cheaper way than a gather of each leaf.
        memory: What the step needs to know of each sentence and does not change, a nest of tensors that begin with B.
            If given, it is the third argument of the step, and sentences that are done leave the batch: B becomes
            smaller from step to step.

    Returns:
        The N best hypotheses of every sentence found, best first.

    Raises:
        ValueError: an argument is out of range or of a wrong type or shape, a special id lies outside the vocabulary,
            or the step returns something else than logits (B, K, V), V static, and a state as it was.
    """
    num_hypotheses = beam_size if num_hypotheses is None else num_hypotheses
    special = SpecialIds(pad=pad_id, bos=bos_id, eos=eos_id, banned=tuple(banned_ids))
    check_search(
        step=step,
        state=state,
        memory=memory,
        batch_size=batch_size,
        special=special,
        beam_size=beam_size,
        num_hypotheses=num_hypotheses,
        min_length=min_length,
        max_length=max_length,
        length_penalty=length_penalty,
    )
    special = special.as_ints
    settings = BeamSettings(
        special=special,
        beam_size=beam_size,
        num_hypotheses=num_hypotheses,
        length_penalty=length_penalty,
        reorder=reorder_state if reorder is None else checked_reorder(reorder),
        early=memory is not None,
    )
    limits = limits_per_sentence(min_length, max_length, batch_size)
    decode = checked_step(with_memory(step, memory), special)
    beams = while_loop(
        any_live,
        lambda beams: step_beams(beams, decode, settings),
        start_beams(state, () if memory is None else memory, limits, batch_size, settings),
    )
    return tidy_result(beams.result, pad_id=special.pad)


def start_beams(
    state: State, memory: Memory, limits: Limits, batch_size: int | Tensor, settings: BeamSettings
) -> BeamState:
    """The empty hypothesis of every sentence, live in beam 0 alone: K equal ones would stay equal."""
    beam_size, num_hypotheses = settings.beam_size, settings.num_hypotheses
    only_first = [0.0] + [IMPOSSIBLE] * (beam_size - 1)
    nothing = ops.full((batch_size, num_hypotheses), IMPOSSIBLE, dtype="float32")
    rows = BeamRows(
        sentences=ops.arange(batch_size, dtype="int32"),
        limits=limits,
        last_ids=ops.full((batch_size, beam_size), settings.special.bos, dtype="int32"),
        log_probs=ops.broadcast_to(ops.convert_to_tensor(only_first, dtype="float32"), (batch_size, beam_size)),
        token_ids=ops.zeros((batch_size, num_hypotheses + beam_size, 0), dtype="int32"),
        finished=Finished(nothing, nothing, ops.zeros((batch_size, num_hypotheses), dtype="int32")),
        state=state,
        memory=memory,
    )
    zero = ops.convert_to_tensor(0, dtype="int32")
    return BeamState(zero, rows, empty_result(batch_size, num_hypotheses))


def any_live(beams: BeamState) -> Tensor:
    """Whether a sentence is left that is not done; () bool."""
    return ops.any(live_sentences(beams.rows))


def live_sentences(rows: BeamRows) -> Tensor:
    """Which sentences are not done, (b,) bool."""
    return rows.log_probs[:, 0] > IMPOSSIBLE


def step_beams(beams: BeamState, step: MemoryStep, settings: BeamSettings) -> BeamState:
    """Extends the live hypotheses by one token, collects those that end, and lets sentences leave that are done."""
    num_steps = beams.num_steps + 1
    rows = extend_rows(beams.rows, num_steps, step, settings)
    found = SearchResult(rows.token_ids[:, : settings.num_hypotheses], *rows.finished)
    rows, result = let_leave(
        live_sentences(rows), rows, found, beams.result, sentences=rows.sentences, early=settings.early
    )
    return BeamState(num_steps, rows, result)


def extend_rows(rows: BeamRows, length: Tensor, step: MemoryStep, settings: BeamSettings) -> BeamRows:
    """Extends the live hypotheses to `length` tokens and collects those that end; all −inf where that was the last."""
    logits, state = step(rows.last_ids, rows.state, rows.memory)
    candidates = best_candidates(rows, logits, length, settings)
    ends = candidates.token_ids == settings.special.eos  # (b, C)

    live_log_probs, live = ops.top_k(ops.where(ends, IMPOSSIBLE, candidates.log_probs), settings.beam_size)
    parents = gather_beams(candidates.parents, live)  # (b, K)
    live_ids = gather_beams(candidates.token_ids, live)  # (b, K)

    finished, survivors = collect_finished(rows.finished, candidates, ends, length, settings)
    sources = ops.concatenate([survivors, settings.num_hypotheses + parents], axis=1)  # (b, N + K)
    # What was finished before gets PAD, what has just ended gets EOS, the live ones their newest token.
    just_ended = survivors >= settings.num_hypotheses
    newest_ids = ops.concatenate([ops.where(just_ended, settings.special.eos, settings.special.pad), live_ids], axis=1)
    return rows._replace(
        last_ids=live_ids,
        log_probs=drop_done_sentences(live_log_probs, finished.scores, rows.limits.max_length, settings),
        token_ids=ops.concatenate([gather_beams(rows.token_ids, sources), newest_ids[:, :, None]], axis=2),
        finished=finished,
        state=settings.reorder(state, parents),
    )


def best_candidates(rows: BeamRows, logits: Tensor, length: Tensor, settings: BeamSettings) -> Candidates:
    """The best allowed extensions of all live hypotheses.

    EOS is a column of its own, so that it can be had at `max_length` however improbable it is; among the K + 1 + n best
    tokens of a row, where n are banned, are its K best that are neither banned nor EOS.

    Args:
        rows: Before the step.
        logits: (b, K, V).
        length: () int32, of a hypothesis after the step.
        settings: K and the bans.

    Returns:
        The best 2K, so that K live ones remain if K of them end. Of a single beam only the best.
    """
    special, beam_size, vocabulary_size = settings.special, settings.beam_size, static_vocabulary_size(logits)
    logits = ops.cast(logits, "float32")
    count = min(beam_size + 1 + len(special.never), vocabulary_size)
    tokens = top_tokens(ops.reshape(logits, (-1, vocabulary_size)), count)  # of (b*K, V)
    token_ids = ops.reshape(tokens.token_ids, (-1, beam_size, count))
    forced = (length >= rows.limits.max_length)[:, None, None]  # (b, 1, 1)
    banned = forced | (token_ids == special.eos)
    for token_id in special.never:
        banned |= token_ids == token_id
    too_short = (length < rows.limits.min_length)[:, None, None] & ~forced
    others = ops.where(banned, IMPOSSIBLE, ops.reshape(tokens.log_probs, (-1, beam_size, count)))
    end = logits[:, :, special.eos, None] - ops.reshape(tokens.log_normalizers, (-1, beam_size, 1))
    end = ops.where(too_short, IMPOSSIBLE, end)
    log_probs = rows.log_probs[:, :, None] + ops.concatenate([others, end], axis=2)  # (b, K, count + 1)
    log_probs = ops.where(ops.isnan(log_probs), IMPOSSIBLE, log_probs)
    token_ids = ops.concatenate([token_ids, ops.full_like(token_ids[:, :, :1], special.eos)], axis=2)

    width = beam_size * (count + 1)
    num_candidates = 2 * beam_size if beam_size > 1 else 1
    best, places = ops.top_k(ops.reshape(log_probs, (-1, width)), num_candidates)  # (b, C)
    return Candidates(
        log_probs=best,
        parents=places // (count + 1),
        token_ids=gather_beams(ops.reshape(token_ids, (-1, width)), places),
    )


def collect_finished(
    finished: Finished, candidates: Candidates, ends: Tensor, length: Tensor, settings: BeamSettings
) -> tuple[Finished, Tensor]:
    """Merges the hypotheses that end with this step into the N best finished ones.

    Args:
        finished: Before the step.
        candidates: Of this step.
        ends: (b, C) bool, where a candidate is an EOS.
        length: () int32, of those that end.
        settings: K, N and the length penalty.

    Returns:
        The N best; and (b, N) int32, the row of `BeamRows.token_ids` that each of them continues.
    """
    beam_size, num_hypotheses = settings.beam_size, settings.num_hypotheses
    # A plain beam would keep the K best candidates: only they may end.
    log_probs = ops.where(ends, candidates.log_probs, IMPOSSIBLE)[:, :beam_size]  # (b, K)
    scores = log_probs / penalty(length, settings.length_penalty)
    best_scores, picks = ops.top_k(ops.concatenate([finished.scores, scores], axis=1), num_hypotheses)
    pool_log_probs = ops.concatenate([finished.log_probs, log_probs], axis=1)
    # All that end now have the same length: one column stands for them.
    pool_lengths = ops.concatenate([finished.lengths, ops.full_like(picks[:, :1], 0) + length], axis=1)
    lengths = gather_beams(pool_lengths, ops.minimum(picks, num_hypotheses))
    # A hypothesis finished before continues its own row, one that ends now the row of its parent.
    old_rows = ops.arange(num_hypotheses, dtype="int32")[None, :] + ops.zeros_like(picks[:, :1])
    pool_rows = ops.concatenate([old_rows, num_hypotheses + candidates.parents[:, :beam_size]], axis=1)
    best = Finished(best_scores, gather_beams(pool_log_probs, picks), lengths)
    return best, gather_beams(pool_rows, picks)


def drop_done_sentences(
    live_log_probs: Tensor, finished_scores: Tensor, max_length: Tensor, settings: BeamSettings
) -> Tensor:
    """Takes the live hypotheses from sentences whose best one can no longer reach the worst of the N finished.

    Args:
        live_log_probs: (b, K), best first.
        finished_scores: (b, N), best first.
        max_length: (b,).
        settings: The length penalty.

    Returns:
        (b, K): `live_log_probs`, or −inf throughout where a sentence is done. Nothing can then end in it any more.
    """
    bounds = live_log_probs[:, :1] / penalty(max_length, settings.length_penalty)[:, None]
    return ops.where(bounds > finished_scores[:, -1:], live_log_probs, IMPOSSIBLE)


def reorder_state(state: State, parents: Tensor) -> State:
    """Lets every leaf of the state follow its beams, by a gather.

    Args:
        state: Leaves (B, K, ...).
        parents: (B, K) int32.

    Returns:
        Leaves (B, K, ...), `[b, k]` is what was `[b, parents[b, k]]`.
    """
    return keras.tree.map_structure(lambda leaf: gather_beams(leaf, parents), state)
