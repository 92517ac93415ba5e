"""How many compiled kernels oneDNN keeps, TensorFlow's library of matrix products on processors.

It compiles a kernel for each shape of operands. Batches of a corpus have hundreds of shapes, each of them dozens of
products, and to compile a kernel takes about as long as to run it: with the library's own bound of 1,024 most are
compiled anew in every update. They stay in memory, though, so their number follows the memory there is.
"""

from __future__ import annotations

import os

from nmt.backend.machine_memory import memory_limit

KERNEL_BYTES = 64 * 2**10
"""What a kept kernel takes, in the mean: some 15,600 of them were seen to take 0.9 GB."""

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


def most_kernel_bytes() -> int:
    """Return how much memory the kept kernels take at most."""
    kept = os.environ.get(_VARIABLE, "")
    return (int(kept) if kept.isdigit() else _DEFAULT) * KERNEL_BYTES
