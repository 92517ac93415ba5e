"""Whatever fails, what lay there before still lies there, and nothing else is left."""

import os
from pathlib import Path

import pytest

from nmt.atomic_files import new_directory, replace_file


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


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
