r"""Parallel text: `Corpus`, what reads the files of one, and what is counted and hashed while that is done.

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
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

from nmt.errors import ConfigError, DataError, looked_for
from nmt.kinds import Registry
from nmt.text.tokenizer import in_blocks
from nmt.types import PathLike

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_START_BYTES = 512
_BLOCK_BYTES = 1 << 15


class _ZstdDecompressor:
    """Decompresses one frame of zstd as those of Python's own modules do a stream."""

    def __init__(self) -> None:
        self._decompressor = load_zstandard().ZstdDecompressor().decompressobj()

    def decompress(self, data: bytes) -> bytes:
        """Return what some more of the frame holds."""
        try:
            return cast(bytes, self._decompressor.decompress(data))
        except load_zstandard().ZstdError as error:
            raise EOFError(str(error)) from error

    def __getattr__(self, name: str) -> Any:
        """Whether the frame ended, and what followed it."""
        return getattr(self._decompressor, name)


def load_zstandard() -> Any:
    """Import the package `zstandard`.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import zstandard
    except ImportError as error:
        raise ConfigError(
            'zstd needs the package zstandard: pip install "nmt[zstd]", or in a checkout pip install -e ".[zstd]"; or '
            "use zstd -d, or gzip"
        ) from error
    return zstandard


_COMPRESSIONS: dict[str, tuple[re.Pattern[bytes], Callable[[], Any]]] = {
    "gzip": (re.compile(rb"\x1f\x8b"), lambda: zlib.decompressobj(zlib.MAX_WBITS | 16)),
    "xz": (re.compile(rb"\xfd7zXZ\0"), lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ)),
    "bzip2": (re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"), bz2.BZ2Decompressor),
    "zstd": (re.compile(rb"\x28\xb5\x2f\xfd"), _ZstdDecompressor),
}
"""How a compressed file begins, whatever its name, and what decompresses one stream of it."""

_CONVERT = "is {0}: convert it, say with iconv -f {0} -t UTF-8"

_FOREIGN = {
    re.compile(rb"PK(\x03\x04|\x05\x06)"): "is a zip archive: unpack it first (unzip)",
    re.compile(rb"\x5d\0\0"): "is compressed by lzma: decompress it first (unlzma)",
    re.compile(rb"7z\xbc\xaf\x27\x1c"): "is a 7z archive: unpack it first",
    re.compile(rb"(?s).{257}ustar"): "is a tar archive: unpack it first (tar -xf)",
    # With a byte order mark, or two characters in a row of which the high bytes are NUL, as those of Latin text are.
    re.compile(rb"\xff\xfe|\xfe\xff"): _CONVERT.format("UTF-16"),
    re.compile(rb"(?s)(..)*?([^\0]\0){2}"): _CONVERT.format("UTF-16LE"),
    re.compile(rb"(?s)(..)*?(\0[^\0]){2}"): _CONVERT.format("UTF-16BE"),
    **{pattern: f"is compressed by {name} twice: decompress it once" for name, (pattern, _) in _COMPRESSIONS.items()},
}
"""How text begins, decompressed if that can be done, that is something else, and what to do with it."""


def read_lines(path: PathLike) -> Iterator[str]:
    r"""The lines of one file, without their ends; gzip, xz, bzip2 and zstd are known by the first bytes.

    Text after the last `\n` is a line too. A byte order mark at the start of the file is dropped.

    Raises:
        DataError: the file is missing, is a directory, is something else than text, is damaged, or holds invalid
            UTF-8; with file and line.
        ConfigError: it is compressed by zstd, and the package zstandard is not installed.
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


def text_lines(paths: Sequence[PathLike]) -> Iterator[str]:
    """Yield the lines of files that hold text.

    Raises:
        DataError: a file cannot be read, or all its lines are empty.
    """
    for path in paths:
        has_text = False
        for line in read_lines(path):
            has_text = has_text or bool(line.strip())
            yield line
        if not has_text:
            raise DataError(f"{path}: must have text to learn tokens from, got only empty lines")


Reader: TypeAlias = Callable[[PathLike, int], Iterator[str]]
"""Yields the lines of one side, 0 for the source and 1 for the target, of which a file holds one or both."""

READERS = Registry("data.train.source")
"""The readers of files by the ending of their names; a file of any other name holds the lines of one side."""


def register_reader(ending: str) -> Callable[[Reader], Reader]:
    """Let the decorated function read the files of corpora whose names have an ending, say `.tsv`, compressed or not.

    It may read by `read_lines`, which decompresses. Source and target of a corpus may then be the same file.

    Raises:
        ConfigError: this is no ending.
    """
    if not ending.startswith("."):
        raise ConfigError(f"a reader is registered for an ending such as .tsv, got {ending!r}")
    return READERS.register(ending)


SIDES = ("source", "target")


