"""Whatever fails, what lay there before still lies there, and nothing else is left."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nmt.atomic_files import new_directory, read_regular_file, recover_directory, replace_file


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_only_regular_files_are_read(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    assert read_regular_file(tmp_path / "file") == read_regular_file(tmp_path / "link") == b"content"
    with pytest.raises(OSError, match="Is no regular file"):
        read_regular_file(tmp_path / "pipe")
    with pytest.raises(IsADirectoryError):
        read_regular_file(tmp_path)


def test_what_a_shell_hands_over_is_read():
    reading, writing = os.pipe()
    os.write(writing, b"content")
    os.close(writing)
    assert read_regular_file(Path(f"/dev/fd/{reading}")) == b"content"
    os.close(reading)


def test_a_file_is_replaced(tmp_path):
    for content in (b"old", b"", b"new"):
        replace_file(tmp_path / "file", content)
        assert tree(tmp_path) == {"file": content}


@pytest.mark.parametrize(("owner", "name"), [(os, "fsync"), (Path, "replace")])
def test_a_file_that_cannot_be_replaced_stays(tmp_path, monkeypatch, owner, name):
    replace_file(tmp_path / "file", b"old")
    monkeypatch.setattr(owner, name, fail)
    with pytest.raises(OSError, match="No space"):
        replace_file(tmp_path / "file", b"new")
    assert tree(tmp_path) == {"file": b"old"}


def fail(*_):
    raise OSError(28, "No space left on device")


def write_directory(path, content, *, overwrite):
    with new_directory(path, overwrite=overwrite) as folder:
        (folder / "below").mkdir()
        (folder / "below" / "file").write_bytes(content)
        assert not (path / "below").exists() or tree(path) == {"below/file": b"old"}  # not seen before it is whole


def test_a_directory_appears_whole(tmp_path):
    path = tmp_path / "above" / "directory"
    write_directory(path, b"old", overwrite=False)
    write_directory(path, b"new", overwrite=True)
    assert tree(tmp_path) == {"above/directory/below/file": b"new"}
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("overwrite", [True, False])
def test_an_empty_directory_counts_as_nothing(tmp_path, overwrite):
    (tmp_path / "directory").mkdir()
    write_directory(tmp_path / "directory", b"new", overwrite=overwrite)
    assert tree(tmp_path) == {"directory/below/file": b"new"}


def test_a_directory_is_not_replaced_unasked(tmp_path):
    write_directory(tmp_path / "directory", b"old", overwrite=False)
    with pytest.raises(OSError, match="not empty"):
        write_directory(tmp_path / "directory", b"new", overwrite=False)
    assert tree(tmp_path) == {"directory/below/file": b"old"}
    assert [path.name for path in tmp_path.iterdir()] == ["directory"]


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()])
def test_what_fails_within_leaves_nothing_behind(tmp_path, error):
    write_directory(tmp_path / "directory", b"old", overwrite=False)
    writing = new_directory(tmp_path / "directory", overwrite=True)
    (writing.__enter__() / "file").write_bytes(b"half")
    with pytest.raises(type(error)):
        writing.gen.throw(error)
    assert tree(tmp_path) == {"directory/below/file": b"old"}
    assert [path.name for path in tmp_path.iterdir()] == ["directory"]


@pytest.mark.parametrize("failing", [1, 2])
def test_a_rename_that_fails_brings_the_old_directory_back(tmp_path, monkeypatch, failing):
    write_directory(tmp_path / "directory", b"old", overwrite=False)
    rename, calls = Path.rename, []

    def counted(path, target):
        calls.append(path)
        return fail() if len(calls) == failing else rename(path, target)

    monkeypatch.setattr(Path, "rename", counted)
    with pytest.raises(OSError, match="No space"):
        write_directory(tmp_path / "directory", b"new", overwrite=True)
    assert tree(tmp_path) == {"directory/below/file": b"old"}
    assert [path.name for path in tmp_path.iterdir()] == ["directory"]


DEAD = 2**22 + 1
"""A number that no process of Linux has."""

KILLED = """
import os, signal, sys
from pathlib import Path
from nmt.atomic_files import new_directory
path, when = Path(sys.argv[1]), sys.argv[2]
rename, renamed = Path.rename, []
def stopping(self, target):
    renamed.append(rename(self, target))
    if len(renamed) == int(when):
        os.kill(os.getpid(), signal.SIGKILL)
Path.rename = stopping
with new_directory(path, overwrite=True) as folder:
    (folder / "file").write_bytes(b"killed")
    if when == "0":
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("renames", "content"), [(0, b"old"), (1, b"old"), (2, b"killed")])
def test_what_a_killed_process_left_is_put_right(tmp_path, renames, content):
    path = tmp_path / "directory"
    path.mkdir()
    (path / "file").write_bytes(b"old")
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path), str(renames)], check=False)
    assert killed.returncode == -9
    assert len(list(tmp_path.iterdir())) == 2
    recover_directory(path)
    assert tree(tmp_path) == {"directory/file": content}
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_directory_removes_what_is_left_of_one(tmp_path):
    for name in (f".directory.{DEAD}.tmp", f".directory.{DEAD}.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "left").write_bytes(b"")
    (tmp_path / "directory").mkdir()
    write_directory(tmp_path / "directory", b"new", overwrite=True)
    assert tree(tmp_path) == {"directory/below/file": b"new"}
    assert [path.name for path in tmp_path.iterdir()] == ["directory"]


def test_a_number_that_has_come_back_is_no_other_process(tmp_path):
    (tmp_path / f".directory.{os.getpid()}.old").mkdir()
    (tmp_path / f".directory.{os.getpid()}.tmp").mkdir()
    (tmp_path / f".directory.{os.getpid()}.old" / "file").write_bytes(b"old")
    with pytest.raises(OSError, match="not empty"):
        write_directory(tmp_path / "directory", b"new", overwrite=False)
    assert tree(tmp_path) == {"directory/file": b"old"}


def test_what_others_write_is_left_alone(tmp_path):
    ours, theirs = os.getpid(), os.getppid()
    others = [f".directory.{theirs}.tmp", f".directory.{theirs}.old", f".directory.{ours}.tmp", f".other.{DEAD}.tmp",
              f".directory.more.{DEAD}.tmp", ".directory.x.tmp", f".directory.{DEAD}"]  # fmt: skip
    for name in others:
        (tmp_path / name).mkdir()
    recover_directory(tmp_path / "directory")
    recover_directory(tmp_path / "nowhere" / "directory")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)
