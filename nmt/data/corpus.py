r"""Reading parallel text: plain or compressed (gzip, xz, bzip2), one file a side or several.

A line ends at `\n` and nowhere else (a `\r` right before it is dropped), or pairs shift: Python's text mode and
`splitlines` also break at a lone `\r`, U+2028 and U+0085. Every reader of the toolkit goes through `read_lines`.
"""

from __future__ import annotations

import bz2
import hashlib
import lzma
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, BinaryIO

from nmt.errors import DataError, looked_for
from nmt.types import PathLike

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_START_BYTES = 512
_BLOCK_BYTES = 1 << 15

_COMPRESSIONS: dict[str, tuple[re.Pattern[bytes], Callable[[], Any]]] = {
    "gzip": (re.compile(rb"\x1f\x8b"), lambda: zlib.decompressobj(zlib.MAX_WBITS | 16)),
    "xz": (re.compile(rb"\xfd7zXZ\0"), lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ)),
    "bzip2": (re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"), bz2.BZ2Decompressor),
}
"""How a compressed file begins, whatever its name, and what decompresses one stream of it."""

_ENCODINGS = {
    # With a byte order mark, or two characters in a row of which the high bytes are NUL, as those of Latin text are.
    "UTF-32": rb"\xff\xfe\0\0|\0\0\xfe\xff",
    "UTF-32LE": rb"(....)*?([^\0]\0\0\0){2}",
    "UTF-32BE": rb"(....)*?(\0\0\0[^\0]){2}",
    "UTF-16": rb"\xff\xfe|\xfe\xff",
    "UTF-16LE": rb"(..)*?([^\0]\0){2}",
    "UTF-16BE": rb"(..)*?(\0[^\0]){2}",
}

_FOREIGN = {
    re.compile(rb"PK(\x03\x04|\x05\x06)"): "is a zip archive: unpack it first (unzip)",
    re.compile(rb"\x28\xb5\x2f\xfd"): "is compressed by zstd: decompress it first (zstd -d)",
    re.compile(rb"\x5d\0\0"): "is compressed by lzma: decompress it first (unlzma)",
    re.compile(rb"7z\xbc\xaf\x27\x1c"): "is a 7z archive: unpack it first",
    re.compile(rb"(?s).{257}ustar"): "is a tar archive: unpack it first (tar -xf)",
    **{
        re.compile(rb"(?s)" + pattern): f"is {name}: convert it, say with iconv -f {name} -t UTF-8"
        for name, pattern in _ENCODINGS.items()
    },
    **{pattern: f"is compressed by {name} twice: decompress it once" for name, (pattern, _) in _COMPRESSIONS.items()},
}
"""How text begins, decompressed where that can be done, that is something else, and what to do with it."""


def read_lines(path: PathLike) -> Iterator[str]:
    r"""The lines of one file, without their ends; gzip, xz and bzip2 are known by the first bytes.

    Text after the last `\n` is a line too. A byte order mark at the start of the file is dropped.

    Raises:
        DataError: the file is missing, is a directory, is something else than text, is damaged, or holds invalid
            UTF-8; with file and line.
    """
    name, number, kind = os.fspath(path), 0, None
    # A directory opens well on some systems and fails at the first read: refuse it here, everywhere.
    if Path(path).is_dir():
        raise DataError(f"{name}: must be a file, got a directory")
    try:
        with open(path, "rb") as file:
            kind = compression(file.peek(_START_BYTES))
            for number, line in enumerate(file if kind is None else _decompressed_lines(file, kind), start=1):
                yield decode_line(line, name, number)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        if not isinstance(error, OSError) or error.strerror is None:  # raised by what decompresses
            raise DataError(f"{name}, line {number + 1}: the {kind} file is damaged or cut short ({error})") from error
        raise DataError(f"{name}: cannot be read: {error.strerror}{looked_for(path, error)}") from error


