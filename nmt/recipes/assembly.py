"""From sections of a config to what the trainer takes: optimizer, schedule, limits."""

from __future__ import annotations

from nmt.config import Config
from nmt.config import training as kinds
from nmt.training.optimizers import Optimizer, build_adam, build_adamw, build_sgd
from nmt.training.schedules import ConstantSchedule, InverseSquareRootSchedule, NoamSchedule, PlateauSchedule, Schedule
from nmt.training.state import Limits
from nmt.training.trainer import Cadence


def assemble_optimizer(settings: kinds.OptimizerSettings) -> Optimizer:
    """Build the optimizer that `training.optimizer` describes."""
    match settings:
        case kinds.AdamSettings(learning_rate=rate, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon):
            return build_adam(learning_rate=rate, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon)
        case kinds.AdamWSettings(learning_rate=rate, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon, weight_decay=decay):
            return build_adamw(learning_rate=rate, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon, weight_decay=decay)
        case kinds.SGDSettings(learning_rate=rate, momentum=momentum, nesterov=nesterov):
            return build_sgd(learning_rate=rate, momentum=momentum, nesterov=nesterov)


def assemble_schedule(config: Config) -> Schedule:
    """Build the schedule that `training.schedule` describes."""
    settings, peak = config.training.schedule, config.training.optimizer.learning_rate
    match settings:
        case kinds.ConstantSettings(warmup_updates=warmup):
            return ConstantSchedule(peak, warmup_updates=warmup)
        case kinds.InverseSqrtSettings(warmup_updates=warmup):
            return InverseSquareRootSchedule(peak, warmup_updates=warmup)
        case kinds.NoamSettings(warmup_updates=warmup):
            return NoamSchedule(peak, hidden_size=config.model.hidden_size, warmup_updates=warmup)
        case kinds.PlateauSettings():
            return PlateauSchedule(
                peak,
                factor=settings.factor,
                patience=settings.patience,
                minimum=settings.minimum_learning_rate,
                warmup_updates=settings.warmup_updates,
            )


def assemble_limits(config: Config) -> Limits:
    """Collect what ends a run."""
    training = config.training
    return Limits(
        max_updates=training.max_updates,
        max_epochs=training.max_epochs,
        max_minutes=training.max_minutes,
        patience=training.early_stopping.patience if training.early_stopping else None,
    )


def assemble_cadence(config: Config) -> Cadence:
    """Collect how often things happen."""
    training = config.training
    return Cadence(
        validate_every_updates=training.validate_every_updates,
        save_every_updates=training.save_every_updates,
        log_every_updates=training.log_every_updates,
    )
