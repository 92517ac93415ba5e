"""One step of a search: from the live hypotheses of a batch to their best extensions."""

import math
import sys
from collections.abc import Collection, Sequence
from typing import NamedTuple

import keras
from keras import ops

from nmt.backend.functions import gather_beams
from nmt.search.step import Limits, MemoryStep, Rule, Settings, View
from nmt.types import Memory, State, Tensor

IMPOSSIBLE = -float("inf")
"""The log probability of what is banned or does not exist."""


class Finished(NamedTuple):
    """The N best finished hypotheses of each sentence, best first; (b, N) each.

    scores: float32; −inf if none has finished yet.
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
    log_probs: (b, K) float32 of the live hypotheses, best first; −inf if there is none. All −inf: the sentence is
        done.
    token_ids: (b, R, t) int32, R rows: those of the N finished hypotheses, then those of the K live ones; of a beam of
        one the only one, finished or not.
    token_scores: (b, R, t) float32: log probabilities of these tokens; () unless they are kept.
    state: The caller's, leaves (b, K, ...), one row a live hypothesis.
    memory: The caller's, leaves (b, ...).
    rule_states: Of each rule its own, leaves (b, K, ...), one row a live hypothesis.
    """

    sentences: Tensor
    limits: Limits
    last_ids: Tensor
    log_probs: Tensor
    token_ids: Tensor
    token_scores: Tensor
    finished: Finished
    state: State
    memory: Memory
    rule_states: tuple[State, ...]


class Extensions(NamedTuple):
    """The best extensions of each live hypothesis by itself, C each; the last one of them is EOS.

    log_probs: (b, K, C) float32 of the whole hypothesis; −inf for what may not be written.
    token_ids: (b, K, C) int32.
    scores: (b, K, V) float32: the log probability of each token as rules left it; None without rules.
    """

    log_probs: Tensor
    token_ids: Tensor
    scores: Tensor | None


class Candidates(NamedTuple):
    """Extensions of the live hypotheses of a sentence, C a sentence, best first.

    log_probs: (b, C) float32 of the whole hypothesis; −inf if there is none.
    parents: (b, C) int32: the live hypothesis that is extended, in [0, K).
    token_ids: (b, C) int32: by which token.
    """

    log_probs: Tensor
    parents: Tensor
    token_ids: Tensor


def extend_rows(rows: Rows, length: Tensor, step: MemoryStep, settings: Settings) -> Rows:
    """Extends the live hypotheses to `length` tokens and collects those that end; all −inf if that was the last.

    The rows of token ids are those of the N finished hypotheses, then those of the K live ones.
    """
    logits, state = step(rows.last_ids, rows.state, rows.memory)
    choose, num_hypotheses = settings.choose or choose_best, settings.num_hypotheses
    live, ending = choose(extend_each(rows, logits, length, settings), rows, length, settings)

    # A sentence that can neither go on nor end, and has nothing finished, keeps what it had, unfinished.
    any_ending = ops.max(ending.log_probs, axis=1, keepdims=True)
    nothing = ops.maximum(live.log_probs[:, :1], ops.maximum(any_ending, rows.finished.scores[:, :1])) == IMPOSSIBLE
    stuck = nothing & (length > 1)  # (b, 1)
    places = ops.broadcast_to(ops.arange(settings.beam_size, dtype="int32"), ops.shape(live.parents))
    before = Candidates(rows.log_probs, places, live.token_ids)
    ending = Candidates(*(ops.where(stuck, old, new) for old, new in zip(before, ending, strict=True)))

    # Those that end compete with those that ended before. Each row of token ids goes on from that of its parent.
    lengths = length - ops.cast(stuck, "int32")  # (b, 1)
    added = None if settings.add_to_score is None else gather_beams(settings.add_to_score(state), ending.parents)
    scores = score(ending.log_probs, lengths, added, settings)
    finished, survivors = collect_finished(rows.finished, ending, scores, lengths)
    sources = ops.concatenate([survivors, num_hypotheses + live.parents], axis=1)  # (b, N + K)
    # What was finished before gets PAD, what has just ended gets EOS, the live ones their newest token.
    just_ended = survivors >= num_hypotheses
    ended_ids = ops.where(just_ended & ~stuck, settings.special.eos, settings.special.pad)
    newest_ids = ops.concatenate([ended_ids, live.token_ids], axis=1)
    token_scores = rows.token_scores
    if settings.with_token_scores:
        parents = gather_beams(rows.log_probs, ops.maximum(sources - num_hypotheses, 0))
        newest = ops.concatenate([finished.log_probs, live.log_probs], axis=1) - parents
        newest = ops.where(newest_ids == settings.special.pad, 0.0, newest)
        token_scores = ops.concatenate([gather_beams(token_scores, sources), newest[:, :, None]], axis=2)

    return rows._replace(
        last_ids=live.token_ids,
        log_probs=ops.where(is_done(live.log_probs, finished, rows.limits, settings), IMPOSSIBLE, live.log_probs),
        token_ids=ops.concatenate([gather_beams(rows.token_ids, sources), newest_ids[:, :, None]], axis=2),
        token_scores=token_scores,
        finished=finished,
        state=settings.reorder(state, live.parents),
        rule_states=follow_rules(settings, reorder_state(rows.rule_states, live.parents), live.token_ids),
    )


