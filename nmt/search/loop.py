"""Beam search over the sentences of a batch, through a step function: from empty hypotheses to the best ones."""

from collections.abc import Collection, Sequence
from functools import partial
from typing import NamedTuple

import keras
from keras import ops

import nmt.search.step as given
from nmt.backend.functions import while_loop
from nmt.search.beam import IMPOSSIBLE, Finished, Rows, extend_rows, follow_best, reorder_state
from nmt.types import Memory, State, Tensor

LEAVING_SHARE = 0.125
"""The share of the sentences in a batch that leave together: taking the rows of all others costs about as much as a
step saves by so many fewer."""


class SearchResult(NamedTuple):
    """The hypotheses of every sentence, best first. N is the number asked for, K unless told otherwise.

    A hypothesis that does not exist (a small vocabulary has few continuations, or the logits were not numbers) comes
    after all others, with score and log probability −inf, length 0 and all PAD.

    token_ids: (B, N, T) int32: without BOS, with EOS if it is finished, then PAD. T is the number of steps that the
        batch took.
    scores: (B, N) float32: log probability / length penalty, and what else belongs to it.
    log_probs: (B, N) float32: sum of the log probabilities of all tokens, EOS among them.
    lengths: (B, N) int32: tokens, EOS counted.
    finished: (B, N) bool: whether it ends with EOS. A sentence whose hypotheses could neither end nor go on, because
        every further token had the probability 0, has those that it came to, unfinished.
    token_scores: (B, N, T) float32: the log probability of each token, 0 for PAD; None unless asked for.
    """

    token_ids: Tensor
    scores: Tensor
    log_probs: Tensor
    lengths: Tensor
    finished: Tensor
    token_scores: Tensor


class Found(NamedTuple):
    """What was found for sentences, as `SearchResult` says; hypotheses that do not exist hold anything.

    token_scores: () unless asked for.
    """

    token_ids: Tensor
    scores: Tensor
    log_probs: Tensor
    lengths: Tensor
    token_scores: Tensor


class Loop(NamedTuple):
    """What the loop carries.

    num_steps: () int32: t, the length of every live hypothesis.
    rows: The sentences in the batch.
    result: What was found for those that have left it.
    """

    num_steps: Tensor
    rows: Rows
    result: Found


