import bz2
import gzip
import io
import lzma
import os
import re
import sys
import tarfile
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmt.data import Corpus, open_store, register_reader
from nmt.data.lines import read_lines, refuse_pipes
from nmt.errors import ConfigError, DataError
from nmt.kinds import READERS

LINE_BREAKERS = "\r\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"


def put(path, content):
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("name", ["lines.txt", "lines.gz"])
@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a", ["a"]),
        (b"a\n\nb", ["a", "", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"a\rb\r\r\n", ["a\rb\r"]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", ["a", "\ufeffb"]),
        (b" a \t\n", [" a \t"]),
    ],
)
def test_a_line_ends_at_a_line_feed_only(tmp_path, name, content, lines):
    assert list(read_lines(put(tmp_path / name, content))) == lines


@given(st.lists(st.text(alphabet="a日 \t" + LINE_BREAKERS, max_size=5), max_size=5))
def test_what_was_written_is_read(tmp_path_factory, lines):
    content = "".join(f"{line}\r\n" for line in lines).encode("utf-8")
    path = put(tmp_path_factory.mktemp("corpus") / "lines.gz", content)
    assert list(read_lines(path)) == lines


def test_several_files_a_side_follow_one_another(write_lines):
    sources = [write_lines("1.es", ["a", "b"]), write_lines("2.es.gz", ["c"])]
    targets = [write_lines("1.en.gz", ["A", "B"]), write_lines("2.en", ["C"])]
    assert list(Corpus(sources, targets).pairs()) == [("a", "A"), ("b", "B"), ("c", "C")]
    assert len(list(Corpus(sources, targets).pairs())) == 3


def test_readers_keep_every_line(write_lines):
    pairs = [("", ""), ("a", ""), (" ", "B"), ("\0", "C"), ("x " * 500, "D")]
    source, target = write_lines("v.es", [pair[0] for pair in pairs]), write_lines("v.en", [pair[1] for pair in pairs])
    assert list(Corpus(source, target).pairs()) == pairs


@pytest.mark.parametrize(("source_count", "target_count"), [(5, 3), (3, 5), (0, 1), (1, 0)])
def test_line_counts_that_differ_name_both_files(write_lines, source_count, target_count):
    source, target = write_lines("t.es.gz", ["a"] * source_count), write_lines("t.en", ["A"] * target_count)
    told = [f"{count} {'line' if count == 1 else 'lines'}" for count in (source_count, target_count)]
    message = f"the same number of lines, got {told[0]} in {source} and {told[1]} in {target}"
    with pytest.raises(DataError, match=re.escape(message)):
        list(Corpus(source, target).pairs())


def test_a_different_number_of_files_is_refused(write_lines):
    source, target = write_lines("t.es", ["a"]), write_lines("t.en", ["A"])
    with pytest.raises(DataError, match=r"the same number of files, got 2 source files \(.*\) and 1 target files"):
        list(Corpus([source, source], target).pairs())


def test_empty_files_are_refused(write_lines):
    source, target = write_lines("t.es", []), write_lines("t.en.gz", [])
    with pytest.raises(DataError, match=re.escape(f"got empty files: {source}, {target}")):
        list(Corpus(source, target).pairs())


@pytest.mark.parametrize("name", ["bad.en", "bad.en.gz"])
def test_invalid_utf8_names_file_and_line(tmp_path, write_lines, name):
    bad = put(tmp_path / name, b"good\nalso good\nol\xe9\n")
    source = write_lines("t.es", ["a", "b", "c"])
    with pytest.raises(DataError, match=re.escape(f"{bad}, line 3: must be valid UTF-8, got byte 0xe9 at position 3")):
        list(Corpus(source, bad).pairs())


@pytest.mark.parametrize("name", ["none.en", "none.en.gz"])
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(DataError, match=re.escape(f"{tmp_path / name}: cannot be read: No such file or directory")):
        list(read_lines(tmp_path / name))


@pytest.mark.parametrize("name", ["folder", "folder.gz"])
def test_a_directory_is_named(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=re.escape(f"{tmp_path / name}: must be a file, got a directory")):
        list(read_lines(tmp_path / name))


