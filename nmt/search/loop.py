"""The loop of every search: from empty hypotheses to the best ones, sentence by sentence."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import keras
from keras import ops

from nmt.backend.functions import while_loop
from nmt.search.step import Limits, MemoryStep, Settings, StepFunction, View, check_search, checked_step
from nmt.types import Memory, State, Tensor

IMPOSSIBLE = -float("inf")
"""The log probability of what is banned or does not exist."""

LEAVING_SHARE = 0.125
"""The share of the sentences in a batch that leave together: taking the rows of all others costs about as much as a
step saves by so many fewer."""


class SearchResult(NamedTuple):
    """The hypotheses of every sentence, best first. N is the number asked for, K unless told otherwise.

    A hypothesis that does not exist (a small vocabulary has few continuations, or the logits were not numbers) comes
    after all others, with score and log probability −inf, length 0 and all PAD.

    token_ids: (B, N, T) int32: without BOS, with EOS, then PAD. T is the number of steps that the batch took.
    scores: (B, N) float32: log probability / length penalty.
    log_probs: (B, N) float32: sum of the log probabilities of all tokens, EOS among them.
    lengths: (B, N) int32: tokens, EOS counted.
    """

    token_ids: Tensor
    scores: Tensor
    log_probs: Tensor
    lengths: Tensor


class Finished(NamedTuple):
    """The N best finished hypotheses of each sentence, best first; (b, N) each.

    scores: float32; −inf where none has finished yet.
    log_probs: float32, likewise.
    lengths: int32, EOS counted.
    """

    scores: Tensor
    log_probs: Tensor
    lengths: Tensor


class Rows(NamedTuple):
    """What the loop carries of the b sentences in the batch; every tensor begins with b.

    t steps are done; N hypotheses a sentence are wanted.

    sentences: (b,) int32: their places in the batch of the beginning.
    limits: (b,) int32 each.
    last_ids: (b, K) int32: the newest token of every live hypothesis, at first BOS.
    log_probs: (b, K) float32 of the live hypotheses, best first; −inf where there is none. All −inf: the sentence is
        done.
    token_ids: (b, R, t) int32, R >= N: first those of the N finished hypotheses; where others lie says the search.
    state: The caller's, leaves (b, K, ...), one row a live hypothesis.
    memory: The caller's, leaves (b, ...).
    rule_states: Of each rule its own, leaves (b, K, ...), one row a live hypothesis.
    """

    sentences: Tensor
    limits: Limits
    last_ids: Tensor
    log_probs: Tensor
    token_ids: Tensor
    finished: Finished
    state: State
    memory: Memory
    rule_states: tuple[State, ...]


Extend: TypeAlias = Callable[[Rows, Tensor, MemoryStep, Settings], Rows]
"""Extends the live hypotheses to a length, () int32, by a step and collects those that end."""


class Loop(NamedTuple):
    """What the loop carries.

    num_steps: () int32: t, the length of every live hypothesis.
    rows: The sentences in the batch.
    result: What was found for those that have left it.
    """

    num_steps: Tensor
    rows: Rows
    result: SearchResult


def search(
    step: StepFunction | MemoryStep,
    state: State,
    memory: Memory | None,
    batch_size: int | Tensor,
    limits: Limits,
    settings: Settings,
    *,
    token_rows: int,
    extend: Extend,
) -> SearchResult:
    """Lets all hypotheses grow, from the empty one, until every sentence is done.

    Args:
        step: As in `beam_search`, like what follows.
        state: Leaves begin with (B, K).
        memory: Leaves begin with B; if given, sentences that are done leave while others stay.
        batch_size: B.
        limits: Of the lengths.
        settings: What the search shall do.
        token_rows: R, the rows of token ids that each sentence needs.
        extend: One step of the search.

    Raises:
        ValueError: as in `beam_search`.
    """
    check_search(step, state, memory, batch_size, limits, settings)
    settings = settings._replace(special=settings.special.as_ints)
    special, beam_size, num_hypotheses = settings[:3]
    decode = checked_step(step, special, with_memory=memory is not None)

    # The empty hypothesis is live in beam 0 alone: K equal ones would stay equal.
    only_first = ops.convert_to_tensor([0.0] + [IMPOSSIBLE] * (beam_size - 1), dtype="float32")
    result = empty_result(batch_size, num_hypotheses)
    limits = Limits(
        *(ops.broadcast_to(ops.cast(ops.convert_to_tensor(limit), "int32"), (batch_size,)) for limit in limits)
    )
    rows = Rows(
        sentences=ops.arange(batch_size, dtype="int32"),
        limits=limits,
        last_ids=ops.full((batch_size, beam_size), special.bos, dtype="int32"),
        log_probs=ops.broadcast_to(only_first, (batch_size, beam_size)),
        token_ids=ops.zeros((batch_size, token_rows, 0), dtype="int32"),
        finished=Finished(*result[1:]),
        state=state,
        memory=() if memory is None else memory,
        rule_states=tuple(rule.initial_state(batch_size, beam_size) for rule in settings.rules),
    )

    def advance(loop: Loop) -> Loop:
        length = loop.num_steps + 1
        rows = extend(loop.rows, length, decode, settings)
        found = SearchResult(rows.token_ids[:, :num_hypotheses], *rows.finished)
        return Loop(length, *let_leave(rows, found, loop.result, early=memory is not None))

    start = Loop(ops.convert_to_tensor(0, dtype="int32"), rows, result)
    result = while_loop(lambda loop: ops.any(live_sentences(loop.rows)), advance, start).result

    # Blank out the hypotheses that do not exist, and put PAD after the others.
    exists = result.scores > IMPOSSIBLE
    places = ops.arange(ops.shape(result.token_ids)[2], dtype="int32")
    real = exists[:, :, None] & (places < result.lengths[:, :, None])  # (B, N, T)
    return SearchResult(
        token_ids=ops.where(real, result.token_ids, special.pad),
        scores=result.scores,
        log_probs=ops.where(exists, result.log_probs, IMPOSSIBLE),
        lengths=ops.where(exists, result.lengths, 0),
    )


def scores_by_rules(rows: Rows, logits: Tensor, length: Tensor, settings: Settings) -> Tensor | None:
    """Return the log probability of each next token as the rules see it, (b, K, V) float32; None without rules."""
    if not settings.rules:
        return None
    log_normalizers = ops.logsumexp(logits, axis=-1, keepdims=True)  # (b, K, 1)
    live_ids = rows.token_ids[:, -settings.beam_size :]  # the live hypotheses are the last rows, whatever the search
    scores = logits - log_normalizers
    for rule, state in zip(settings.rules, rows.rule_states, strict=True):
        token_ids = live_ids if rule.needs_tokens else None
        scores = rule.lower(scores, View(logits, log_normalizers, length, *rows.limits, state, token_ids))
    return ops.cast(scores, "float32")


def follow_rules(settings: Settings, states: tuple[State, ...], token_ids: Tensor) -> tuple[State, ...]:
    """Return the state of each rule after a step by token ids (b, K), from those that followed the parents."""
    return tuple(rule.follow(state, token_ids) for rule, state in zip(settings.rules, states, strict=True))


def live_sentences(rows: Rows) -> Tensor:
    """Which sentences are not done, (b,) bool."""
    return rows.log_probs[:, 0] > IMPOSSIBLE


def let_leave(rows: Rows, found: SearchResult, result: SearchResult, *, early: bool) -> tuple[Rows, SearchResult]:
    """Take the sentences that are done from the batch, if they are many, or all.

    Args:
        rows: Of b sentences.
        found: What was found so far for them, t tokens each.
        result: What was found for the B sentences of the beginning, as far as they have left.
        early: Whether some may leave while others stay.

    Returns:
        The rows that stay, and the result with what left.
    """
    live = live_sentences(rows)
    count = ops.sum(ops.cast(live, "int32"))
    size = ops.shape(live)[0]
    most = ops.cast(ops.cast(size, "float32") * (1.0 - LEAVING_SHARE), "int32") if early else 0

    def leave() -> tuple[Rows, SearchResult]:
        (kept,) = ops.nonzero(live)
        stay = keras.tree.map_structure(lambda leaf: ops.take(leaf, kept, axis=0), rows)
        return stay, write_result(result, found, rows.sentences)

    return ops.cond(count <= most, leave, lambda: (rows, result))


def empty_result(batch_size: int | Tensor, num_hypotheses: int) -> SearchResult:
    """Nothing found yet for B sentences."""
    shape = (batch_size, num_hypotheses)
    nothing = ops.full(shape, IMPOSSIBLE, dtype="float32")
    return SearchResult(ops.zeros((*shape, 0), dtype="int32"), nothing, nothing, ops.zeros(shape, dtype="int32"))


def write_result(result: SearchResult, found: SearchResult, sentences: Tensor) -> SearchResult:
    """Put what was found for some sentences in its place.

    Args:
        result: Of B sentences, up to t tokens each.
        found: Of b of them, t tokens each.
        sentences: (b,) int32.
    """
    missing = ops.shape(found.token_ids)[2] - ops.shape(result.token_ids)[2]
    padding = ops.zeros((*ops.shape(result.token_ids)[:2], missing), dtype="int32")
    longer = result._replace(token_ids=ops.concatenate([result.token_ids, padding], axis=2))
    places = sentences[:, None]
    return SearchResult(*(ops.scatter_update(old, places, new) for old, new in zip(longer, found, strict=True)))


def penalty(length: Tensor, length_penalty: float) -> Tensor:
    """What a log probability is divided by: ((5 + length) / 6) ** length_penalty.

    Wu et al. (2016), "Google's Neural Machine Translation System", eq. 14, without its coverage term.

    Args:
        length: Tokens, EOS counted; any shape.
        length_penalty: The exponent, 0 or more; 0 turns it off.

    Returns:
        float32 in the shape of `length`, 1 or more for lengths of 1 or more.
    """
    return ops.power((5.0 + ops.cast(length, "float32")) / 6.0, length_penalty)
