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


def available_processors(control_groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores that the affinity of this process and the quota of its container leave it, at least 1.

    Args:
        control_groups: where the system shows the limits of the control group (version 1 or 2).
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    version_1 = [text_of(control_groups / "cpu" / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
    for words in (text_of(control_groups / "cpu.max").split(), version_1):
        try:
            quota, period = map(int, words)  # microseconds in a period of microseconds
        except ValueError:  # no limit is set, or it is not shown
            continue
        if quota > 0:
            cores = min(cores, math.ceil(quota / period))
    return max(1, cores)


def processors_for(threads: int | None) -> int:
    """Cores that so many threads can use: those that are available, and no more than there are threads; None is all."""
    available = available_processors()
    return min(threads or available, available)


def text_of(path: Path) -> str:
    """Return the text of a file of the system; empty if there is no such file."""
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


_processes: dict[str, int] = {}
"""The process in which each engine first ran, or the one from which this one was forked."""


def stay_in_process(engine: str) -> None:
    """Refuse to go on with an engine whose threads stayed behind when this process was forked: it would wait for ever.

    Args:
        engine: its name; it counts as running from the first call.

    Raises:
        RuntimeError: it ran before the fork.
    """
    if _processes.setdefault(engine, os.getpid()) != os.getpid():
        raise RuntimeError(
            f"this process was forked from one in which {engine} runs, whose threads it lacks: start processes by "
            'multiprocessing.get_context("spawn"), or load the model after the fork only'
        )


KIBIBYTE, MEBIBYTE, GIBIBYTE = 2**10, 2**20, 2**30

_UNLIMITED = 2**60
"""Control groups of version 1 write a number about this large if there is no limit."""

RESERVED_A_CORE = 384 * MEBIBYTE
"""Bytes that threads will map per core and not use, which `ulimit` counts and memory does not: the C library gives each
thread an arena of 64 MiB, and the system a stack. Seen: about 300 MiB per core."""


_START_BYTES, _THREAD_BYTES = 1760 * MEBIBYTE, 72 * MEBIBYTE
"""Address space that TensorFlow takes before it does anything, and what each of its threads adds. Under a smaller limit
it ends the process in the middle of its start, mostly without a word. Found by trying all verbs on two cores."""


def _shell_limit() -> tuple[float, str]:
    """Return how much address space the shell allows what it starts, in bytes and in words."""
    size, _ = resource.getrlimit(resource.RLIMIT_AS)
    known = size if size != resource.RLIM_INFINITY else math.inf
    return known, f"the limit of this shell is {in_gib(size)} of address space (ulimit -v)"


def refuse_to_start(threads: int) -> None:
    """Refuse a limit of the shell under which TensorFlow would end the process as it starts.

    Args:
        threads: that it will start, a core each.

    Raises:
        ConfigError: with the limit and what is needed.
    """
    (size, words), needed = _shell_limit(), _START_BYTES + threads * _THREAD_BYTES
    if size < needed:
        raise ConfigError(
            f"TensorFlow needs {in_gib(needed)} of address space to start, and {words}: raise it "
            f"(ulimit -v {math.ceil(needed / KIBIBYTE)} or more), or run this where it is not set"
        )


class RamLimit(NamedTuple):
    """What this process may hold in all.

    size: in bytes, what it holds already counted; no end of them if nobody knows.
    owner: whose limit it is, in words.
    on_device: whether it is the memory of a GPU.
    """

    size: float = math.inf
    owner: str = ""
    on_device: bool = False

    def __str__(self) -> str:
        return f"{in_gib(self.size)} ({self.owner})"


def in_gib(size: float) -> str:
    """Return a number of bytes in words."""
    return f"{size / GIBIBYTE:,.1f} GiB"


def ram_limit(root: Path = Path("/")) -> RamLimit:
    """Return how much main memory this process may hold, by the narrowest limit.

    Args:
        root: where `proc` and `sys` are mounted.
    """
    own = _figures(root / "proc/self/status")
    if "VmRSS" not in own:
        return RamLimit()
    rooms = [(_figures(root / "proc/meminfo").get("MemAvailable", math.inf), "the machine's free memory")]
    rooms += [(room, "the control group's (container's) limit") for room in _rooms_of_groups(root)]
    size, words = _shell_limit()
    unused = RESERVED_A_CORE * (os.cpu_count() or 1)
    rooms.append((size - own["VmSize"] - unused, f"{words}, most of it reserved and not used"))
    room, owner = min(rooms)
    return RamLimit(own["VmRSS"] + max(room, 0), owner)


def _rooms_of_groups(root: Path) -> Iterator[int]:
    """Yield how many bytes more each control group of this process allows, its own and those around it.

    A container may see only the outermost one, under the path that it has outside.
    """
    for line in text_of(root / "proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            top, names, prefix = root / "sys/fs/cgroup", ("memory.max", "memory.current"), ""
        elif "memory" in controllers.split(","):  # version 1
            names, prefix = ("memory.limit_in_bytes", "memory.usage_in_bytes"), "total_"
            top = root / "sys/fs/cgroup/memory"
        else:
            continue
        inner = top / path.lstrip("/")
        for group in (inner, *inner.parents[: len(inner.parts) - len(top.parts)]):
            limit, used = (text_of(group / name).strip() for name in names)
            if limit.isdecimal() and used.isdecimal() and int(limit) < _UNLIMITED:
                figures = _figures(group / "memory.stat")  # files in the cache are given back when somebody needs it
                cached = sum(figures.get(f"{prefix}{kind}_file", 0) for kind in ("inactive", "active"))
                yield int(limit) - int(used) + cached


def _figures(path: Path) -> dict[str, int]:
    """Return the lines `name: number kB` and `name number` of a file, in bytes; empty if there is no such file."""
    words = [line.replace(":", " ").split() for line in text_of(path).splitlines()]
    return {
        parts[0]: int(parts[1]) * (1024 if parts[2:] == ["kB"] else 1)
        for parts in words
        if len(parts) >= 2 and parts[1].isdigit()
    }


def device_ram_limit() -> RamLimit:
    """Return how much memory TensorFlow may take of the smallest GPU."""
    import tensorflow as tf

    options = tf.compat.v1.ConfigProto(gpu_options=tf.compat.v1.GPUOptions(allow_growth=True))
    try:
        with tf.compat.v1.Session(graph=tf.Graph(), config=options) as session:
            sizes = [each.memory_limit_bytes for each in session.list_devices() if each.device_type == "GPU"]
    except (tf.errors.OpError, RuntimeError):  # a question that must not end a training
        sizes = []
    return RamLimit(min(sizes), "the GPU's", True) if sizes and all(sizes) else RamLimit(on_device=True)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory was not enough: of Python, of the system's loader, of TensorFlow."""
    kinds = ((MemoryError, ""), (ImportError, "failed to map segment"), (RuntimeError, "can't start new thread"))
    if any(isinstance(error, kind) and words in str(error) for kind, words in kinds):
        return True
    errors = getattr(sys.modules.get("tensorflow"), "errors", None)  # it may not be imported, or not wholly
    return errors is not None and isinstance(error, errors.ResourceExhaustedError)
