"""What becomes of a directory when a process, a disk or somebody else misbehaves.

Little is pretended here: processes are killed, files are changed, and disks are full.
"""

import errno
import io
import json
import logging
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from nmt.atomic_files import recover_all, replace_file
from nmt.checkpoint.folder import checkpoint_names, read_checkpoint, write_checkpoint
from nmt.checkpoint.index import read_index, scan_index, write_index
from nmt.checkpoint.manager import CheckpointManager
from nmt.checkpoint.manifest import FILES, Contents
from nmt.checkpoint.weights import read_contents
from nmt.errors import CheckpointError

PARTS = (*FILES, "manifest.json")


def contents(update, rows=3):
    """All values are the update, so that a mixture of two checkpoints cannot pass."""
    values = {f"layer/{i}": np.full((rows, 5 + i), update, np.float32) for i in range(4)}
    return Contents(update, float(update), values, values, values, {"update": update})


def assert_whole(directory, *updates):
    """The newest checkpoint is one of these, whole; nothing else lies about. Return its update."""
    with CheckpointManager(directory) as manager:  # also proves that whoever was killed left no lock
        names = checkpoint_names(manager.folder)
        assert {path.name for path in manager.folder.iterdir()} == {*names, "index.json"}
    found = read_contents(directory, "latest").contents
    assert found.update in updates
    assert found.state == {"update": found.update}
    assert all((array == found.update).all() for part in found.arrays.values() for array in part.values())
    assert json.loads((manager.folder / "index.json").read_text())["latest"] == names[-1]
    return found.update


# It imports once and then forks a writer for every line it reads: update, rows, and either `-`, or the number of the
# step before which the writer kills itself.
FACTORY = """
import os, signal, sys
from pathlib import Path
import numpy as np
from nmt.checkpoint.manifest import Contents
from nmt.checkpoint.manager import CheckpointManager

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())  # at once: killed within a line, two would run together

def write(directory, update, rows):
    values = {f"layer/{i}": np.full((rows, 5 + i), update, np.float32) for i in range(4)}
    with CheckpointManager(directory, keep_last=1, keep_best=1) as manager:
        while True:
            say("begin", update)
            manager.write(Contents(update, float(update), values, values, values, {"update": update}))
            say("end", update)
            update += 1
            values = {name: array + 1 for name, array in values.items()}

def die_at(step):
    steps = 0
    def count(event, arguments):
        nonlocal steps
        watched = event in ("open", "os.rename", "os.mkdir", "os.rmdir", "os.remove")
        if event == "fsync" or watched and str(arguments[0]).startswith(sys.argv[1]):
            steps += 1
            if steps == step:
                os.kill(os.getpid(), signal.SIGKILL)
    fsync = os.fsync
    os.fsync = lambda descriptor: (count("fsync", ()), fsync(descriptor))
    sys.addaudithook(count)

say("ready")
for line in sys.stdin:
    update, rows, step = line.split()
    writer = os.fork()
    if writer == 0:
        say("writer", os.getpid())
        if step != "-":
            die_at(int(step))
        write(sys.argv[1], int(update), int(rows))
    os.waitpid(writer, 0)
    say("dead")
"""


