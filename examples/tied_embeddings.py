"""A language model whose output is tied to its embedding: train, save, load in a new process, prove the tie, go on.

python examples/tied_embeddings.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np

from nmt import TiedEmbeddingsTransposed, TieGroup, verify_ties

TEXT = "she sells sea shells on the sea shore the shells she sells are sea shells i am sure " * 20
CHARACTERS = sorted(set(TEXT))
IDS = np.array([CHARACTERS.index(character) for character in TEXT])
WINDOWS = np.lib.stride_tricks.sliding_window_view(IDS, 17)[::8]  # each predicts its last 16 from its first 16
ROLES = ("embedding/embeddings", "output/tied_to/embeddings")
TIE = TieGroup("embedding=output/tied_to", ROLES, ROLES[0], (len(CHARACTERS), 32))


def build() -> keras.Model:
    """Build a model in plain Keras; only its output layer is ours."""
    embedding = keras.layers.Embedding(len(CHARACTERS), 32, name="embedding")
    inputs = keras.Input((None,))
    hidden = keras.layers.GRU(32, return_sequences=True, name="gru")(embedding(inputs))
    model = keras.Model(
        inputs, TiedEmbeddingsTransposed(tied_to=embedding, activation="softmax", name="output")(hidden)
    )
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    return model


def train(model: keras.Model, path: Path) -> None:
    """Train, prove that the two uses are one variable with one slot of the optimizer, and save."""
    model.fit(WINDOWS[:, :-1], WINDOWS[:, 1:], epochs=2, verbose=0)
    verify_ties(model, [TIE], model.optimizer)
    print(f"after {int(model.optimizer.iterations)} updates: loss {loss(model):.6f}, {TIE.name} is one variable")
    model.save(path)


def loss(model: keras.Model) -> float:
    """Return the loss a character."""
    return float(model.evaluate(WINDOWS[:, :-1], WINDOWS[:, 1:], verbose=0))


def go_on(path: Path) -> None:
    """Load in a process that has not built the model, prove the tie before anything else, and train on."""
    model = keras.models.load_model(path)
    verify_ties(model, [TIE], model.optimizer)
    print(f"in a new process: loss {loss(model):.6f}, {TIE.name} is one variable")
    train(model, path)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        go_on(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            train(build(), Path(folder, "model.keras"))
            subprocess.run([sys.executable, __file__, f"{folder}/model.keras"], check=True)