def read_pairs(
    source_paths: PathLike | Sequence[PathLike], target_paths: PathLike | Sequence[PathLike]
) -> Iterator[tuple[str, str]]:
    """All pairs of lines of a corpus, in order, none left out.

    Args:
        source_paths: a path, or the paths of several files.
        target_paths: the same number of paths; the n-th file belongs to the n-th of the other side.

    Raises:
        DataError: what `read_lines` raises; the two sides differ in their number of files or lines; a file is empty.
    """
    sources, targets = as_paths(source_paths), as_paths(target_paths)
    if len(sources) != len(targets):
        raise DataError(
            f"both sides of a corpus must have the same number of files, got {len(sources)} source files "
            f"({', '.join(sources)}) and {len(targets)} target files ({', '.join(targets)})"
        )
    for source_path, target_path in zip(sources, targets, strict=True):
        yield from _read_file_pair(source_path, target_path)


def as_paths(paths: PathLike | Sequence[PathLike]) -> list[str]:
    """A path or a list of paths as a list of strings."""
    if isinstance(paths, (str, os.PathLike)):
        return [os.fspath(paths)]
    return [os.fspath(path) for path in paths]


def _read_file_pair(source_path: str, target_path: str) -> Iterator[tuple[str, str]]:
    source_lines, target_lines = read_lines(source_path), read_lines(target_path)
    count = 0
    for source, target in zip_longest(source_lines, target_lines):
        if source is None or target is None:
            rest = 1 + sum(1 for _ in (target_lines if source is None else source_lines))
            source_count, target_count = (count, count + rest) if source is None else (count + rest, count)
            raise DataError(
                "both sides of a corpus must have the same number of lines, "
                f"got {_lines(source_count)} in {source_path} and {_lines(target_count)} in {target_path}"
            )
        if count == 0:
            _refuse_columns(source, source_path)
            _refuse_columns(target, target_path)
        count += 1
        yield source, target
    if count == 0:
        raise DataError(f"a corpus must hold at least one pair of lines, got empty files: {source_path}, {target_path}")


def _refuse_columns(first_line: str, path: str) -> None:
    if "\t" in first_line and Path(path).name.removesuffix(".gz").endswith(".tsv"):
        raise DataError(
            f"{path}: must hold one side of a corpus, one sentence a line, got columns between tabs: split it, say "
            f"with cut -f1 {path} > source.txt and cut -f2 {path} > target.txt"
        )


def compression(start: bytes) -> str | None:
    """How a file is compressed that begins with such bytes."""
    return next((name for name, (pattern, _) in _COMPRESSIONS.items() if pattern.match(start)), None)


def refuse_pipes(files: Mapping[str, Sequence[str]]) -> None:
    """Refuse what can be read only once, before the first time.

    Args:
        files: paths, by the setting that names them.

    Raises:
        DataError: naming the path.
    """
    for name, paths in files.items():
        for path in paths:
            if os.path.exists(path) and stat.S_ISFIFO(os.stat(path).st_mode):
                raise DataError(f"{name}: {path}: must be a file, got a pipe, and it is read more than once")


def decode_line(line: bytes, name: str, number: int) -> str:
    r"""Return the text of a line, without its end.

    Args:
        line: its bytes; a `\n` at the end may be left out.
        name: of the file or stream.
        number: which line of it this is; the first one shows what the file is.

    Raises:
        DataError: it is not UTF-8.
    """
    if number == 1:
        start = line[:_START_BYTES]
        if (reason := next((reason for pattern, reason in _FOREIGN.items() if pattern.match(start)), None)) is not None:
            raise DataError(f"{name}: {reason}")
        line = line.removeprefix(_BYTE_ORDER_MARK)
    try:
        return line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"byte 0x{error.object[error.start]:02x} at position {error.start + 1}"
        raise DataError(
            f"{name}, line {number}: must be valid UTF-8, got {found}: convert it, say with iconv"
        ) from error


