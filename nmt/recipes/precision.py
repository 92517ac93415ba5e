"""Which precision `training.precision: auto` is."""

from __future__ import annotations

from nmt.backend.precision import check_precision, has_bfloat16_products
from nmt.backend.products import BFLOAT16, FLOAT32
from nmt.config import Config
from nmt.errors import ConfigError


def settle_precision(config: Config, *, resumed: bool = False) -> Config:
    """Return settings with `float32` or `bfloat16` for `training.precision`.

    Args:
        config: the run.
        resumed: whether it goes on in the precision that it was begun in.

    Raises:
        ConfigError: this machine does not multiply in that precision, or what compiles the training step does not.
    """
    training = config.training
    precision = _best(config) if training.precision == "auto" else training.precision
    if resumed and precision == BFLOAT16 and training.compile == "xla":
        raise ConfigError(
            "training.compile must be graph in a run that was begun in bfloat16, got xla: set it to graph, or begin "
            "another run with training.initialize_from"
        )
    check_precision(precision, resumed=resumed)
    return config.with_training(precision=precision)


def _best(config: Config) -> str:
    """Return bfloat16 where it pays: on machines with instructions for it, and not under XLA, which was not tried."""
    return BFLOAT16 if config.training.compile == "graph" and has_bfloat16_products() else FLOAT32
