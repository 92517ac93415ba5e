"""Masks of dropout, drawn by themselves and cut from one row."""

import numpy as np
import pytest
import tensorflow as tf

from nmt.backend.functions import Spec, compile_function
from nmt.backend.kernels import drop, kept_scale, shared_masks

SIZE, RATE = 20_000, 0.3
"""With so many elements the share of zeros is within 0.013 of its mean in all but one of 10,000 draws."""


def masks(seeds, *, length, size=SIZE, rate=RATE):
    with shared_masks(tf.constant(length), tf.constant([7, 1])):
        return [drop(tf.ones((size,)), rate, tf.constant(seed)).numpy() for seed in seeds]


@pytest.mark.parametrize("length", [SIZE, SIZE // 4], ids=["windows", "longer than the row"])
def test_each_mask_drops_its_share_and_keeps_the_mean(length):
    for mask in masks([(1, 2), (1, 3), (4, 2)], length=length):
        assert set(np.unique(mask)) == {np.float32(0.0), np.float32(kept_scale(RATE))}
        assert abs(np.mean(mask == 0) - RATE) < 0.013
        assert abs(mask.mean() - 1.0) < 0.02


def test_masks_of_a_step_are_windows_of_one_row_and_differ():
    first, second, again = masks([(1, 2), (1, 3), (1, 2)], length=SIZE)
    np.testing.assert_array_equal(first, again)
    assert abs(np.mean((first == 0) & (second == 0)) - RATE**2) < 0.013  # at the same place they agree by chance only
    shared = range(-64 * 80, 64 * 80, 64)  # how far the second may lie behind the first
    assert any(np.array_equal(*overlap(first, second, distance)) for distance in shared)


def overlap(first, second, distance):
    """What both masks have in common if the second begins `distance` elements behind the first."""
    if distance < 0:
        return overlap(second, first, -distance)
    return first[distance:], second[: len(second) - distance]


def test_within_a_mask_no_bits_are_repeated():
    (mask,) = masks([(5, 5)], length=SIZE)
    zeros = mask == 0
    for distance in (1, 2, 64, 1024, SIZE // 4):
        both = np.mean(zeros[distance:] & zeros[:-distance])
        assert abs(both - RATE**2) < 0.013


def test_a_compiled_step_draws_anew_with_each_seed():
    def step(seed):
        with shared_masks(tf.constant(1000), seed):
            return drop(tf.ones((10, 100)), 0.5, seed), drop(tf.ones((10, 100)), 0.5, seed + 1)

    compiled = compile_function(step, [Spec((2,), "int32")])
    first, again, other = (compiled(np.array(seed, "int32")) for seed in ((1, 2), (1, 2), (1, 4)))
    for mask, same, different in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(mask, same)
        assert 300 < np.count_nonzero(mask != different) < 700


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_dropped_keeps_its_type_and_has_the_gradient_of_its_mask(dtype):
    inputs = tf.cast(tf.random.stateless_normal((4, 50), (1, 1)), dtype)
    with shared_masks(tf.constant(200), tf.constant([3, 3])), tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = drop(inputs, 0.25, tf.constant([1, 1]))
    assert outputs.dtype == dtype
    gradient = tape.gradient(outputs, inputs)
    np.testing.assert_array_equal(tf.cast(gradient * inputs, "float32"), tf.cast(outputs, "float32"))