def beam_search(
    step: given.StepFunction | given.MemoryStep,
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
    length_penalty_offset: float = 0.0,
    num_hypotheses: int | None = None,
    stops_at_first: bool = False,
    with_token_scores: bool = False,
    add_to_score: given.AddToScore | None = None,
    reorder: given.Reorder | None = None,
    memory: Memory | None = None,
    rules: Sequence[given.Rule] = (),
    choose: given.Choose | None = None,
    first_ids: Tensor | None = None,
) -> SearchResult:
    """Searches the best hypotheses of every sentence, keeping `beam_size` live ones at each step.

    A step looks at the 2K best extensions of the K live hypotheses, so that K live ones remain when K end together.
    A hypothesis ends when its EOS is among the K best of them; it is then scored,
    score = log probability / ((offset + length) / (offset + 1)) ** length_penalty (Wu et al. 2016, eq. 14, with an
    offset of 5; EOS counts), and frozen.
    A sentence is done when no live hypothesis can reach the N best finished ones any more: log probabilities only
    fall and the penalty only grows, so log probability / penalty(max_length) bounds whatever can come of a live
    one. This holds for every `length_penalty` of 0 or more, and is tight if `max_length` is.

    A beam of one is greedy search: it follows the most probable token, and nothing is left when that ends.

    Works eagerly and inside a `tf.function`, there with any dimension of the batch unknown. What is unknown there
    cannot be checked: then see to it that state, memory and logits have as many rows as `batch_size` says.

    Args:
        step: Maps the newest token ids (B, K) int32 and the state to logits (B, K, V) and the next state; a V that a
            graph does not know must be at least K + 3 and the number of banned ids. Called first with BOS everywhere.
            It should be free of side effects. What does not change from step to step (the memory of the source) is
            never copied for the beams: see `memory`.
        state: A nest (tuples, named tuples, lists, dictionaries) of tensors whose leaves begin with (B, K). A leaf
            may grow along any later axis. Without state: `()`.
        batch_size: B.
        bos_id: The token that every hypothesis begins with; never generated, in no result.
        eos_id: The token that ends a hypothesis; part of the result.
        pad_id: Fills a result after EOS; never generated.
        banned_ids: More tokens that are never generated; they keep their share of probability.
        max_length: The greatest length, an int or (B,) int32. EOS counts, BOS does not. At this length only EOS is
            allowed and costs its real log probability, so every hypothesis returned is a finished one, unless EOS has
            the probability 0.
        min_length: The least length, likewise. Below it EOS is banned, after normalisation. Where tensors contradict
            each other, `max_length` holds.
        beam_size: K.
        length_penalty: The exponent, 0 or more.
        length_penalty_offset: 0 or more: 5 for the formula of Wu et al., 0 for a power of the length.
        num_hypotheses: N, how many of the best hypotheses are wanted, K unless given. Fewer take fewer steps to be
            sure of.
        stops_at_first: Whether a sentence is done with the first N hypotheses that have ended, though a live one might
            still be better, as in Sutskever et al. (2014).
        with_token_scores: Whether the log probability of each token is wanted.
        add_to_score: What a score gets besides, from the state, such as a penalty of coverage.
        reorder: Maps the state and the parents (B, K) int32 to the state whose row k is row `parents[b, k]` of
            before, if a model knows a cheaper way than a gather of each leaf.
        memory: What the step needs to know of each sentence and does not change, a nest of tensors that begin with B.
            If given, it is the third argument of the step, and sentences that are done leave the batch: B becomes
            smaller from step to step.
        rules: What else is asked of tokens, one rule after the other. With a rule that may raise scores, a sentence is
            searched until its `max_length`.
        choose: Which extensions of a beam of two or more live on, and which end; as said above unless given.
        first_ids: (B,) int32, a token that the hypotheses of each sentence read behind BOS, such as a tag; it is in no
            result, and has no part in lengths and scores.

    Returns:
        The N best hypotheses of every sentence found, best first.

    Raises:
        ValueError: an argument is out of range or of a wrong type or shape, a special id lies outside the vocabulary,
            or the step returns something else than logits (B, K, V) and a state as it was.
    """
    num_hypotheses = beam_size if num_hypotheses is None else num_hypotheses
    special, limits = given.SpecialIds(pad_id, bos_id, eos_id, tuple(banned_ids)), given.Limits(min_length, max_length)
    reorder = reorder_state if reorder is None else given.checked_reorder(reorder)
    settings = given.Settings(
        special,
        beam_size,
        num_hypotheses,
        length_penalty,
        length_penalty_offset,
        stops_at_first,
        with_token_scores,
        add_to_score,
        reorder,
        tuple(rules),
        choose,
    )
    given.check_search(step, state, memory, batch_size, limits, settings)
    settings = settings._replace(special=special.as_ints)
    decode = given.checked_step(step, settings.special, with_memory=memory is not None)
    extend = follow_best if settings.is_greedy else extend_rows

    def advance(loop: Loop) -> Loop:
        length = loop.num_steps + 1
        rows = extend(loop.rows, length, decode, settings)
        token_scores = rows.token_scores[:, :num_hypotheses] if with_token_scores else ()
        found = Found(rows.token_ids[:, :num_hypotheses], *rows.finished, token_scores)
        return Loop(length, *let_leave(rows, found, loop.result, early=memory is not None))

    result = nothing_found(batch_size, settings)
    rows = first_rows(state, memory, batch_size, limits, settings, Finished(*result[1:4]))
    if first_ids is not None:
        rows = behind_first(rows, first_ids, decode)
    start = Loop(ops.convert_to_tensor(0, dtype="int32"), rows, result)
    result = while_loop(lambda loop: ops.any(live_sentences(loop.rows)), advance, start).result
    return _blanked(result, settings)


greedy_search = partial(beam_search, beam_size=1)
"""Follows the most probable allowed token from step to step: `beam_search` with a beam of one."""