class Factory:
    """Processes that save one checkpoint after the other into a directory until they are killed."""

    def __init__(self, directory):
        command = [sys.executable, "-W", "ignore", "-c", FACTORY, str(directory)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.wait_for("ready")

    def wait_for(self, *words):
        """Skip to the line that begins with one of these words, and return it."""
        for line in self.process.stdout:
            if line.split()[0] in words:
                return line.split()
        raise AssertionError("the factory has ended")

    def start(self, update, *, rows=3, step="-"):
        print(update, rows, step, file=self.process.stdin, flush=True)

    def rest(self):
        """Return the last update that was reported as saved before the writer died."""
        ended = None
        while (line := self.wait_for("end", "dead", "begin"))[0] != "dead":
            ended = int(line[1]) if line[0] == "end" else ended
        return ended

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(scope="module")
def shared_factory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("killed") / "run"
    factory = Factory(directory)
    factory.directory = directory
    yield factory
    factory.close()


@pytest.fixture
def factory(shared_factory):
    shutil.rmtree(shared_factory.directory, ignore_errors=True)
    return shared_factory


@pytest.mark.slow
def test_killed_twenty_times_at_random_moments_of_saving(factory):
    """The moments are spread over a whole save and beyond its end; each time the next writer goes on."""
    moments = random.Random(5)
    update, unfinished, seconds = 0, 0, 0.02
    for kill in range(20):
        factory.start(update + 1, rows=40_000)
        writer = int(factory.wait_for("writer")[1])
        factory.wait_for("end")
        begun = time.monotonic()
        factory.wait_for("begin")
        if kill % 5 == 0:  # how long one takes now, with whatever else this machine does
            factory.wait_for("end")
            seconds = time.monotonic() - begun
            factory.wait_for("begin")
        time.sleep(seconds * (kill + moments.random()) / 20)
        os.kill(writer, signal.SIGKILL)
        saved = factory.rest() or update + 1 + (kill % 5 == 0)
        unfinished += bool(list((factory.directory / "checkpoints").glob(".*")))
        update = assert_whole(factory.directory, saved, saved + 1)  # killed between the last rename and the report
    assert unfinished >= 3, "hardly any kill fell into the writing"


@pytest.mark.slow
def test_killed_before_every_single_step_of_saving(factory, tmp_path):
    """Each file that is opened, flushed, renamed or deleted, from the lock to the end of pruning."""
    with CheckpointManager(tmp_path / "before") as manager:
        manager.write(contents(1))
    outcomes = []
    for step in range(1, 100):
        shutil.copytree(tmp_path / "before", factory.directory)
        factory.start(2, step=step)
        factory.wait_for("writer")
        saved = factory.rest()
        outcomes.append(assert_whole(factory.directory, *([saved, saved + 1] if saved else [1, 2])))
        shutil.rmtree(factory.directory)
        if saved:
            break
    assert len(outcomes) > 30
    assert outcomes == sorted(outcomes)  # the new one from its rename on


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "pickle", "link"])
def test_damage_in_any_part_of_the_newest_is_named_and_the_one_before_is_used(tmp_path, caplog, flip, part, damage):
    folder = tmp_path / "checkpoints"
    for update in (1, 2):
        write_checkpoint(folder, contents(update))
    write_index(folder, scan_index(folder))
    path = folder / "update-00000002" / part
    if damage == "flip":
        flip(path)
    elif damage == "truncate":
        path.write_bytes(path.read_bytes()[:-2])
    elif damage == "pickle":
        path.write_bytes(b"\x80\x04cbuiltins\nexit\n(tR.")
    else:
        path.rename(tmp_path / part)
        if damage == "link":
            path.symlink_to(tmp_path / part)
    with caplog.at_level(logging.WARNING):
        assert read_contents(tmp_path).contents.update == 1
    assert "update-00000002: skipped, it is damaged" in caplog.text
    assert part in caplog.text
    with pytest.raises(CheckpointError, match=part.replace(".", r"\.")):
        read_contents(tmp_path, "update-2")
    assert checkpoint_names(folder) == ["update-00000001", "update-00000002"]  # readers change nothing


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "link"])
def test_without_the_index_nothing_is_lost(tmp_path, caplog, flip, damage):
    with CheckpointManager(tmp_path) as manager:
        for update in (1, 2):
            manager.write(contents(update))
    path = manager.folder / "index.json"
    if damage == "flip":
        flip(path)
    elif damage == "truncate":
        path.write_bytes(path.read_bytes()[:-9])
    else:
        path.rename(tmp_path / "elsewhere")
        if damage == "link":
            path.symlink_to(tmp_path / "elsewhere")
    before = (tmp_path / "elsewhere").read_bytes() if damage == "link" else None
    assert read_contents(tmp_path, "best").contents.update == 2
    with CheckpointManager(tmp_path):
        pass
    assert not path.is_symlink()
    assert json.loads(path.read_text())["best"] == "update-00000002"
    assert before is None or (tmp_path / "elsewhere").read_bytes() == before


