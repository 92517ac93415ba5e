"""Who the workers of a run are, as the environment variable TF_CONFIG says it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from nmt.errors import ConfigError

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
