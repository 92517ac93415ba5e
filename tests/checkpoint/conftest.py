"""Tiny models whose sizes are all different, and one update of them."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest
from keras import ops

from nmt.backend.functions import value_and_gradients
from nmt.models.contract import Seq2Seq, Vocabularies
from tests import tiny

Builder = Callable[..., Seq2Seq]


def build_tiny(
    kind: str = "transformer", ties: str = "all", *, seed: int = 1, vocabularies: Vocabularies | None = None
) -> Seq2Seq:
    """Build a model of one layer each, with V=11 on both sides unless told otherwise."""
    settings = tiny.with_dropout(tiny.MODELS[kind], 0.2)
    return tiny.build(settings, vocabularies=vocabularies, tie_embeddings=ties, seed=seed)


@pytest.fixture
def build() -> Builder:
    return build_tiny


@pytest.fixture
def batch() -> tuple[np.ndarray, np.ndarray]:
    """Source ids (2, 3) and target ids (2, 4), with repeated ids and padding."""
    return np.array([[4, 9, 4], [7, 3, 0]], "int32"), np.array([[2, 6, 6, 0], [2, 10, 4, 6]], "int32")


@pytest.fixture
def update(batch):
    """One update of a model on the batch, dropout included."""

    def run(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
        def loss():
            logits = model(batch, training=True)
            return ops.mean(ops.logsumexp(logits, axis=-1) - logits[..., 3]), None

        _, _, gradients = value_and_gradients(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)

    return run


@pytest.fixture
def small_model() -> Callable[[], keras.Model]:
    """A plain Keras model of three weights, for tests that are about files."""

    def make() -> keras.Model:
        dense, norm = keras.layers.Dense(4, name="dense"), keras.layers.BatchNormalization(name="norm")
        return keras.Sequential([keras.Input((3,)), dense, norm])

    return make
