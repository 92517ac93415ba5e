"""A batch, and one update of a model on it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from nmt.backend.functions import value_and_gradients


@pytest.fixture(scope="session")
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
