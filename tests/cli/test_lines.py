"""Lines in as they arrive, and an output file that is whole or not there."""

import bz2
import errno
import gzip
import io
import lzma
import os
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from nmt.errors import DataError
from nmt.terminal import streams as lines_module
from nmt.terminal.streams import file_chunks, stdin_chunks, text_output


@pytest.fixture
def use_stdin(monkeypatch):
    """Puts a stream, or bytes in memory, in the place of standard input."""

    def use(stream):
        stream = io.BytesIO(stream) if isinstance(stream, bytes) else stream
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=stream))

    return use


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a", ["a"]),
        (b"a\n\nb\n", ["a", "", "b"]),
        (b"a\r\nb\rc\r\n", ["a", "b\rc"]),
        ("\ufeffa\u2028b\nc\x85d\x0be\x0cf".encode(), ["a\u2028b", "c\x85d\x0be\x0cf"]),
    ],
)
def test_a_line_ends_at_newline_alone(use_stdin, tmp_path, content, lines):
    use_stdin(content)
    assert [line for chunk in stdin_chunks() for line in chunk] == lines
    path = tmp_path / "text"
    path.write_bytes(content)
    assert [line for chunk in file_chunks(path) for line in chunk] == lines
    with path.open("rb") as stream:
        use_stdin(stream)
        assert [line for chunk in stdin_chunks() for line in chunk] == lines


def test_chunks_have_a_largest_size(use_stdin, tmp_path, monkeypatch):
    monkeypatch.setattr(lines_module, "CHUNK_LINES", 3)
    content = b"".join(b"%d\n" % number for number in range(8))
    use_stdin(content)
    assert [len(chunk) for chunk in stdin_chunks()] == [3, 3, 2]
    (tmp_path / "text").write_bytes(content)
    assert list(file_chunks(tmp_path / "text")) == [["0", "1", "2"], ["3", "4", "5"], ["6", "7"]]


def test_what_has_arrived_is_not_kept_waiting(use_stdin):
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream, os.fdopen(writing, "wb", buffering=0) as pipe:
        use_stdin(stream)
        chunks = stdin_chunks()
        pipe.write(b"one\ntwo\nthr")
        assert next(chunks) == ["one", "two"]
        pipe.write(b"ee\nfo")
        assert next(chunks) == ["three"]
        pipe.write(b"ur")
        pipe.close()
        assert next(chunks) == ["four"]
        assert next(chunks, None) is None


def test_bytes_that_are_no_text_are_refused_with_their_line(use_stdin, monkeypatch):
    monkeypatch.setattr(lines_module, "CHUNK_LINES", 2)
    use_stdin(b"a\nb\nc\xffd\n")
    chunks = stdin_chunks()
    assert next(chunks) == ["a", "b"]
    with pytest.raises(DataError, match="standard input, line 3: must be valid UTF-8, got byte 0xff at position 2"):
        next(chunks)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b"a\n", mtime=0), "standard input is compressed by gzip: decompress it first"),
        ("ab\n".encode("utf-16-le"), "standard input: is UTF-16LE: convert it"),
    ],
)
def test_standard_input_that_is_no_text_is_named(use_stdin, content, message):
    use_stdin(content)
    with pytest.raises(DataError, match=message):
        next(stdin_chunks())


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("old")
    with text_output(path) as write:
        write("neü\n")
        assert path.read_text() == "old"
    assert path.read_bytes() == "neü\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_old_file(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("old")
    with suppress(KeyboardInterrupt), text_output(path) as write:
        write("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link_and_gz_is_compressed(tmp_path):
    target, link = tmp_path / "target.txt", tmp_path / "link.gz"
    link.symlink_to(target)
    with text_output(link) as write:
        write("a\n")
    assert link.is_symlink()
    assert gzip.decompress(target.read_bytes()) == b"a\n"
    assert target.read_bytes()[3] == 0  # no flag says that a name follows, which would be a temporary one (RFC 1952)


def test_chunks_of_long_lines_have_fewer(tmp_path, monkeypatch):
    monkeypatch.setattr(lines_module, "CHUNK_CHARACTERS", 5)
    (tmp_path / "text").write_text("abc\nde\nf\nghijklm\nn\n")
    assert list(file_chunks(tmp_path / "text")) == [["abc", "de"], ["f", "ghijklm"], ["n"]]


def test_zstd_is_written_with_a_checksum(tmp_path):
    zstandard = pytest.importorskip("zstandard")
    path = tmp_path / "out.zst"
    with text_output(path) as write:
        write("neü\n")
    assert zstandard.get_frame_parameters(path.read_bytes()).has_checksum
    assert zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes()) == "neü\n".encode()


