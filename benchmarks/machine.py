"""What this machine can do at best: the speed of large matrix products, measured in the process that needs it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import tensorflow as tf

SHAPES = ((4096, 1024, 1024), (4096, 256, 8000), (8192, 1024, 4096))
"""Products (M, K) x (K, N) that are tried; the fastest counts."""

SMOKE_SHAPES = ((64, 32, 48),)

REPETITIONS = 7


def matrix_peak(dtype: str, *, side_by_side: int = 1, smoke: bool = False) -> float:
    """Return the most floating point operations a second over several large products, 2 a multiply-add.

    Args:
        dtype: of the matrices.
        side_by_side: products that are computed at the same time, all of which count; in a process where an operation
            takes one core, as many as it has cores.
        smoke: whether to try only a small product, to see that it runs.
    """
    shapes = SMOKE_SHAPES if smoke else SHAPES
    with ThreadPoolExecutor(side_by_side) as executor:
        return max(_speed(shape, dtype, executor, side_by_side) for shape in shapes)


def _speed(shape: tuple[int, int, int], dtype: str, executor: ThreadPoolExecutor, side_by_side: int) -> float:
    rows, inner, columns = shape
    left = tf.cast(tf.random.normal((rows, inner)), dtype)
    right = tf.cast(tf.random.normal((inner, columns)), dtype)
    product = tf.function(tf.matmul)
    product(left, right)

    def seconds() -> float:
        started = time.perf_counter()
        list(executor.map(lambda _: product(left, right)[0, 0].numpy(), range(side_by_side)))
        return time.perf_counter() - started

    return 2.0 * rows * inner * columns * side_by_side / min(seconds() for _ in range(REPETITIONS))
