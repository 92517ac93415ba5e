"""How much memory this process may hold: of the machine, of its control group, of its limits, of its GPU."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

_UNLIMITED = 2**60
"""Control groups of version 1 write a number about this large where there is no limit."""

RESERVED_A_CORE = 384 * 2**20
"""Bytes that threads will map a core and not use, which `ulimit` counts and memory does not: the C library gives each
thread an arena of 64 MiB, and the system a stack. Seen: about 300 MiB a core."""

_CACHE_OF_FILES = ("inactive_file", "active_file", "total_inactive_file", "total_active_file")


class MemoryLimit(NamedTuple):
    """What this process may hold in all.

    size: in bytes, what it holds already counted.
    owner: whose limit it is, in words.
    """

    size: int
    owner: str


def memory_limit(
    root: Path = Path("/"), *, get_limit: Callable[[int], tuple[int, int]] = resource.getrlimit
) -> MemoryLimit | None:
    """Return how much main memory this process may hold, by the narrowest limit; None where the system does not say.

    Args:
        root: where `proc` and `sys` are mounted.
        get_limit: `resource.getrlimit`.
    """
    own = _figures(root / "proc/self/status")
    if "VmRSS" not in own:
        return None
    held = own["VmRSS"]
    limits = [MemoryLimit(held + max(room, 0), owner) for room, owner in _rooms(root, own, get_limit)]
    return min(limits, default=None)


def device_memory_limit() -> MemoryLimit | None:
    """Return how much memory TensorFlow may take of the smallest GPU; None where there is none or it does not say."""
    import tensorflow as tf

    options = tf.compat.v1.ConfigProto(gpu_options=tf.compat.v1.GPUOptions(allow_growth=True))
    try:
        with tf.compat.v1.Session(graph=tf.Graph(), config=options) as session:
            sizes = [each.memory_limit_bytes for each in session.list_devices() if each.device_type == "GPU"]
    except (tf.errors.OpError, RuntimeError):  # a question that must not end a training
        return None
    return MemoryLimit(min(sizes), "the GPU's") if sizes and min(sizes) > 0 else None


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory was not enough: of Python, of the system's loader, of TensorFlow."""
    kinds = ((MemoryError, ""), (ImportError, "failed to map segment"), (RuntimeError, "can't start new thread"))
    if any(isinstance(error, kind) and words in str(error) for kind, words in kinds):
        return True
    errors = getattr(sys.modules.get("tensorflow"), "errors", None)  # it may not be imported, or not wholly
    return errors is not None and isinstance(error, errors.ResourceExhaustedError)


def _rooms(root: Path, own: dict[str, int], get_limit: Callable[[int], tuple[int, int]]) -> Iterator[tuple[int, str]]:
    """Yield how many bytes more each limit allows."""
    machine = _figures(root / "proc/meminfo")
    if "MemAvailable" in machine:
        yield machine["MemAvailable"], "the machine's free memory"
    yield from ((room, "the control group's (container's) limit") for room in _rooms_of_groups(root))
    for kind, name, owner in (
        (resource.RLIMIT_AS, "VmSize", "ulimit -v"),
        (resource.RLIMIT_DATA, "VmData", "ulimit -d"),
    ):
        limit = get_limit(kind)[0]
        if limit != resource.RLIM_INFINITY and name in own:
            yield limit - own[name] - RESERVED_A_CORE * (os.cpu_count() or 1), owner


def _rooms_of_groups(root: Path) -> Iterator[int]:
    """Yield the room in each control group of this process that has a limit, its own and those around it."""
    for folder in _groups(root):
        limit = _number(folder / "memory.max", folder / "memory.limit_in_bytes")
        used = _number(folder / "memory.current", folder / "memory.usage_in_bytes")
        if limit is None or used is None or limit >= _UNLIMITED:
            continue
        parts = _figures(folder / "memory.stat")
        cached = [parts.get(name, 0) for name in _CACHE_OF_FILES]  # given back when somebody needs it
        yield limit - used + max(cached[0] + cached[1], cached[2] + cached[3])


def _groups(root: Path) -> Iterator[Path]:
    """Yield the folders of the control groups that this process is in, of version 1 and 2, where they are mounted."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0" or "memory" in controllers.split(","):
            top = root / "sys/fs/cgroup" / ("" if number == "0" else "memory")
            group = top / path.lstrip("/")
            yield from (folder for folder in (group, *group.parents) if folder == top or top in folder.parents)


def _number(*paths: Path) -> int | None:
    """Return the number in the first of these files that there is; None where it is no number, such as `max`."""
    for path in paths:
        try:
            text = path.read_text(encoding="ascii").strip()
        except OSError:
            continue
        return int(text) if text.isdigit() else None
    return None


def _figures(path: Path) -> dict[str, int]:
    """Return the lines `name: number kB` and `name number` of a file, in bytes; empty where there is no such file."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    words = [line.replace(":", " ").split() for line in lines]
    return {
        parts[0]: int(parts[1]) * (1024 if parts[2:] == ["kB"] else 1)
        for parts in words
        if len(parts) >= 2 and parts[1].isdigit()
    }
