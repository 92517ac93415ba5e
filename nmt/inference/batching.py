"""Which sentences are translated together, and how long their translations may become."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nmt.config import SearchSettings

MAX_SOURCE_LENGTH = 2048
"""Tokens of one line that are read, EOS not counted: attention takes memory by the square of them."""

BATCH_TOKENS = 16384
"""Padded source tokens of all batches that are translated side by side, so that long lines fit into memory."""


def plan_batches(lengths: Sequence[int] | np.ndarray, *, batch_size: int, at_once: int = 1) -> list[np.ndarray]:
    """Put sentences of like length together, the longest first, so that too little memory shows at once.

    Args:
        lengths: tokens of each sentence.
        batch_size: sentences a batch, at most; fewer where they are long (`BATCH_TOKENS`), or where some of the batches
            that are translated side by side would have none.
        at_once: batches side by side.

    Returns:
        The places of the sentences of each batch, each place once.
    """
    batches: list[np.ndarray] = []
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    batch_size = min(batch_size, -(-len(order) // at_once))
    start = 0
    while start < len(order):
        longest = max(1, int(lengths[order[start]]))
        size = max(1, min(batch_size, BATCH_TOKENS // at_once // longest))
        batches.append(order[start : start + size])
        start += size
    return batches


def length_limits(source_lengths: np.ndarray, settings: SearchSettings) -> tuple[np.ndarray, np.ndarray]:
    """Compute the limits of each translation from the length of its source.

    Args:
        source_lengths: (B,) tokens, EOS counted.
        settings: ratios, offset and absolute bounds.

    Returns:
        Least and greatest length of each translation in tokens, EOS counted, (B,) int32 each.
    """
    relative = np.floor(settings.max_length_ratio * source_lengths) + settings.max_length_offset
    least = np.maximum(np.floor(settings.min_length_ratio * source_lengths), settings.min_length)
    least = np.minimum(least, settings.max_length)
    greatest = np.clip(np.maximum(relative, least), 1, settings.max_length)  # what is asked for at least is allowed
    return least.astype(np.int32), greatest.astype(np.int32)
