"""How many compiled kernels oneDNN keeps, TensorFlow's library of matrix products on processors.

It compiles a kernel for each shape of operands. Batches of a corpus have hundreds of shapes, each of them dozens of
products, and to compile a kernel takes about as long as to run it: with the library's own bound of 1,024 most are
compiled anew in every update. They stay in memory, though, so their number follows the memory there is.
"""

from __future__ import annotations

import os

from nmt.backend.machine_memory import memory_limit

KERNEL_BYTES = 88 * 2**10
"""What a kept kernel takes, in the mean, and a little more: in a run of 27,000 batches of many shapes some 24,000 of
them, and those that TensorFlow's threads keep, came to take 2.7 GiB, 83 KiB each, and grew no more."""

THREAD_KERNELS = 10240
"""What TensorFlow's threads keep beside the library, each for itself and whatever its bound: with one of 1,024, runs
through many shapes grew by 0.65 and 0.83 GB before they grew no more. Runs through few shapes keep few."""

_VARIABLE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
_DEFAULT = 1024  # the library's own
_MOST = 32768
_SHARE = 16


def keep_kernels() -> None:
    """Let oneDNN keep as many kernels as a sixteenth of the memory holds, unless the environment says how many.

    To be called before TensorFlow is imported.
    """
    limit = memory_limit()
    kept = _MOST if limit is None else limit.size // _SHARE // KERNEL_BYTES
    os.environ.setdefault(_VARIABLE, str(min(max(kept, _DEFAULT), _MOST)))


def library_kernel_bytes() -> int:
    """Return how much memory the kernels take that the library keeps, at most."""
    kept = os.environ.get(_VARIABLE, "")
    return (int(kept) if kept.isdigit() else _DEFAULT) * KERNEL_BYTES


def thread_kernel_bytes() -> int:
    """Return how much memory those take that TensorFlow's threads keep in a run through batches of many shapes."""
    return THREAD_KERNELS * KERNEL_BYTES
