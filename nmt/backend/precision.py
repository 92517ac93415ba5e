"""Whether a machine multiplies matrices in bfloat16."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from nmt.backend.devices import gpu_capabilities
from nmt.backend.products import BFLOAT16
from nmt.errors import ConfigError

_PROCESSOR_FLAGS = {"avx512_bf16", "amx_bf16"}
_SETS_WITHOUT = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"}
"""Of the instruction sets that oneDNN, TensorFlow's library of matrix products, can be held to by the environment."""

_PROCESSOR_FILE = Path("/proc/cpuinfo")
_LEAST_COMPUTE_CAPABILITY = (8, 0)
"""Of the first NVIDIA GPUs with instructions for bfloat16."""


def check_precision(precision: str, *, resumed: bool = False) -> None:
    """Refuse a precision that this machine does not multiply in.

    Args:
        precision: `float32` or `bfloat16`.
        resumed: whether it is that of a run that goes on, so that it cannot be changed.

    Raises:
        ConfigError: it is bfloat16, and neither the processor nor, where there is one, the GPU has instructions for it.
    """
    if precision == BFLOAT16 and not has_bfloat16_products():
        raise ConfigError(
            "training.precision bfloat16 needs a processor with AVX512_BF16 or AMX_BF16, or GPUs of compute capability "
            "8.0 or higher, and this machine trains on none: "
            + (
                "go on with this run where there is one, or begin another with training.initialize_from"
                if resumed
                else "set training.precision to float32"
            )
        )


def has_bfloat16_products() -> bool:
    """Return whether what training runs on, all GPUs or else the processor, has instructions for bfloat16."""
    capabilities = gpu_capabilities()
    if capabilities:
        return all(capability >= _LEAST_COMPUTE_CAPABILITY for capability in capabilities)
    held_to = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or ""
    if held_to.upper() in _SETS_WITHOUT:
        return False
    return platform.machine() == "x86_64" and bool(_PROCESSOR_FLAGS & _processor_flags())


def _processor_flags() -> set[str]:
    try:
        text = _PROCESSOR_FILE.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    return set(next((line for line in text.splitlines() if line.startswith("flags")), "").split())