def test_a_best_checkpoint_that_was_deleted_is_missed(tmp_path, caplog):
    with CheckpointManager(tmp_path, keep_last=5) as manager:
        for update in (1, 2, 3):
            manager.write(contents(update))
    shutil.rmtree(manager.folder / "update-00000003")
    assert read_contents(tmp_path, "best").contents.update == 2
    assert "update-00000003, the best by index.json, is no longer there: update-00000002 takes its place" in caplog.text
    caplog.clear()
    with CheckpointManager(tmp_path):
        pass
    assert "is no longer there" in caplog.text
    caplog.clear()
    assert read_index(manager.folder).best == "update-00000002"
    assert not caplog.text


def test_a_checkpoint_that_is_a_link_or_under_another_name_is_refused(tmp_path, caplog):
    outside = write_checkpoint(tmp_path / "outside", contents(2))
    folder = tmp_path / "run" / "checkpoints"
    write_checkpoint(folder, contents(1))
    (folder / outside.name).symlink_to(outside)
    assert read_contents(tmp_path / "run").contents.update == 1
    assert "update-00000002: is a symbolic link, and could lead outside" in caplog.text
    (folder / outside.name).unlink()
    shutil.copytree(outside, folder / "update-00000009")
    with pytest.raises(CheckpointError, match="is of update 2, under another name"):
        read_contents(tmp_path / "run", "update-9")


def test_deleting_never_follows_a_link(tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis").write_text("x")
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / ".update-00000003.5.tmp").symlink_to(precious)
    (folder / ".update-00000004.replaced").symlink_to(precious)
    recover_all(folder)
    (folder / "update-00000002").symlink_to(precious)
    with CheckpointManager(tmp_path / "run", keep_last=1) as manager:
        manager.write(contents(7))
    assert [path.name for path in precious.iterdir()] == ["thesis"]


def test_a_lock_that_is_a_link_overwrites_nothing(tmp_path):
    (tmp_path / "precious").write_text("x" * 99)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(CheckpointError, match=r"\.lock: must be no symbolic link: delete it"):
        CheckpointManager(tmp_path / "run").acquire()
    assert (tmp_path / "precious").read_text() == "x" * 99


def test_what_says_nothing_about_the_checkpoint_sets_none_aside(tmp_path, small_model, monkeypatch):
    with CheckpointManager(tmp_path) as manager:
        manager.save(1, model=small_model())
        monkeypatch.setattr(
            os, "open", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.EMFILE, "Too many open files"))
        )
        with pytest.raises(CheckpointError, match="cannot be read: Too many open files"):
            manager.restore(small_model())
        monkeypatch.undo()
        assert checkpoint_names(manager.folder) == ["update-00000001"]


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_file_is_damage_and_is_not_waited_for(tmp_path, kind):
    path = write_checkpoint(tmp_path, contents(1)) / "model.safetensors"
    path.unlink()
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: is no file"):
        read_checkpoint(path.parent)


