"""Which limit of memory is the narrowest, in file systems made up for the purpose."""

import math
import resource
from unittest import mock

import pytest

from nmt.backend.machine import (
    RESERVED_A_CORE,
    RamLimit,
    device_ram_limit,
    is_out_of_memory,
    ram_limit,
    refuse_to_start,
)
from nmt.backend.session import has_gpu
from nmt.errors import ConfigError

KIB, MIB = 2**10, 2**20
NO_LIMIT = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


@pytest.fixture
def machine(tmp_path):
    """A machine on which 1000 MiB are free and this process holds 100 MiB; takes more files by their paths."""

    def write(**files):
        files = {
            "proc/self/status": "Name:\tx\nVmSize:\t716800 kB\nVmRSS:\t102400 kB\n",
            "proc/meminfo": f"MemTotal: {9000 * 1024} kB\nMemAvailable:   {1000 * 1024} kB\n",
            **files,
        }
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        return tmp_path

    return write


def limit_of(root, **limits):
    by_kind = {getattr(resource, name): (size, resource.RLIM_INFINITY) for name, size in limits.items()}
    with mock.patch("resource.getrlimit", lambda kind: by_kind.get(kind, NO_LIMIT)):
        return ram_limit(root)


def test_what_is_free_is_added_to_what_the_process_holds(machine):
    assert limit_of(machine()) == RamLimit(1100 * MIB, "the machine's free memory")


def test_a_control_group_of_version_2_limits_with_all_groups_around_it(machine):
    group = "sys/fs/cgroup/outer/inner"
    root = machine(
        **{
            "proc/self/cgroup": "0::/outer/inner\n",
            f"{group}/memory.max": "max\n",
            f"{group}/memory.current": f"{150 * MIB}\n",
            "sys/fs/cgroup/outer/memory.max": f"{600 * MIB}\n",
            "sys/fs/cgroup/outer/memory.current": f"{250 * MIB}\n",
            "sys/fs/cgroup/outer/memory.stat": f"anon 5\ninactive_file {30 * MIB}\nactive_file {7 * MIB}\n",
        }
    )
    assert limit_of(root) == RamLimit((600 - 250 + 37 + 100) * MIB, "the control group's (container's) limit")


def test_a_control_group_of_version_1_limits_where_the_container_sees_only_its_own(machine):
    """The path in `cgroup` is the host's; the folder that is mounted is the container's."""
    top = "sys/fs/cgroup/memory"
    root = machine(
        **{
            "proc/self/cgroup": "9:name=systemd:/\n4:cpu,memory:/docker/0123\n",
            f"{top}/memory.limit_in_bytes": f"{500 * MIB}\n",
            f"{top}/memory.usage_in_bytes": f"{200 * MIB}\n",
            f"{top}/memory.stat": f"inactive_file 1\ntotal_inactive_file {11 * MIB}\ntotal_active_file {2 * MIB}\n",
        }
    )
    assert limit_of(root).size == (500 - 200 + 13 + 100) * MIB


def test_a_control_group_without_a_limit_means_nothing(machine):
    top = "sys/fs/cgroup/memory"
    root = machine(
        **{
            "proc/self/cgroup": "4:memory:/\n",
            f"{top}/memory.limit_in_bytes": "9223372036854771712\n",
            f"{top}/memory.usage_in_bytes": f"{200 * MIB}\n",
        }
    )
    assert limit_of(root).owner == "the machine's free memory"


def test_limits_of_the_process_count_what_they_count(machine, monkeypatch):
    root, unused = machine(), 3 * RESERVED_A_CORE
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    space = limit_of(root, RLIMIT_AS=900 * MIB + unused)
    assert space.size == (900 - 700 + 100) * MIB
    assert limit_of(root, RLIMIT_AS=750 * MIB).size == 100 * MIB, "no room is no debt"
    assert space.owner == (
        "the limit of this shell is 2.0 GiB of address space (ulimit -v), most of it reserved and not used"
    ), "the limit as it was set, whatever is left of it"


def test_too_small_a_limit_for_the_start_is_refused_with_what_is_needed():
    def refuse(threads, **limits):
        by_kind = {getattr(resource, name): (size, resource.RLIM_INFINITY) for name, size in limits.items()}
        with mock.patch("resource.getrlimit", lambda kind: by_kind.get(kind, NO_LIMIT)):
            refuse_to_start(threads)

    refuse(2)
    refuse(2, RLIMIT_AS=2000 * MIB)
    message = (
        r"needs 1\.9 GiB of address space to start.* is 1\.0 GiB .*\(ulimit -v\): raise it \(ulimit -v \d{7} or more\)"
    )
    with pytest.raises(ConfigError, match=message):
        refuse(2, RLIMIT_AS=1024 * MIB)
    with pytest.raises(ConfigError, match="address space"):
        refuse(32, RLIMIT_AS=2000 * MIB)  # each thread takes some of it


def test_a_system_that_says_nothing_is_taken_at_its_word(tmp_path):
    assert limit_of(tmp_path).size == math.inf


@pytest.mark.needs("/proc/self/status")
def test_this_machine_has_memory():
    limit = ram_limit()
    assert 50 * MIB < limit.size < 2**50


def test_without_a_gpu_there_is_no_memory_of_it():
    assert not has_gpu()
    assert device_ram_limit() == RamLimit(on_device=True)


def test_errors_of_memory_are_told_from_others():
    import tensorflow as tf

    assert is_out_of_memory(tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"))
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(ImportError("libx.so: failed to map segment from shared object"))
    assert is_out_of_memory(RuntimeError("can't start new thread"))
    assert not any(map(is_out_of_memory, (ValueError(), ImportError("no module"), RuntimeError("lost"))))
