"""What follows from the lengths of sentences: which go together, and how long their translations may be."""

import math
from collections.abc import Sequence

import numpy as np

from nmt.config import SearchSettings
from nmt.settings.section import AUTO

MAX_SOURCE_LENGTH = 2048
"""Tokens of one line that are read, EOS not counted: attention takes memory by the square of them."""

BATCH_TOKENS = 16384
"""Padded source tokens of all batches that are translated side by side, so that long lines fit into memory."""


def plan_batches(
    lengths: Sequence[int] | np.ndarray, *, batch_size: int, at_once: int = 1, batch_tokens: int = BATCH_TOKENS
) -> list[np.ndarray]:
    """Put sentences of like length together, the longest first, so that too little memory shows at once.

    Args:
        lengths: tokens of each sentence.
        batch_size: sentences per batch, at most; fewer if they are long, or if some of the batches that are
            translated side by side would have none.
        at_once: batches side by side.
        batch_tokens: padded tokens of all of these.

    Returns:
        The places of the sentences of each batch, each place once.
    """
    batches: list[np.ndarray] = []
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    batch_size = min(batch_size, -(-len(order) // at_once))
    while len(order):
        longest = max(1, int(lengths[order[0]]))
        size = max(1, min(batch_size, batch_tokens // at_once // longest))
        batches.append(order[:size])
        order = order[size:]
    return batches


def length_limits(source_lengths: np.ndarray, settings: SearchSettings) -> tuple[np.ndarray, np.ndarray]:
    """Compute the limits of each translation from the length of its source.

    Args:
        source_lengths: (B,) tokens, EOS counted.
        settings: ratios, offset and absolute bounds.

    Returns:
        Least and greatest length of each translation in tokens, EOS counted, (B,) int32 each.
    """
    longest = settings.settled_max_length
    relative = np.floor(settings.settled_max_length_ratio * source_lengths) + settings.max_length_offset
    least = np.maximum(np.floor(settings.min_length_ratio * source_lengths), settings.min_length)
    least = np.minimum(least, longest)
    greatest = np.clip(np.maximum(relative, least), 1, longest)  # what is asked for at least is allowed
    return least.astype(np.int32), greatest.astype(np.int32)


def length_penalty(num_tokens: int, exponent: float, offset: float) -> float:
    """What a log probability is divided by, outside of the search; see `nmt.search.beam.penalty`."""
    return ((offset + num_tokens) / (offset + 1)) ** exponent


def settle_limits(
    settings: SearchSettings, source_lengths: np.ndarray, target_lengths: np.ndarray, *, max_source_length: int
) -> SearchSettings:
    """Find what `auto` is for limits of length, from pairs that training sees.

    The ratio is the smallest number of hundredths, 1.5 or more, with which all pairs but one in 1,000 are allowed. The
    greatest length lets it hold for sources of training's length, but beyond the longest source that is read it does
    not follow: a few odd pairs must not let a model that repeats itself go on for ever.

    Args:
        settings: limits that are numbers stay.
        source_lengths: (N,) tokens of each source, EOS counted.
        target_lengths: (N,) likewise.
        max_source_length: that training reads, EOS counted.
    """
    ratio, offset = settings.max_length_ratio, settings.max_length_offset
    if ratio == AUTO:
        source, beyond = source_lengths.astype(np.int32), target_lengths.astype(np.int32) - offset
        # floor(a * S) + offset >= T for a whole T exactly if a >= (T - offset) / S
        needed = np.maximum(-(-100 * beyond // source), math.ceil(100 * settings.settled_max_length_ratio))
        spared = len(needed) // 1000
        hundredths = int(np.partition(needed, -1 - spared)[-1 - spared])
        # As a float a * S may be just below a whole number, which `length_limits` then rounds down.
        while np.count_nonzero(np.floor(hundredths / 100 * source) < beyond) > spared:
            hundredths += 1
        ratio = hundredths / 100
    length = settings.max_length
    if length == AUTO:
        allowed = math.floor(ratio * max_source_length) + offset
        length = max(settings.settled_max_length, max_source_length, min(allowed, MAX_SOURCE_LENGTH + 1))
    return settings.model_copy(update={"max_length_ratio": ratio, "max_length": length})
