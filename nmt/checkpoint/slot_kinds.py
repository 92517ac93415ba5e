"""Which slots of which optimizers may be added where the variables they belong to become one."""

from __future__ import annotations

AVERAGES_OF_WEIGHTS = "model_variables_moving_average"
"""What a Keras optimizer with `use_ema` keeps: not sums of gradients but weights, which follow the rule of weights."""

_ADDED = {
    "SGD": {"momentums"},
    "Adam": {"momentums", "velocities", "velocity_hats"},
    "AdamW": {"momentums", "velocities", "velocity_hats"},
    "Nadam": {"momentums", "velocities"},
    "Lamb": {"momentums", "velocities"},
    "Lion": {"momentums"},
    # not average_gradients of a centered one: the mean of squares minus the square of the mean would fall below zero
    "RMSprop": {"momentums", "velocities"},
}
"""Slots that are sums or means of gradients or of their squares, by class of the optimizer.

The name of a slot alone decides nothing: `momentums` of ScheduleFreeAdamW are a copy of the weights.
"""

_ACCUMULATED = "accumulated_gradients"  # any Keras optimizer with gradient_accumulation_steps has them
_WRAPPER, _WRAPPED = "LossScaleOptimizer", "inner_optimizer"


def can_be_added(optimizer: str | None, kind: str) -> bool:
    """Return whether the slots of two variables add up to that of the variable which the two become.

    Args:
        optimizer: its class as the manifest has it, such as `Adam` or `LossScaleOptimizer(Adam)`.
        kind: what comes before the role path in the name of a slot, such as `momentums` or
            `inner_optimizer/momentums`.
    """
    *owners, slot = kind.split("/")
    name = optimizer or ""
    for owner in owners:
        if owner != _WRAPPED or not name.startswith(f"{_WRAPPER}("):
            return False
        name = name.removeprefix(f"{_WRAPPER}(").removesuffix(")")
    return slot == _ACCUMULATED or slot in _ADDED.get(name, set())
