r"""Lines of text, from files plain or compressed, by the one function through which all readers of the toolkit go.

A line ends at `\n` and nowhere else (a `\r` right before it is dropped), or pairs shift: Python's text mode and
`splitlines` also break at a lone `\r`, U+2028 and U+0085.
"""

from __future__ import annotations

import bz2
import lzma
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from nmt.errors import ConfigError, DataError, looked_for
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
            'zstd needs the package zstandard: pip install zstandard, or in a checkout pip install -e ".[zstd]"; or '
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
    number = 0
    with _opened(path, lambda: f", line {number + 1}") as (file, kind):
        lines = file if kind is None else _lines_in(_decompressed(file, kind))
        for number, line in enumerate(lines, start=1):
            yield decode_line(line, os.fspath(path), number)


def read_blocks(path: PathLike) -> Iterator[bytes]:
    """What a file holds, decompressed as `read_lines` does, in blocks of bytes.

    Raises:
        DataError: the file is missing, is a directory or is damaged.
        ConfigError: see `read_lines`.
    """
    with _opened(path, lambda: "") as (file, kind):
        yield from iter(partial(file.read, _BLOCK_BYTES), b"") if kind is None else _decompressed(file, kind)


@contextmanager
def _opened(path: PathLike, place: Callable[[], str]) -> Iterator[tuple[BinaryIO, str | None]]:
    """A file and how it is compressed; what cannot be read of it becomes an error with its name and the place."""
    name, kind = os.fspath(path), None
    # A directory opens well on some systems and fails at the first read: refuse it here, everywhere.
    if Path(path).is_dir():
        raise DataError(f"{name}: must be a file, got a directory")
    try:
        with open(path, "rb") as file:
            kind = compression(file.peek(_START_BYTES))
            yield file, kind
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        if not isinstance(error, OSError) or error.strerror is None:  # raised by what decompresses
            raise DataError(f"{name}{place()}: the {kind} file is damaged or cut short ({error})") from error
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


def compression(start: bytes) -> str | None:
    """How a file is compressed that begins with such bytes."""
    return next((name for name, (pattern, _) in _COMPRESSIONS.items() if pattern.match(start)), None)


def is_stream(path: PathLike) -> bool:
    """Whether a path is there that can be read only once: a pipe, a terminal, an open file of the process."""
    if not os.path.exists(path):
        return False
    if os.fspath(path) == "/dev/stdin" or Path(path).is_relative_to("/dev/fd"):  # may be half read
        return True
    return not (os.path.isfile(path) or os.path.isdir(path))


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


def _decompressed(file: BinaryIO, kind: str) -> Iterator[bytes]:
    """Yield what all streams of a compressed file hold.

    Python's own readers of xz and bzip2 take what is damaged behind the first stream for the end of the file.
    """
    begin, decompressor = _COMPRESSIONS[kind][1], None
    while block := file.read(_BLOCK_BYTES):
        while block:
            if decompressor is None:
                block = block.lstrip(b"\0")  # which pads streams
                if not block:
                    break
                decompressor = begin()
            yield decompressor.decompress(block)
            block = b""
            if decompressor.eof:
                block, decompressor = decompressor.unused_data, None
    if decompressor is not None:
        raise EOFError("it ends within a stream")


def _lines_in(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of a text that comes in blocks, without their ends."""
    pending = b""
    for block in blocks:
        *lines, pending = (pending + block).split(b"\n")
        yield from lines
    if pending:
        yield pending
