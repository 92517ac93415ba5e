"""Automata over tokens inside a search: what may not be written, what must come first, what must appear.

An automaton follows each hypothesis by a state. How it is made of text says `nmt.control.phrases`: what moves otherwise
than most is in a sorted list, so that no table of states times tokens is needed.
"""

from __future__ import annotations

from typing import NamedTuple

from keras import ops

from nmt.backend.functions import gather_beams
from nmt.search.beam import IMPOSSIBLE, Candidates, Extensions, Rows, best_candidates, taken
from nmt.search.step import Rule, Settings, View
from nmt.types import State, Tensor


class Automaton(NamedTuple):
    """Automata over the V tokens of a vocabulary, side by side: S states. Arrays or tensors; ids are int32.

    classes: (V,): the class of each token, C of them.
    roots: (S,): the state whose moves are those of a state unless it has an exception.
    class_next: (S, C): the next state by the class of a token, unless the state or its root has an exception.
    exceptions: (E,) int64, rising: state * V + token; the last is no such number.
    next_states: (E,): where exceptions lead.
    may_end: (S,) bool: whether EOS may follow.
    class_scores: (S, C) float32: 0, or −inf if the next state by class is dead.
    changes: (F,) int64, rising: those of the exceptions that differ in that from the class; the last is none.
    change_scores: (F,) float32: 0 or −inf, in place of that of the class.
    """

    classes: Tensor
    roots: Tensor
    class_next: Tensor
    exceptions: Tensor
    next_states: Tensor
    may_end: Tensor
    class_scores: Tensor
    changes: Tensor
    change_scores: Tensor


def next_states(automaton: Automaton, states: Tensor, token_ids: Tensor) -> Tensor:
    """Move by a token each; states and token ids int32 of one shape."""
    shape, num_tokens = ops.shape(states), ops.cast(ops.shape(automaton.classes)[0], "int64")
    states, token_ids = ops.reshape(states, (-1,)), ops.reshape(token_ids, (-1,))
    num_classes = automaton.class_next.shape[1]
    by_class = states * num_classes + ops.take(automaton.classes, token_ids)
    moved = ops.take(ops.reshape(automaton.class_next, (-1,)), by_class)
    # The exceptions of a state come before those of its root.
    for owners in (ops.take(automaton.roots, states), states):
        keys = ops.cast(owners, "int64") * num_tokens + ops.cast(token_ids, "int64")
        places = ops.searchsorted(automaton.exceptions, keys)
        is_exception = ops.take(automaton.exceptions, places) == keys
        moved = ops.where(is_exception, ops.take(automaton.next_states, places), moved)
    return ops.reshape(moved, shape)


def _take_away(automaton: Automaton) -> Tensor:
    """Which states do not allow every token, and EOS: (S,) bool."""
    num_tokens = ops.cast(ops.shape(automaton.classes)[0], "int64")
    begin = ops.arange(ops.shape(automaton.roots)[0], dtype="int64") * num_tokens
    changed = ops.searchsorted(automaton.changes, begin + num_tokens) > ops.searchsorted(automaton.changes, begin)
    changed |= ops.take(changed, automaton.roots)
    return changed | ~ops.cast(automaton.may_end, "bool") | (ops.min(automaton.class_scores, axis=1) < 0)


