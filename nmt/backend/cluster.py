"""Who the workers of a run are, as the environment variable TF_CONFIG says it."""

import json
import re
import select
import socket
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import NamedTuple

from nmt.errors import ConfigError, TrainingError

_EXAMPLE = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'
_ADDRESS = r".+:[1-9][0-9]{0,4}"


class Cluster(NamedTuple):
    """The workers of a run.

    addresses: `host:port` of each worker; the first one is the chief.
    number: which of them this process is, from 0.
    """

    addresses: tuple[str, ...]
    number: int


def read_cluster(environment: Mapping[str, str]) -> Cluster:
    """Return what TF_CONFIG says.

    Args:
        environment: of the process.

    Raises:
        ConfigError: it is missing, no JSON, or does not name workers and which of them this one is.
    """
    text = environment.get("TF_CONFIG") or "none"
    try:
        values = json.loads(text)
        workers, task = values["cluster"]["worker"], values["task"]
        number = str(task["index"])  # some launchers write it as text
        fits = (
            set(values["cluster"]) == {"worker"}
            and all(re.fullmatch(_ADDRESS, address) for address in workers)
            and len(set(workers)) == len(workers)
            and task["type"] == "worker"
            and number in map(str, range(len(workers)))
        )
    except (ValueError, TypeError, KeyError):
        fits = False
    if not fits:
        raise ConfigError(
            "training.distribution multi_worker: the environment variable TF_CONFIG must list all workers as "
            "host:port, each once and nothing else, and say which of them this one is, with an index from 0, got "
            f"{text}: write it as {_EXAMPLE}"
        )
    return Cluster(tuple(workers), int(number))


_GO = b"go\n"
_POLL_SECONDS = 0.2
_GREETING_SECONDS = 2.0


def meet(cluster: Cluster, *, minutes: float) -> None:
    """Return once all workers of a cluster are there.

    Args:
        cluster: who they are.
        minutes: how long to wait.

    Raises:
        TrainingError: naming the workers that did not come.
    """
    if len(cluster.addresses) == 1:
        return
    deadline = time.monotonic() + 60.0 * minutes
    missing = _receive(cluster, deadline) if cluster.number == 0 else _report(cluster, deadline)
    if missing:
        names = ", ".join(f"{index} ({cluster.addresses[index]})" for index in missing)
        raise TrainingError(
            f"all {len(cluster.addresses)} workers must be there within {minutes:g} minutes, but worker {names} did "
            "not come: see what it says, and whether this machine reaches it at its address in TF_CONFIG"
        )


def _receive(cluster: Cluster, deadline: float) -> list[int]:
    """Wait for the others on the chief; return who is missing at the deadline."""
    arrived: dict[int, socket.socket] = {}
    with ExitStack() as stack:
        server = stack.enter_context(_listen(cluster))
        server.settimeout(_POLL_SECONDS)
        while time.monotonic() < deadline:
            gone, _, _ = select.select(arrived.values(), [], [], 0)  # they have nothing more to say, but may hang up
            arrived = {index: guest for index, guest in arrived.items() if guest not in gone}
            try:
                if len(arrived) == len(cluster.addresses) - 1:
                    for guest in arrived.values():
                        guest.sendall(_GO)
                    return []
                guest = stack.enter_context(server.accept()[0])
                guest.settimeout(_GREETING_SECONDS)
                greeting = guest.recv(16).decode("ascii", "replace").strip()
            except OSError:  # nobody yet, one who says nothing, or one who has left in this moment
                continue
            if greeting.isdecimal() and 0 < int(greeting) < len(cluster.addresses):
                arrived[int(greeting)] = guest  # one that was started again takes its old place
    return [index for index in range(1, len(cluster.addresses)) if index not in arrived]


def _listen(cluster: Cluster) -> socket.socket:
    port = int(cluster.addresses[0].rpartition(":")[2])
    try:
        dual = socket.has_dualstack_ipv6()  # IPv4 as well
        family = socket.AF_INET6 if dual else socket.AF_INET
        return socket.create_server(("", port), family=family, backlog=len(cluster.addresses), dualstack_ipv6=dual)
    except OSError as error:
        raise TrainingError(
            f"the chief must be able to listen on port {port} of its address in TF_CONFIG, got: {error.strerror}: "
            "choose a free port"
        ) from error


def _report(cluster: Cluster, deadline: float) -> list[int]:
    """Go to the chief until it lets this worker go; return the chief as missing at the deadline."""
    host, _, port = cluster.addresses[0].rpartition(":")
    while (left := deadline - time.monotonic()) > 0:
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=min(left, _GREETING_SECONDS)) as chief:
                chief.sendall(f"{cluster.number}\n".encode())
                chief.settimeout(max(deadline - time.monotonic(), _POLL_SECONDS))
                if chief.recv(len(_GO)) == _GO:
                    return []
        except OSError:  # not there yet: no name, no port, or gone again
            pass
        time.sleep(_POLL_SECONDS)
    return [0]
