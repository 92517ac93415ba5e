"""A kind of mixer of the test's own in the decoder, and settings that are not given."""

import keras
import numpy as np
import pytest
from keras import ops

import nmt
from nmt.kinds import MIXERS
from nmt.models.contract import Vocabularies
from nmt.settings.config import RNNSettings, TransformerSettings
from tests import tiny


class AverageAttention(keras.layers.Layer):
    """The mean of a position and all before it (Zhang et al. 2018, arXiv:1805.00631, without its gate)."""

    def __init__(self, size):
        super().__init__(name="average_attention")
        self.size = size

    def call(self, inputs, mask, training=False):
        lengths = ops.cumsum(ops.ones_like(inputs[:1, :, :1]), axis=1)
        return ops.cumsum(inputs, axis=1) / lengths

    def step(self, inputs, past):
        total, count = past["total"] + inputs, past["count"] + 1.0
        return total / count, {"total": total, "count": count}

    def empty_state(self, batch_size, beam_size):
        return {"total": ops.zeros((batch_size, beam_size, self.size)), "count": ops.zeros((batch_size, beam_size, 1))}


@pytest.fixture
def averaging(monkeypatch):
    monkeypatch.setitem(MIXERS.built, "average", lambda settings, seeds: AverageAttention(settings.hidden_size))
    return {**tiny.TRANSFORMER, "num_decoder_layers": 2, "decoder_mixer": "average"}


def test_a_mixer_of_ones_own_decodes_stepwise_as_in_parallel(averaging, build, source_ids, target_ids):
    model = build(averaging)
    parallel = np.array(model((source_ids, target_ids)))  # (B, T, V)
    memory, step_of = model.encode(source_ids), model.decoder()
    state = model.initial_state(memory, 3, 9)
    for step in range(target_ids.shape[1]):
        logits, state = step_of(np.repeat(target_ids[:, step : step + 1], 3, axis=1), state, memory)
        real = target_ids[:, step] != 0
        for beam in range(3):
            np.testing.assert_allclose(np.array(logits)[real, beam], parallel[real, step], atol=2e-5)
    assert model.count_params() < build({**averaging, "decoder_mixer": "attention"}).count_params()


def test_nobody_has_counted_what_another_mixer_keeps(averaging):
    settings = nmt.TransformerArchitecture(decoder_mixer="average")
    model = nmt.Transformer(Vocabularies(11, 11, shared=True), settings)
    assert model.kept_bytes(5, 7, precision="float32") is None


@pytest.mark.parametrize(("model", "section"), [(nmt.Transformer, TransformerSettings), (nmt.RNN, RNNSettings)])
def test_settings_that_are_not_given_are_those_of_a_config(model, section, source_ids, target_ids):
    made = model(Vocabularies(11, 11, shared=True))
    values = section().model_dump(exclude={"type", "tie_embeddings"})
    assert {name: getattr(made.architecture, name) for name in values} == values
    assert made((source_ids, target_ids)).shape == (2, 7, 11)


def test_keras_copies_a_model_by_its_settings(both_kinds, build, source_ids, target_ids, tmp_path):
    model = build(both_kinds)
    clone = type(model).from_config(model.get_config())
    clone.set_weights(model.get_weights())
    model.save(tmp_path / "m.keras")
    for copy in (clone, keras.models.load_model(tmp_path / "m.keras")):
        assert copy.architecture == model.architecture
        np.testing.assert_allclose(copy((source_ids, target_ids)), model((source_ids, target_ids)), atol=1e-6)
