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
    "text",
    [
        None,
        "{",
        "[]",
        '{"cluster": {"worker": ["a:1"]}}',
        tf_config({"ps": ["a:1"], "worker": ["b:1"]}),
        tf_config({}),
        tf_config({"worker": ["a"]}),
        tf_config({"worker": ["a:0"]}),
        tf_config({"worker": "a:1"}),
        tf_config({"worker": ["a:1", "a:1"]}),
        tf_config(index=2),
        tf_config(index=True),
        tf_config(type="chief"),
    ],
)
def test_what_it_says_wrong_is_shown_beside_what_it_must_say(text):
    said = r"must list all workers as host:port, each once and nothing else, .* with an index from 0, got "
    with pytest.raises(ConfigError, match=said + re.escape(f"{text or 'none'}: write it as")):
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
