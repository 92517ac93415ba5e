"""Two workers, each a process of its own: they stop together, never hang, and one goes on where two were."""

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from nmt.cli.main import main

ROOT = Path(__file__).parent.parent.parent
WAIT_SECONDS = 240.0  # before it is taken to hang


@pytest.fixture
def start(config, tmp_path, warm_python):
    """Start two workers; return their processes, whose standard error goes to the files `worker-0` and `worker-1`."""
    workers = []

    def start():
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
            cluster = {"worker": [f"127.0.0.1:{server.getsockname()[1]}" for server in (one, other)]}
        for number in range(2):
            task = {"type": "worker", "index": number}
            environment = {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task}), "TF_CPP_MIN_LOG_LEVEL": "3"}
            command = [warm_python, "-X", "faulthandler", "-m", "nmt", "train", str(config), "--threads", "1"]
            with (tmp_path / f"worker-{number}").open("wb") as output:
                process = subprocess.Popen(
                    [*command, "--set", "training.distribution=multi_worker"],
                    stderr=output, cwd=ROOT, env={**os.environ, **environment},
                )  # fmt: skip
            workers.append(process)
        return workers

    yield start
    for process in workers:
        process.kill()
        process.wait()


def checkpoints(config):
    return sorted((config.parent / "run" / "checkpoints").glob("update-*"))


def wait_for_checkpoint(config, workers, folder, beyond=0):
    """Wait until there are more checkpoints than so many; where none comes say what the workers were doing."""
    deadline = time.monotonic() + WAIT_SECONDS
    while len(checkpoints(config)) <= beyond:
        if time.monotonic() > deadline or any(process.poll() is not None for process in workers):
            for process in workers:
                process.send_signal(signal.SIGABRT)  # Python shows where each thread is
                process.wait()
            outputs = [(folder / f"worker-{number}").read_text(encoding="utf-8") for number in range(2)]
            pytest.fail("no checkpoint came\n" + "\n\n".join(outputs))
        time.sleep(0.05)


def state_of(checkpoint):
    return json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))


def first_validation(directory):
    """Loss of the validation after update 2, which the chief made and all went on with."""
    records = map(json.loads, (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return next(record["loss"] for record in records if record["kind"] == "validation" and record["update"] == 2)


def test_two_workers_stop_together_and_one_goes_on(config, start, train_alone, tmp_path):
    workers = start()
    wait_for_checkpoint(config, workers, tmp_path)
    workers[1].send_signal(signal.SIGTERM)  # to one of them alone, and not the one that writes
    assert [process.wait(WAIT_SECONDS) for process in workers] == [143, 143]
    last = checkpoints(config)[-1]
    update = state_of(last)["update"]
    assert update >= 2
    for number in range(2):
        assert "stopped by SIGTERM; the same command goes on" in (tmp_path / f"worker-{number}").read_text()

    alone = config.parent / "alone"
    assert train_alone(f"model_directory={alone}", f"training.max_updates={update}") == 0
    other = alone / "checkpoints" / last.name
    for name in ("model.safetensors", "average.safetensors"):
        one, two = load_file(other / name), load_file(last / name)
        assert set(one) == set(two)
        for path, value in one.items():
            np.testing.assert_allclose(two[path], value, atol=1e-5, err_msg=path)
    for key in ("epoch", "batch"):
        assert state_of(other)[key] == state_of(last)[key]
    assert first_validation(last.parent.parent) == pytest.approx(first_validation(alone), rel=1e-4)

    assert train_alone(f"training.max_updates={update + 1}") == 0
    assert state_of(checkpoints(config)[-1])["update"] == update + 1


def test_a_killed_worker_ends_the_run_with_what_was_saved(config, start, tmp_path, capsys):
    before = len(checkpoints(config))
    workers = start()
    wait_for_checkpoint(config, workers, tmp_path, beyond=before)
    workers[1].kill()
    assert workers[0].wait(WAIT_SECONDS) == 1
    last_line = (tmp_path / "worker-0").read_text(encoding="utf-8").splitlines()[-1]
    assert last_line.startswith("nmt: error: another worker was lost, or ended by an error that its own output shows")
    assert main(["inspect", str(config.parent / "run"), "--verify"]) == 0
    assert len(checkpoints(config)) > before
