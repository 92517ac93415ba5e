"""Rules that any search may have: drawing tokens, no repeated phrases, fewer repeated tokens."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from keras import ops

from nmt.search.beam import IMPOSSIBLE, impossible_at
from nmt.search.step import Rule, View
from nmt.types import State, Tensor


class Sampled(Rule):
    """Draws each token from the model's distribution instead of taking the best; to be used greedily, K = 1.

    The probabilities are made flatter or steeper by a temperature first, then cut off, and what is left is drawn from
    in proportion. Scores stay those of the model. A draw needs one uniform number, so that it depends on nothing else.

    Args:
        uniforms: (B, T) float32 in [0, 1), T at least the greatest length: see `uniform_numbers`.
        never: ids that may not be drawn.
        eos_id: may not be drawn before the least length, and is not drawn but forced at the greatest.
        temperature: above 0; log probabilities are divided by it.
        top_k: draw from the k most probable tokens; 0 for all.
        top_p: draw from the fewest most probable tokens that have this much probability together, in (0, 1] (nucleus
            sampling, Holtzman et al. 2020, arXiv:1904.09751).
        epsilon: draw from tokens with at least this probability, or the most probable one if none has (epsilon
            sampling, Hewitt et al. 2022, arXiv:2210.15191), in [0, 1).
    """

    def __init__(
        self,
        uniforms: Tensor,
        *,
        never: Collection[int],
        eos_id: int,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        epsilon: float = 0.0,
    ) -> None:
        self.uniforms, self.never, self.eos_id = uniforms, frozenset(never), eos_id
        self.temperature, self.top_k, self.top_p, self.epsilon = temperature, top_k, top_p, epsilon

    def initial_state(self, batch_size: Tensor, beam_size: int) -> State:
        """The place of the sentence in the batch, (B, K) int32."""
        return ops.broadcast_to(ops.arange(batch_size, dtype="int32")[:, None], (batch_size, beam_size))

    def lower(self, scores: Tensor, view: View) -> Tensor:
        """−inf for all but the token that was drawn."""
        size = ops.shape(scores)[-1]
        token_ids = ops.arange(size, dtype="int32")
        too_short = (view.length < view.min_length)[:, None, None]
        logits = scores / self.temperature + impossible_at(self.never, size)
        logits = ops.where(too_short & (token_ids == self.eos_id), IMPOSSIBLE, logits)
        if self.top_k:
            least = ops.top_k(logits, ops.minimum(self.top_k, size))[0][..., -1:]
            logits = ops.where(logits >= least, logits, IMPOSSIBLE)
        probabilities = ops.softmax(logits)  # (b, K, V)
        if self.top_p < 1:
            least = _nucleus_threshold(probabilities, self.top_p)
            probabilities = ops.where(probabilities >= least, probabilities, 0.0)
        if self.epsilon:
            best = ops.max(probabilities, axis=-1, keepdims=True)
            probabilities = ops.where(probabilities >= ops.minimum(best, self.epsilon), probabilities, 0.0)

        # The token in whose share of the sum the number falls.
        sums = ops.cumsum(probabilities, axis=-1)
        uniforms = ops.take(ops.take(self.uniforms, view.length - 1, axis=1), view.state)[:, :, None]
        drawn = ops.argmax(ops.cast(sums > uniforms * sums[..., -1:], "int32"), axis=-1)[..., None]
        at_limit = (view.length >= view.max_length)[:, None, None]
        return ops.where(at_limit | (token_ids == drawn), scores, IMPOSSIBLE)


def uniform_numbers(seed: int, draws: Sequence[tuple[int, int, int]], length: int) -> np.ndarray:
    """Uniform numbers that depend on nothing but seed, line, sample, part and step.

    Args:
        seed: 0 to 2**64 - 1.
        draws: B times the number of a line, from 0, that of its sample, from 0 to 2**20 - 1, and that of its part, 0
            but for a line that is split.
        length: T.

    Returns:
        (B, T) float32 in [0, 1), from the counter-based Philox (Salmon et al. 2011).
    """
    bits = (
        np.random.Philox(key=np.array([seed, (line << 20) | sample], np.uint64), counter=[0, 0, 0, part])
        for line, sample, part in draws
    )
    return np.stack([np.random.Generator(each).random(length, np.float32) for each in bits])


_HALVINGS = 24
"""So often the threshold of a nucleus is narrowed down: to the precision of float32."""


def _nucleus_threshold(probabilities: Tensor, top_p: float) -> Tensor:
    """The greatest probability such that tokens with at least that have `top_p` together: (b, K, V) to (b, K, 1)."""
    high = ops.max(probabilities, axis=-1, keepdims=True)

    def halved(_: Tensor, bounds: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        low, high = bounds
        middle = (low + high) / 2
        enough = ops.sum(ops.where(probabilities >= middle, probabilities, 0.0), axis=-1, keepdims=True) >= top_p
        return ops.where(enough, middle, low), ops.where(enough, high, middle)

    # The best alone may have enough; then the bound itself is the threshold.
    low, _ = ops.fori_loop(0, _HALVINGS, halved, (ops.zeros_like(high), high))
    return ops.where(high >= top_p, high, low)


class NoRepeatedNgrams(Rule):
    """Lets no hypothesis have a run of n tokens twice (Paulus et al. 2018, arXiv:1705.04304, section 2.5).

    Args:
        size: n, 1 or more.
    """

    needs_tokens = True

    def __init__(self, size: int) -> None:
        self.size = size

    def lower(self, scores: Tensor, view: View) -> Tensor:
        """−inf for what would complete such a run again."""
        # n tokens that are none stand before a hypothesis, so that it has n - 1 newest ones whatever its length.
        written = ops.pad(view.token_ids, [[0, 0], [0, 0], [self.size, 0]], constant_values=-1)  # (b, K, n + t)
        followers = written[:, :, self.size - 1 :]  # (b, K, t + 1), each behind n - 1 others
        count = ops.shape(followers)[2]
        again = followers >= 0
        for place in range(self.size - 1):
            again &= written[:, :, place : count + place] == written[:, :, count + place, None]

        # The places in all scores, one behind the other, of what comes again.
        num_rows, num_tokens = ops.shape(scores)[0] * ops.shape(scores)[1], ops.shape(scores)[2]
        followers = ops.reshape(followers, (num_rows, count))
        places = followers + num_tokens * ops.arange(num_rows, dtype="int32")[:, None]
        (banned,) = ops.nonzero(ops.reshape(again, (-1,)))
        places = ops.take(ops.reshape(places, (-1,)), banned)[:, None]
        impossible = ops.full_like(places[:, 0], IMPOSSIBLE, dtype="float32")
        return ops.reshape(ops.scatter_update(ops.reshape(scores, (-1,)), places, impossible), ops.shape(scores))


class RepetitionPenalty(Rule):
    """Makes tokens less probable that a hypothesis has already (Keskar et al. 2019, arXiv:1909.05858, section 4.1).

    Args:
        penalty: 1 or more, by which their log probability is multiplied.
        vocabulary_size: V.
    """

    def __init__(self, penalty: float, vocabulary_size: int | Tensor) -> None:
        self.penalty, self.vocabulary_size = penalty, vocabulary_size

    def initial_state(self, batch_size: Tensor, beam_size: int) -> State:
        """What a hypothesis has, (B, K, V) bool."""
        return ops.zeros((batch_size, beam_size, self.vocabulary_size), dtype="bool")

    def lower(self, scores: Tensor, view: View) -> Tensor:
        """The log probability of what is there already, multiplied."""
        return ops.where(view.state, scores * self.penalty, scores)

    def follow(self, state: State, token_ids: Tensor) -> State:
        """Add the newest token."""
        return state | (ops.arange(self.vocabulary_size, dtype="int32") == token_ids[:, :, None])
