"""What the machine has: its processors, threads on them, and its memory."""

import math
import os
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

from nmt.errors import ConfigError

_CONTROL_GROUPS = Path("/sys/fs/cgroup")


def available_processors(control_groups: Path = _CONTROL_GROUPS) -> int:
    """Cores that the affinity of this process and the quota of its container leave it, at least 1.

    Args:
        control_groups: where the system shows the limits of the control group (version 1 or 2).
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cpu = control_groups / "cpu"
    version_1 = _words(cpu / "cpu.cfs_quota_us") + _words(cpu / "cpu.cfs_period_us")
    quota = _quota(_words(control_groups / "cpu.max")) or _quota(version_1)
    return max(1, min(cores, math.ceil(quota))) if quota else cores


def processors_for(threads: int | None) -> int:
    """Cores that so many threads can use: those that are available, and no more than there are threads; None is all."""
    available = available_processors()
    return min(threads or available, available)


def _quota(words: list[str]) -> float | None:
    """Return the cores that microseconds of processor time in a period of microseconds are, which `words` are.

    The time is "max" or -1 where there is no limit.
    """
    try:
        quota, period = map(int, words)
    except ValueError:  # no limit is set, or it is not shown
        return None
    return quota / period if quota > 0 and period > 0 else None


def _words(path: Path) -> list[str]:
    return _text(path).split()


def _text(path: Path) -> str:
    """Return the text of a file of the system; empty where there is no such file."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


Argument = TypeVar("Argument")
Result = TypeVar("Result")


def map_at_once(
    function: Callable[[Argument], Result], arguments: Sequence[Argument], *, at_once: int
) -> Iterator[Result]:
    """Map a function over arguments, several side by side in threads, and yield the results in order.

    An error is raised where its result would be. However this ends, what has not begun by then never does.

    Args:
        function: may be called from several threads.
        arguments: what to call it with.
        at_once: calls side by side; one needs no threads.
    """
    if at_once == 1 or len(arguments) < 2:
        yield from map(function, arguments)
        return
    executor = ThreadPoolExecutor(at_once, thread_name_prefix="batch")
    try:
        yield from executor.map(function, arguments)
    finally:
        executor.shutdown(cancel_futures=True)


KIBIBYTE, MEBIBYTE, GIBIBYTE = 2**10, 2**20, 2**30

_UNLIMITED = 2**60
"""Control groups of version 1 write a number about this large where there is no limit."""

RESERVED_A_CORE = 384 * MEBIBYTE
"""Bytes that threads will map a core and not use, which `ulimit` counts and memory does not: the C library gives each
thread an arena of 64 MiB, and the system a stack. Seen: about 300 MiB a core."""

_CACHE_OF_FILES = ("inactive_file", "active_file", "total_inactive_file", "total_active_file")


class _ShellLimit(NamedTuple):
    """A limit that a shell sets for what it starts, and what TensorFlow takes of it before it does anything.

    Under less it ends the process in the middle of its start, mostly without a word. Found by trying all verbs on two
    cores: they worked from 2.0 GB of address space on, and from 0.5 GB of data.
    """

    kind: int  # for `resource.getrlimit`
    figure: str  # in `/proc/self/status`
    what: str
    command: str
    to_start: int
    a_thread: int  # its stack, or one a pool of threads and an arena of the C library

    def size(self, get_limit: Callable[[int], tuple[int, int]]) -> int | None:
        """Return the limit in bytes; None where there is none."""
        limit = get_limit(self.kind)[0]
        return None if limit == resource.RLIM_INFINITY else limit

    def in_words(self, size: int) -> str:
        """Return whose limit it is, and how large."""
        return f"the limit of this shell is {in_gib(size)} of {self.what} ({self.command})"


