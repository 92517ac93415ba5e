"""One number for the text of a whole corpus, the same however its files are compressed, named or dated."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice

from nmt.data.corpus import read_pairs
from nmt.types import PathLike

_BLOCK_PAIRS = 8192


class ContentHash:
    """The SHA-256 of the text of a corpus, both sides, given block by block."""

    def __init__(self) -> None:
        self._sides = (hashlib.sha256(), hashlib.sha256())

    def update(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Take in the next pairs of lines."""
        for side, content in enumerate(self._sides):
            content.update("".join(f"{pair[side]}\n" for pair in pairs).encode("utf-8"))

    def hexdigest(self) -> str:
        """The hash of all pairs so far, in hexadecimal."""
        return hashlib.sha256("".join(content.hexdigest() for content in self._sides).encode()).hexdigest()


def hash_corpus(source_paths: PathLike | Sequence[PathLike], target_paths: PathLike | Sequence[PathLike]) -> str:
    """Read a corpus from end to end and return what `TokenStore.content_hash` would be.

    Raises:
        DataError: see `read_pairs`.
    """
    content = ContentHash()
    for block in blocks(read_pairs(source_paths, target_paths)):
        content.update(block)
    return content.hexdigest()


def blocks(pairs: Iterator[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """Cut a stream of pairs into lists, so that work is done on many at once and never on all."""
    while block := list(islice(pairs, _BLOCK_PAIRS)):
        yield block
