"""The precision of matrix products: float32, or bfloat16 with sums in float32, where the processor multiplies so.

Variables, their updates and everything but products stay float32. TensorFlow's graph optimiser puts the casts in, as an
option of the whole process that is read at every call of a compiled function: so it is set around those calls alone.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf

from nmt.errors import ConfigError

FLOAT32, BFLOAT16 = "float32", "bfloat16"

_OPTION = "auto_mixed_precision_onednn_bfloat16"
_PROCESSOR_FLAGS = {"avx512_bf16", "amx_bf16"}
_PROCESSOR_FILE = Path("/proc/cpuinfo")


@contextmanager
def products_in(precision: str) -> Iterator[None]:
    """Let compiled functions that are called in the block multiply matrices in this precision.

    Args:
        precision: `float32` changes nothing, `bfloat16` sets the option.
    """
    if precision == FLOAT32:
        yield
        return
    before = tf.config.optimizer.get_experimental_options().get(_OPTION, False)
    tf.config.optimizer.set_experimental_options({_OPTION: True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({_OPTION: before})


def check_precision(precision: str) -> None:
    """Refuse a precision that this machine does not multiply in.

    Raises:
        ConfigError: it is bfloat16, and there is no such processor, or a GPU.
    """
    if precision == BFLOAT16 and not has_bfloat16_products():
        raise ConfigError(
            "training.precision bfloat16 needs a processor with AVX512_BF16 or AMX_BF16 and no GPU: set "
            "training.precision to float32"
        )


def has_bfloat16_products() -> bool:
    """Return whether training runs on a processor with instructions for products of bfloat16, and on no GPU."""
    if platform.machine() != "x86_64" or tf.config.list_logical_devices("GPU"):
        return False
    try:
        text = _PROCESSOR_FILE.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return bool(_PROCESSOR_FLAGS & set(flags.split()))
