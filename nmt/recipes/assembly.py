"""From sections of a config to what the trainer takes: optimizer, schedule, limits."""

from __future__ import annotations

from collections.abc import Callable

from nmt.config import Config
from nmt.config import training as kinds
from nmt.training import optimizers, schedules
from nmt.training.state import Limits
from nmt.training.trainer import Cadence


def assemble_optimizer(settings: kinds.OptimizerSettings) -> optimizers.Optimizer:
    """Build the optimizer that `training.optimizer` describes."""
    builders: dict[str, Callable[..., optimizers.Optimizer]] = {
        "adam": optimizers.build_adam,
        "adamw": optimizers.build_adamw,
        "sgd": optimizers.build_sgd,
    }
    return builders[settings.type](**settings.model_dump(exclude={"type", "clip_norm"}))


def assemble_schedule(config: Config) -> schedules.Schedule:
    """Build the schedule that `training.schedule` describes."""
    settings, peak = config.training.schedule, config.training.optimizer.learning_rate
    match settings:
        case kinds.ConstantSettings(warmup_updates=warmup):
            return schedules.ConstantSchedule(peak, warmup_updates=warmup)
        case kinds.InverseSqrtSettings(warmup_updates=warmup):
            return schedules.InverseSquareRootSchedule(peak, warmup_updates=warmup)
        case kinds.NoamSettings(warmup_updates=warmup):
            return schedules.NoamSchedule(peak, hidden_size=config.model.hidden_size, warmup_updates=warmup)
        case kinds.PlateauSettings(
            factor=factor, patience=patience, minimum_learning_rate=minimum, warmup_updates=warmup
        ):
            return schedules.PlateauSchedule(
                peak, factor=factor, patience=patience, minimum=minimum, warmup_updates=warmup
            )


def assemble_limits(config: Config) -> Limits:
    """Collect what ends a run."""
    training, stopping = config.training, config.training.early_stopping
    patience = None if stopping is None else stopping.patience
    return Limits(training.max_updates, training.max_epochs, training.max_minutes, patience)


def assemble_cadence(config: Config) -> Cadence:
    """Collect how often things happen."""
    training = config.training
    return Cadence(training.validate_every_updates, training.save_every_updates, training.log_every_updates)
