"""Token sequences in a file, of which only the lengths are in memory.

What is needed is read, not mapped: a mapping counts as memory to `ulimit -v` and to some schedulers, so a corpus larger
than memory could not be opened. Each sequence lies in the file as a record, its token ids and their CRC-32, which is
checked whenever it is read: a bit that flips on the disk ends the run instead of being learned.
"""

from __future__ import annotations

import os
import weakref
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nmt.data.sequences import check_index
from nmt.errors import DataError
from nmt.types import PAD_ID

CHECKSUM_BYTES = 4

_BLOCK = 32
"""One in so many sequences has its place in memory, the others are counted from there: 1/4 byte a sequence."""

_INTACT = zlib.crc32(zlib.crc32(b"").to_bytes(CHECKSUM_BYTES, "little"))
"""The CRC-32 of whatever is followed by its own CRC-32 (Williams 1993, "A painless guide to CRC", chapter 9)."""


def record_of(token_ids: bytes) -> bytes:
    """What lies in the file for one sequence."""
    return token_ids + zlib.crc32(token_ids).to_bytes(CHECKSUM_BYTES, "little")


def size_of_records(tokens: int, sequences: int, token_dtype: np.dtype) -> int:
    """Bytes of the file of so many sequences with so many tokens in all."""
    return tokens * token_dtype.itemsize + sequences * CHECKSUM_BYTES


class StoredSequences:
    """N sequences in a file of records.

    Args:
        path: the file; it is opened here, and may be deleted while it is in use.
        lengths: (N,) tokens of each sequence, of an unsigned or signed integer type.
        token_dtype: of the token ids in the file, of 2 or 4 bytes.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is not as long as the lengths say.
    """

    def __init__(self, path: Path, lengths: np.ndarray, *, token_dtype: np.dtype) -> None:
        self._path = path
        self._lengths = lengths
        self._dtype = token_dtype
        self._starts = self._places_of_blocks()  # (N / _BLOCK,) bytes
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._file)
        size = size_of_records(int(lengths.sum(dtype=np.int64)), len(lengths), token_dtype)
        if os.fstat(self._file).st_size != size:
            raise ValueError(f"{path}: must have {size:,} bytes, got {os.fstat(self._file).st_size:,}")

    def __len__(self) -> int:
        """Number of sequences (N)."""
        return len(self._lengths)

    def __getitem__(self, index: int) -> np.ndarray:
        """One sequence, (length,) int32.

        Raises:
            DataError: it cannot be read, or is not what was written.
        """
        check_index(index, len(self))
        return self.padded(np.array([index]))[0][0]

    @property
    def lengths(self) -> np.ndarray:
        """Length of each sequence in tokens, (N,) of the narrowest type that holds them; not a copy."""
        return self._lengths

    def padded(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Some of the sequences as the rows of one array.

        Args:
            indices: (B,) which sequences, in which order.

        Returns:
            token ids (B, longest) int32 with PAD behind each sequence, and the mask (B, longest), True = real token.

        Raises:
            DataError: a sequence cannot be read, or is not what was written.
        """
        lengths = self._lengths[indices].astype(np.int64)
        checksum_cells = CHECKSUM_BYTES // self._dtype.itemsize
        longest = int(lengths.max())
        columns = np.arange(longest + checksum_cells)
        cells = np.frombuffer(b"".join(self._records(indices, lengths)), dtype=self._dtype)
        token_ids = np.zeros((len(indices), len(columns)), dtype=np.int32)  # (B, longest + checksum)
        token_ids[columns < lengths[:, None] + checksum_cells] = cells
        mask = columns[:longest] < lengths[:, None]  # (B, longest)
        return np.where(mask, token_ids[:, :longest], np.int32(PAD_ID)), mask

    def _records(self, indices: np.ndarray, lengths: np.ndarray) -> list[bytes]:
        """The records of some sequences of these lengths, proved."""
        places = self._places(indices).tolist()
        sizes = (lengths * self._dtype.itemsize + CHECKSUM_BYTES).tolist()
        try:
            records = [os.pread(self._file, size, place) for size, place in zip(sizes, places, strict=True)]
        except OSError as error:
            raise DataError(f"{self._path}: the token store cannot be read: {error.strerror}") from error
        checksums = list(map(zlib.crc32, records))
        if checksums.count(_INTACT) != len(checksums):
            damaged = int(indices[next(row for row, checksum in enumerate(checksums) if checksum != _INTACT)])
            raise DataError(
                f"{self._path}: sequence {damaged:,} of the token store is not what was written there: "
                f"check the disk and delete {self._path.parent}, the next start encodes the corpus again"
            )
        return records

    def _places(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Where the records of some sequences begin in the file, (B,) bytes."""
        indices = np.asarray(indices, dtype=np.int64)
        blocks = indices // _BLOCK
        columns = (blocks * _BLOCK)[:, None] + np.arange(_BLOCK)  # (B, _BLOCK), the sequences of each one's block
        before = columns < indices[:, None]
        tokens = np.where(before, self._lengths[np.minimum(columns, len(self) - 1)], 0).sum(axis=1, dtype=np.int64)
        return self._starts[blocks] + tokens * self._dtype.itemsize + (indices % _BLOCK) * CHECKSUM_BYTES

    def _places_of_blocks(self) -> np.ndarray:
        """Where each block of sequences begins in the file, (blocks,) bytes."""
        firsts = np.arange(0, len(self._lengths), _BLOCK)
        tokens = np.add.reduceat(self._lengths, firsts, dtype=np.int64)
        sizes = tokens * self._dtype.itemsize + _BLOCK * CHECKSUM_BYTES  # all blocks but the last are full
        return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes)[:-1]])