def first_rows(
    state: State,
    memory: Memory | None,
    batch_size: int | Tensor,
    limits: given.Limits,
    settings: given.Settings,
    finished: Finished,
) -> Rows:
    """The empty hypothesis of each sentence, and nothing finished."""
    beam_size = settings.beam_size
    # It is live in beam 0 alone: K equal ones would stay equal.
    only_first = ops.convert_to_tensor([0.0] + [IMPOSSIBLE] * (beam_size - 1), dtype="float32")
    limits = given.Limits(
        *(ops.broadcast_to(ops.cast(ops.convert_to_tensor(limit), "int32"), (batch_size,)) for limit in limits)
    )
    # A beam of one goes on in the row in which it ends.
    token_rows = 1 if settings.is_greedy else settings.num_hypotheses + beam_size
    return Rows(
        sentences=ops.arange(batch_size, dtype="int32"),
        limits=limits,
        last_ids=ops.full((batch_size, beam_size), settings.special.bos, dtype="int32"),
        log_probs=ops.broadcast_to(only_first, (batch_size, beam_size)),
        token_ids=ops.zeros((batch_size, token_rows, 0), dtype="int32"),
        token_scores=ops.zeros((batch_size, token_rows, 0)) if settings.with_token_scores else (),
        finished=finished,
        state=state,
        memory=() if memory is None else memory,
        rule_states=tuple(rule.initial_state(batch_size, beam_size) for rule in settings.rules),
    )


def behind_first(rows: Rows, first_ids: Tensor, decode: given.MemoryStep) -> Rows:
    """The empty hypotheses as they are when BOS is read, and a token (b,) of each sentence is next."""
    _, state = decode(rows.last_ids, rows.state, rows.memory)
    first_ids = ops.cast(ops.convert_to_tensor(first_ids), "int32")
    return rows._replace(last_ids=ops.broadcast_to(first_ids[:, None], ops.shape(rows.last_ids)), state=state)


def live_sentences(rows: Rows) -> Tensor:
    """Which sentences are not done, (b,) bool."""
    return rows.log_probs[:, 0] > IMPOSSIBLE


def _blanked(result: Found, settings: given.Settings) -> SearchResult:
    """Blank out the hypotheses that do not exist, and put PAD after the others."""
    exists = result.scores > IMPOSSIBLE
    places = ops.arange(ops.shape(result.token_ids)[2], dtype="int32")
    real = exists[:, :, None] & (places < result.lengths[:, :, None])  # (B, N, T)
    return SearchResult(
        token_ids=ops.where(real, result.token_ids, settings.special.pad),
        scores=result.scores,
        log_probs=ops.where(exists, result.log_probs, IMPOSSIBLE),
        lengths=ops.where(exists, result.lengths, 0),
        finished=ops.any(real & (result.token_ids == settings.special.eos), axis=2),
        token_scores=ops.where(real, result.token_scores, 0.0) if settings.with_token_scores else None,
    )


def let_leave(rows: Rows, found: Found, result: Found, *, early: bool) -> tuple[Rows, Found]:
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

    def leave() -> tuple[Rows, Found]:
        (kept,) = ops.nonzero(live)
        stay = keras.tree.map_structure(lambda leaf: ops.take(leaf, kept, axis=0), rows)
        return stay, write_result(result, found, rows.sentences)

    return ops.cond(count <= most, leave, lambda: (rows, result))


def nothing_found(batch_size: int | Tensor, settings: given.Settings) -> Found:
    """Nothing found yet for B sentences."""
    shape = (batch_size, settings.num_hypotheses)
    nothing = ops.full(shape, IMPOSSIBLE, dtype="float32")
    token_scores = ops.zeros((*shape, 0)) if settings.with_token_scores else ()
    return Found(ops.zeros((*shape, 0), dtype="int32"), nothing, nothing, ops.zeros(shape, dtype="int32"), token_scores)


def write_result(result: Found, found: Found, sentences: Tensor) -> Found:
    """Put what was found for some sentences in its place.

    Args:
        result: Of B sentences, up to t tokens each.
        found: Of b of them, t tokens each.
        sentences: (b,) int32.
    """
    num_sentences, num_hypotheses, before = ops.shape(result.token_ids)
    missing = (num_sentences, num_hypotheses, ops.shape(found.token_ids)[2] - before)

    def written(old: Tensor, new: Tensor) -> Tensor:
        if len(old.shape) == 3:
            old = ops.concatenate([old, ops.zeros(missing, dtype=old.dtype)], axis=2)
        return ops.scatter_update(old, sentences[:, None], new)

    return keras.tree.map_structure(written, result, found)