def is_done(log_probs: Tensor, finished: Finished, limits: Limits, settings: Settings) -> Tensor:
    """Which sentences are done though hypotheses live, with these log probabilities (b, K), best first: (b, 1) bool.

    They are if the best live hypothesis can no longer reach the worst of the N finished, or if N have finished.
    """
    worst = finished.scores[:, -1:]
    if settings.stops_at_first:
        return worst > IMPOSSIBLE
    if not all(rule.only_lowers for rule in settings.rules):
        return ops.zeros_like(worst, dtype="bool")
    return log_probs[:, :1] / penalty(limits.max_length, settings)[:, None] <= worst


def follow_best(rows: Rows, length: Tensor, step: MemoryStep, settings: Settings) -> Rows:
    """Extends the one live hypothesis of each sentence by its most probable allowed token: a beam of one, but cheaper.

    The row of token ids stays its own when it ends.
    """
    logits, state = step(rows.last_ids, rows.state, rows.memory)
    logits = ops.cast(logits, "float32")
    scores = scores_by_rules(rows, logits, length, settings)
    logits = (logits if scores is None else scores)[:, 0]  # of the only beam, (b, V)

    # The best of what neither ends a hypothesis nor is banned.
    special = settings.special
    others = logits + impossible_at(special.never | {special.eos}, ops.shape(logits)[-1])
    other_ids = ops.cast(ops.argmax(others, axis=-1, keepdims=True), "int32")
    other = gather_beams(others, other_ids)  # (b, 1)

    # EOS against that, unless its turn is now or has not come.
    end = logits[:, special.eos, None]  # (b, 1)
    forced = (length >= rows.limits.max_length)[:, None]
    too_short = (length < rows.limits.min_length)[:, None]
    takes_end = forced | ((end > other) & ~too_short)
    next_ids = ops.where(takes_end, special.eos, other_ids)
    token_log_probs = ops.where(takes_end, end, other)
    if scores is None:
        token_log_probs = token_log_probs - ops.logsumexp(logits, axis=-1, keepdims=True)

    # What ends now takes its log probability along; so does, as it was, what can neither end nor go on.
    live = rows.log_probs > IMPOSSIBLE  # (b, 1)
    log_probs = rows.log_probs + token_log_probs
    log_probs = ops.where(ops.isnan(log_probs), IMPOSSIBLE, log_probs)
    stuck = live & (log_probs == IMPOSSIBLE) & (length > 1)
    stops = live & (next_ids == special.eos) | stuck
    final = ops.where(stops, ops.where(stuck, rows.log_probs, log_probs), rows.finished.log_probs)
    lengths = ops.where(stops, length - ops.cast(stuck, "int32"), rows.finished.lengths)
    added = None if settings.add_to_score is None else settings.add_to_score(state)
    scores = ops.where(stops, score(final, lengths, added, settings), rows.finished.scores)

    # What ended before writes PAD.
    writes = live & ~stuck
    token_scores = rows.token_scores
    if settings.with_token_scores:
        newest = ops.where(writes, token_log_probs, 0.0)
        token_scores = ops.concatenate([token_scores, newest[:, :, None]], axis=2)
    written_ids = ops.where(writes, next_ids, special.pad)
    return rows._replace(
        last_ids=next_ids,
        log_probs=ops.where(stops, IMPOSSIBLE, log_probs),
        token_ids=ops.concatenate([rows.token_ids, written_ids[:, :, None]], axis=2),
        token_scores=token_scores,
        finished=Finished(scores, final, lengths),
        state=state,
        rule_states=follow_rules(settings, rows.rule_states, next_ids),
    )


