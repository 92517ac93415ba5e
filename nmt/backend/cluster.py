"""Who the workers of a run are, as the environment variable TF_CONFIG says it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from typing import Any, NamedTuple

from nmt.errors import ConfigError, TrainingError

_EXAMPLE = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'


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
    text = environment.get("TF_CONFIG")
    if not text:
        raise _refusal("must be set in the environment of each worker, got none")
    try:
        values = json.loads(text)
    except ValueError as error:
        raise _refusal(f"must be JSON, got {text} ({error})") from error
    cluster, task = _part(values, "cluster"), _part(values, "task")
    if set(cluster) != {"worker"}:
        raise _refusal(f"must have workers alone in its cluster, got {', '.join(map(str, cluster)) or 'none'}")
    addresses = cluster["worker"]
    if not isinstance(addresses, list) or not addresses or not all(map(_is_address, addresses)):
        raise _refusal(f"must list the workers as host:port, got {json.dumps(addresses)}")
    if len(set(addresses)) < len(addresses):
        raise _refusal(f"must give each worker an address of its own, got {json.dumps(addresses)}")
    index = task.get("index")
    if isinstance(index, str) and index.isascii() and index.isdecimal():  # some launchers write it as text
        index = int(index)
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(addresses):
        raise _refusal(f"must have a task index from 0 to {len(addresses) - 1}, got {json.dumps(index)}")
    if task.get("type") != "worker":
        raise _refusal(f"must have worker as the type of its task, got {json.dumps(task.get('type'))}")
    return Cluster(tuple(addresses), index)


def _part(values: Any, name: str) -> dict[str, Any]:
    part = values.get(name) if isinstance(values, dict) else None
    if not isinstance(part, dict):
        raise _refusal(f"must have a {name}, got {json.dumps(values)}")
    return part


def _is_address(value: Any) -> bool:
    host, _, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    return bool(host) and port.isascii() and port.isdecimal() and 0 < int(port) < 65536


def _refusal(what: str) -> ConfigError:
    return ConfigError(f"training.distribution multi_worker: TF_CONFIG {what}: write it as {_EXAMPLE}")


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
            arrived = {index: guest for index, guest in arrived.items() if not _is_closed(guest)}
            if len(arrived) == len(cluster.addresses) - 1:
                return [index for index, guest in arrived.items() if not _let_go(guest)]
            try:
                guest = stack.enter_context(closing(server.accept()[0]))
                guest.settimeout(_GREETING_SECONDS)
                greeting = guest.recv(16).decode("ascii", "replace").strip()
            except OSError:  # nobody yet, or one who says nothing
                continue
            if greeting.isdecimal() and 0 < int(greeting) < len(cluster.addresses):
                arrived[int(greeting)] = guest  # one that was started again takes its old place
    return [index for index in range(1, len(cluster.addresses)) if index not in arrived]


def _let_go(guest: socket.socket) -> bool:
    """Tell a worker that all are there; False where it has left in this moment."""
    try:
        guest.sendall(_GO)
    except OSError:
        return False
    return True


def _listen(cluster: Cluster) -> socket.socket:
    port = int(cluster.addresses[0].rpartition(":")[2])
    try:
        if socket.has_dualstack_ipv6():  # IPv4 as well
            return socket.create_server(
                ("", port), family=socket.AF_INET6, backlog=len(cluster.addresses), dualstack_ipv6=True
            )
        return socket.create_server(("", port), backlog=len(cluster.addresses))
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


def _is_closed(guest: socket.socket) -> bool:
    """Return whether the other side hung up."""
    guest.setblocking(False)
    try:
        return guest.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        guest.setblocking(True)
