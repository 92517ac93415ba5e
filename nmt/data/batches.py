"""Batches of token ids: plans of what pairs they hold, and their arrays."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nmt.data.sequences import Sequences, TokenSequences
from nmt.errors import ConfigError
from nmt.text.pair import TextPair
from nmt.text.vocabulary import BOS_ID, EOS_ID
from nmt.types import PAD_ID

_PIECE_PAIRS = 2**18
"""As many pairs at a time are worked on: their temporary arrays stay in the processor's caches."""


@dataclass(frozen=True)
class BatchPlan:
    """The batches of one epoch.

    Attributes:
        pairs: (N,) int32 (int64 beyond 2^31 pairs), the indices of the pairs, batch after batch.
        bounds: (number of batches, 2) int64; batch i holds `pairs[bounds[i, 0]:bounds[i, 1]]`.
    """

    pairs: np.ndarray
    bounds: np.ndarray

    def __len__(self) -> int:
        """Number of batches."""
        return len(self.bounds)

    def __getitem__(self, batch: int) -> np.ndarray:
        """Indices of the pairs of one batch, (B,)."""
        start, end = self.bounds[batch]
        return self.pairs[start:end]


def plan_epoch(
    source_lengths: np.ndarray, target_lengths: np.ndarray, *, batch_tokens: int, seed: int, epoch: int
) -> BatchPlan:
    """Plan an epoch: each pair once, in batches of similar lengths, in random order; the same for the same arguments.

    Args:
        source_lengths: (N,) tokens of each source, EOS counted.
        target_lengths: (N,) tokens of each target, EOS counted.
        batch_tokens: no batch of more than one pair holds more padded tokens of its longer side.
        seed: of the run.
        epoch: which epoch, from 0.
    """
    lengths = source_lengths, target_lengths
    return plan_batches(*lengths, batch_tokens=batch_tokens, generator=np.random.default_rng([seed, epoch]))


def plan_batches(
    source_lengths: np.ndarray, target_lengths: np.ndarray, *, batch_tokens: int, generator: np.random.Generator
) -> BatchPlan:
    """Plan batches of similar lengths in random order, each pair once; the lengths are those of `plan_epoch`."""
    # Neighbours of the order have similar lengths, so that batches cut from it hold little padding.
    pairs = _random_order(source_lengths, target_lengths, batch_tokens=batch_tokens, generator=generator)
    # A first batch of another size moves all cuts, so that no pairs share their batch in every epoch.
    longest = np.maximum(source_lengths, target_lengths)
    bounds = cut(longest[pairs], batch_tokens=batch_tokens, first_share=1.0 - 0.5 * generator.random())
    # Training sees short and long batches mixed.
    return BatchPlan(pairs, bounds[generator.permutation(len(bounds))])


def plan_in_length_order(source_lengths: np.ndarray, target_lengths: np.ndarray, *, batch_tokens: int) -> BatchPlan:
    """Plan batches without chance, short pairs first; a pair longer than `batch_tokens` is a batch of its own."""
    longest = np.maximum(source_lengths, target_lengths)
    pairs = np.lexsort((target_lengths, source_lengths, longest))
    return BatchPlan(pairs, cut(longest[pairs], batch_tokens=batch_tokens, first_share=1.0))


