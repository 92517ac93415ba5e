"""What TensorFlow computes on."""

from __future__ import annotations


def has_gpu() -> bool:
    """Return whether TensorFlow sees a GPU."""
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def gpu_capabilities() -> list[tuple[int, ...]]:
    """Return the compute capability of each GPU, such as (8, 0); empty where TensorFlow does not know it."""
    import tensorflow as tf

    details = map(tf.config.experimental.get_device_details, tf.config.list_physical_devices("GPU"))
    return [tuple(detail.get("compute_capability", ())) for detail in details]
