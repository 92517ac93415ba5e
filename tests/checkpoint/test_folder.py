import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nmt import atomic_files
from nmt.atomic_files import recover_all, replace_file
from nmt.checkpoint import folder
from nmt.checkpoint.disk import DamagedCheckpointError
from nmt.checkpoint.folder import checkpoint_names, read_checkpoint, write_checkpoint
from nmt.checkpoint.manifest import Contents

CONTENTS = Contents(
    update=7,
    score=2.5,
    model={"a/kernel": np.arange(6, dtype=np.float32).reshape(2, 3)},
    ema={"a/kernel": np.ones((2, 3), np.float32)},
    optimizer={"iterations": np.array(7)},
    state={"update": 7, "random": [2**32 - 1], "text": "ñ", "share": 0.1},
    facts={"data_hash": "x"},
)
FILES = {"model.safetensors", "average.safetensors", "optimizer.safetensors", "state.json", "manifest.json"}


def test_a_checkpoint_is_read_as_it_was_written(tmp_path):
    path = write_checkpoint(tmp_path, CONTENTS)
    assert path == tmp_path / "update-00000007"
    assert {file.name for file in path.iterdir()} == FILES
    found = read_checkpoint(path)
    assert (found.update, found.score, found.state, found.facts) == (7, 2.5, CONTENTS.state, CONTENTS.facts)
    for name, arrays in CONTENTS.arrays.items():
        for key, array in arrays.items():
            np.testing.assert_array_equal(found.arrays[name][key], array)


@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "grow", "empty", "swap"])
def test_damage_in_any_file_is_found_and_named(tmp_path, flip, name, damage):
    path = write_checkpoint(tmp_path, CONTENTS) / name
    content = path.read_bytes()
    if damage == "flip":
        flip(path)
    elif damage == "delete":
        path.unlink()
    else:
        changed = {"truncate": content[:-3], "grow": content + b"0", "empty": b"", "swap": bytes(len(content))}[damage]
        path.write_bytes(changed)
    with pytest.raises(DamagedCheckpointError, match=name.replace(".", r"\.")):
        read_checkpoint(path.parent)


@pytest.mark.parametrize("step", ["write_arrays", "write_file", "sync_folder", "_move"])
@pytest.mark.parametrize("error", [RuntimeError("crash"), OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_error_at_any_step_leaves_the_old_checkpoint_and_no_half_one(tmp_path, monkeypatch, step, error):
    write_checkpoint(tmp_path, CONTENTS)

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(atomic_files if hasattr(atomic_files, step) else folder, step, fail)
    with pytest.raises(type(error)):
        write_checkpoint(tmp_path, replace(CONTENTS, update=8))
    assert [path.name for path in tmp_path.iterdir()] == ["update-00000007"]
    read_checkpoint(tmp_path / "update-00000007")


@pytest.mark.needs("/proc/self/fd")
def test_everything_is_on_the_disk_before_the_rename(tmp_path, monkeypatch):
    """What was written is flushed: each file, then the folder, and only then the rename, then the folder above."""
    events = []
    fsync, rename = os.fsync, Path.rename

    def logged_fsync(descriptor):
        events.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    def logged_rename(self, target):
        events.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(Path, "rename", logged_rename)
    write_checkpoint(tmp_path, CONTENTS)
    temporary = f".update-00000007.{os.getpid()}.tmp"
    assert set(events[:5]) == FILES
    assert events[5:] == [temporary, "rename", tmp_path.name]


def test_one_of_the_same_update_is_replaced(tmp_path):
    write_checkpoint(tmp_path, CONTENTS)
    write_checkpoint(tmp_path, replace(CONTENTS, score=3.5))
    assert [path.name for path in tmp_path.iterdir()] == ["update-00000007"]
    assert read_checkpoint(tmp_path / "update-00000007").score == 3.5


def test_a_kill_in_the_middle_of_replacing_is_undone(tmp_path, monkeypatch):
    write_checkpoint(tmp_path, CONTENTS)
    original, calls = Path.rename, []

    def killed_at_second(self, target):
        calls.append(self)
        if len(calls) == 2:
            raise SystemExit
        return original(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed_at_second)
        with pytest.raises(SystemExit):
            write_checkpoint(tmp_path, replace(CONTENTS, score=3.5))
    assert checkpoint_names(tmp_path) == []
    recover_all(tmp_path)
    assert read_checkpoint(tmp_path / "update-00000007").score == 2.5
    assert len(list(tmp_path.iterdir())) == 1


def test_cleaning_removes_leftovers_and_nothing_else(tmp_path):
    write_checkpoint(tmp_path, CONTENTS)
    leftover = tmp_path / ".update-00000008.77.tmp"
    leftover.mkdir()
    (leftover / "model.safetensors").write_text("half")
    (tmp_path / ".index.json.77.tmp").write_text("half")
    (tmp_path / ".update-00000007.replaced").mkdir()
    (tmp_path / "notes.tmp").write_text("the user's")
    recover_all(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"update-00000007", "notes.tmp"}


def test_damaged_ones_are_set_aside_under_free_names(tmp_path):
    for _ in range(3):
        folder.set_aside(write_checkpoint(tmp_path, CONTENTS))
    aside = ["update-00000007.damaged", "update-00000007.damaged-2", "update-00000007.damaged-3"]
    assert folder.damaged_names(tmp_path) == aside
    assert checkpoint_names(tmp_path) == []


def test_an_index_that_cannot_be_written_stays_the_old_one(tmp_path, monkeypatch):
    replace_file(tmp_path / "index.json", b"old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        replace_file(tmp_path / "index.json", b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]
