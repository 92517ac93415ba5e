"""What this machine can do at best: the speed of large matrix products, measured in the process that needs it."""

from __future__ import annotations

import time

import tensorflow as tf

SHAPES = ((4096, 1024, 1024), (4096, 256, 8000), (8192, 1024, 4096))
"""Products (M, K) x (K, N) that are tried; the fastest counts."""

REPETITIONS = 7


def matrix_peak(dtype: str) -> float:
    """Return the most floating point operations a second over several large products, 2 a multiply-add."""
    return max(_speed(shape, dtype) for shape in SHAPES)


def _speed(shape: tuple[int, int, int], dtype: str) -> float:
    rows, inner, columns = shape
    left = tf.cast(tf.random.normal((rows, inner)), dtype)
    right = tf.cast(tf.random.normal((inner, columns)), dtype)
    product = tf.function(tf.matmul)
    product(left, right)
    fastest = min(_seconds(product, left, right) for _ in range(REPETITIONS))
    return 2.0 * rows * inner * columns / fastest


def _seconds(product: tf.types.experimental.PolymorphicFunction, left: tf.Tensor, right: tf.Tensor) -> float:
    started = time.perf_counter()
    product(left, right)[0, 0].numpy()
    return time.perf_counter() - started
