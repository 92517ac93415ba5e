"""The encoded token store: a training corpus as token ids on disk, encoded once.

An epoch then costs reading, and a corpus larger than memory works: of each pair, only its two lengths are in memory. A
store is a folder whose name ends in a key made of all that decides its content: path, size and time of each file, the
tokenizers, the length limit. The same key is the same store, so a second start finds it without reading the corpus.
Where files were moved, touched or compressed, the corpus is read and hashed, but not encoded again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nmt.data.corpus import ContentHash, CorpusReport, TextBlock, as_paths, blocks, hash_corpus, read_pairs
from nmt.data.encoding import BlockEncoder, EncodedSide, encode_blocks, length_dtype, processes_for, token_dtype
from nmt.data.sequences import Sequences, StoredSequences
from nmt.errors import DataError
from nmt.text.pair import TextPair
from nmt.text.tokenizer import Tokenizer
from nmt.types import PathLike

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
    report, content_hash = CorpusReport(0, 0, 0, 0, 0, max_length), ContentHash()
    encoder = BlockEncoder(text, max_length)
    tokenizers = zip(SIDES, (text.source, text.target), strict=True)
    writers = [_SideWriter(folder, side, tokenizer, max_length) for side, tokenizer in tokenizers]

    def hashed(block: TextBlock) -> TextBlock:
        content_hash.update(block)
        return block

    text_blocks = map(hashed, blocks(read_pairs(source_paths, target_paths)))
    encoded_blocks = encode_blocks(text_blocks, encoder, processes=processes, folder=folder)
    with writers[0], writers[1], closing(encoded_blocks):
        for block in encoded_blocks:
            report += block.report
            for writer, side in zip(writers, (block.source, block.target), strict=True):
                writer.write(side)
            if report_pairs is not None:
                report_pairs(report.pairs_read)
    if not report.kept:
        raise DataError(
            f"no pair of {', '.join(source_paths)} and {', '.join(target_paths)} is left to train on: "
            f"{report.pairs_read:,} read, {report.reasons()}"
            + (": raise max_length" if report.dropped_too_long else "")
        )
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

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for file in (self._records, self._lengths):
            with file:
                if kind is None:
                    file.flush()
                    os.fsync(file.fileno())

    def write(self, side: EncodedSide) -> None:
        """Append the sequences of some pairs."""
        self._records.write(side.records)
        self._lengths.write(side.lengths)
        self._checksum = zlib.crc32(side.lengths, self._checksum)
        self._tokens += side.tokens

    def describe(self, pairs: int) -> dict[str, Any]:
        """What the manifest says about this side."""
        return {"pairs": pairs, "tokens": self._tokens, **self._dtypes, "lengths_crc32": self._checksum}


_FORMAT_VERSION = 2
_KEY_LENGTH = 16

_STORES = f"train-{'?' * _KEY_LENGTH}"
"""The names of stores."""


@dataclass(frozen=True)
class TokenStore:
    """The pairs that training sees, as token ids, each side closed by EOS.

    Attributes:
        path: the folder it lies in.
        source: the N source sequences.
        target: the N target sequences.
        report: how many pairs were read, kept and dropped.
        content_hash: SHA-256 of the text of the whole corpus, both sides; the same whether it was compressed or not.
    """

    path: Path
    source: Sequences
    target: Sequences
    report: CorpusReport
    content_hash: str

    def __len__(self) -> int:
        """Number of pairs (N)."""
        return len(self.source)

    @property
    def source_lengths(self) -> np.ndarray:
        """Tokens of each source, EOS counted, (N,) uint16 or int32."""
        return self.source.lengths

    @property
    def target_lengths(self) -> np.ndarray:
        """Tokens of each target, EOS counted, (N,) uint16 or int32."""
        return self.target.lengths


def open_store(
    directory: PathLike,
    source_paths: PathLike | Sequence[PathLike],
    target_paths: PathLike | Sequence[PathLike],
    *,
    text: TextPair,
    max_length: int,
    keep_others: bool = False,
    processes: int | None = None,
    report_pairs: Callable[[int], None] | None = None,
) -> TokenStore:
    """Open the token store of a corpus; encode the corpus first where its text was not encoded yet.

    A large corpus is encoded by several processes, and the store is the same, byte for byte. Building happens in a
    temporary folder that gets its name when it is whole, under a lock: a build that is killed leaves nothing that could
    be taken for a store, and of two runs that need the same store one waits for the other.

    Args:
        directory: where stores lie.
        source_paths: the source side, a path or several.
        target_paths: the target side.
        text: the tokenizers.
        max_length: tokens a side, EOS not counted; longer pairs are dropped and counted.
        keep_others: leave the stores of other corpora and tokenizers in the directory, because other runs use them;
            else a new store replaces them.
        processes: how many processes encode, at most; as many as there are cores (at most 8) unless given. A corpus
            of a few megabytes is encoded by this process alone.
        report_pairs: told every now and then, while the corpus is encoded, how many pairs are done.

    Raises:
        DataError: the corpus cannot be used (see `read_pairs`), nothing of it remains, the disk refuses, or a process
            that encodes was killed.
    """
    sources, targets = as_paths(source_paths), as_paths(target_paths)
    settings = _settings(sources, targets, text, max_length)
    path = _place(directory, settings)

    def build(folder: Path) -> None:
        build_store_folder(
            folder, sources, targets, text=text, max_length=max_length, settings=settings,
            processes=processes_for([*sources, *targets], at_most=processes), report_pairs=report_pairs,
        )  # fmt: skip

    try:
        store = _open_folder(path)  # without the lock: who shares a directory need not be able to write there
        if store is None:
            with _lock(Path(directory)):
                store = _open_folder(path)  # another run may have built it meanwhile
                if store is None:
                    equal = _find_equal(path, settings, sources, targets)
                    fill = build if equal is None else partial(_link_files, equal, settings=settings)
                    _build(path, fill, keep_others=keep_others)
                    store = _open_folder(path)
    except OSError as error:
        raise DataError(f"{path}: the token store cannot be written or read: {error.strerror or error}") from error
    if store is None:
        raise DataError(f"{path}: the token store was written but is not whole: is the disk full or failing?")
    return store


def find_store(
    directory: PathLike,
    source_paths: PathLike | Sequence[PathLike],
    target_paths: PathLike | Sequence[PathLike],
    *,
    text: TextPair,
    max_length: int,
) -> TokenStore | None:
    """Open the token store of a corpus if it was built already, writing nothing; the arguments are `open_store`'s.

    Raises:
        DataError: a file of the corpus is missing.
    """
    settings = _settings(as_paths(source_paths), as_paths(target_paths), text, max_length)
    try:
        return _open_folder(_place(directory, settings))
    except OSError:  # `open_store` says what is wrong, when it has to
        return None


def _settings(source_paths: list[str], target_paths: list[str], text: TextPair, max_length: int) -> dict[str, Any]:
    """All that decides the content of a store."""
    return {
        "format_version": _FORMAT_VERSION,
        "source_files": [_describe_file(path) for path in source_paths],
        "target_files": [_describe_file(path) for path in target_paths],
        "source_tokenizer": text.source.fingerprint,
        "target_tokenizer": text.target.fingerprint,
        "max_length": max_length,
    }


def _find_equal(path: Path, settings: dict[str, Any], source_paths: list[str], target_paths: list[str]) -> Path | None:
    """A store that was built alike from the same text, which lay in other files or was dated otherwise."""
    content_hash = None
    for folder in path.parent.glob(_STORES):
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            alike = all(manifest["settings"][name] == settings[name] for name in settings if "_files" not in name)
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if folder != path and alike and _open_folder(folder) is not None:
            content_hash = content_hash or hash_corpus(source_paths, target_paths)
            if manifest["content_hash"] == content_hash:
                return folder
    return None


def _link_files(store: Path, folder: Path, *, settings: dict[str, Any]) -> None:
    """Give the files of a store, which nobody changes, a second place; the manifest says where the text lies now."""
    for name in (f"{side}.{kind}" for side in SIDES for kind in ("records", "lengths")):
        try:
            os.link(store / name, folder / name)
        except OSError:  # not every file system has links
            shutil.copyfile(store / name, folder / name)
    manifest = json.loads((store / MANIFEST).read_text(encoding="utf-8")) | {"settings": settings}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")


def _place(directory: PathLike, settings: dict[str, Any]) -> Path:
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode("utf-8")).hexdigest()[:_KEY_LENGTH]
    return Path(directory) / f"train-{key}"


def _build(path: Path, build: Callable[[Path], None], *, keep_others: bool) -> None:
    """Write a store beside its place, put it there with one rename, and only then remove what it replaces."""
    for leftover in list(path.parent.glob(f".building-{_STORES}")):
        shutil.rmtree(leftover)
    temporary = path.with_name(f".building-{path.name}")
    temporary.mkdir()
    try:
        build(temporary)
        shutil.rmtree(path, ignore_errors=True)  # there only where it was damaged
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for stale in list(path.parent.glob(_STORES)):
        if stale != path and not keep_others:
            shutil.rmtree(stale, ignore_errors=True)


def _open_folder(path: Path) -> TokenStore | None:
    """The store in a folder, or None where there is none that is whole."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        source, target = (_open_side(path, side, manifest["sides"][side]) for side in SIDES)
        return TokenStore(path, source, target, CorpusReport(**manifest["report"]), manifest["content_hash"])
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError, KeyError, TypeError, ValueError):
        return None


def _open_side(path: Path, side: str, description: dict[str, Any]) -> StoredSequences:
    """Open the two files of one side; ValueError where they are not those of the manifest."""
    content = (path / f"{side}.lengths").read_bytes()
    if zlib.crc32(content) != description["lengths_crc32"]:
        raise ValueError("the lengths are not those that were written")
    lengths = np.frombuffer(content, dtype=description["length_dtype"])
    if len(lengths) != description["pairs"]:
        raise ValueError("the lengths are not as many as the manifest says")
    return StoredSequences(path / f"{side}.records", lengths, token_dtype=np.dtype(description["token_dtype"]))


def _describe_file(path: str) -> list[Any]:
    try:
        status = os.stat(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    return [os.path.abspath(path), status.st_size, status.st_mtime_ns]


@contextmanager
def _lock(directory: Path) -> Iterator[None]:
    """Hold the stores of a directory; the system lets go of the lock when the process ends, however it ends."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".train.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:  # some network drives have no locks
            raise DataError(
                f"{file.name}: cannot be locked: {error.strerror}: choose a model_directory on a disk that has locks"
            ) from error
        yield
