"""What an optimizer keeps about each variable, by role path, for any optimizer of Keras.

Keras stores optimizer variables by position and skips them all, with a warning, where their number differs. Here a
slot is called `momentums/<role path of its variable>`, so that it belongs to its variable whatever the order is.
"""

from __future__ import annotations

from collections.abc import Iterator

import keras

from nmt.errors import CheckpointError
from nmt.tying import named_variables

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