def extend_each(rows: Rows, logits: Tensor, length: Tensor, settings: Settings) -> Extensions:
    """The best allowed extensions of each live hypothesis.

    EOS is a column of its own, so that it can be had at `max_length` however improbable it is; among the K + 1 + n best
    tokens of a row, if n are banned, are its K best that are neither banned nor EOS.

    Args:
        rows: Before the step.
        logits: (b, K, V).
        length: () int32, of a hypothesis after the step.
        settings: K and the bans.
    """
    special, beam_size, vocabulary_size = settings.special, settings.beam_size, ops.shape(logits)[-1]
    logits = ops.cast(logits, "float32")
    scores = scores_by_rules(rows, logits, length, settings)
    logits = logits if scores is None else scores

    # The best tokens of each live hypothesis by itself, as many as there are whatever is banned.
    count = min(beam_size + 1 + len(special.never), logits.shape[-1] or sys.maxsize)
    tokens = top_tokens(ops.reshape(logits, (-1, vocabulary_size)), count, normalized=scores is not None)  # of (b*K, V)
    token_ids = ops.reshape(tokens.token_ids, (-1, beam_size, count))

    # What may not be written: banned tokens, EOS, which has a column of its own, and at the greatest length all.
    forced = (length >= rows.limits.max_length)[:, None, None]  # (b, 1, 1)
    banned = forced | (token_ids == special.eos)
    for token_id in special.never:
        banned |= token_ids == token_id

    # The column of EOS.
    too_short = (length < rows.limits.min_length)[:, None, None] & ~forced
    others = ops.where(banned, IMPOSSIBLE, ops.reshape(tokens.log_probs, (-1, beam_size, count)))
    end = logits[:, :, special.eos, None] - ops.reshape(tokens.log_normalizers, (-1, beam_size, 1))
    end = ops.where(too_short, IMPOSSIBLE, end)

    # Whole hypotheses; what is no number, or goes on from one that does not exist, does not exist.
    log_probs = rows.log_probs[:, :, None] + ops.concatenate([others, end], axis=2)  # (b, K, count + 1)
    log_probs = ops.where(ops.isnan(log_probs), IMPOSSIBLE, log_probs)
    token_ids = ops.concatenate([token_ids, ops.full_like(token_ids[:, :, :1], special.eos)], axis=2)
    return Extensions(log_probs, token_ids, scores)


def impossible_at(token_ids: Collection[int], vocabulary_size: int | Tensor) -> Tensor:
    """What is added to logits so that some tokens are never the best: −inf at their places, else 0, (V,) float32."""
    first = [IMPOSSIBLE if token_id in token_ids else 0.0 for token_id in range(1 + max(token_ids, default=-1))]
    return ops.concatenate([ops.convert_to_tensor(first, dtype="float32"), ops.zeros((vocabulary_size - len(first),))])


def best_candidates(extensions: Extensions, count: int | Tensor) -> Candidates:
    """The best extensions of all live hypotheses of a sentence together, `count` of them."""
    _, beam_size, each = ops.shape(extensions.token_ids)
    width = beam_size * each
    best, places = ops.top_k(ops.reshape(extensions.log_probs, (-1, width)), count)  # (b, C)
    return Candidates(
        log_probs=best,
        parents=places // each,
        token_ids=gather_beams(ops.reshape(extensions.token_ids, (-1, width)), places),
    )


def taken(candidates: Candidates, places: Tensor) -> Candidates:
    """The candidates at places (b, C)."""
    return Candidates(*(gather_beams(part, places) for part in candidates))


def choose_best(
    extensions: Extensions, rows: Rows, length: Tensor, settings: Settings
) -> tuple[Candidates, Candidates]:
    """The K best extensions that do not end live on; of the K best of all those count that end.

    It takes the 2K best, so that K live ones remain if K of them end.
    """
    candidates = best_candidates(extensions, 2 * settings.beam_size)
    ends = candidates.token_ids == settings.special.eos  # (b, C)
    log_probs, live = ops.top_k(ops.where(ends, IMPOSSIBLE, candidates.log_probs), settings.beam_size)
    parents, token_ids = gather_beams(candidates.parents, live), gather_beams(candidates.token_ids, live)  # (b, K)
    final = ops.where(ends, candidates.log_probs, IMPOSSIBLE)
    ending = Candidates(*(part[:, : settings.beam_size] for part in candidates._replace(log_probs=final)))
    return Candidates(log_probs, parents, token_ids), ending


