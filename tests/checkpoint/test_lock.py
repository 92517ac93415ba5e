import fcntl
import os
import shutil
import signal
import subprocess
import sys

import pytest

from nmt.checkpoint.folder import DirectoryLock
from nmt.errors import CheckpointError

HOLDER = """
import sys, time
from pathlib import Path
from nmt.checkpoint.folder import DirectoryLock
lock = DirectoryLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
time.sleep(60)
"""


@pytest.mark.slow
def test_a_second_process_is_refused_and_a_killed_one_leaves_no_lock(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        lock = DirectoryLock(tmp_path / "run")
        with pytest.raises(CheckpointError, match=rf"another training .* \(process {holder.pid} on .*\): wait"):
            lock.acquire()
        assert not lock.held
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    lock.acquire()
    assert lock.held
    lock.release()


def test_the_same_process_is_refused_too_until_the_first_lets_go(tmp_path):
    first, second = DirectoryLock(tmp_path), DirectoryLock(tmp_path)
    first.acquire()
    first.acquire()  # harmless
    with pytest.raises(CheckpointError, match=f"process {os.getpid()}"):
        second.acquire()
    first.release()
    first.release()
    second.acquire()
    second.release()


def test_a_directory_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written: Not a directory"):
        DirectoryLock(tmp_path / "file" / "run").acquire()


GONE = r"run: the directory was moved or deleted while this process wrote there, or its \.lock was: nothing more"


@pytest.mark.parametrize("change", ["deleted", "moved", "replaced", "without its lock"])
def test_a_lock_in_a_directory_that_is_gone_counts_for_nothing(tmp_path, change):
    run = tmp_path / "run"
    lock, other = DirectoryLock(run), DirectoryLock(run)
    lock.verify()
    lock.acquire()
    lock.verify()
    if change == "without its lock":
        (run / ".lock").unlink()
    elif change == "moved":
        run.rename(tmp_path / "elsewhere")
    else:
        shutil.rmtree(run)
    if change == "replaced":
        other.acquire()
        other.verify()
    with pytest.raises(CheckpointError, match=GONE):
        lock.verify()
    lock.release()
    other.release()


def test_a_lock_that_is_replaced_while_it_is_taken_is_not_held(tmp_path, monkeypatch):
    lock, flock = DirectoryLock(tmp_path / "run"), fcntl.flock

    def too_late(*arguments):
        shutil.rmtree(tmp_path / "run")
        return flock(*arguments)

    monkeypatch.setattr(fcntl, "flock", too_late)
    with pytest.raises(CheckpointError, match=GONE):
        lock.acquire()
    assert not lock.held