class Allowed(Rule):
    """Takes away every token that leads to a dead state, and EOS in a state in which no hypothesis may end.

    Args:
        automaton: of all sentences of the batch.
        starts: (B,) int32, the state of each sentence's empty hypothesis.
        eos_id: the token that ends a hypothesis.
    """

    def __init__(self, automaton: Automaton, starts: Tensor, eos_id: int) -> None:
        self.automaton, self.starts, self.eos_id = automaton, starts, eos_id
        self.takes_away = _take_away(automaton)

    def initial_state(self, batch_size: Tensor, beam_size: int) -> State:
        """(B, K) int32."""
        return ops.repeat(self.starts[:, None], beam_size, axis=1)

    def lower(self, scores: Tensor, view: View) -> Tensor:
        """−inf for what is not allowed. Most states allow all: only the rows of others are touched."""
        shape, states = ops.shape(scores), ops.reshape(view.state, (-1,))  # (b*K,)
        (rows,) = ops.nonzero(ops.take(self.takes_away, states))
        scores = ops.reshape(scores, (-1, shape[-1]))
        lowered = ops.take(scores, rows, axis=0) + self._allowed(ops.take(states, rows), shape[-1])
        return ops.reshape(ops.scatter_update(scores, rows[:, None], lowered), shape)

    def _allowed(self, states: Tensor, num_tokens: int | Tensor) -> Tensor:
        """What is added to the score of each token: 0 or −inf, (R, V) for states (R,)."""
        automaton = self.automaton
        allowed = ops.take(ops.take(automaton.class_scores, states, axis=0), automaton.classes, axis=1)
        for owners in (ops.take(automaton.roots, states), states):
            # The changes of a state lie side by side: as many rows of indices as all of them have.
            begin = ops.cast(owners, "int64") * ops.cast(num_tokens, "int64")
            first = ops.searchsorted(automaton.changes, begin)
            counts = ops.searchsorted(automaton.changes, begin + ops.cast(num_tokens, "int64")) - first
            rows = ops.repeat(ops.arange(ops.shape(states)[0], dtype="int32"), counts)
            offsets = ops.cast(first - ops.cumsum(counts) + counts, "int32")
            places = ops.arange(ops.shape(rows)[0], dtype="int32") + ops.take(offsets, rows)
            token_ids = ops.cast(ops.take(automaton.changes, places) - ops.take(begin, rows), "int32")
            indices = ops.stack([rows, token_ids], axis=1)
            allowed = ops.scatter_update(allowed, indices, ops.take(automaton.change_scores, places))
        end = ops.where(ops.take(automaton.may_end, states), 0.0, IMPOSSIBLE)[:, None]
        return ops.where(ops.arange(num_tokens, dtype="int32") == self.eos_id, end, allowed)

    def follow(self, state: State, token_ids: Tensor) -> State:
        """Move by the token of each hypothesis."""
        return next_states(self.automaton, state, token_ids)


class Goals(NamedTuple):
    """What the states of automata say about phrases that must appear.

    distance: (S,) int32: tokens that are missing at least.
    fallback: (S,) int32: the same after a token that brings nothing nearer: what is begun is lost, what is met stays.
    advancing: (S, M) int32: tokens after which fewer are missing; −1 for none. A state that misses any has one.
    """

    distance: Tensor
    fallback: Tensor
    advancing: Tensor


