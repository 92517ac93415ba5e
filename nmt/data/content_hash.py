"""One number for the text of a whole corpus, the same however its files are compressed, named or dated."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from nmt.data.corpus import read_pairs
from nmt.types import PathLike

_BLOCK_PAIRS = 8192


@dataclass(frozen=True)
class TextBlock:
    """Some pairs of a corpus in a row.

    Attributes:
        source_lines: B lines without their ends.
        target_lines: their translations.
    """

    source_lines: Sequence[str]
    target_lines: Sequence[str]

    def __len__(self) -> int:
        """Number of pairs (B)."""
        return len(self.source_lines)

    @cached_property
    def source(self) -> bytes:
        r"""The source in UTF-8, each line closed by `\n`."""
        return _as_bytes(self.source_lines)

    @cached_property
    def target(self) -> bytes:
        r"""The target in UTF-8, each line closed by `\n`."""
        return _as_bytes(self.target_lines)


class ContentHash:
    """The SHA-256 of the text of a corpus, both sides, given block by block."""

    def __init__(self) -> None:
        self._sides = (hashlib.sha256(), hashlib.sha256())

    def update(self, block: TextBlock) -> None:
        """Take in the next pairs of lines."""
        for content, text in zip(self._sides, (block.source, block.target), strict=True):
            content.update(text)

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


def blocks(pairs: Iterator[tuple[str, str]]) -> Iterator[TextBlock]:
    """Cut a stream of pairs into blocks, so that work is done on many at once and never on all."""
    while block := list(islice(pairs, _BLOCK_PAIRS)):
        yield TextBlock([source for source, _ in block], [target for _, target in block])


def _as_bytes(lines: Sequence[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode("utf-8")
