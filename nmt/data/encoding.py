"""Encoding a block of raw pairs into what lies in the files of a token store."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nmt.data.stored_sequences import record_of
from nmt.text.pair import TextPair
from nmt.text.tokenizer import Tokenizer
from nmt.text.vocabulary import EOS_ID

_WIDEST_NARROW = int(np.iinfo(np.uint16).max)


class EncodedSide(NamedTuple):
    """One side of some pairs.

    Attributes:
        lengths: tokens of each sequence, EOS counted, as bytes of the type of `length_dtype`.
        records: what lies in the file of the side, see `nmt.data.stored_sequences`.
        tokens: tokens in all, EOS counted.
    """

    lengths: bytes
    records: bytes
    tokens: int


class EncodedBlock(NamedTuple):
    """What became of some pairs.

    Attributes:
        kept: pairs that training sees.
        dropped_empty: pairs with a side that holds nothing but white space.
        dropped_nul: pairs with a NUL character.
        dropped_too_long: pairs with a side of more than `max_length` tokens.
        source: the source side of the pairs kept.
        target: the target side of the pairs kept.
    """

    kept: int
    dropped_empty: int
    dropped_nul: int
    dropped_too_long: int
    source: EncodedSide
    target: EncodedSide


@dataclass(frozen=True)
class BlockEncoder:
    """Turns raw pairs into records; the same pairs give the same bytes wherever it runs.

    Attributes:
        text: the tokenizers.
        max_length: tokens a side, EOS not counted; longer pairs are dropped.
    """

    text: TextPair
    max_length: int

    def encode(self, source_lines: Sequence[str], target_lines: Sequence[str]) -> EncodedBlock:
        """Encode the B pairs of two lists of lines of the same length, in order."""
        nul = empty = too_long = 0
        usable = []
        for pair in zip(source_lines, target_lines, strict=True):
            if "\0" in pair[0] or "\0" in pair[1]:
                nul += 1
            elif not pair[0].strip() or not pair[1].strip():
                empty += 1
            else:
                usable.append(pair)
        kept = []
        sources = self.text.source.encode_batch([source for source, _ in usable])
        targets = self.text.target.encode_batch([target for _, target in usable])
        for source, target in zip(sources, targets, strict=True):
            if not source or not target:  # white space to the tokenizer, such as a lone U+200B
                empty += 1
            elif len(source) > self.max_length or len(target) > self.max_length:
                too_long += 1
            else:
                kept.append((source, target))
        sides = [
            self._lay(tokenizer, [pair[side] for pair in kept])
            for side, tokenizer in enumerate((self.text.source, self.text.target))
        ]
        return EncodedBlock(len(kept), empty, nul, too_long, *sides)

    def _lay(self, tokenizer: Tokenizer, sequences: Sequence[Sequence[int]]) -> EncodedSide:
        """Close each sequence by EOS and lay their records one behind the other."""
        code = token_dtype(tokenizer).char
        records = b"".join([record_of(array(code, [*sequence, EOS_ID]).tobytes()) for sequence in sequences])
        lengths = np.array([len(sequence) + 1 for sequence in sequences], dtype=length_dtype(self.max_length))
        return EncodedSide(lengths.tobytes(), records, int(lengths.sum(dtype=np.int64)))


def token_dtype(tokenizer: Tokenizer) -> np.dtype:
    """The narrowest type that holds the ids of a tokenizer: uint16 or int32."""
    return np.dtype(np.uint16 if len(tokenizer.vocabulary) <= 1 + _WIDEST_NARROW else np.int32)


def length_dtype(max_length: int) -> np.dtype:
    """The narrowest type that holds the length of a sequence and its EOS: uint16 or int32."""
    return np.dtype(np.uint16 if max_length < _WIDEST_NARROW else np.int32)