_SHELL_LIMITS = (
    _ShellLimit(resource.RLIMIT_AS, "VmSize", "address space", "ulimit -v", 1760 * MEBIBYTE, 72 * MEBIBYTE),
    _ShellLimit(resource.RLIMIT_DATA, "VmData", "data", "ulimit -d", 450 * MEBIBYTE, 16 * MEBIBYTE),
)


class RamLimit(NamedTuple):
    """What this process may hold in all.

    size: in bytes, what it holds already counted.
    owner: whose limit it is, in words.
    """

    size: int
    owner: str


def in_gib(size: int) -> str:
    """Return a number of bytes in words."""
    return f"{size / GIBIBYTE:,.1f} GiB"


def refuse_to_start(threads: int, *, get_limit: Callable[[int], tuple[int, int]] = resource.getrlimit) -> None:
    """Refuse a limit of the shell under which TensorFlow would end the process as it starts.

    Args:
        threads: that it will start, a core each.
        get_limit: `resource.getrlimit`.

    Raises:
        ConfigError: with the limit and what is needed.
    """
    for limit in _SHELL_LIMITS:
        size, needed = limit.size(get_limit), limit.to_start + threads * limit.a_thread
        if size is not None and size < needed:
            raise ConfigError(
                f"TensorFlow needs {in_gib(needed)} of {limit.what} to start, and {limit.in_words(size)}: raise it "
                f"({limit.command} {math.ceil(needed / KIBIBYTE)} or more), or run this where it is not set"
            )


def ram_limit(
    root: Path = Path("/"), *, get_limit: Callable[[int], tuple[int, int]] = resource.getrlimit
) -> RamLimit | None:
    """Return how much main memory this process may hold, by the narrowest limit; None where the system does not say.

    Args:
        root: where `proc` and `sys` are mounted.
        get_limit: `resource.getrlimit`.
    """
    own = _figures(root / "proc/self/status")
    if "VmRSS" not in own:
        return None
    held = own["VmRSS"]
    limits = [RamLimit(held + max(room, 0), owner) for room, owner in _rooms(root, own, get_limit)]
    return min(limits, default=None)


def device_ram_limit() -> RamLimit | None:
    """Return how much memory TensorFlow may take of the smallest GPU; None where there is none or it does not say."""
    import tensorflow as tf

    options = tf.compat.v1.ConfigProto(gpu_options=tf.compat.v1.GPUOptions(allow_growth=True))
    try:
        with tf.compat.v1.Session(graph=tf.Graph(), config=options) as session:
            sizes = [each.memory_limit_bytes for each in session.list_devices() if each.device_type == "GPU"]
    except (tf.errors.OpError, RuntimeError):  # a question that must not end a training
        return None
    return RamLimit(min(sizes), "the GPU's") if sizes and min(sizes) > 0 else None


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
    for limit in _SHELL_LIMITS:
        size = limit.size(get_limit)
        if size is not None and limit.figure in own:
            room = size - own[limit.figure] - RESERVED_A_CORE * (os.cpu_count() or 1)
            yield room, f"{limit.in_words(size)}, most of it reserved and not used"


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
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" or "memory" in controllers.split(","):
            top = root / "sys/fs/cgroup" / ("" if number == "0" else "memory")
            group = top / path.lstrip("/")
            yield from (folder for folder in (group, *group.parents) if folder == top or top in folder.parents)


def _number(*paths: Path) -> int | None:
    """Return the number in the first of these files that there is; None where it is no number, such as `max`."""
    for path in paths:
        if words := _words(path):
            return int(words[0]) if words[0].isdecimal() else None
    return None


def _figures(path: Path) -> dict[str, int]:
    """Return the lines `name: number kB` and `name number` of a file, in bytes; empty where there is no such file."""
    words = [line.replace(":", " ").split() for line in _text(path).splitlines()]
    return {
        parts[0]: int(parts[1]) * (1024 if parts[2:] == ["kB"] else 1)
        for parts in words
        if len(parts) >= 2 and parts[1].isdigit()
    }
