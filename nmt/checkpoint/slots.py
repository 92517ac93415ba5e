"""What an optimizer keeps about each variable, by role path, for any optimizer of Keras.

Keras stores optimizer variables by position and skips them all, with a warning, where their number differs. Here a
slot is called `momentums/<role path of its variable>`, so that it belongs to its variable whatever the order is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import keras
import numpy as np

from nmt.checkpoint.disk import is_whole
from nmt.errors import CheckpointError
from nmt.tying import named_layers, named_variables

_NOT_SLOTS = ("_variables", "_trainable_variables", "_learning_rate")  # the learning rate is the schedule's


def named_slots(model: keras.Layer, optimizer: keras.optimizers.Optimizer) -> dict[str, keras.Variable]:
    """Return what must survive of an optimizer, by name; it is built where it is not yet.

    Lists of variables that are aligned with the trainable ones are slots, single variables (`iterations`) keep the
    name of their attribute, and optimizers within optimizers become prefixes.

    Raises:
        CheckpointError: it has variables that belong to no variable of the model.
    """
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    paths = {id(variable): path for path, variable in named_variables(model).items()}
    slots = dict(_slots(optimizer, "", paths))
    named = {id(variable) for variable in slots.values()}
    rates = {id(each._learning_rate) for each in _optimizers(optimizer)}
    strangers = [v.path for v in optimizer.variables if id(v) not in named | rates]
    if strangers:
        raise CheckpointError(
            f"{type(optimizer).__name__} holds variables of no variable of the model: {', '.join(strangers)}"
        )
    return slots


def optimizer_class(optimizer: keras.optimizers.Optimizer) -> str:
    """Return the class of an optimizer, with those of the optimizers within it: `LossScaleOptimizer(SGD)`."""
    inner = ", ".join(optimizer_class(each) for each in _inner_optimizers(optimizer))
    return type(optimizer).__name__ + (f"({inner})" if inner else "")


def _slots(
    optimizer: keras.optimizers.Optimizer, prefix: str, paths: dict[int, str]
) -> Iterator[tuple[str, keras.Variable]]:
    for attribute, value in vars(optimizer).items():
        name = prefix + attribute.lstrip("_")
        if attribute in _NOT_SLOTS or attribute.startswith("_self_"):
            continue
        if isinstance(value, keras.Variable):
            yield name, value
        elif isinstance(value, keras.optimizers.Optimizer):
            yield from _slots(value, f"{name}/", paths)
        elif isinstance(value, list):
            yield from _list_slots(optimizer, value, name, paths)


def _list_slots(
    optimizer: keras.optimizers.Optimizer, values: list[object], name: str, paths: dict[int, str]
) -> Iterator[tuple[str, keras.Variable]]:
    for index, value in enumerate(values):
        if isinstance(value, keras.optimizers.Optimizer):
            yield from _slots(value, f"{name}/{index}/", paths)
    if len(values) != len(optimizer._trainable_variables):
        return
    for variable, slot in zip(optimizer._trainable_variables, values, strict=True):
        if isinstance(slot, keras.Variable) and id(variable) in paths:
            yield f"{name}/{paths[id(variable)]}", slot


def _optimizers(optimizer: keras.optimizers.Optimizer) -> Iterator[keras.optimizers.Optimizer]:
    """Yield an optimizer and those within it."""
    yield optimizer
    for inner in _inner_optimizers(optimizer):
        yield from _optimizers(inner)


def _inner_optimizers(optimizer: keras.optimizers.Optimizer) -> list[keras.optimizers.Optimizer]:
    """Return the optimizers right within one, each once."""
    values = (each for value in vars(optimizer).values() for each in (value if isinstance(value, list) else [value]))
    return list({id(each): each for each in values if isinstance(each, keras.optimizers.Optimizer)}.values())


def random_state(model: keras.Layer) -> dict[str, list[int]]:
    """Return the state of every seed generator of a model once, by the path of the first layer that owns it."""
    return {path: keras.ops.convert_to_numpy(g.state).tolist() for path, g in seed_generators(model).items()}


def restore_random_state(model: keras.Layer, states: Mapping[str, Sequence[int]]) -> None:
    """Put the seed generators of a model back into the states that `random_state` returned.

    Raises:
        CheckpointError: naming the generators that are missing on one of both sides, or whose state is none; nothing
            was changed then.
    """
    generators = seed_generators(model)
    problems = [f"{path} is missing" for path in generators if path not in states]
    problems += [f"{path} is unexpected" for path in states if path not in generators]
    problems += [
        f"{path} must be {math.prod(generator.state.shape)} numbers of {generator.state.dtype}, got {states[path]}"
        for path, generator in generators.items()
        if path in states and not _fits(states[path], generator)
    ]
    if problems:
        raise CheckpointError(f"the saved random state does not fit the model: {'; '.join(problems)}")
    for path, generator in generators.items():
        generator.state.assign(np.array(states[path], dtype=generator.state.dtype))


def _fits(state: object, generator: keras.random.SeedGenerator) -> bool:
    info = np.iinfo(generator.state.dtype)
    """Return whether a value of a JSON file can be the state of a generator."""
    return (
        isinstance(state, list | tuple)
        and len(state) == math.prod(generator.state.shape)
        and all(is_whole(number) and info.min <= number <= info.max for number in state)
    )


def seed_generators(model: keras.Layer) -> dict[str, keras.random.SeedGenerator]:
    """Return the seed generators of a model, each once, by the path of the first layer that owns it."""
    generators: dict[str, keras.random.SeedGenerator] = {}
    seen: set[int] = set()
    for path, layer in named_layers(model).items():
        for index, generator in enumerate(layer._seed_generators):
            if id(generator) not in seen:
                seen.add(id(generator))
                generators["/".join(filter(None, (path, "seed_generators", str(index))))] = generator
    return generators


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