class MustAppear(Rule):
    """Lets no hypothesis end before its phrases have appeared, and keeps beams for those that have come further.

    Beams are shared out dynamically, as in Post and Vilar (2018, arXiv:1804.06609; for whole batches Hu et al. 2019):
    the best hypothesis with each number of missing tokens, then the second best of each, as long as there are beams,
    and if they do not suffice for all, those with the best scores. Banks by whole phrases, which that paper has too,
    cost 2 to 8 BLEU here: they hold beams for phrases that were written too early. A sentence without phrases is
    searched as without the rule. What could not be completed any more within `max_length` is dropped, so every sentence
    whose phrases fit in, one behind the other, gets a translation that has them all.

    `choose` is to be given to `beam_search` besides the rule itself.

    Args:
        automaton: one for each phrase of each sentence; a hypothesis may end if all of its own allow it.
        starts: (B, P) int32, the states of an empty hypothesis; what is no phrase stays in a state that misses nothing.
        goals: what the states mean.
        eos_id: the token that ends a hypothesis.
    """

    def __init__(self, automaton: Automaton, starts: Tensor, goals: Goals, eos_id: int) -> None:
        self.automaton, self.starts, self.goals, self.eos_id = automaton, starts, goals, eos_id

    def initial_state(self, batch_size: Tensor, beam_size: int) -> State:
        """(B, K, P) int32."""
        return ops.repeat(self.starts[:, None], beam_size, axis=1)

    def lower(self, scores: Tensor, view: View) -> Tensor:
        """−inf for EOS, unless all phrases are there."""
        may_end = ops.all(ops.take(self.automaton.may_end, view.state), axis=2)  # (b, K)
        is_end = ops.arange(ops.shape(scores)[-1], dtype="int32") == self.eos_id
        return ops.where(is_end & ~may_end[:, :, None], IMPOSSIBLE, scores)

    def follow(self, state: State, token_ids: Tensor) -> State:
        """Move by the token of each hypothesis, in the automaton of each phrase."""
        return next_states(self.automaton, state, ops.broadcast_to(token_ids[:, :, None], ops.shape(state)))

    def missing(self, states: Tensor) -> Tensor:
        """How many tokens complete a hypothesis, the phrase first that it is most advanced in: (..., P) to (...)."""
        fallback = ops.take(self.goals.fallback, states)
        return ops.sum(fallback, axis=-1) - ops.max(fallback - ops.take(self.goals.distance, states), axis=-1)

    def choose(
        self, extensions: Extensions, rows: Rows, length: Tensor, settings: Settings
    ) -> tuple[Candidates, Candidates]:
        """Share the beams out; see `nmt.search.step.Choose`."""
        states = rows.rule_states[settings.rules.index(self)]  # (b, K, P)
        starts = ops.take(self.starts, rows.sentences, axis=0)  # (b, P)
        has_phrases = ops.any(ops.take(self.goals.fallback, starts) > 0, axis=1)
        extensions = self._with_proposals(extensions, rows, states, length)
        candidates = best_candidates(
            extensions, ops.shape(states)[1] * ops.shape(extensions.token_ids)[2]
        )  # (b, W), all
        ends = candidates.token_ids == self.eos_id
        places = ops.broadcast_to(ops.arange(ops.shape(ends)[1], dtype="int32"), ops.shape(ends))  # best first

        # What cannot be completed any more does not live on.
        parents = gather_beams(states, candidates.parents)  # (b, W, P)
        reached = next_states(
            self.automaton, parents, ops.broadcast_to(candidates.token_ids[:, :, None], ops.shape(parents))
        )
        missing = self.missing(reached)
        fits = missing < ops.expand_dims(rows.limits.max_length, 1) - length  # EOS needs a place too
        lives = fits & ~ends & (candidates.log_probs > IMPOSSIBLE)
        if settings.beam_size == 1:  # without phrases only the best counts, also if it ends
            lives &= has_phrases[:, None] | (places == 0)

        # The turn of each: its rank among those that miss as much; of those whose turn is equal the best comes first.
        turn = ops.where(lives, _ranks(places, missing, lives), 2**30)
        _, chosen = ops.top_k(-turn, settings.beam_size)
        log_probs = ops.where(lives, candidates.log_probs, IMPOSSIBLE)
        live = taken(candidates._replace(log_probs=log_probs), chosen)
        live = taken(live, ops.top_k(live.log_probs, settings.beam_size)[1])

        # Whatever has all its phrases may end; without phrases only what is among the K best of all.
        may_end = ends & (has_phrases[:, None] | (places < settings.beam_size))
        ending = candidates._replace(log_probs=ops.where(may_end, candidates.log_probs, IMPOSSIBLE))
        return live, taken(ending, ops.top_k(ending.log_probs, settings.beam_size)[1])

    def _with_proposals(self, extensions: Extensions, rows: Rows, states: Tensor, length: Tensor) -> Extensions:
        """Adds, for each phrase, the best tokens that bring it nearer, unless they are among the best anyway."""
        log_probs, token_ids, scores = extensions
        advancing = ops.take(self.goals.advancing, states, axis=0)  # (b, K, P, M)
        shape = ops.shape(states)
        advancing = ops.reshape(advancing, (shape[0], shape[1], shape[2] * ops.shape(advancing)[3]))
        forced = (length >= rows.limits.max_length)[:, None, None]
        known = ops.any(advancing[:, :, :, None] == token_ids[:, :, None, :-1], axis=3)
        # Phrases that go on with the same token propose it once.
        places = ops.arange(ops.shape(advancing)[2], dtype="int32")
        before = (advancing[:, :, :, None] == advancing[:, :, None, :]) & (places[None, :] < places[:, None])
        known |= ops.any(before, axis=3)
        added = ops.take_along_axis(scores, ops.maximum(advancing, 0), axis=2)
        added = ops.where(known | forced | (advancing < 0), IMPOSSIBLE, rows.log_probs[:, :, None] + added)
        # EOS stays the last column.
        ids = ops.concatenate([token_ids[:, :, :-1], ops.maximum(advancing, 0), token_ids[:, :, -1:]], axis=2)
        return Extensions(ops.concatenate([log_probs[:, :, :-1], added, log_probs[:, :, -1:]], axis=2), ids, scores)


def _ranks(keys: Tensor, groups: Tensor, counted: Tensor) -> Tensor:
    """How many of those that count are before each one in its group, by keys below W * W; (b, W) each."""
    size, width = ops.shape(keys)
    keys, groups, base = ops.cast(keys, "int64"), ops.cast(groups, "int64"), ops.cast(width, "int64") ** 2
    # Sentences one behind the other, in each the groups, and what does not count: all in one sorted list.
    last = ops.max(groups) + 1
    row = ops.arange(size, dtype="int64")[:, None] * (last + 1)
    first = (row + ops.where(counted, groups, last)) * base
    ordered = ops.reshape(ops.sort(first + keys, axis=1), (-1,))
    own, begin = (ops.searchsorted(ordered, ops.reshape(each, (-1,))) for each in (first + keys, first))
    return ops.reshape(ops.cast(own - begin, "int32"), (size, width))
