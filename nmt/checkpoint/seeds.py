"""The states of a model's seed generators, which Keras leaves out of saved weights: without them dropout repeats."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import keras
import numpy as np

from nmt.checkpoint.json_files import is_whole
from nmt.errors import CheckpointError
from nmt.tying import named_layers


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
