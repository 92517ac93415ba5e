"""Building a token store: corpus in, flat files out, never more than a block of lines in memory."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from nmt.data.content_hash import ContentHash, blocks
from nmt.data.corpus import read_pairs
from nmt.data.report import CorpusReport
from nmt.errors import DataError
from nmt.text.pair import TextPair
from nmt.text.tokenizer import Tokenizer
from nmt.text.vocabulary import EOS_ID

MANIFEST = "manifest.json"
SIDES = ("source", "target")


def build_store_folder(
    folder: Path,
    source_paths: list[str],
    target_paths: list[str],
    *,
    text: TextPair,
    max_length: int,
    settings: dict[str, Any],
) -> None:
    """Encode a corpus into an existing folder; the manifest is written last, when all else is on the disk.

    Raises:
        DataError: the corpus cannot be used (see `read_pairs`), or no pair of it remains.
        OSError: the disk refuses.
    """
    counts: Counter[str] = Counter()
    content_hash = ContentHash()
    writers = (_SideWriter(folder, "source", text.source), _SideWriter(folder, "target", text.target))
    with writers[0], writers[1]:
        for block in blocks(read_pairs(source_paths, target_paths)):
            counts["pairs_read"] += len(block)
            content_hash.update(block)
            _write_block([pair for pair in block if _usable(pair, counts)], writers, max_length, counts)
    reasons = ("dropped_empty", "dropped_nul", "dropped_too_long")
    report = CorpusReport(
        pairs_read=counts["pairs_read"],
        kept=writers[0].pairs,
        max_length=max_length,
        **{reason: counts[reason] for reason in reasons},
    )
    if not report.kept:
        raise DataError(
            f"no pair of {', '.join(source_paths)} and {', '.join(target_paths)} is left to train on: "
            f"{report.pairs_read:,} read, {report.reasons()}"
            + (": raise max_length" if report.dropped_too_long else "")
        )
    manifest = {
        "settings": settings,
        "sides": {writer.side: writer.describe() for writer in writers},
        "report": vars(report),
        "content_hash": content_hash.hexdigest(),
    }
    with (folder / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=2)
        file.flush()
        os.fsync(file.fileno())


class _SideWriter:
    """Appends the token sequences of one side to its two files: token ids, and where each sequence begins."""

    def __init__(self, folder: Path, side: str, tokenizer: Tokenizer) -> None:
        self.side = side
        self.tokenizer = tokenizer
        self.pairs = 0
        self._tokens = 0
        self._dtype = np.uint16 if len(tokenizer.vocabulary) <= 1 + np.iinfo(np.uint16).max else np.int32
        self._token_ids = (folder / f"{side}.token_ids").open("wb")
        self._offsets = (folder / f"{side}.offsets").open("wb")
        self._offsets.write(np.zeros(1, dtype=np.int64).tobytes())

    def __enter__(self) -> _SideWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in (self._token_ids, self._offsets):
            if error is None:
                file.flush()
                os.fsync(file.fileno())
            file.close()

    def write(self, sequences: Sequence[Sequence[int]]) -> None:
        """Append sequences, each closed by EOS."""
        ends = self._tokens + np.cumsum([len(sequence) + 1 for sequence in sequences], dtype=np.int64)
        if not len(ends):
            return
        closed = chain.from_iterable(chain(sequence, (EOS_ID,)) for sequence in sequences)
        token_ids = np.fromiter(closed, dtype=self._dtype, count=int(ends[-1]) - self._tokens)
        self._token_ids.write(token_ids.tobytes())
        self._offsets.write(ends.tobytes())
        self.pairs += len(sequences)
        self._tokens = int(ends[-1])

    def describe(self) -> dict[str, Any]:
        """What the manifest says about this side."""
        return {"pairs": self.pairs, "tokens": self._tokens, "dtype": np.dtype(self._dtype).name}


def _usable(pair: tuple[str, str], counts: Counter[str]) -> bool:
    """Whether a pair can be encoded; what is dropped is counted."""
    source, target = pair
    if "\0" in source or "\0" in target:
        counts["dropped_nul"] += 1
        return False
    if not source.strip() or not target.strip():
        counts["dropped_empty"] += 1
        return False
    return True


def _write_block(
    pairs: list[tuple[str, str]], writers: tuple[_SideWriter, _SideWriter], max_length: int, counts: Counter[str]
) -> None:
    encoded = [writer.tokenizer.encode_batch([pair[side] for pair in pairs]) for side, writer in enumerate(writers)]
    kept = []
    for source, target in zip(*encoded, strict=True):
        if not source or not target:  # white space to the tokenizer, such as a lone U+200B
            counts["dropped_empty"] += 1
        elif len(source) > max_length or len(target) > max_length:
            counts["dropped_too_long"] += 1
        else:
            kept.append((source, target))
    for side, writer in enumerate(writers):
        writer.write([pair[side] for pair in kept])
