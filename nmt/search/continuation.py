"""From hypotheses that have begun to whole ones: the parts of a search whose first steps are chosen outside.

One sentence has R hypotheses of one length, rows of one state. What they are extended by is decided by the caller, step
by step; then groups of them, K each, are searched to their ends, each group for itself.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from nmt.backend.functions import Spec, compile_function, output_specs, while_loop
from nmt.search.beam import IMPOSSIBLE, Finished, Rows, extend_rows, follow_rules, lowered, penalty, reorder_state
from nmt.search.loop import Found, Loop, let_leave, live_sentences, nothing_found
from nmt.search.step import Limits, MemoryStep, Rule, Settings, SpecialIds
from nmt.types import Memory, State, Tensor

PATIENCE = 3
"""A group is done when no live hypothesis could become its best within as many more tokens, each of probability 1. To
wait for all that can still come takes a fourth more steps, and finds next to nothing."""


class Begun(NamedTuple):
    """What a step leaves behind for the next one.

    state: of the model, leaves (1, R, ...).
    rule_states: of each rule, likewise.
    """

    state: State
    rule_states: tuple[State, ...]


class Seeds(NamedTuple):
    """Hypotheses to go on from, of G groups.

    parents: (G, K) int32: the row that each has been a token shorter.
    last_ids: (G, K) int32: the newest token of each.
    log_probs: (G, K) float32, best first; −inf if there is none.
    token_ids: (G, 1 + K, t) int32: of the best finished hypothesis of each group, then of its K live ones.
    scores, final: (G, 1) float32: score and log probability of the finished one; −inf if there is none.
    lengths: (G, 1) int32: its tokens, EOS counted.
    """

    parents: Any
    last_ids: Any
    log_probs: Any
    token_ids: Any
    scores: Any
    final: Any
    lengths: Any


class Kept(NamedTuple):
    """What stays the same as long as weights do.

    memory: of a source, leaves (1, ...).
    matrix: of the output, as the model wants it.
    """

    memory: Memory
    matrix: Any


class Decoding(NamedTuple):
    """What is needed of a model; see `nmt.models.contract.Seq2Seq`.

    encode: sources (1, S) to the memory.
    output_matrix: nothing to what the other two take.
    read: tokens that are given, memory and matrix to logits and state.
    decoder: the matrix to a step.
    """

    encode: Callable[..., Memory]
    output_matrix: Callable[[], Any]
    read: Callable[[Tensor, Memory, Any], tuple[Tensor, State]]
    decoder: Callable[[Any], MemoryStep]


class Continuation:
    """The compiled parts of a search for one sentence; each is traced once, for all lengths.

    Args:
        model: encodes the source as each of `num_sources` models cuts it, (1, S) each.
        num_sources: how many.
        special: PAD, BOS, EOS and what is banned.
        beam_size: K, hypotheses of a group.
        length_penalty, length_penalty_offset: see `nmt.search.beam.penalty`.
        rules: what else is asked of tokens.
    """

    def __init__(
        self,
        model: Decoding,
        num_sources: int,
        *,
        special: SpecialIds,
        beam_size: int,
        length_penalty: float,
        length_penalty_offset: float = 0.0,
        rules: Sequence[Rule] = (),
    ) -> None:
        self.model = model
        self.settings = Settings(
            special.as_ints,
            beam_size,
            1,
            length_penalty,
            length_penalty_offset,
            reorder=reorder_state,
            rules=tuple(rules),
        )
        self.encode = compile_function(model.encode, [Spec((1, None), "int32")] * num_sources)
        self.output_matrix = compile_function(model.output_matrix, [])
        kept = Kept(output_specs(self.encode), output_specs(self.output_matrix))
        limits = Limits(Spec((), "int32"), Spec((), "int32"))
        self.read = compile_function(self._read, [Spec((1, None), "int32"), Spec((), "int32"), limits, kept])
        begun = keras.tree.map_structure(
            lambda spec: Spec((1, None, *spec.shape[2:]), spec.dtype), output_specs(self.read)[2]
        )
        rows = (Spec((None,), "int32"), Spec((None,), "int32"), Spec((None, None), "int32"))
        self.extend = compile_function(self._extend, [*rows, limits, begun, kept])
        seeds = Seeds(
            parents=Spec((None, beam_size), "int32"),
            last_ids=Spec((None, beam_size), "int32"),
            log_probs=Spec((None, beam_size), "float32"),
            token_ids=Spec((None, 1 + beam_size, None), "int32"),
            scores=Spec((None, 1), "float32"),
            final=Spec((None, 1), "float32"),
            lengths=Spec((None, 1), "int32"),
        )
        self.finish = compile_function(self._finish, [seeds, limits, begun, kept])

    def _read(self, token_ids: Tensor, begins: Tensor, limits: Limits, kept: Kept) -> tuple[Tensor, Tensor, Begun]:
        """Read what is given, (1, T) from BOS on; with rules there is nothing of the translation.

        Args:
            token_ids: what is given.
            begins: () int32, T before the translation begins: 1, or 2 with a tag before it, which is no part of it.
            limits: () each.
            kept: of the sentence.

        Returns:
            (1, V), the log probabilities of what may follow; (), that of the translation so far; and what was begun,
            R = 1.
        """
        logits, state = self.model.read(token_ids, *kept)
        log_probs = ops.log_softmax(ops.cast(logits, "float32"))  # (1, T, V)
        given = ops.take_along_axis(log_probs[:, :-1], token_ids[:, 1:, None], axis=2)[:, :, 0]
        given = ops.where(ops.arange(1, ops.shape(token_ids)[1], dtype="int32") >= begins, given, 0.0)
        begun = Begun(state, tuple(rule.initial_state(1, 1) for rule in self.settings.rules))
        if self.settings.rules:
            log_probs = self._lowered(logits[:, -1:], token_ids[:, None, :0], limits, begun)
        return log_probs[:, -1], ops.sum(given), begun

    def _extend(
        self, parents: Tensor, last_ids: Tensor, token_ids: Tensor, limits: Limits, begun: Begun, kept: Kept
    ) -> tuple[Tensor, Begun]:
        """Take a step with R new hypotheses.

        Args:
            parents: (R,) int32: the row of each that was a token shorter.
            last_ids: (R,) int32: its newest token.
            token_ids: (R, t) int32: all of its tokens, without BOS.
            limits: () each.
            begun: before the step.
            kept: of the sentence.

        Returns:
            (R, V), the log probability of each next token as rules leave it; and what was begun.
        """
        state, rule_states = reorder_state(begun, parents[None])
        rule_states = follow_rules(self.settings, rule_states, last_ids[None])
        logits, state = self.model.decoder(kept.matrix)(last_ids[None], state, kept.memory)
        begun = Begun(state, rule_states)
        if self.settings.rules:
            return self._lowered(logits, token_ids[None], limits, begun)[0], begun
        return ops.log_softmax(ops.cast(logits, "float32"))[0], begun

    def _lowered(self, logits: Tensor, token_ids: Tensor, limits: Limits, begun: Begun) -> Tensor:
        """What rules make of the log probabilities (1, R, V) after tokens (1, R, t)."""
        length = ops.cast(ops.shape(token_ids)[2] + 1, "int32")
        each = Limits(*(ops.reshape(limit, (1,)) for limit in limits))
        return lowered(self.settings.rules, begun.rule_states, ops.cast(logits, "float32"), length, each, token_ids)

    def _finish(self, seeds: Seeds, limits: Limits, begun: Begun, kept: Kept) -> Found:
        """Search each of G groups to its end.

        Args:
            seeds: where they are.
            limits: () each.
            begun: before the newest tokens.
            kept: of the sentence.

        Returns:
            The best hypothesis of each group; N = 1.
        """
        settings = self.settings
        num_groups, beam_size = ops.shape(seeds.last_ids)[0], settings.beam_size

        def of_groups(leaf: Tensor) -> Tensor:
            taken = ops.take(leaf, ops.reshape(seeds.parents, (-1,)), axis=1)  # (1, G * K, ...)
            return ops.reshape(taken, (num_groups, beam_size, *ops.shape(leaf)[2:]))

        state, rule_states = keras.tree.map_structure(of_groups, begun)
        rows = Rows(
            sentences=ops.arange(num_groups, dtype="int32"),
            limits=Limits(*(ops.broadcast_to(limit, (num_groups,)) for limit in limits)),
            last_ids=seeds.last_ids,
            log_probs=seeds.log_probs,
            token_ids=seeds.token_ids,
            token_scores=(),
            finished=Finished(seeds.scores, seeds.final, seeds.lengths),
            state=state,
            memory=keras.tree.map_structure(lambda leaf: ops.repeat(leaf, num_groups, axis=0), kept.memory),
            rule_states=follow_rules(settings, rule_states, seeds.last_ids),
        )
        step = self.model.decoder(kept.matrix)

        def advance(loop: Loop) -> Loop:
            length = loop.num_steps + 1
            rows = extend_rows(loop.rows, length, step, settings)
            if all(rule.only_lowers for rule in settings.rules):
                bounds = rows.log_probs[:, :1] / penalty(length + PATIENCE, settings)
                log_probs = ops.where(bounds > rows.finished.scores, rows.log_probs, IMPOSSIBLE)
                rows = rows._replace(log_probs=log_probs)
            found = Found(rows.token_ids[:, :1], *rows.finished, ())
            return Loop(length, *let_leave(rows, found, loop.result, early=True))

        start = Loop(ops.cast(ops.shape(seeds.token_ids)[2], "int32"), rows, nothing_found(num_groups, settings))
        return while_loop(lambda loop: ops.any(live_sentences(loop.rows)), advance, start).result