def cut(longest: np.ndarray, *, batch_tokens: int, first_share: float) -> np.ndarray:
    """Cut an order of pairs into batches, each as large as `batch_tokens` allows.

    Args:
        longest: (N,) tokens of the longer side of each pair, in order.
        batch_tokens: largest (number of pairs) * (longest pair) of a batch of more than one pair.
        first_share: size of the first batch, as a share of `batch_tokens`; it moves all cuts after it.

    Returns:
        (number of batches, 2) int64: begin and end of each batch.
    """
    ends: list[int] = []
    start, limit = 0, int(batch_tokens * first_share)
    while start < len(longest):
        # No batch holds more pairs than if all were as long as its first one; how many less, the longest so far tells.
        window = longest[start : start + max(1, limit // int(longest[start]))]
        cells = np.maximum.accumulate(window) * np.arange(1, len(window) + 1)  # rises, so it can be searched
        start += max(1, int(np.searchsorted(cells, limit, side="right")))
        ends.append(start)
        limit = batch_tokens
    return np.stack([np.array([0, *ends[:-1]], dtype=np.int64), np.array(ends, dtype=np.int64)], axis=1)


def _random_order(
    source_lengths: np.ndarray, target_lengths: np.ndarray, *, batch_tokens: int, generator: np.random.Generator
) -> np.ndarray:
    """All pairs in one order in which neighbours have similar lengths, (N,)."""
    # The lengths of one side divide the pairs into strips, those of the other order them within a strip.
    outer, inner = target_lengths, source_lengths
    if generator.random() < 0.5:
        outer, inner = inner, outer
    strip_of_length = _strips(outer, inner, batch_tokens=batch_tokens, phase=generator.random())
    # Every other strip runs downwards, so that the end of one and the begin of the next have similar lengths too.
    width = int(inner.max()) + 1
    upwards = (strip_of_length + generator.integers(2)) % 2 == 0
    # Pairs of equal lengths come in the order of a shuffle.
    count = len(outer)
    shuffled = np.arange(count, dtype=np.int32 if count <= 2**31 else np.int64)
    generator.shuffle(shuffled)
    # Cell and place in one number: no two are equal, so any sort gives the same order on every machine, and the order
    # of pairs of one cell is that of the shuffle. Sorting numbers is faster than sorting indices, and half the memory.
    place_bits = np.int64(count.bit_length())
    keys = np.empty(count, dtype=np.int64)
    for piece in _pieces(count):
        pairs = shuffled[piece]
        strip, length = strip_of_length[outer[pairs]], inner[pairs].astype(np.int64)
        cell = strip * width + np.where(upwards[outer[pairs]], length, width - 1 - length)
        keys[piece] = (cell << place_bits) | np.arange(piece.start, piece.stop)
    # The lower bits of a sorted key say where in the shuffle the pair stands.
    keys.sort()
    order = np.empty_like(shuffled)
    for piece in _pieces(count):
        order[piece] = shuffled[keys[piece] & ((1 << place_bits) - 1)]
    return order


def _strips(outer: np.ndarray, inner: np.ndarray, *, batch_tokens: int, phase: float) -> np.ndarray:
    """The strip of each length of the outer side, (largest length + 1,); strips hold about the same number of tokens.

    Padding comes from the width of a strip on one side, and from the range of lengths within a batch on the other. With
    n batches the two balance near sqrt(n) strips; measured on image captions, sqrt(2 n) is best or nearly so for
    batches of 512 to 25,000 tokens.
    """
    # Tokens of all pairs, by the length of their outer side.
    tokens_of_length = np.zeros(int(outer.max()) + 1)
    for piece in _pieces(len(outer)):
        longest = np.maximum(outer[piece], inner[piece])
        tokens_of_length += np.bincount(outer[piece], weights=longest, minlength=len(tokens_of_length))
    # A length belongs to the strip in which the middle of its tokens falls; the phase moves the borders.
    total = tokens_of_length.sum()
    number_of_strips = max(1.0, np.sqrt(2.0 * total / batch_tokens))
    middle = np.cumsum(tokens_of_length) - tokens_of_length / 2.0
    strip = np.floor(middle / total * number_of_strips + phase).astype(np.int64)
    return np.unique(strip, return_inverse=True)[1]  # without gaps, so that neighbours run in opposite directions


def _pieces(count: int) -> Iterator[slice]:
    """Slices of a few pairs each, together all of them."""
    for start in range(0, count, _PIECE_PAIRS):
        yield slice(start, min(start + _PIECE_PAIRS, count))


class Batch(NamedTuple):
    """Token ids of B pairs, int32, PAD behind each sequence.

    Attributes:
        source_ids: (B, S), closed by EOS.
        target_input_ids: (B, T), BOS and the target without its EOS: what the decoder reads.
        target_output_ids: (B, T), the target closed by EOS: what the decoder is to write.
        weights: (B, 1) float32, of the pairs in the training loss; None if all count alike.
    """

    source_ids: np.ndarray
    target_input_ids: np.ndarray
    target_output_ids: np.ndarray
    weights: np.ndarray | None = None


EMPTY_BATCH = Batch(np.array([[EOS_ID]], np.int32), np.array([[BOS_ID]], np.int32), np.array([[PAD_ID]], np.int32),
                    np.ones((1, 1), np.float32))  # fmt: skip
"""What a replica gets in a round that has no batch for it: nothing that counts, as its only target is padding."""


def refuse_long_pairs(longest: int, batch_tokens: int) -> None:
    """Refuse batches that would not hold the longest pair, whose tokens are counted with EOS.

    Raises:
        ConfigError: saying how long it is.
    """
    if longest > batch_tokens:
        raise ConfigError(
            f"batch_tokens must hold the longest pair, {longest} tokens with EOS, got {batch_tokens}: "
            "raise batch_tokens or lower max_length"
        )


def evaluation_batches(
    pairs: Sequence[tuple[str, str]], *, text: TextPair, batch_tokens: int, tag: str | None = None
) -> list[Batch]:
    """All pairs of a validation or test corpus as batches, none dropped, short ones first.

    An empty line is a sequence of EOS alone. A pair longer than `batch_tokens` is a batch of its own.

    Args:
        pairs: lines of both sides, at least one pair.
        text: the tokenizers.
        batch_tokens: padded tokens of the longer side in one batch.
        tag: of `text`, to be put before each sequence of its side.
    """
    sides = zip((text.source, text.target), zip(*pairs, strict=True), text.begins(tag), strict=True)
    source, target = (
        TokenSequences.from_lists([[*begin, *ids, EOS_ID] for ids in tokenizer.encode_batch(lines)])
        for tokenizer, lines, begin in sides
    )
    plan = plan_in_length_order(source.lengths, target.lengths, batch_tokens=batch_tokens)
    return [assemble(source, target, plan[i]) for i in range(len(plan))]


def assemble(source: Sequences, target: Sequences, indices: np.ndarray) -> Batch:
    """Some pairs as a batch.

    Args:
        source: sequences closed by EOS.
        target: sequences closed by EOS.
        indices: (B,) which pairs.
    """
    return teacher_forced(source.padded(indices)[0], *target.padded(indices))


def teacher_forced(source_ids: np.ndarray, target_output_ids: np.ndarray, target_mask: np.ndarray) -> Batch:
    """The batch of source ids (B, S), and of target ids (B, T) with their mask."""
    target_input_ids = np.empty_like(target_output_ids)
    target_input_ids[:, 0] = BOS_ID
    target_input_ids[:, 1:] = target_output_ids[:, :-1]
    target_input_ids[~target_mask] = PAD_ID  # the EOS of shorter targets, moved one place to the right
    return Batch(source_ids, target_input_ids, target_output_ids)