def collect_finished(
    finished: Finished, ending: Candidates, scores: Tensor, lengths: Tensor
) -> tuple[Finished, Tensor]:
    """Merges the hypotheses that end with this step into the N best finished ones.

    Args:
        finished: Before the step.
        ending: Those that end, −inf for none.
        scores: (b, K) float32, of those that end.
        lengths: (b, 1) int32, of those that end, which is the same for all of a sentence.

    Returns:
        The N best; and (b, N) int32, the row of token ids that each of them continues.
    """
    num_hypotheses = finished.scores.shape[1]
    best_scores, picks = ops.top_k(ops.concatenate([finished.scores, scores], axis=1), num_hypotheses)
    pool_log_probs = ops.concatenate([finished.log_probs, ending.log_probs], axis=1)
    pool_lengths = ops.concatenate([finished.lengths, lengths], axis=1)
    lengths = gather_beams(pool_lengths, ops.minimum(picks, num_hypotheses))

    # A hypothesis finished before continues its own row, one that ends now the row of its parent.
    old_rows = ops.arange(num_hypotheses, dtype="int32")[None, :] + ops.zeros_like(picks[:, :1])
    pool_rows = ops.concatenate([old_rows, num_hypotheses + ending.parents], axis=1)
    best = Finished(best_scores, gather_beams(pool_log_probs, picks), lengths)
    return best, gather_beams(pool_rows, picks)


def reorder_state(state: State, parents: Tensor) -> State:
    """Lets every leaf of the state follow its beams, by a gather.

    Args:
        state: Leaves (B, K, ...).
        parents: (B, K) int32.

    Returns:
        Leaves (B, K, ...), `[b, k]` is what was `[b, parents[b, k]]`.
    """
    return keras.tree.map_structure(lambda leaf: gather_beams(leaf, parents), state)


_SMALLEST_BLOCKED_VOCABULARY = 512
"""Below this size a plain top-k is as fast."""

_BLOCK_OF_UNKNOWN = 16
"""Tokens a block if a graph does not know how many tokens there are: near the best size for one to three thousand."""


class TopTokens(NamedTuple):
    """The best tokens of every row, best first; of equal ones, the lower id first.

    log_probs: (..., C) float32, normalised over the whole vocabulary.
    token_ids: (..., C) int32.
    log_normalizers: (..., 1) float32: what has to be subtracted from a logit of the row to make it a log probability.
    """

    log_probs: Tensor
    token_ids: Tensor
    log_normalizers: Tensor


def top_tokens(logits: Tensor, count: int, *, normalized: bool = False) -> TopTokens:
    """Finds the `count` best tokens of every row and their log probabilities.

    A top-k over a long row is slow on a processor (4.5 ms for 320 rows of 8,000). The rows are cut into blocks
    instead: the best `count` tokens lie in the `count` blocks with the greatest maxima, so one cheap reduction leaves
    two short top-k (1.3 ms). The maxima also serve the normaliser, which is subtracted from the few tokens found.

    Args:
        logits: (R, V) float32.
        count: C, tokens a row; at most V.
        normalized: Whether the logits are log probabilities already, or what rules make of them.

    Returns:
        The tokens, C a row.
    """
    size = _BLOCK_OF_UNKNOWN if logits.shape[-1] is None else block_size(logits.shape[-1], count)
    if size is None:
        best, token_ids = ops.top_k(logits, count)
    else:
        best, token_ids = _top_k_in_blocks(logits, count, size)
    if normalized:
        return TopTokens(best, token_ids, ops.zeros_like(best[:, :1]))
    # One pass for the normaliser: it is known from any logit and its probability, and that of the best is not small.
    greatest = ops.take_along_axis(ops.softmax(logits), token_ids[:, :1], axis=1)
    log_normalizers = best[:, :1] - ops.log(greatest)
    return TopTokens(best - log_normalizers, token_ids, log_normalizers)


def block_size(vocabulary_size: int, count: int) -> int | None:
    """Tokens a block: a divisor of the vocabulary near the best size, else that (with padding); None for no blocks."""
    if vocabulary_size < max(_SMALLEST_BLOCKED_VOCABULARY, 16 * count):
        return None
    # count·size + V/size elements are sorted: least at sqrt(V/count); a longer block is reduced at higher speed.
    best_size = 1.5 * math.sqrt(vocabulary_size / count)
    sizes = range(math.ceil(best_size / 2), math.floor(best_size * 2) + 1)
    divisors = [size for size in sizes if vocabulary_size % size == 0]
    return min(divisors, key=lambda size: abs(math.log(size / best_size)), default=round(best_size))


