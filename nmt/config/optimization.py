"""Settings of `training.optimizer`, `training.schedule` and `training.early_stopping`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Discriminator, Tag

from nmt.config.section import Misfit, Section, kind_or, setting

Metric = Literal["bleu", "loss"]

_RATE_HELP = "Learning rate at the peak of the schedule; for noam, the factor in front of its formula (usually 1 or 2)."
_BETA_1_HELP = "Decay of the mean of the gradient."
_BETA_2_HELP = "Decay of the mean of the squared gradient."
_EPSILON_HELP = "Added to the root in the denominator of the update."
_CLIP_HELP = "Largest global norm of the gradient; a longer one is scaled down. null: never."
_WARMUP_HELP = "Updates over which the learning rate rises linearly to its peak."


class AdamSettings(Section):
    """Adam (Kingma and Ba, 2015)."""

    type: Literal["adam"] = setting("adam", "Adam (Kingma and Ba, 2015).")
    learning_rate: float = setting(0.001, _RATE_HELP, above=0)
    beta_1: float = setting(0.9, _BETA_1_HELP, at_least=0, below=1)
    beta_2: float = setting(0.98, _BETA_2_HELP, at_least=0, below=1)
    epsilon: float = setting(1e-9, _EPSILON_HELP, above=0)
    clip_norm: float | None = setting(1.0, _CLIP_HELP, above=0)


class AdamWSettings(Section):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    type: Literal["adamw"] = setting("adamw", "Adam with decoupled weight decay (Loshchilov and Hutter, 2019).")
    learning_rate: float = setting(0.001, _RATE_HELP, above=0)
    beta_1: float = setting(0.9, _BETA_1_HELP, at_least=0, below=1)
    beta_2: float = setting(0.98, _BETA_2_HELP, at_least=0, below=1)
    epsilon: float = setting(1e-9, _EPSILON_HELP, above=0)
    clip_norm: float | None = setting(1.0, _CLIP_HELP, above=0)
    weight_decay: float = setting(
        0.01, "Share of each weight that an update takes off, times the learning rate.", at_least=0
    )


class SGDSettings(Section):
    """Stochastic gradient descent."""

    type: Literal["sgd"] = setting("sgd", "Stochastic gradient descent.")
    learning_rate: float = setting(0.1, _RATE_HELP, above=0)
    momentum: float = setting(0.0, "Share of the last update that is repeated.", at_least=0, below=1)
    nesterov: bool = setting(False, "Look ahead along the momentum (Nesterov).")
    clip_norm: float | None = setting(1.0, _CLIP_HELP, above=0)

    def misfits(self) -> Iterator[Misfit]:
        """Yields a misfit where Nesterov's momentum has no momentum."""
        if self.nesterov and not self.momentum:
            yield Misfit("nesterov", "needs a momentum above 0, got momentum 0.0: try momentum 0.9 or nesterov false")


OptimizerSettings = Annotated[
    Annotated[AdamSettings, Tag("adam")] | Annotated[AdamWSettings, Tag("adamw")] | Annotated[SGDSettings, Tag("sgd")],
    Discriminator(kind_or("adam")),
]
"""How gradients become updates."""


class ConstantSettings(Section):
    """The peak learning rate from the warm-up on."""

    type: Literal["constant"] = setting("constant", "The peak learning rate from the warm-up on.")
    warmup_updates: int = setting(0, _WARMUP_HELP, at_least=0)


class InverseSqrtSettings(Section):
    """Falls with the square root of the update."""

    type: Literal["inverse_sqrt"] = setting("inverse_sqrt", "After the warm-up: peak * sqrt(warmup_updates / update).")
    warmup_updates: int = setting(4000, _WARMUP_HELP, at_least=1)


class NoamSettings(Section):
    """The schedule of Vaswani et al. (2017), section 5.3."""

    type: Literal["noam"] = setting(
        "noam", "Vaswani et al. (2017): learning_rate * hidden_size^-0.5 * min(update^-0.5, update * warmup^-1.5)."
    )
    warmup_updates: int = setting(4000, _WARMUP_HELP, at_least=1)


class PlateauSettings(Section):
    """Lowers the learning rate when the validation metric stops improving."""

    type: Literal["plateau"] = setting("plateau", "Lowered when the validation metric stops improving.")
    metric: Metric = setting("loss", "The validation metric that is watched.")
    factor: float = setting(0.5, "The learning rate is multiplied by it.", above=0, below=1)
    patience: int = setting(3, "Validations without improvement before the rate is lowered.", at_least=1)
    minimum_learning_rate: float = setting(1e-6, "The learning rate is not lowered below it.", at_least=0)
    warmup_updates: int = setting(0, _WARMUP_HELP, at_least=0)


ScheduleSettings = Annotated[
    Annotated[InverseSqrtSettings, Tag("inverse_sqrt")]
    | Annotated[ConstantSettings, Tag("constant")]
    | Annotated[NoamSettings, Tag("noam")]
    | Annotated[PlateauSettings, Tag("plateau")],
    Discriminator(kind_or("inverse_sqrt")),
]
"""How the learning rate changes from update to update."""


class EarlyStoppingSettings(Section):
    """Ends a run that no longer improves."""

    metric: Metric = setting("bleu", "The validation metric that is watched.")
    patience: int = setting(10, "Validations without improvement before the run ends.", at_least=1)
