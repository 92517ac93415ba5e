"""Many token sequences in one flat array: the form in which text is held in memory and cut into batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import numpy as np

from nmt.types import PAD_ID


class Sequences(Protocol):
    """N token sequences, in memory (`TokenSequences`) or in a file (`StoredSequences`)."""

    def __len__(self) -> int:
        """Number of sequences (N)."""

    def __getitem__(self, index: int) -> np.ndarray:
        """One sequence, (length,) int32."""

    @property
    def lengths(self) -> np.ndarray:
        """Length of each sequence in tokens, (N,) of an integer type."""

    def padded(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Some of the sequences as rows (B, longest) int32, and the mask (B, longest), True = real token."""


@dataclass(frozen=True)
class TokenSequences:
    """N sequences, one behind the other.

    Attributes:
        token_ids: (total tokens,) integers.
        offsets: (N+1,) int64; sequence i is `token_ids[offsets[i]:offsets[i + 1]]`.
    """

    token_ids: np.ndarray
    offsets: np.ndarray

    @classmethod
    def from_lists(cls, sequences: Sequence[Sequence[int]]) -> TokenSequences:
        """Lay lists of token ids one behind the other."""
        offsets = np.zeros(len(sequences) + 1, dtype=np.int64)
        np.cumsum([len(sequence) for sequence in sequences], out=offsets[1:])
        return cls(np.fromiter(chain.from_iterable(sequences), dtype=np.int32, count=int(offsets[-1])), offsets)

    def __len__(self) -> int:
        """Number of sequences (N)."""
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        """One sequence, (length,) int32."""
        check_index(index, len(self))
        return self.token_ids[self.offsets[index] : self.offsets[index + 1]].astype(np.int32)

    @property
    def lengths(self) -> np.ndarray:
        """Length of each sequence in tokens, (N,) int32."""
        return np.diff(self.offsets).astype(np.int32)

    def padded(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Some of the sequences as the rows of one array.

        Args:
            indices: (B,) which sequences, in which order.

        Returns:
            token ids (B, longest) int32 with PAD behind each sequence, and the mask (B, longest), True = real token.
        """
        starts = self.offsets[indices]
        lengths = self.offsets[indices + 1] - starts
        columns = np.arange(int(lengths.max()))
        mask = columns < lengths[:, None]  # (B, longest)
        token_ids = np.full(mask.shape, PAD_ID, dtype=np.int32)
        token_ids[mask] = self.token_ids[(starts[:, None] + columns)[mask]]
        return token_ids, mask


def check_index(index: int, count: int) -> None:
    """Refuse an index that is not in 0 .. count - 1, with IndexError; negative ones do not count from the end."""
    if not 0 <= index < count:
        raise IndexError(f"sequences are 0 to {count - 1}, got {index}")
