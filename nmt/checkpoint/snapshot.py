"""Memory for one copy of everything that a checkpoint keeps: taken once, and used again by every save.

Training waits while its values are copied. A system that hands out fresh memory page by page makes that several times
as long as the copying itself, so the memory is asked for early, by a thread, and kept: what a save needs, a run needs
anyway.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np

from nmt.backend.variables import array_view

_ALIGNMENT = 64  # bytes; a line of the processor's cache
_PAGE_BYTES = 4096
_THREADS = 2


class Snapshot:
    """Keeps the last copy that was made; the next one overwrites it."""

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)

    def reserve(self, variables: Iterable[keras.Variable]) -> None:
        """Take the memory that a copy of these variables needs; what was copied is lost."""
        size = sum(_aligned(_size(variable)) for variable in variables)
        if self._memory.size < size:
            self._memory = np.empty(0, np.uint8)
            self._memory = np.empty(size, np.uint8)
            self._memory[::_PAGE_BYTES] = 0  # only now the system looks for it

    def copy(self, parts: Iterable[Mapping[str, keras.Variable]]) -> list[dict[str, np.ndarray]]:
        """Copy the values of variables as they are now.

        Args:
            parts: variables by name; a variable that comes twice is copied twice.

        Returns:
            Arrays by name, in the variables' own types, part by part, valid until the next copy.
        """
        parts = list(parts)
        self.reserve(variable for part in parts for variable in part.values())
        copies: list[dict[str, np.ndarray]] = []
        begin = 0
        for part in parts:
            copies.append({})
            for name, variable in part.items():
                end = begin + _size(variable)
                copies[-1][name] = self._memory[begin:end].view(_dtype(variable)).reshape(tuple(variable.shape))
                begin = _aligned(end)
        pairs = [(copy[name], part[name]) for copy, part in zip(copies, parts, strict=True) for name in part]
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(_copy, *zip(*pairs, strict=True)))
        return copies


def _copy(copy: np.ndarray, variable: keras.Variable) -> None:
    np.copyto(copy, array_view(variable))


def _size(variable: keras.Variable) -> int:
    return math.prod(variable.shape) * _dtype(variable).itemsize


def _dtype(variable: keras.Variable) -> np.dtype:
    return array_view(variable).dtype


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
