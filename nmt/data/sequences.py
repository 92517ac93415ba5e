"""Many token sequences in one flat array: the form in which text is held in memory and cut into batches."""

from __future__ import annotations

import os
import weakref
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeAlias

import numpy as np

from nmt.errors import DataError
from nmt.text.pair import TextPair
from nmt.text.sentencepiece_tokenizer import Segmentations, segmentations
from nmt.types import PAD_ID


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


CHECKSUM_BYTES = 4

_BLOCK = 32
"""One in so many sequences has its place in memory, the others are counted from there: 1/4 byte a sequence."""

_INTACT = zlib.crc32(zlib.crc32(b"").to_bytes(CHECKSUM_BYTES, "little"))
"""The CRC-32 of whatever is followed by its own CRC-32 (Williams 1993, "A painless guide to CRC", chapter 9)."""


def record_of(token_ids: bytes) -> bytes:
    """What lies in the file for one sequence."""
    return token_ids + zlib.crc32(token_ids).to_bytes(CHECKSUM_BYTES, "little")


class StoredSequences:
    """N sequences in a file of records.

    Args:
        path: the file; it is opened here, and may be deleted while it is in use.
        lengths: (N,) tokens of each sequence, of an unsigned or signed integer type; not copied.
        token_dtype: of the token ids in the file, of 2 or 4 bytes.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is not as long as the lengths say.
    """

    def __init__(self, path: Path, lengths: np.ndarray, *, token_dtype: np.dtype) -> None:
        self.lengths = lengths
        self._path = path
        self._dtype = token_dtype
        self._starts = self._places_of_blocks()  # (N / _BLOCK,) bytes
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._file)
        size = int(lengths.sum(dtype=np.int64)) * token_dtype.itemsize + len(lengths) * CHECKSUM_BYTES
        if os.fstat(self._file).st_size != size:
            raise ValueError(f"{path}: must have {size:,} bytes, got {os.fstat(self._file).st_size:,}")

    def __len__(self) -> int:
        """Number of sequences (N)."""
        return len(self.lengths)

    def __getitem__(self, index: int) -> np.ndarray:
        """One sequence, (length,) int32.

        Raises:
            DataError: it cannot be read, or is not what was written.
        """
        return self.padded(np.array([index]))[0][0]

    def padded(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Some of the sequences as the rows of one array.

        Args:
            indices: (B,) which sequences, in which order.

        Returns:
            token ids (B, longest) int32 with PAD behind each sequence, and the mask (B, longest), True = real token.

        Raises:
            DataError: a sequence cannot be read, or is not what was written.
        """
        lengths = self.lengths[indices].astype(np.int64)
        checksum_cells = CHECKSUM_BYTES // self._dtype.itemsize
        longest = int(lengths.max())
        columns = np.arange(longest + checksum_cells)
        cells = np.frombuffer(b"".join(self._records(indices, lengths)), dtype=self._dtype)
        token_ids = np.zeros((len(indices), len(columns)), dtype=np.int32)  # (B, longest + checksum)
        token_ids[columns < lengths[:, None] + checksum_cells] = cells
        mask = columns[:longest] < lengths[:, None]  # (B, longest)
        return np.where(mask, token_ids[:, :longest], np.int32(PAD_ID)), mask

    def contents(self, indices: np.ndarray) -> list[bytes]:
        """The bytes of some of the sequences, (B,) of them.

        Raises:
            DataError: a sequence cannot be read, or is not what was written.
        """
        return [record[:-CHECKSUM_BYTES] for record in self._records(indices, self.lengths[indices].astype(np.int64))]

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
        tokens = np.where(before, self.lengths[np.minimum(columns, len(self) - 1)], 0).sum(axis=1, dtype=np.int64)
        return self._starts[blocks] + tokens * self._dtype.itemsize + (indices % _BLOCK) * CHECKSUM_BYTES

    def _places_of_blocks(self) -> np.ndarray:
        """Where each block of sequences begins in the file, (blocks,) bytes."""
        firsts = np.arange(0, len(self.lengths), _BLOCK)
        tokens = np.add.reduceat(self.lengths, firsts, dtype=np.int64)
        sizes = tokens * self._dtype.itemsize + _BLOCK * CHECKSUM_BYTES  # all blocks but the last are full
        return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes)[:-1]])


Sequences: TypeAlias = TokenSequences | StoredSequences
"""N token sequences, in memory or in a file."""

_SEQUENCES_AT_A_TIME = 2**13
"""So many are measured at a time: a few megabytes of temporary arrays."""


class SampledSequences:
    """The N sequences of one side of a corpus, cut anew in each epoch.

    None becomes longer than the longest of the corpus is in its best segmentation: what would goes beyond that is left
    whole, by chance. So the longest pair, which limits of length and memory are about, stays the longest.

    Args:
        sequences: in their best segmentation.
        table: the cuts of each piece.
        seed: integers of 0 or more, other ones for each side and each run.
    """

    def __init__(self, sequences: Sequences, table: Segmentations, *, seed: Sequence[int]) -> None:
        self._sequences = sequences
        self._table = table
        self._seed = tuple(seed)
        self._longest = int(sequences.lengths.max())

    def lengths(self, epoch: int) -> np.ndarray:
        """Tokens of each sequence in an epoch, (N,); a pass over the whole corpus."""
        return self.lengths_of(np.arange(len(self._sequences.lengths), dtype=np.uint32), epoch=epoch)

    def lengths_of(self, indices: np.ndarray, *, epoch: int) -> np.ndarray:
        """Tokens of some of the sequences, (n,) of them, in an epoch."""
        lengths = np.empty(len(indices), self._sequences.lengths.dtype)
        for start in range(0, len(lengths), _SEQUENCES_AT_A_TIME):
            block = slice(start, start + _SEQUENCES_AT_A_TIME)
            lengths[block] = self._lengths_of(*self._cuts(indices[block], epoch))
        return lengths

    def draw(self, indices: np.ndarray, *, epoch: int) -> TokenSequences:
        """Some of the sequences, (B,) of them, as they are cut in an epoch."""
        rows, cuts = self._cuts(indices, epoch)
        starts, sizes = self._table.offsets[cuts], self._table.sizes[cuts]
        places = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        offsets = np.zeros(len(indices) + 1, np.int64)
        np.cumsum(self._lengths_of(rows, cuts), out=offsets[1:])
        return TokenSequences(self._table.token_ids[np.repeat(starts, sizes) + places], offsets)

    def _lengths_of(self, rows: np.ndarray, cuts: np.ndarray) -> np.ndarray:
        """Tokens of each row, (B,) int64; every row has a token at least, its EOS."""
        return np.add.reduceat(self._table.sizes[cuts], np.flatnonzero(np.diff(rows, prepend=-1)))

    def _cuts(self, indices: np.ndarray, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The cut of each token of some sequences in an epoch: its row of B, rising, and the number of the cut."""
        padded, mask = self._sequences.padded(indices)
        rows, columns = np.nonzero(mask)
        token_ids = padded[mask]
        draws, order = np.random.SeedSequence([*self._seed, epoch]).generate_state(2, np.uint64)
        places = (indices[rows].astype(np.uint64) << np.uint64(32)) | columns.astype(np.uint64)
        cuts = self._table.draw(token_ids, uniform(draws, places))
        too_long = np.flatnonzero((self._lengths_of(rows, cuts) > self._longest)[rows])
        if len(too_long):
            chance = uniform(order, places[too_long])
            whole = too_long[self._beyond(rows[too_long], self._table.sizes[cuts[too_long]], chance)]
            cuts[whole] = self._table.bounds[token_ids[whole]]
        return rows, cuts

    def _beyond(self, rows: np.ndarray, sizes: np.ndarray, chance: np.ndarray) -> np.ndarray:
        """Which cuts of too long rows have to be taken back: in the order of chance, they stay while there is room."""
        order = np.lexsort((chance, rows))
        _, begins, lengths = np.unique(rows, return_index=True, return_counts=True)
        used = np.cumsum(sizes[order] - 1)
        used -= np.repeat(used[begins] - (sizes[order] - 1)[begins], lengths)
        return order[used > np.repeat(self._longest - lengths, lengths)]


def uniform(seed: np.uint64, places: np.ndarray) -> np.ndarray:
    """Return numbers in [0, 1), (n,): of the generator SplitMix64 those at n places (Steele, Lea and Flood 2014)."""
    return (mixed(seed + places * GOLDEN) >> np.uint64(11)) * 2.0**-53  # modulo 2^64


GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""The step of SplitMix64 from one state to the next."""


def mixed(state: np.ndarray) -> np.ndarray:
    """Return what SplitMix64 makes of states, (n,) uint64: the same for the same state, and of no visible pattern."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def segmentations_of(text: TextPair, alpha: float | None) -> tuple[Segmentations, Segmentations] | None:
    """List the cuts of the pieces of source and target; None if the best segmentation is always to be used.

    Raises:
        ConfigError: a tokenizer is not a unigram model of SentencePiece.
    """
    if alpha is None:
        return None
    source = segmentations(text.source, alpha=alpha)
    return source, source if text.joint else segmentations(text.target, alpha=alpha)
