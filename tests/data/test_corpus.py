import gzip
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmt.data import check_corpus, read_lines, read_pairs
from nmt.errors import DataError

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
    assert list(read_pairs(sources, targets)) == [("a", "A"), ("b", "B"), ("c", "C")]
    assert check_corpus(sources, targets) == 3


def test_readers_keep_every_line(write_lines):
    pairs = [("", ""), ("a", ""), (" ", "B"), ("\0", "C"), ("x " * 500, "D")]
    source, target = write_lines("v.es", [pair[0] for pair in pairs]), write_lines("v.en", [pair[1] for pair in pairs])
    assert list(read_pairs(source, target)) == pairs


@pytest.mark.parametrize(("source_count", "target_count"), [(5, 3), (3, 5), (0, 1), (1, 0)])
def test_line_counts_that_differ_name_both_files(write_lines, source_count, target_count):
    source, target = write_lines("t.es.gz", ["a"] * source_count), write_lines("t.en", ["A"] * target_count)
    told = [f"{count} {'line' if count == 1 else 'lines'}" for count in (source_count, target_count)]
    message = f"the same number of lines, got {told[0]} in {source} and {told[1]} in {target}"
    with pytest.raises(DataError, match=re.escape(message)):
        check_corpus(source, target)


def test_a_different_number_of_files_is_refused(write_lines):
    source, target = write_lines("t.es", ["a"]), write_lines("t.en", ["A"])
    with pytest.raises(DataError, match=r"the same number of files, got 2 source files \(.*\) and 1 target files"):
        check_corpus([source, source], target)


def test_empty_files_are_refused(write_lines):
    source, target = write_lines("t.es", []), write_lines("t.en.gz", [])
    with pytest.raises(DataError, match=re.escape(f"got empty files: {source}, {target}")):
        check_corpus(source, target)


@pytest.mark.parametrize("name", ["bad.en", "bad.en.gz"])
def test_invalid_utf8_names_file_and_line(tmp_path, write_lines, name):
    bad = put(tmp_path / name, b"good\nalso good\nol\xe9\n")
    source = write_lines("t.es", ["a", "b", "c"])
    with pytest.raises(DataError, match=re.escape(f"{bad}, line 3: must be valid UTF-8, got byte 0xe9 at position 3")):
        check_corpus(source, bad)


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
    if kind == "no gzip at all":
        return b"plain text\n"
    if kind == "trailing junk":
        return content + b"junk"
    middle = len(content) // 2
    return content[:middle] + bytes(byte ^ 0xFF for byte in content[middle : middle + 40]) + content[middle + 40 :]


@pytest.mark.parametrize("kind", ["truncated", "no gzip at all", "trailing junk", "flipped bits"])
def test_damaged_gzip_names_file_and_line(tmp_path, kind):
    content = gzip.compress("".join(f"line {i * i} {i**5}\n" for i in range(900)).encode())
    path = tmp_path / "t.en.gz"
    path.write_bytes(damage(content, kind))
    with pytest.raises(DataError, match=re.escape(str(path)) + r", line \d+: the gzip file is damaged or cut short"):
        list(read_lines(path))