def _decompressed_lines(file: BinaryIO, kind: str) -> Iterator[bytes]:
    """Yield the lines of all streams of a compressed file, without their ends.

    Python's own readers of xz and bzip2 take what is damaged behind the first stream for the end of the file.
    """
    begin, decompressor, pending = _COMPRESSIONS[kind][1], None, b""
    while block := file.read(_BLOCK_BYTES):
        while block:
            if decompressor is None:
                block = block.lstrip(b"\0")  # which pads streams
                if not block:
                    break
                decompressor = begin()
            *lines, pending = (pending + decompressor.decompress(block)).split(b"\n")
            yield from lines
            block = b""
            if decompressor.eof:
                block, decompressor = decompressor.unused_data, None
    if decompressor is not None:
        raise EOFError("it ends within a stream")
    if pending:
        yield pending


def _lines(count: int) -> str:
    return "1 line" if count == 1 else f"{count:,} lines"


@dataclass(frozen=True)
class CorpusReport:
    """Counts of pairs; those read are those kept and those dropped.

    Attributes:
        pairs_read: pairs of lines in the corpus.
        kept: pairs that training sees.
        dropped_empty: pairs with a side that holds nothing but white space.
        dropped_nul: pairs with a NUL character.
        dropped_too_long: pairs with a side of more than `max_length` tokens.
        max_length: the limit of tokens a side, EOS not counted.
    """

    pairs_read: int
    kept: int
    dropped_empty: int
    dropped_nul: int
    dropped_too_long: int
    max_length: int

    def __add__(self, other: CorpusReport) -> CorpusReport:
        """Return the counts of two parts of a corpus together."""
        counts = {name: count + getattr(other, name) for name, count in vars(self).items()}
        return CorpusReport(**counts | {"max_length": self.max_length})

    @property
    def dropped(self) -> int:
        """All pairs that training does not see."""
        return self.dropped_empty + self.dropped_nul + self.dropped_too_long

    def describe(self) -> str:
        """One line for logs."""
        line = f"{self.pairs_read:,} pairs read, {self.kept:,} kept, {self.dropped:,} dropped"
        return f"{line}: {self.reasons()}" if self.dropped else line

    def reasons(self) -> str:
        """Why pairs were dropped, as a phrase; empty where none was."""
        counts = {
            f"longer than {self.max_length} tokens": self.dropped_too_long,
            "with an empty side": self.dropped_empty,
            "with a NUL character": self.dropped_nul,
        }
        return ", ".join(f"{count:,} {reason}" for reason, count in counts.items() if count)


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
    return hash_pairs(read_pairs(source_paths, target_paths))


def hash_pairs(pairs: Iterable[tuple[str, str]]) -> str:
    """Return the same of pairs that were read."""
    content = ContentHash()
    for block in blocks(iter(pairs)):
        content.update(block)
    return content.hexdigest()


def blocks(pairs: Iterator[tuple[str, str]]) -> Iterator[TextBlock]:
    """Cut a stream of pairs into blocks, so that work is done on many at once and never on all."""
    while block := list(islice(pairs, _BLOCK_PAIRS)):
        yield TextBlock([source for source, _ in block], [target for _, target in block])


def _as_bytes(lines: Sequence[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode("utf-8")


def refuse_one_file(name: str, source_paths: Sequence[str], target_paths: Sequence[str]) -> None:
    """Refuse a corpus whose two sides are one file, also by another name: a model would learn to copy.

    Args:
        name: of the corpus in the settings, `data.train`.
        source_paths: its source.
        target_paths: its target.

    Raises:
        DataError: naming the file.
    """
    for source, target in zip(source_paths, target_paths, strict=False):
        same = source == target
        with suppress(OSError):  # what is missing is said where it is read
            same = same or Path(source).samefile(target)
        if same:
            raise DataError(
                f"{name}.source and {name}.target must be two files, line n of one translating line n of the other, "
                f"got {source} for both: split it, say with cut -f1 and cut -f2 where tabs separate the sides"
            )
