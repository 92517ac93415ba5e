"""The encoded token store: a training corpus as token ids on disk, encoded once.

An epoch then costs reading, and a corpus larger than memory works: of each pair, only its two lengths are in memory. A
store is a folder whose name ends in a key made of all that decides its content: path, size and time of each file, the
tokenizers, the length limit. The same key is the same store, so a second start finds it without reading the corpus.
If files were moved, touched or compressed, the corpus is read and hashed, but not encoded again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from nmt.atomic_files import new_directory
from nmt.data.corpus import BY_ENDING, SIDES, ContentHash, Corpus, CorpusReport, Layout, Reader, reader_of
from nmt.data.encoding import (
    NO_FILTERS,
    TEXT_DTYPES,
    BlockEncoder,
    PairFilters,
    encode_blocks,
    length_dtype,
    processes_for,
    token_dtype,
)
from nmt.data.sequences import Sequences, StoredSequences
from nmt.errors import DataError
from nmt.kinds import imported_files
from nmt.text.pair import TextPair
from nmt.types import PathLike

MANIFEST = "manifest.json"
WEIGHTS = "weights"
"""The file with the weight of each pair in the training loss, float32, of a corpus that has such."""

_TEXTS = tuple(f"{side}_text" for side in SIDES)
"""The names of files with the text of both sides, where it is kept."""

_LINKS = "links"
"""The name of files with the links of each pair, which are kept with the text."""


def build_store_folder(
    folder: Path,
    corpus: Corpus,
    *,
    text: TextPair,
    max_length: int,
    filters: PairFilters = NO_FILTERS,
    keep_text: bool = False,
    processes: int = 1,
    report_pairs: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Encode a corpus into an existing folder; return what its manifest says of the content.

    Args:
        folder: where the files go.
        corpus: what is encoded.
        text: the tokenizers.
        max_length: tokens per side, EOS not counted; longer pairs are dropped and counted.
        filters: what else is dropped and counted.
        keep_text: whether the text is kept beside the ids.
        processes: how many encode; the files are the same for any number.
        report_pairs: told every now and then how many pairs were read and encoded so far.

    Raises:
        DataError: the corpus cannot be used (see `Corpus.pairs`), no pair of it remains, or a process was killed.
        OSError: the disk refuses.
    """
    report, content_hash = CorpusReport(0, 0, 0, 0, 0, max_length), ContentHash()
    described: dict[str, dict[str, Any]] = {}
    for name, tokenizer in zip(SIDES, (text.source, text.target), strict=True):
        dtypes = {"token_dtype": token_dtype(tokenizer).str, "length_dtype": length_dtype(max_length).str}
        described[name] = {"pairs": 0, "tokens": 0, **dtypes, "lengths_crc32": 0}
    texts = _TEXTS if corpus.layout.links is None else (*_TEXTS, _LINKS)
    for name in texts if keep_text else ():
        dtypes = dict(zip(("token_dtype", "length_dtype"), (dtype.str for dtype in TEXT_DTYPES), strict=True))
        described[name] = {"pairs": 0, "tokens": 0, **dtypes, "lengths_crc32": 0}

    text_blocks, weights_crc32 = content_hash.blocks(corpus.rows()), 0
    encoded_blocks = encode_blocks(
        text_blocks, BlockEncoder(text, max_length, filters, keep_text), processes=processes, folder=folder
    )
    with ExitStack() as stack:
        stack.enter_context(closing(encoded_blocks))
        files = [
            [stack.enter_context((folder / f"{name}.{kind}").open("wb")) for kind in ("records", "lengths")]
            for name in described
        ]
        is_weighed = corpus.layout.weight_column is not None
        weights = stack.enter_context((folder / WEIGHTS).open("wb")) if is_weighed else None
        for block in encoded_blocks:
            report += block.report
            for (records, lengths), found, side in zip(files, described.values(), block.sides, strict=True):
                records.write(side.records)
                lengths.write(side.lengths)
                found["pairs"] = report.kept
                found["tokens"] += side.tokens
                found["lengths_crc32"] = zlib.crc32(side.lengths, found["lengths_crc32"])
            if weights is not None:
                weights.write(block.weights)
                weights_crc32 = zlib.crc32(block.weights, weights_crc32)
            if report_pairs is not None:
                report_pairs(report.pairs_read)
    if not report.kept:
        sources, targets = (", ".join(paths) for paths in corpus.paths)
        raise DataError(
            f"no pair of {sources} and {targets} is left to train on: {report.pairs_read:,} read, {report.reasons()}"
            + (": raise max_length" if report.dropped_too_long else "")
        )
    found = {"sides": described, "report": vars(report), "content_hash": content_hash.hexdigest()}
    return {**found, "weights_crc32": weights_crc32} if is_weighed else found


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
        weights: of each pair in the training loss, (N,) float32, above 0; None if all count alike.
        texts: the N lines of each side in UTF-8, as bytes, and if the corpus has them the links of each pair; empty if
            they are not kept.
    """

    path: Path
    source: Sequences
    target: Sequences
    report: CorpusReport
    content_hash: str
    weights: np.ndarray | None = None
    texts: tuple[StoredSequences, ...] = ()

    def __len__(self) -> int:
        """Number of pairs (N)."""
        return len(self.source)

    @property
    def sides(self) -> tuple[Sequences, Sequences]:
        """Source and target."""
        return self.source, self.target

    @property
    def longest(self) -> int:
        """Tokens of the longest side of a pair, EOS counted."""
        return int(max(self.source_lengths.max(), self.target_lengths.max()))

    @property
    def longest_sides(self) -> tuple[int, int]:
        """Tokens of the longest source and target that a batch may have, EOS counted; varied pairs may grow."""
        if self.texts:
            return self.report.max_length + 1, self.report.max_length + 1
        return int(self.source_lengths.max()), int(self.target_lengths.max())

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
    filters: PairFilters = NO_FILTERS,
    layout: Layout = BY_ENDING,
    keep_text: bool = False,
    keep_others: bool = False,
    processes: int | None = None,
    report_pairs: Callable[[int], None] | None = None,
) -> TokenStore:
    """Open the token store of a corpus; encode the corpus first if its text was not encoded yet.

    A large corpus is encoded by several processes, and the store is the same, byte for byte. Building happens in a
    temporary folder that gets its name when it is whole, under a lock: a build that is killed leaves nothing that could
    be taken for a store, and of two runs that need the same store one waits for the other.

    Args:
        directory: where stores lie.
        source_paths: the source side, a path or several.
        target_paths: the target side.
        text: the tokenizers.
        max_length: tokens per side, EOS not counted; longer pairs are dropped and counted.
        filters: what else is dropped and counted.
        layout: how files hold both sides, see `Corpus`.
        keep_text: whether the text is kept beside the ids.
        keep_others: leave the stores of other corpora and tokenizers in the directory, because other runs use them;
            else a new store replaces them.
        processes: how many processes encode, at most; as many as there are cores (at most 8) unless given. A corpus
            of a few megabytes is encoded by this process alone.
        report_pairs: told every now and then, while the corpus is encoded, how many pairs are done.

    Raises:
        DataError: the corpus cannot be used (see `Corpus.pairs`), nothing of it remains, the disk refuses, or a process
            that encodes was killed.
    """
    corpus = Corpus(source_paths, target_paths, layout=layout)
    settings = _settings(corpus, text, max_length, filters, keep_text)
    path = _place(directory, settings)

    def build(folder: Path) -> None:
        content = _link_equal(path, settings, corpus, folder)
        if content is None:
            number = processes_for([*dict.fromkeys(chain(*corpus.paths))], at_most=processes)
            content = build_store_folder(
                folder,
                corpus,
                text=text,
                max_length=max_length,
                filters=filters,
                keep_text=keep_text,
                processes=number,
                report_pairs=report_pairs,
            )
        manifest = json.dumps({"settings": settings, **content}, indent=2)
        (folder / MANIFEST).write_text(manifest, encoding="utf-8")

    try:
        if (store := _open_folder(path)) is None:  # no lock yet: who shares a directory need not write there
            with _lock(path.parent):
                if (store := _open_folder(path)) is None:  # another run may have built it meanwhile
                    for leftover in list(path.parent.glob(f".*{_STORES}*")):  # of builds that were killed
                        shutil.rmtree(leftover)
                    with new_directory(path, overwrite=True) as folder:
                        build(folder)
                    if not keep_others:
                        delete_stores(path.parent, keep=[path])
                    store = _open_folder(path)
    except OSError as error:
        raise DataError(f"{path}: the token store cannot be written or read: {error.strerror or error}") from error
    if store is None:
        raise DataError(f"{path}: the token store was written but is not whole: is the disk full or failing?")
    return store


def delete_stores(directory: PathLike, *, keep: Sequence[Path]) -> None:
    """Delete the stores of a directory but some."""
    for stale in set(Path(directory).glob(_STORES)) - {*keep}:
        shutil.rmtree(stale, ignore_errors=True)


def find_store(
    directory: PathLike,
    source_paths: PathLike | Sequence[PathLike],
    target_paths: PathLike | Sequence[PathLike],
    *,
    text: TextPair,
    max_length: int,
    filters: PairFilters = NO_FILTERS,
    layout: Layout = BY_ENDING,
    keep_text: bool = False,
) -> TokenStore | None:
    """Open the token store of a corpus if it was built already, writing nothing; the arguments are `open_store`'s.

    Raises:
        DataError: a file of the corpus is missing.
    """
    corpus = Corpus(source_paths, target_paths, layout=layout)
    return _open_folder(_place(directory, _settings(corpus, text, max_length, filters, keep_text)))


def _settings(corpus: Corpus, text: TextPair, max_length: int, filters: PairFilters, keep_text: bool) -> dict[str, Any]:
    """All that decides the content of a store."""
    links = corpus.layout.links
    return {
        "format_version": _FORMAT_VERSION,
        "source_files": [_describe_file(path, corpus.layout) for path in corpus.paths[0]],
        "target_files": [_describe_file(path, corpus.layout) for path in corpus.paths[1]],
        "source_tokenizer": text.source.fingerprint,
        "target_tokenizer": text.target.fingerprint,
        "max_length": max_length,
        **({} if filters == NO_FILTERS else {"filters": filters._asdict()}),
        **({} if corpus.layout.weight_column is None else {"loss_weight_column": corpus.layout.weight_column}),
        **({"text": True} if keep_text else {}),
        **(
            {} if links is None else {"alignment": [*links[1:]], "alignment_files": [*map(_describe_file, links.files)]}
        ),
    }


def _link_equal(path: Path, settings: dict[str, Any], corpus: Corpus, folder: Path) -> dict[str, Any] | None:
    """Give the files of a store that was built alike from the same text a second place.

    Its text lay in other files or was dated otherwise. Nobody changes the files of a store. Return what
    its manifest says of its content; None if there is no such store.
    """
    content_hash = None
    for store in set(path.parent.glob(_STORES)) - {path}:
        with suppress(OSError, KeyError, TypeError, ValueError):  # what is damaged is passed over
            manifest: dict[str, Any] = json.loads((store / MANIFEST).read_text(encoding="utf-8"))
            both = manifest["settings"], settings
            one, other = ({key: each[key] for key in each if "_files" not in key} for each in both)
            alike = one == other
            if alike and _open_folder(store) is not None:
                content_hash = content_hash or corpus.content_hash()
                if manifest["content_hash"] == content_hash:
                    break
    else:
        return None
    names = [f"{side}.{kind}" for side in manifest["sides"] for kind in ("records", "lengths")]
    for name in names if corpus.layout.weight_column is None else [*names, WEIGHTS]:
        try:
            os.link(store / name, folder / name)
        except OSError:  # not every file system has links
            shutil.copyfile(store / name, folder / name)
    del manifest["settings"]
    return manifest


def _place(directory: PathLike, settings: dict[str, Any]) -> Path:
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode("utf-8")).hexdigest()[:_KEY_LENGTH]
    return Path(directory) / f"train-{key}"


def _open_folder(path: Path) -> TokenStore | None:
    """The store in a folder, or None if there is none that is whole."""
    sides = []
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        for name in manifest["sides"]:
            described, content = manifest["sides"][name], (path / f"{name}.lengths").read_bytes()
            if zlib.crc32(content) != described["lengths_crc32"]:
                return None
            lengths = np.frombuffer(content, dtype=described["length_dtype"])
            dtype = np.dtype(described["token_dtype"])
            sides.append(StoredSequences(path / f"{name}.records", lengths, token_dtype=dtype))
        weights, (source, target, *texts) = None, sides
        if "loss_weight_column" in manifest["settings"]:
            weights = np.frombuffer((path / WEIGHTS).read_bytes(), dtype=np.float32)
            if zlib.crc32(weights.tobytes()) != manifest["weights_crc32"] or len(weights) != len(source):
                return None
        report = CorpusReport(**manifest["report"])
        return TokenStore(path, source, target, report, manifest["content_hash"], weights, tuple(texts))
    except (OSError, KeyError, TypeError, ValueError):
        return None


def _describe_file(path: str, layout: Layout = BY_ENDING) -> list[Any]:
    try:
        status = os.stat(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    reader = reader_of(path, layout)
    own = [] if reader is None else [f"{reader.__module__}.{reader.__qualname__}", *_hash_of(reader), *layout[:3]]
    return [os.path.abspath(path), status.st_size, status.st_mtime_ns, *own]


def _hash_of(reader: Reader) -> list[str]:
    """The hash of the file that was imported with a reader: a reader that has changed reads another text."""
    return [imported.sha256 for imported in imported_files() if imported.module == reader.__module__]


@contextmanager
def _lock(directory: Path) -> Iterator[None]:
    """Hold the stores of a directory; the system lets go of the lock when the process ends, however it ends."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".train.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