class FullDisk:
    """Lets so many writes, flushes, renames and new folders pass, and refuses every one after; deleting is possible."""

    def __init__(self, monkeypatch, allowed):
        self.left, self.refused = allowed, 0
        path_open = Path.open

        def opened(path, mode="r", *args, **kwargs):
            if "x" not in mode:
                return path_open(path, mode, *args, **kwargs)
            self.step()
            return self.file(path)

        monkeypatch.setattr(Path, "open", opened)
        for owner, name in ((os, "fsync"), (os, "mkdir")):
            monkeypatch.setattr(owner, name, self.limited(getattr(owner, name)))

    def step(self):
        self.left -= 1
        if self.left < 0:
            self.refused += 1
            raise OSError(errno.ENOSPC, "No space left on device")

    def limited(self, function):
        def call(*args, **kwargs):
            self.step()
            return function(*args, **kwargs)

        return call

    def file(self, path):
        disk_is_full = self

        class File(io.FileIO):
            def write(self, data):
                disk_is_full.step()
                return super().write(data[: max(1, len(data) // 2)])  # and a disk may take less than it is given

        return File(path, "x")


def test_a_disk_that_is_full_at_any_step_costs_no_checkpoint_and_leaves_no_rubbish(tmp_path, monkeypatch):
    with CheckpointManager(tmp_path, keep_last=1) as manager:
        manager.write(contents(1))
        allowed, refused, update, messages = 0, 1, 1, set()
        while refused:
            with monkeypatch.context() as patch:
                full = FullDisk(patch, allowed)
                try:
                    manager.write(contents(update + 1))
                except CheckpointError as error:
                    messages.add(str(error).partition("could not")[2])
            refused, allowed = full.refused, allowed + 1
            names = checkpoint_names(manager.folder)
            assert {path.name for path in manager.folder.iterdir()} == {*names, "index.json"}
            newest = read_checkpoint(manager.folder / names[-1])
            assert newest.update in (update, update + 1)
            assert read_index(manager.folder).latest == names[-1]
            update = newest.update
    assert allowed > 30
    assert messages == {" be written: No space left on device; the checkpoints before it are intact"}
    assert_whole(tmp_path, update)


def test_a_limit_of_the_system_on_sizes_costs_no_checkpoint(tmp_path):
    """The kernel itself refuses, in the middle of a file, wherever the limit falls."""
    write_checkpoint(tmp_path, contents(1))
    errors, complete = [], resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    largest = max(path.stat().st_size for path in (tmp_path / "update-00000001").iterdir())
    try:
        for limit in (0, 1, 9, 30, 200, 500, largest - 1, largest):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, complete[1]))
            try:
                write_checkpoint(tmp_path, contents(2))
            except OSError as error:
                errors.append(error.errno)
                assert [path.name for path in tmp_path.iterdir()] == ["update-00000001"]
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, complete)
            assert read_checkpoint(tmp_path / "update-00000001").update == 1
    finally:
        signal.signal(signal.SIGXFSZ, handler)
    assert errors == [errno.EFBIG] * 7
    assert read_checkpoint(tmp_path / "update-00000002").update == 2


SMALL_DISK = """
import sys
from pathlib import Path
import numpy as np
from nmt.checkpoint.manifest import Contents
from nmt.checkpoint.folder import checkpoint_names, read_checkpoint, write_checkpoint
folder, update = Path(sys.argv[1]), 0
try:
    while True:
        update += 1
        write_checkpoint(folder, Contents(update, None, {"x": np.full((30, 1000), update, np.float32)}))
except OSError as error:
    names = checkpoint_names(folder)
    newest = read_checkpoint(folder / names[-1])
    rubbish = {path.name for path in folder.iterdir()} - set(names)
    print(error.strerror, len(names), newest.update == update - 1 and (newest.model["x"] == update - 1).all(), rubbish)
"""


@pytest.mark.slow
def test_on_a_disk_that_is_really_full(tmp_path):
    mount = f'mount -t tmpfs -o size=1m none "{tmp_path}"'
    if subprocess.run(["unshare", "-Urm", "sh", "-c", mount], capture_output=True, check=False).returncode:
        pytest.skip("this system lets nobody mount a small disk")
    command = [
        "unshare",
        "-Urm",
        "sh",
        "-c",
        f'{mount} && "$0" -c "$1" "$2"',
        sys.executable,
        SMALL_DISK,
        str(tmp_path),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout == "No space left on device 8 True set()\n"


def test_the_index_on_a_full_disk_stays_the_old_one(tmp_path, monkeypatch):
    replace_file(tmp_path / "index.json", b"old")
    FullDisk(monkeypatch, 1)
    with pytest.raises(OSError, match="No space"):
        replace_file(tmp_path / "index.json", b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


@pytest.mark.slow
def test_a_disk_that_is_full_at_the_first_save_is_not_said_to_hold_checkpoints(tmp_path, monkeypatch):
    with CheckpointManager(tmp_path) as manager, monkeypatch.context() as patch:
        FullDisk(patch, 3)
        with pytest.raises(CheckpointError, match="No space left on device; there is no checkpoint before it"):
            manager.write(contents(1))