def damage(content, kind):
    if kind == "truncated":
        return content[:-400]
    if kind == "trailing junk":
        return content + b"junk"
    middle = len(content) // 2
    return content[:middle] + bytes(byte ^ 0xFF for byte in content[middle : middle + 40]) + content[middle + 40 :]


@pytest.mark.parametrize("kind", ["truncated", "trailing junk", "flipped bits"])
def test_damaged_gzip_names_file_and_line(tmp_path, kind):
    content = gzip.compress("".join(f"line {i * i} {i**5}\n" for i in range(900)).encode())
    path = tmp_path / "t.en.gz"
    path.write_bytes(damage(content, kind))
    with pytest.raises(DataError, match=re.escape(str(path)) + r", line \d+: the gzip file is damaged or cut short"):
        list(read_lines(path))


def tar(content):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("corpus.en")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def write_zstd(path, mode):
    return pytest.importorskip("zstandard").open(path, mode)


WRITERS = {"gz": gzip.open, "xz": lzma.open, "bz2": bz2.open, "zst": write_zstd}


@pytest.mark.parametrize("ending", WRITERS)
@pytest.mark.parametrize("name", ["corpus.en", "corpus.gz", "corpus"])
def test_compressed_files_are_known_by_their_first_bytes(tmp_path, ending, name):
    lines = ["eins", "zwei", "", "drei\u2028vier"]
    for _ in range(2):  # several streams one behind the other are one file
        with WRITERS[ending](tmp_path / "part", "wb") as file:
            file.write("".join(f"{line}\n" for line in lines).encode())
        with (tmp_path / name).open("ab") as file:
            file.write((tmp_path / "part").read_bytes())
    assert list(read_lines(tmp_path / name)) == lines * 2
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[:-9])
    kind = {"gz": "gzip", "xz": "xz", "bz2": "bzip2", "zst": "zstd"}[ending]
    with pytest.raises(DataError, match=rf"{name}, line \d: the {kind} file is damaged or cut short"):
        list(read_lines(tmp_path / name))


def test_zstd_needs_a_package(tmp_path, monkeypatch):
    (tmp_path / "corpus.en").write_bytes(b"\x28\xb5\x2f\xfd...")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(ConfigError, match=r"zstd needs the package zstandard: pip install zstandard, or"):
        list(read_lines(tmp_path / "corpus.en"))


@pytest.mark.parametrize("kind", ["xz", "bzip2", "gzip"])
@pytest.mark.parametrize("damage", ["header", "middle", "text", "cut"])
def test_no_line_is_lost_behind_the_first_stream(tmp_path, kind, damage):
    """Python's readers of xz and bzip2 end without a word where a later stream is damaged."""
    compress = {"xz": lzma.compress, "bzip2": bz2.compress, "gzip": gzip.compress}[kind]
    first, second = (compress("".join(f"{i**7} {start}\n" for i in range(900)).encode()) for start in "ab")
    broken = bytearray(second)
    broken[3 if damage == "header" else len(broken) // 2] ^= 0xFF
    rest = {"text": b"plain\n", "cut": second[:5]}.get(damage, bytes(broken))
    path = tmp_path / "corpus.en"
    path.write_bytes(first + rest)
    with pytest.raises(DataError, match=rf"corpus.en, line \d+: the {kind} file is damaged or cut short"):
        list(read_lines(path))
    path.write_bytes(first + bytes(4) + second + bytes(8))  # streams may be padded
    assert len(list(read_lines(path))) == 1800


def test_plain_text_may_have_any_name(tmp_path):
    for number, text in enumerate(["plain\n", "BZh9 is how bzip2 begins\n", "PK\n", "", "a\0b\n", "你好 ustar\n"]):
        path = tmp_path / f"{number}.gz"
        path.write_text(text, encoding="utf-8")
        assert list(read_lines(path)) == text.splitlines()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04...", "is a zip archive: unpack it first"),
        ("Grüße\n".encode("utf-16"), "is UTF-16: convert it, say with iconv -f UTF-16 -t UTF-8"),
        ("Hallo Welt\n".encode("utf-16-le"), "is UTF-16"),
        ("Hallo Welt\n".encode("utf-16-be"), "is UTF-16BE: convert it, say with iconv -f UTF-16BE -t UTF-8"),
        ("“你好”, Hi\n".encode("utf-16-le"), "is UTF-16LE"),
        ("Hi\n".encode("utf-16-le"), "is UTF-16LE"),
        (gzip.compress("Hallo Welt\n".encode("utf-16-le")), "is UTF-16LE"),
        (tar(b"Hallo Welt\n"), "is a tar archive: unpack it first"),
        (gzip.compress(tar(b"Hallo Welt\n")), "is a tar archive: unpack it first"),
        (bz2.compress(gzip.compress(b"Hallo Welt\n")), "is compressed by gzip twice: decompress it once"),
        (lzma.compress(b"Hallo Welt\n", lzma.FORMAT_ALONE), "is compressed by lzma: decompress it first"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # gzip's bytes hold the time
)
def test_what_is_no_text_is_named(tmp_path, content, message):
    path = tmp_path / "corpus.en"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"corpus.en: {message}"):
        list(read_lines(path))


