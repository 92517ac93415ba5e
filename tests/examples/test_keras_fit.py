"""The models are ordinary Keras models: the example that fits one runs, learns and keeps the ties."""

import importlib.util
from pathlib import Path

import keras
import numpy as np
import pytest

import nmt

EXAMPLE = Path(__file__).parents[2] / "examples" / "keras_fit.py"
VERIFY = nmt.verify_ties


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("keras_fit", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_learns_and_translates(example, monkeypatch, capsys):
    proved = []
    monkeypatch.setattr(
        nmt,
        "verify_ties",
        lambda model, ties, optimizer: proved.append((model, ties, optimizer)) or VERIFY(*proved[-1]),
    )
    losses, translation = example.main(num_pairs=150, hidden_size=8, num_epochs=3)
    assert len(losses) == 3
    assert losses[2] < 0.95 * losses[0]
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"  ->  {translation}")
    ((model, ties, optimizer),) = proved
    assert isinstance(model, keras.Model)
    assert [len(tie.roles) for tie in ties] == [3]
    assert int(optimizer.iterations) == 3 * 5  # 150 pairs in batches of 32


def test_padding_does_not_count(example):
    text = example.TextPair.learn(
        example.SentencePieceTokenizer,
        *example.read_travel(60),
        model_type="unigram",
        joint=True,
        vocabulary_size=200,
        character_coverage=1.0,
        seed=1,
    )
    model = example.build(text, hidden_size=6)
    batch = next(iter(example.padded_batches(text, example.read_travel(7), batch_size=7)))
    inputs, targets = batch[0], np.asarray(batch[1])
    logits = np.asarray(model(inputs), dtype="float64")
    log_probs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    real = targets != 0
    assert not real.all()
    right = np.take_along_axis(log_probs, targets[:, :, None], axis=2)[:, :, 0]
    assert float(model.evaluate(*batch, verbose=0)) == pytest.approx(-right[real].mean(), rel=1e-4)
