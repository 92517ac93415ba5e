"""What a search knows of the model: a step function, the ids with a meaning, and how large the vocabulary is."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias, TypeVar, cast

import keras
from keras import ops

from nmt.types import Memory, State, Tensor

StepFunction: TypeAlias = Callable[[Tensor, State], tuple[Tensor, State]]
"""Maps the newest token ids (B, K) and the state to logits (B, K, V) and the next state."""

MemoryStep: TypeAlias = Callable[[Tensor, State, Memory], tuple[Tensor, State]]
"""The same with the memory of the sentences, whose leaves begin with (B,), as its third argument."""

Reorder: TypeAlias = Callable[[State, Tensor], State]
"""Maps the state and parents (B, K) to the state whose row k is row `parents[b, k]` of before."""

IMPOSSIBLE = -float("inf")
"""The log probability of what is banned or does not exist."""


class SpecialIds(NamedTuple):
    """Ids with a meaning for the search. EOS ends a hypothesis; PAD, BOS and what is banned are never generated."""

    pad: int
    bos: int
    eos: int
    banned: tuple[int, ...] = ()

    @property
    def as_ints(self) -> SpecialIds:
        """The same ids as Python's ints, which take the type of the tensors that they meet; NumPy's do not."""
        return SpecialIds(int(self.pad), int(self.bos), int(self.eos), tuple(map(int, self.banned)))

    @property
    def never(self) -> frozenset[int]:
        """The ids that no hypothesis holds."""
        return frozenset([self.pad, self.bos, *self.banned])

    @property
    def named(self) -> list[tuple[str, int]]:
        """All of them, with the names of the arguments that they come from."""
        return [("pad_id", self.pad), ("bos_id", self.bos), ("eos_id", self.eos)] + [
            ("each of banned_ids", token_id) for token_id in self.banned
        ]


def with_memory(step: StepFunction | MemoryStep, memory: Memory | None) -> MemoryStep:
    """The step as a function of three arguments; without a memory it has two and the third is left out."""
    if memory is not None:
        return cast("MemoryStep", step)
    plain = cast("StepFunction", step)
    return lambda token_ids, state, _: plain(token_ids, state)


def static_vocabulary_size(logits: Tensor) -> int:
    """The last dimension of the logits.

    Raises:
        ValueError: A graph is traced in which it is unknown.
    """
    vocabulary_size = logits.shape[-1]
    if vocabulary_size is None:
        raise ValueError("the last dimension of the logits must be static: reshape them to (..., vocabulary_size)")
    return int(vocabulary_size)


class Limits(NamedTuple):
    """Least and greatest length of a hypothesis, EOS counted, BOS not; (B,) int32 each."""

    min_length: Tensor
    max_length: Tensor


def limits_per_sentence(min_length: int | Tensor, max_length: int | Tensor, batch_size: int | Tensor) -> Limits:
    """The limits of each sentence, from ints or (B,) tensors."""
    minimum, maximum = (
        ops.broadcast_to(ops.cast(ops.convert_to_tensor(limit), "int32"), (batch_size,))
        for limit in (min_length, max_length)
    )
    return Limits(minimum, maximum)


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


class SearchResult(NamedTuple):
    """The hypotheses of every sentence, best first. N is the number asked for, K unless told otherwise.

    A hypothesis that does not exist (a small vocabulary has few continuations, or the logits were not numbers) comes
    after all others, with score and log probability −inf, length 0 and all PAD.
    """

    token_ids: Tensor
    """(B, N, T) int32: without BOS, with EOS, then PAD. T is the number of steps that the batch took."""
    scores: Tensor
    """(B, N) float32: log probability / length penalty."""
    log_probs: Tensor
    """(B, N) float32: sum of the log probabilities of all tokens, EOS among them."""
    lengths: Tensor
    """(B, N) int32: tokens, EOS counted."""


def tidy_result(result: SearchResult, *, pad_id: int) -> SearchResult:
    """The result with the hypotheses that do not exist blanked out, and PAD after the others."""
    exists = result.scores > -float("inf")
    places = ops.arange(ops.shape(result.token_ids)[2], dtype="int32")
    real = exists[:, :, None] & (places < result.lengths[:, :, None])  # (B, N, T)
    return SearchResult(
        token_ids=ops.where(real, result.token_ids, pad_id),
        scores=result.scores,
        log_probs=ops.where(exists, result.log_probs, -float("inf")),
        lengths=ops.where(exists, result.lengths, 0),
    )


LEAVING_SHARE = 0.125
"""The share of the sentences in a batch that leave together: taking the rows of all others costs about as much as a
step saves by so many fewer."""

Rows = TypeVar("Rows")


def let_leave(
    live: Tensor, rows: Rows, found: SearchResult, result: SearchResult, *, sentences: Tensor, early: bool
) -> tuple[Rows, SearchResult]:
    """Take the sentences that are done from the batch, if they are many, or all.

    Args:
        live: (b,) bool, the sentences that are not done.
        rows: A nest of tensors that begin with b.
        found: What was found so far for the b sentences, t tokens each.
        result: What was found for the B sentences of the beginning, as far as they have left.
        sentences: (b,) int32, the places of the b sentences in `result`.
        early: Whether some may leave while others stay.

    Returns:
        The rows that stay, and the result with what left.
    """
    count = ops.sum(ops.cast(live, "int32"))
    size = ops.shape(live)[0]
    most = ops.cast(ops.cast(size, "float32") * (1.0 - LEAVING_SHARE), "int32") if early else 0

    def leave() -> tuple[Rows, SearchResult]:
        (kept,) = ops.nonzero(live)
        stay = keras.tree.map_structure(lambda leaf: ops.take(leaf, kept, axis=0), rows)
        return stay, write_result(result, found, sentences)

    return ops.cond(count <= most, leave, lambda: (rows, result))


def empty_result(batch_size: int | Tensor, num_hypotheses: int) -> SearchResult:
    """Nothing found yet for B sentences."""
    shape = (batch_size, num_hypotheses)
    nothing = ops.full(shape, -float("inf"), dtype="float32")
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


_SMALLEST_BLOCKED_VOCABULARY = 512
"""Below this size a plain top-k is as fast."""


class TopTokens(NamedTuple):
    """The best tokens of every row, best first; of equal ones, the lower id first."""

    log_probs: Tensor
    """(..., C) float32, normalised over the whole vocabulary."""
    token_ids: Tensor
    """(..., C) int32."""
    log_normalizers: Tensor
    """(..., 1) float32: what has to be subtracted from a logit of the row to make it a log probability."""


def top_tokens(logits: Tensor, count: int) -> TopTokens:
    """Finds the `count` best tokens of every row and their log probabilities.

    A top-k over a long row is slow on a processor (4.5 ms for 320 rows of 8,000). The rows are cut into blocks
    instead: the best `count` tokens lie in the `count` blocks with the greatest maxima, so one cheap reduction leaves
    two short top-k (1.3 ms). The maxima also serve the normaliser, which is subtracted from the few tokens found.

    Args:
        logits: (R, V) float32, V static.
        count: C, tokens a row; at most V.

    Returns:
        The tokens, C a row.
    """
    size = block_size(logits.shape[-1], count)
    if size is None:
        best, token_ids = ops.top_k(logits, count)
    else:
        best, token_ids = _top_k_in_blocks(logits, count, size)
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
    num_rows, vocabulary_size = ops.shape(logits)[0], logits.shape[-1]
    num_blocks = -(-vocabulary_size // size)
    if num_blocks * size > vocabulary_size:
        padding = ops.full((num_rows, num_blocks * size - vocabulary_size), -float("inf"), dtype=logits.dtype)
        logits = ops.concatenate([logits, padding], axis=-1)
    blocks = ops.reshape(logits, (num_rows * num_blocks, size))
    maxima = ops.reshape(ops.max(blocks, axis=-1), (num_rows, num_blocks))
    _, chosen = ops.top_k(maxima, count, sorted=False)
    # In rising order, so that of equal logits the lower id wins, as in a top-k over the row.
    chosen = ops.sort(chosen, axis=-1)  # (R, C)
    rows = ops.arange(num_rows, dtype="int32")[:, None]  # (R, 1)
    survivors = ops.take(blocks, chosen + rows * num_blocks, axis=0)  # (R, C, size)
    best, places = ops.top_k(ops.reshape(survivors, (num_rows, count * size)), count)
    block_of_best = ops.take(ops.reshape(chosen, (-1,)), places // size + rows * count, axis=0)
    token_ids = block_of_best * size + places % size
    # A row that is no number has no order: keep padding out of what a model will look up.
    return best, ops.minimum(token_ids, vocabulary_size - 1)
