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

_NOT_SLOTS = ("_variables", "_trainable_variables")


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
    found = list(_slots(optimizer, "", paths))
    known = {id(variable) for _, variable in found}
    strangers = [v.path for v in optimizer.variables if id(v) not in known]
    if strangers:
        raise CheckpointError(
            f"{type(optimizer).__name__} holds variables of no variable of the model: {', '.join(strangers)}"
        )
    return {name: slot for name, slot in found if name}


def optimizer_class(optimizer: keras.optimizers.Optimizer) -> str:
    """Return the class of an optimizer, with that of the optimizer within it: `LossScaleOptimizer(SGD)`."""
    inner = [each for each in vars(optimizer).values() if isinstance(each, keras.optimizers.Optimizer)]
    return type(optimizer).__name__ + (f"({optimizer_class(inner[0])})" if inner else "")


def _slots(
    optimizer: keras.optimizers.Optimizer, prefix: str, paths: dict[int, str]
) -> Iterator[tuple[str, keras.Variable]]:
    """Yield all variables of an optimizer by name; the learning rate, which is the schedule's, has none."""
    trained = optimizer._trainable_variables
    for attribute, value in vars(optimizer).items():
        name = prefix + attribute.lstrip("_")
        if attribute in _NOT_SLOTS or attribute.startswith("_self_"):
            continue
        if isinstance(value, keras.Variable):
            yield "" if attribute == "_learning_rate" else name, value
        elif isinstance(value, keras.optimizers.Optimizer):
            yield from _slots(value, f"{name}/", paths)
        elif isinstance(value, list) and len(value) == len(trained):
            for variable, slot in zip(trained, value, strict=True):
                if isinstance(slot, keras.Variable) and id(variable) in paths:
                    yield f"{name}/{paths[id(variable)]}", slot


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
    """Return whether a value of a JSON file can be the state of a generator."""
    info = np.iinfo(generator.state.dtype)
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
