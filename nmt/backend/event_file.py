"""TensorBoard's event files."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf
from tensorflow.core.framework.summary_pb2 import SummaryMetadata


class EventFile:
    """Writes scalars and texts that TensorBoard shows; TensorBoard itself is not needed for that.

    Args:
        directory: where the event file goes.
    """

    def __init__(self, directory: Path) -> None:
        self._writer = tf.summary.create_file_writer(str(directory))

    def scalar(self, name: str, value: float, update: int) -> None:
        """Write one figure."""
        self._write(name, tf.constant(value, tf.float32), update, "scalars")

    def text(self, name: str, value: str, update: int) -> None:
        """Write a text in Markdown."""
        self._write(name, tf.constant(value), update, "text")

    def close(self) -> None:
        """Flush and close the file."""
        self._writer.close()

    def _write(self, name: str, value: tf.Tensor, update: int, plugin: str) -> None:
        metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=plugin))
        with self._writer.as_default():
            tf.summary.write(name, value, step=update, metadata=metadata)
