"""Diverse beam search: several beams a sentence, each of which avoids what those before it write at the same step."""

from __future__ import annotations

import keras
from keras import ops

from nmt.backend.functions import gather_beams
from nmt.search.beam import IMPOSSIBLE, Candidates, Extensions, Rows, taken
from nmt.search.loop import SearchResult
from nmt.search.step import Rule, Settings, View
from nmt.types import Memory, State, Tensor


class DiverseGroups(Rule):
    """Searches each sentence by G beams of its own, the groups (Vijayakumar et al. 2018, arXiv:1610.02424).

    The groups of a sentence are neighbours in the batch: sentence s has the rows s * G to s * G + G - 1. At each step
    they choose one after the other, and a token costs `strength` for each live hypothesis of an earlier group that has
    just chosen it (Hamming diversity, section 4). What a hypothesis has cost so far counts in the choice; log
    probabilities and scores stay those of the model. A group that is done costs the others nothing.

    `choose` is to be given to `beam_search` besides the rule itself.

    Args:
        num_groups: G.
        strength: lambda of the paper, 0 or more, in the units of a log probability.
        num_rows: B * G, rows of the whole batch.
        eos_id: the token that ends a hypothesis.
    """

    def __init__(self, num_groups: int, strength: float, num_rows: Tensor, eos_id: int) -> None:
        self.num_groups, self.strength, self.num_rows, self.eos_id = num_groups, strength, num_rows, eos_id

    def initial_state(self, batch_size: Tensor, beam_size: int) -> State:
        """The row of each hypothesis in the batch, and what it has cost, (B * G, K) each."""
        rows = ops.broadcast_to(ops.arange(batch_size, dtype="int32")[:, None], (batch_size, beam_size))
        return rows, ops.zeros((batch_size, beam_size))

    def lower(self, scores: Tensor, view: View) -> Tensor:
        """The same: the choice alone looks at what tokens cost."""
        return scores

    def follow(self, state: State, token_ids: Tensor) -> State:
        """Add what the newest tokens cost."""
        rows, costs = state
        return rows, costs + self._costs(token_ids, token_ids, rows[:, 0])

    def choose(
        self, extensions: Extensions, rows: Rows, length: Tensor, settings: Settings
    ) -> tuple[Candidates, Candidates]:
        """Choose group by group; see `nmt.search.step.Choose`."""
        before = rows.rule_states[settings.rules.index(self)][1][:, :, None]  # (b, K, 1)
        shape = ops.shape(extensions.token_ids)
        token_ids = ops.reshape(extensions.token_ids, (-1, shape[1] * shape[2]))
        live, ending = choose_at_cost(extensions, before + ops.zeros_like(extensions.log_probs), settings)
        for group in range(1, self.num_groups):
            costs = self._costs(token_ids, live.token_ids, rows.sentences)
            now = choose_at_cost(extensions, before + ops.reshape(costs, shape), settings)
            has_turn = (rows.sentences % self.num_groups == group)[:, None]
            live, ending = (
                Candidates(*(ops.where(has_turn, new, old) for old, new in zip(*pair, strict=True)))
                for pair in zip((live, ending), now, strict=True)
            )
        return live, ending

    def _costs(self, token_ids: Tensor, chosen: Tensor, sentences: Tensor) -> Tensor:
        """What tokens (b, X) cost if groups choose (b, K), by those before their own; rows (b,) of the batch."""
        groups = sentences % self.num_groups
        siblings = (sentences - groups)[:, None] + ops.arange(self.num_groups, dtype="int32")  # (b, G)
        # What is not live, or has left the batch, has chosen EOS, which costs nothing.
        written = ops.full((self.num_rows, ops.shape(chosen)[1]), self.eos_id, dtype="int32")
        written = ops.take(ops.scatter_update(written, sentences[:, None], chosen), siblings, axis=0)  # (b, G, K)
        counts = (ops.arange(self.num_groups) < groups[:, None])[:, :, None] & (written != self.eos_id)
        written = ops.reshape(ops.where(counts, written, -1), (-1, 1, self.num_groups * chosen.shape[1]))
        return self.strength * ops.sum(ops.cast(token_ids[:, :, None] == written, "float32"), axis=2)


def choose_at_cost(extensions: Extensions, costs: Tensor, settings: Settings) -> tuple[Candidates, Candidates]:
    """As `choose_best`, but each extension costs something besides (b, K, C), which only the choice sees."""
    _, beam_size, each = ops.shape(extensions.token_ids)

    def flat(values: Tensor) -> Tensor:
        return ops.reshape(values, (-1, beam_size * each))

    ranked, places = ops.top_k(flat(extensions.log_probs - costs), 2 * beam_size)  # (b, 2K)
    log_probs, token_ids = (
        gather_beams(flat(extensions.log_probs), places),
        gather_beams(flat(extensions.token_ids), places),
    )
    candidates, ends = Candidates(log_probs, places // each, token_ids), token_ids == settings.special.eos
    live = candidates._replace(log_probs=ops.where(ends, IMPOSSIBLE, log_probs))
    live = taken(live, ops.top_k(ops.where(ends, IMPOSSIBLE, ranked), beam_size)[1])
    final = candidates._replace(log_probs=ops.where(ends, log_probs, IMPOSSIBLE))
    live = taken(live, ops.top_k(live.log_probs, beam_size)[1])
    token_ids = ops.where(live.log_probs > IMPOSSIBLE, live.token_ids, settings.special.eos)
    return live._replace(token_ids=token_ids), Candidates(*(part[:, :beam_size] for part in final))


def for_each_group(memory: Memory, num_groups: int) -> Memory:
    """Repeat the memory of each sentence for its groups: leaves (B, ...) to (B * G, ...)."""
    return keras.tree.map_structure(lambda leaf: ops.repeat(leaf, num_groups, axis=0), memory)


def merge_groups(result: SearchResult, num_groups: int) -> SearchResult:
    """Put the hypotheses of the groups of each sentence together, best first: (B * G, N) to (B, G * N)."""

    def side_by_side(field: Tensor) -> Tensor:
        return ops.reshape(field, (-1, num_groups * field.shape[1], *ops.shape(field)[2:]))

    fields: list[Tensor] = [None if field is None else side_by_side(field) for field in result]
    _, best_first = ops.top_k(fields[1], fields[1].shape[1])
    return SearchResult(*(None if field is None else gather_beams(field, best_first) for field in fields))
