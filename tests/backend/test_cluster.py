"""What TF_CONFIG must say, and how workers meet."""

import json
import re
import socket
import threading
import time

import pytest

from nmt.backend.cluster import Cluster, meet, read_cluster
from nmt.errors import ConfigError, TrainingError

TWO = {"worker": ["a:2222", "b:2223"]}


def tf_config(cluster=TWO, **task):
    return json.dumps({"cluster": cluster, "task": {"type": "worker", "index": 1, **task}})


@pytest.mark.parametrize("number", [1, "1"])
def test_it_says_who_the_workers_are(number):
    assert read_cluster({"TF_CONFIG": tf_config(index=number)}) == Cluster(("a:2222", "b:2223"), 1)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "TF_CONFIG must be set in the environment of each worker, got none: write it as"),
        ("{", r"TF_CONFIG must be JSON, got \{"),
        ("[]", r"TF_CONFIG must have a cluster, got \[\]"),
        ('{"cluster": {"worker": ["a:1"]}}', "TF_CONFIG must have a task, got"),
        (tf_config({"ps": ["a:1"], "worker": ["b:1"]}), "must have workers alone in its cluster, got ps, worker"),
        (tf_config({}), "must have workers alone in its cluster, got none"),
        (tf_config({"worker": ["a"]}), r'must list the workers as host:port, got \["a"\]'),
        (tf_config({"worker": ["a:0"]}), "must list the workers as host:port"),
        (tf_config({"worker": "a:1"}), 'must list the workers as host:port, got "a:1"'),
        (tf_config({"worker": ["a:1", "a:1"]}), "must give each worker an address of its own"),
        (tf_config(index=2), "must have a task index from 0 to 1, got 2"),
        (tf_config(index=True), "must have a task index from 0 to 1, got true"),
        (tf_config(type="chief"), 'must have worker as the type of its task, got "chief"'),
    ],
)
def test_what_it_says_wrong_is_named(text, sentence):
    with pytest.raises(ConfigError, match=sentence):
        read_cluster({} if text is None else {"TF_CONFIG": text})


HOSTS = ["127.0.0.1", "[::1]"] if socket.has_dualstack_ipv6() else ["127.0.0.1"]


@pytest.fixture(params=HOSTS)
def addresses(request):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return tuple(f"{request.param}:{port + number}" for number in range(3))


def test_workers_meet_though_one_comes_late_and_another_twice(addresses):
    arrived = {}

    def come(number, minutes=2.0):
        try:
            meet(Cluster(addresses, number), minutes=minutes)
        except TrainingError as error:
            arrived[f"gave up {number}"] = str(error)
        else:
            arrived[number] = time.monotonic()

    gave_up = threading.Thread(target=come, args=(2, 0.01))  # and is started again below
    workers = [threading.Thread(target=come, args=(number,)) for number in range(3)]
    for thread in (workers[0], gave_up):
        thread.start()
    gave_up.join()
    workers[1].start()
    time.sleep(0.3)
    assert list(arrived) == ["gave up 2"]  # its place is empty again
    late = time.monotonic()
    workers[2].start()
    for thread in workers:
        thread.join()
    assert all(arrived[number] > late for number in range(3))


def test_who_does_not_come_is_named(addresses):
    with pytest.raises(TrainingError, match=re.escape(f"worker 1 ({addresses[1]}), 2 ({addresses[2]}) did not come")):
        meet(Cluster(addresses, 0), minutes=0.005)
    with pytest.raises(TrainingError, match=re.escape(f"worker 0 ({addresses[0]}) did not come")):
        meet(Cluster(addresses, 1), minutes=0.005)


def test_a_port_that_is_taken_is_named(addresses):
    port = int(addresses[0].rpartition(":")[2])
    with (
        socket.create_server(("", port)),
        pytest.raises(TrainingError, match=rf"the chief must be able to listen on port {port} .* choose a free port"),
    ):
        meet(Cluster(addresses, 0), minutes=0.005)