@pytest.mark.parametrize(("ending", "module"), [("gz", gzip), ("xz", lzma), ("bz2", bz2)])
def test_the_end_of_a_name_says_how_it_is_compressed(tmp_path, ending, module):
    path = tmp_path / f"out.{ending}"
    with text_output(path) as write:
        write("neü\n")
    assert module.decompress(path.read_bytes()) == "neü\n".encode()


@pytest.mark.parametrize("mode", [0o600, 0o664])
def test_what_is_replaced_hands_on_its_mode(tmp_path, mode):
    path = tmp_path / "out.txt"
    path.touch()
    path.chmod(mode)
    with text_output(path) as write:
        temporary = next(other for other in tmp_path.iterdir() if other != path)
        assert stat.S_IMODE(temporary.stat().st_mode) == mode  # before there is anything to read in it
        write("new\n")
    assert (stat.S_IMODE(path.stat().st_mode), path.read_text()) == (mode, "new\n")


def test_what_is_protected_is_not_replaced(tmp_path, monkeypatch):
    path = tmp_path / "out.txt"
    path.write_text("old")
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # root may write to all files
    with pytest.raises(DataError, match=r"out\.txt: cannot be written: Permission denied"), text_output(path):
        pytest.fail("opened")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
@pytest.mark.needs("/dev/stdout", "/dev/fd")
@pytest.mark.parametrize("name", ["stdout", "fd/{}"])
def test_what_an_open_file_holds_already_stays(tmp_path, name):
    path = tmp_path / "log"
    with path.open("ab") as file:
        file.write(b"before\n")
        file.flush()
        program = "import sys; from pathlib import Path; from nmt.terminal.streams import text_output\n"
        program += "with text_output(Path(sys.argv[1])) as write: write('new\\n')"
        place = "/dev/" + name.format(file.fileno())
        subprocess.run([sys.executable, "-c", program, place], stdout=file, pass_fds=[file.fileno()], check=True)
        file.write(b"after\n")
    assert path.read_text() == "before\nnew\nafter\n"


@pytest.mark.needs("/dev/full")
def test_what_cannot_be_written_is_named(tmp_path):
    with (
        pytest.raises(DataError, match="nowhere/out: cannot be written: No such file"),
        text_output(tmp_path / "nowhere" / "out"),
    ):
        pytest.fail("opened")
    with pytest.raises(DataError, match="cannot be written: Is a directory"), text_output(tmp_path):
        pytest.fail("opened")
    with (
        pytest.raises(DataError, match="/dev/full: cannot be written: No space"),
        text_output(lines_module.Path("/dev/full")) as write,
    ):
        write("a")


@pytest.mark.needs("/dev/full")
def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, monkeypatch):
    """What is still in the file's buffer cannot be written when it is closed either."""
    open_file = lines_module._open
    monkeypatch.setattr(
        lines_module, "_open", lambda path, **kind: path.touch() or open_file(Path("/dev/full"), **kind)
    )
    path = tmp_path / "out.en"
    with pytest.raises(DataError, match=r"out\.en: cannot be written: No space left"), text_output(path) as write:
        write("word\n" * 100_000)
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_takes_nothing_is_named(tmp_path, monkeypatch):
    def refuse(path, **_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(lines_module, "_open", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(DataError, match="cannot be written: Read-only"), text_output(tmp_path / "out.en"):
        pass


def test_what_is_no_file_is_written_to():
    with text_output(lines_module.Path(os.devnull)) as write:
        write("a")
    assert not os.path.isfile(os.devnull)
