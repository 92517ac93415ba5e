"""Initial weights that follow from one seed, without touching the random numbers of the rest of the program."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def seeded_weights(seed: int) -> Iterator[None]:
    """Let the weights that are created in the block follow from a seed.

    Keras's initialisers draw their seeds from Python's global generator, whose state is put back at the end.
    """
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
