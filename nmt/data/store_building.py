"""Building a token store: corpus in, flat files out, never more than a few blocks of lines in memory."""

from __future__ import annotations

import json
import os
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any

from nmt.data.content_hash import ContentHash, TextBlock, blocks
from nmt.data.corpus import read_pairs
from nmt.data.encoding import BlockEncoder, EncodedSide, length_dtype, token_dtype
from nmt.data.parallel_encoding import encode_blocks
from nmt.data.report import CorpusReport
from nmt.errors import DataError
from nmt.text.pair import TextPair
from nmt.text.tokenizer import Tokenizer

MANIFEST = "manifest.json"
SIDES = ("source", "target")

_DROPPED = ("dropped_empty", "dropped_nul", "dropped_too_long")


def build_store_folder(
    folder: Path,
    source_paths: list[str],
    target_paths: list[str],
    *,
    text: TextPair,
    max_length: int,
    settings: dict[str, Any],
    processes: int = 1,
    report_pairs: Callable[[int], None] | None = None,
) -> None:
    """Encode a corpus into an existing folder; the manifest is written last, when all else is on the disk.

    Args:
        folder: where the files go.
        source_paths: the source side.
        target_paths: the target side.
        text: the tokenizers.
        max_length: tokens a side, EOS not counted; longer pairs are dropped and counted.
        settings: what the manifest says about where the store came from.
        processes: how many encode; the files are the same for any number.
        report_pairs: told every now and then how many pairs were read and encoded so far.

    Raises:
        DataError: the corpus cannot be used (see `read_pairs`), no pair of it remains, or a process was killed.
        OSError: the disk refuses.
    """
    counts: Counter[str] = Counter()
    content_hash = ContentHash()
    encoder = BlockEncoder(text, max_length)
    writers = [_SideWriter(folder, side, tokenizer, max_length) for side, tokenizer in _sides(text)]

    def hashed(block: TextBlock) -> TextBlock:
        content_hash.update(block)
        counts["pairs_read"] += len(block)
        return block

    text_blocks = map(hashed, blocks(read_pairs(source_paths, target_paths)))
    encoded_blocks = encode_blocks(text_blocks, encoder, processes=processes, folder=folder)
    with writers[0], writers[1], closing(encoded_blocks):
        for block in encoded_blocks:
            counts.update(kept=block.kept, **{reason: getattr(block, reason) for reason in _DROPPED})
            for writer, side in zip(writers, (block.source, block.target), strict=True):
                writer.write(side)
            if report_pairs is not None:
                report_pairs(counts["kept"] + sum(counts[reason] for reason in _DROPPED))
    report = CorpusReport(**{name: counts[name] for name in ("pairs_read", "kept", *_DROPPED)}, max_length=max_length)
    _refuse_nothing(report, source_paths, target_paths)
    manifest = {
        "settings": settings,
        "sides": {writer.side: writer.describe(report.kept) for writer in writers},
        "report": vars(report),
        "content_hash": content_hash.hexdigest(),
    }
    with (folder / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=2)
        file.flush()
        os.fsync(file.fileno())


class _SideWriter:
    """Appends encoded pairs to the two files of one side: the records, and the length of each sequence."""

    def __init__(self, folder: Path, side: str, tokenizer: Tokenizer, max_length: int) -> None:
        self.side = side
        self._dtypes = {"token_dtype": token_dtype(tokenizer).str, "length_dtype": length_dtype(max_length).str}
        self._tokens = 0
        self._checksum = 0
        self._records = (folder / f"{side}.records").open("wb")
        self._lengths = (folder / f"{side}.lengths").open("wb")

    def __enter__(self) -> _SideWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in (self._records, self._lengths):
            if error is None:
                file.flush()
                os.fsync(file.fileno())
            file.close()

    def write(self, side: EncodedSide) -> None:
        """Append the sequences of some pairs."""
        self._records.write(side.records)
        self._lengths.write(side.lengths)
        self._checksum = zlib.crc32(side.lengths, self._checksum)
        self._tokens += side.tokens

    def describe(self, pairs: int) -> dict[str, Any]:
        """What the manifest says about this side."""
        return {"pairs": pairs, "tokens": self._tokens, **self._dtypes, "lengths_crc32": self._checksum}


def _sides(text: TextPair) -> list[tuple[str, Tokenizer]]:
    return list(zip(SIDES, (text.source, text.target), strict=True))


def _refuse_nothing(report: CorpusReport, source_paths: list[str], target_paths: list[str]) -> None:
    if report.kept:
        return
    raise DataError(
        f"no pair of {', '.join(source_paths)} and {', '.join(target_paths)} is left to train on: "
        f"{report.pairs_read:,} read, {report.reasons()}" + (": raise max_length" if report.dropped_too_long else "")
    )
