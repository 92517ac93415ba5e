"""How many processor cores this process may use, which in a container is fewer than the machine has."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CONTROL_GROUPS = Path("/sys/fs/cgroup")


def available_processors(control_groups: Path = _CONTROL_GROUPS) -> int:
    """Cores that the affinity of this process and the quota of its container leave it, at least 1.

    Args:
        control_groups: where the system shows the limits of the control group (version 1 or 2).
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota_version_2(control_groups) or _quota_version_1(control_groups)
    return max(1, min(cores, math.ceil(quota))) if quota else cores


def processors_for(threads: int | None) -> int:
    """Cores that so many threads can use: those that are available, and no more than there are threads; None is all."""
    available = available_processors()
    return min(threads or available, available)


def _quota_version_2(control_groups: Path) -> float | None:
    """Cores of `cpu.max`, which holds "max" or microseconds of processor time, then those of a period."""
    return _quota(_words(control_groups / "cpu.max"))


def _quota_version_1(control_groups: Path) -> float | None:
    """Cores of `cpu.cfs_quota_us`, which is -1 where there is no limit."""
    return _quota(_words(control_groups / "cpu/cpu.cfs_quota_us") + _words(control_groups / "cpu/cpu.cfs_period_us"))


def _quota(words: list[str]) -> float | None:
    try:
        quota, period = map(int, words)
    except ValueError:  # no limit is set, or it is not shown
        return None
    return quota / period if quota > 0 and period > 0 else None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError):
        return []
