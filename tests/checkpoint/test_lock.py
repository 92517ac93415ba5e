import os
import signal
import subprocess
import sys

import pytest

from nmt.checkpoint.lock import DirectoryLock
from nmt.errors import CheckpointError

HOLDER = """
import sys, time
from pathlib import Path
from nmt.checkpoint.lock import DirectoryLock
lock = DirectoryLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
time.sleep(60)
"""


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
