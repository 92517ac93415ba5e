"""Which precision `training.precision: auto` is."""

from __future__ import annotations

from pathlib import Path

from nmt.backend.precision import check_precision, has_bfloat16_products
from nmt.backend.products import BFLOAT16, FLOAT32
from nmt.config import Config, load
from nmt.inference.model_directory import CONFIG_NAME


def settle_precision(config: Config, *, earlier: Path | None) -> Config:
    """Return settings with `float32` or `bfloat16` for `training.precision`.

    Args:
        config: the run.
        earlier: the directory of a run that goes on, whose precision `auto` means, so that it learns as it began; None
            for a new run.

    Raises:
        ConfigError: this machine does not multiply in that precision.
    """
    precision: str = config.training.precision
    if precision == "auto":
        precision = _best(config) if earlier is None else load([earlier / CONFIG_NAME]).training.precision
    check_precision(precision)
    return config.model_copy(update={"training": config.training.model_copy(update={"precision": precision})})


def _best(config: Config) -> str:
    """Return bfloat16 where it pays: on machines with instructions for it, and not under XLA, which was not tried."""
    return BFLOAT16 if config.training.compile == "graph" and has_bfloat16_products() else FLOAT32
