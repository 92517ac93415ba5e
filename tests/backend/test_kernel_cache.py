"""How many kernels oneDNN keeps follows the memory there is, and what they take is known."""

import math

import pytest

from nmt.backend import session
from nmt.backend.machine import RamLimit
from nmt.backend.session import KERNEL_BYTES, keep_kernels, library_kernel_bytes

VARIABLE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
GIB = 2**30


@pytest.fixture
def keep(monkeypatch):
    """Set the bound on a machine with so much memory; gives the bound, and the bytes that are expected."""

    def keep(size):
        monkeypatch.setattr(session, "ram_limit", lambda: RamLimit(size))
        monkeypatch.setenv(VARIABLE, "")
        monkeypatch.delenv(VARIABLE)
        keep_kernels()
        return int(session.os.environ[VARIABLE]), library_kernel_bytes()

    return keep


@pytest.mark.parametrize(
    ("size", "kept"), [(16 * GIB, GIB // KERNEL_BYTES), (GIB // 4, 1024), (1024 * GIB, 32768), (math.inf, 32768)]
)
def test_a_sixteenth_of_the_memory_is_for_kernels(keep, size, kept):
    assert keep(size) == (kept, kept * KERNEL_BYTES)


def test_the_environment_decides_where_it_says_how_many(monkeypatch):
    monkeypatch.setenv(VARIABLE, "77")
    keep_kernels()
    assert library_kernel_bytes() == 77 * KERNEL_BYTES


@pytest.mark.parametrize("value", [None, "", "many"])
def test_without_a_number_the_default_of_the_library_counts(monkeypatch, value):
    monkeypatch.delenv(VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(VARIABLE, value)
    assert library_kernel_bytes() == 1024 * KERNEL_BYTES