def _top_k_in_blocks(logits: Tensor, count: int, size: int) -> tuple[Tensor, Tensor]:
    """Top-k of every row through the maxima of its blocks.

    Args:
        logits: (R, V).
        count: C.
        size: Tokens a block.

    Returns:
        Values and ids, (R, C) each, in the order of `ops.top_k`.
    """
    # The rows as blocks side by side, the last one filled up.
    num_rows, vocabulary_size = ops.shape(logits)
    num_blocks = -(-vocabulary_size // size)
    most = count
    if logits.shape[-1] is None:
        most = ops.minimum(count, num_blocks)
    if logits.shape[-1] is None or num_blocks * size > vocabulary_size:
        padding = ops.full((num_rows, num_blocks * size - vocabulary_size), -float("inf"), dtype=logits.dtype)
        logits = ops.concatenate([logits, padding], axis=-1)
    blocks = ops.reshape(logits, (num_rows * num_blocks, size))

    # The blocks with the greatest maxima, in which all of the best lie.
    maxima = ops.reshape(ops.max(blocks, axis=-1), (num_rows, num_blocks))
    _, chosen = ops.top_k(maxima, most, sorted=False)
    # In rising order, so that of equal logits the lower id wins, as in a top-k over the row.
    chosen = ops.sort(chosen, axis=-1)  # (R, C), or all blocks if they are fewer

    # The best of these blocks, and their ids by the block and the place in it.
    rows = ops.arange(num_rows, dtype="int32")[:, None]  # (R, 1)
    survivors = ops.take(blocks, chosen + rows * num_blocks, axis=0)  # (R, C, size)
    best, places = ops.top_k(ops.reshape(survivors, (num_rows, most * size)), count)
    block_of_best = ops.take(ops.reshape(chosen, (-1,)), places // size + rows * most, axis=0)
    token_ids = block_of_best * size + places % size
    # A row that is no number has no order: keep padding out of what a model will look up.
    return best, ops.minimum(token_ids, vocabulary_size - 1)


def scores_by_rules(rows: Rows, logits: Tensor, length: Tensor, settings: Settings) -> Tensor | None:
    """Return the log probability of each next token as the rules see it, (b, K, V) float32; None without rules."""
    if not settings.rules:
        return None
    live_ids = rows.token_ids[:, -settings.beam_size :]  # the live hypotheses are the last rows, whatever the search
    return lowered(settings.rules, rows.rule_states, logits, length, rows.limits, live_ids)


def lowered(
    rules: Sequence[Rule],
    states: Sequence[State],
    logits: Tensor,
    length: Tensor,
    limits: Limits,
    token_ids: Tensor,
) -> Tensor:
    """Ask rules one after the other.

    Args:
        rules: at least one.
        states: of each.
        logits: (b, K, V) float32.
        length: () int32, of a hypothesis with the token to come.
        limits: (b,) int32 each.
        token_ids: (b, K, length - 1) int32, the tokens so far.

    Returns:
        What they leave of the log probability of each next token, (b, K, V) float32.
    """
    # The normaliser is known from the greatest logit and its probability, which is not small.
    greatest, probability = (ops.max(each, axis=-1, keepdims=True) for each in (logits, ops.softmax(logits)))
    log_normalizers = greatest - ops.log(probability)  # (b, K, 1)
    scores = logits - log_normalizers
    for rule, state in zip(rules, states, strict=True):
        seen = token_ids if rule.needs_tokens else None
        scores = rule.lower(scores, View(logits, log_normalizers, length, *limits, state, seen))
    return ops.cast(scores, "float32")


def follow_rules(settings: Settings, states: tuple[State, ...], token_ids: Tensor) -> tuple[State, ...]:
    """Return the state of each rule after a step by token ids (b, K), from those that followed the parents."""
    return tuple(rule.follow(state, token_ids) for rule, state in zip(settings.rules, states, strict=True))


def penalty(length: Tensor, settings: Settings) -> Tensor:
    """What a log probability is divided by: ((offset + length) / (offset + 1)) ** exponent.

    With an offset of 5 it is that of Wu et al. (2016), "Google's Neural Machine Translation System", eq. 14, with an
    offset of 0 a power of the length, as in Marian and fairseq. An exponent of 0 turns it off.

    Args:
        length: Tokens, EOS counted; any shape.
        settings: Exponent and offset, 0 or more each.

    Returns:
        float32 in the shape of `length`, 1 or more for lengths of 1 or more.
    """
    offset = settings.length_penalty_offset
    return ops.power((offset + ops.cast(length, "float32")) / (offset + 1), settings.length_penalty)


def score(log_probs: Tensor, lengths: Tensor, added: Tensor | None, settings: Settings) -> Tensor:
    """What hypotheses of these log probabilities and lengths are ranked by: their score."""
    scores = log_probs / penalty(lengths, settings)
    return scores if added is None else scores + added