class Corpus:
    """Parallel text: line n of the target translates line n of the source.

    Args:
        source: a path, or the paths of several files.
        target: the same number of paths; the n-th file belongs to the n-th of the other side.
    """

    def __init__(self, source: PathLike | Sequence[PathLike], target: PathLike | Sequence[PathLike]) -> None:
        self.paths = (_as_paths(source), _as_paths(target))

    def pairs(self) -> Iterator[tuple[str, str]]:
        """All pairs of lines, in order, none left out.

        Raises:
            DataError: what `read_lines` raises; the two sides differ in their number of files or lines; a file is
                empty.
        """
        sources, targets = self.paths
        if len(sources) != len(targets):
            raise DataError(
                f"both sides of a corpus must have the same number of files, got {len(sources)} source files "
                f"({', '.join(sources)}) and {len(targets)} target files ({', '.join(targets)})"
            )
        for paths in zip(sources, targets, strict=True):
            yield from _pairs_of(*paths)

    def content_hash(self) -> str:
        """The SHA-256 of its text, both sides, which `TokenStore.content_hash` is too; reads it from end to end.

        Raises:
            DataError: see `pairs`.
        """
        return hash_pairs(self.pairs())

    def refuse_one_file(self, name: str) -> None:
        """Refuse one file for both sides, also by another name: a model would learn to copy.

        Args:
            name: of the corpus in the settings, `data.train`.

        Raises:
            DataError: naming the file.
        """
        for source, target in zip(*self.paths, strict=False):
            same = source == target
            with suppress(OSError):  # what is missing is said when it is read
                same = same or Path(source).samefile(target)
            if same and reader_of(source) is None:
                raise DataError(
                    f"{name}.source and {name}.target must be two files, line n of one translating line n of the "
                    f"other, got {source} for both: split it, say with cut -f1 and cut -f2 if tabs separate the "
                    "sides, or give a reader of such files with --import FILE"
                )


def _as_paths(paths: PathLike | Sequence[PathLike]) -> list[str]:
    """A path or a list of paths as a list of strings."""
    return [os.fspath(path) for path in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]


def reader_of(path: str) -> Reader | None:
    """What was registered for the ending of a file, that of its compression left out; None for lines of one side."""
    return READERS.built.get(Path(re.sub(r"\.(gz|xz|bz2|zst)$", "", path)).suffix)


def _lines_of(path: str, side: int) -> Iterator[str]:
    reader = reader_of(path)
    return read_lines(path) if reader is None else reader(path, side)


def _pairs_of(source_path: str, target_path: str) -> Iterator[tuple[str, str]]:
    source_lines, target_lines = _lines_of(source_path, 0), _lines_of(target_path, 1)
    count = 0
    for source, target in zip_longest(source_lines, target_lines):
        if source is None or target is None:
            rest = 1 + sum(1 for _ in chain(source_lines, target_lines))  # the side that has ended has none
            counts = [count + rest * (line is not None) for line in (source, target)]
            of_source, of_target = (f"{number:,} line{'s' * (number != 1)}" for number in counts)
            raise DataError(
                "both sides of a corpus must have the same number of lines, "
                f"got {of_source} in {source_path} and {of_target} in {target_path}"
            )
        if count == 0:
            for line, path in ((source, source_path), (target, target_path)):
                if "\t" in line and path.removesuffix(".gz").endswith(".tsv") and reader_of(path) is None:
                    raise DataError(
                        f"{path}: must hold one side of a corpus, one sentence per line, got columns between tabs: "
                        f"split it, say with cut -f1 {path} > source.txt and cut -f2 {path} > target.txt, or give a "
                        "reader of .tsv files with --import FILE"
                    )
        count += 1
        yield source, target
    if count == 0:
        raise DataError(f"a corpus must hold at least one pair of lines, got empty files: {source_path}, {target_path}")


def compression(start: bytes) -> str | None:
    """How a file is compressed that begins with such bytes."""
    return next((name for name, (pattern, _) in _COMPRESSIONS.items() if pattern.match(start)), None)


def refuse_pipes(name: str, paths: Iterable[PathLike]) -> None:
    """Refuse what can be read only once, before the first time.

    Args:
        name: what the paths are for, such as the setting that has them.
        paths: what is to be read.

    Raises:
        DataError: naming the path.
    """
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


@dataclass(frozen=True)
class CorpusReport:
    """Counts of pairs; those read are those kept and those dropped.

    Attributes:
        pairs_read: pairs of lines in the corpus.
        kept: pairs that training sees.
        dropped_empty: pairs with a side that holds nothing but white space.
        dropped_nul: pairs with a NUL character.
        dropped_too_long: pairs with a side of more than `max_length` tokens.
        max_length: the limit of tokens per side, EOS not counted.
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
        """Why pairs were dropped, as a phrase; empty if none was."""
        counts = {
            f"longer than {self.max_length} tokens": self.dropped_too_long,
            "with an empty side": self.dropped_empty,
            "with a NUL character": self.dropped_nul,
        }
        return ", ".join(f"{count:,} {reason}" for reason, count in counts.items() if count)


@dataclass(frozen=True)
class TextBlock:
    """Some pairs of lines of a corpus, in a row."""

    pairs: Sequence[tuple[str, str]]

    @cached_property
    def texts(self) -> tuple[bytes, ...]:
        r"""Source and target in UTF-8, each line closed by `\n`."""
        sides = zip(*self.pairs, strict=True)
        return tuple("".join(f"{line}\n" for line in lines).encode("utf-8") for lines in sides)


class ContentHash:
    """The SHA-256 of the text of a corpus, both sides, given block by block."""

    def __init__(self) -> None:
        self._sides = (hashlib.sha256(), hashlib.sha256())

    def blocks(self, pairs: Iterable[tuple[str, str]]) -> Iterator[TextBlock]:
        """Yield the next pairs of lines in blocks, each of which is taken in before."""
        for block in map(TextBlock, in_blocks(pairs)):
            for content, text in zip(self._sides, block.texts, strict=True):
                content.update(text)
            yield block

    def hexdigest(self) -> str:
        """The hash of all pairs so far, in hexadecimal."""
        return hashlib.sha256("".join(content.hexdigest() for content in self._sides).encode()).hexdigest()


def hash_pairs(pairs: Iterable[tuple[str, str]]) -> str:
    """Return what `Corpus.content_hash` is of a corpus that holds such pairs."""
    content = ContentHash()
    deque(content.blocks(pairs), maxlen=0)
    return content.hexdigest()