def test_a_missing_file_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = f"data/x.en: cannot be read: No such file or directory (looked for in {tmp_path})"
    with pytest.raises(DataError, match=re.escape(message)):
        list(read_lines("data/x.en"))


def test_a_pipe_is_refused_only_where_it_would_be_read_twice(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(DataError, match=r"data.train.source: .*pipe: must be a file, got a pipe, and it is read more"):
        refuse_pipes("data.train.source", [str(pipe)])
    thread = threading.Thread(target=lambda: pipe.write_text("a\n", encoding="utf-8"))
    thread.start()
    assert list(read_lines(pipe)) == ["a"]
    thread.join()


def test_columns_between_tabs_get_the_sentence_that_helps(tmp_path):
    for name, content, refused in (
        ("both.tsv", "uno\tone\ndos\ttwo\n", True),
        ("one.tsv", "uno\ndos\n", False),
        ("tabs.es", "u\tno\ndos\n", False),
    ):
        (tmp_path / name).write_text(content)
        (tmp_path / "train.en").write_text("one\ntwo\n")
        pairs = Corpus(tmp_path / name, tmp_path / "train.en").pairs()
        if refused:
            with pytest.raises(
                DataError, match=r"both\.tsv: must hold one side .* as in train: \{pairs: .*both\.tsv\}"
            ):
                list(pairs)
        else:
            assert len(list(pairs)) == 2


@pytest.mark.parametrize("wrong", [("a", None), ("a", "b", "x"), ("a",), ("a\nb", "c"), 3, "two\nlines"])
def test_a_reader_of_ones_own_that_yields_no_pair_is_named(tmp_path, monkeypatch, wrong):
    monkeypatch.setattr(READERS, "built", {**READERS.built, "own": lambda path, layout: iter([("a", "b"), wrong])})
    (tmp_path / "x.own").touch()
    with pytest.raises(DataError, match=r"x\.own: the reader of own must yield source and target, two texts .* at 2$"):
        list(Corpus(tmp_path / "x.own", tmp_path / "x.own").pairs())


def test_a_reader_of_ones_own_finds_both_sides_in_one_file(tmp_path, corpus, paths, store, text, monkeypatch, caplog):
    monkeypatch.setattr(READERS, "built", {**READERS.built})
    monkeypatch.setattr(READERS, "watchers", [])

    @register_reader(".bitext")
    def read_columns(path, layout):
        yield from (tuple(line.split(" || ")) if "||" in line else "that are remarks" for line in read_lines(path))

    lines = ["# a remark", *(" || ".join(pair) for pair in zip(*corpus, strict=True))]
    both = tmp_path / "both.bitext.gz"
    both.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))
    Corpus(both, both).refuse_one_file("data.train")
    with caplog.at_level("INFO"):
        assert list(Corpus(both, both).pairs()) == list(zip(*corpus, strict=True))
        list(Corpus(both, both).pairs())
    count = len(lines) - 1
    told = f"{both}: {count + 1:,} pairs read, {count:,} kept, 1 dropped: 1 that are remarks"
    assert caplog.messages == [told]  # once
    found = open_store(tmp_path / "columns", both, both, text=text, max_length=20)
    assert (found.content_hash, found.report) == (store.content_hash, store.report)
    assert list(Corpus([both, paths[0]], [both, paths[1]]).pairs()) == list(zip(*corpus, strict=True)) * 2
