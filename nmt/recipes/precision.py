"""Which precision `training.precision: auto` is."""

from __future__ import annotations

from nmt.backend.precision import check_precision, has_bfloat16_products
from nmt.backend.products import BFLOAT16, FLOAT32
from nmt.config import Config


def settle_precision(config: Config) -> Config:
    """Return settings with `float32` or `bfloat16` for `training.precision`.

    Raises:
        ConfigError: this machine does not multiply in that precision.
    """
    precision = _best(config) if config.training.precision == "auto" else config.training.precision
    check_precision(precision)
    return config.with_training(precision=precision)


def _best(config: Config) -> str:
    """Return bfloat16 where it pays: on machines with instructions for it, and not under XLA, which was not tried."""
    return BFLOAT16 if config.training.compile == "graph" and has_bfloat16_products() else FLOAT32
