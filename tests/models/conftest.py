"""Tiny models of both kinds, every size different."""

import keras
import numpy as np
import pytest

from tests import tiny

LAYERS = {"num_encoder_layers": 2, "num_decoder_layers": 3}
TRANSFORMER = {**tiny.with_dropout(tiny.TRANSFORMER, 0.1), "ffn_size": 13, **LAYERS}
RNN = {**tiny.with_dropout(tiny.RNN, 0.1), "hidden_size": 10, **LAYERS}
ARCHITECTURES = {
    "transformer-pre": TRANSFORMER,
    "transformer-post": {**TRANSFORMER, "norm": "post"},
    "rnn-gru-additive-feeding": RNN,
    "rnn-lstm-multiplicative-feeding": {**RNN, "cell": "lstm", "attention": "multiplicative"},
    "rnn-lstm-additive": {**RNN, "cell": "lstm", "input_feeding": False},
    "rnn-gru-multiplicative-equal-sizes": {
        **RNN,
        "attention": "multiplicative",
        "embedding_size": 10,
        "input_feeding": False,
    },
}


@pytest.fixture(params=ARCHITECTURES)
def settings(request):
    return ARCHITECTURES[request.param]


@pytest.fixture(params=[TRANSFORMER, RNN], ids=["transformer", "rnn"])
def both_kinds(request):
    return request.param


@pytest.fixture(params=["transformer-pre", "rnn-gru-additive-feeding", "rnn-lstm-multiplicative-feeding"])
def one_layer(request):
    return {**ARCHITECTURES[request.param], "num_encoder_layers": 1, "num_decoder_layers": 1}


@pytest.fixture(scope="session")
def build():
    def build(settings, tie_embeddings="all", vocabularies=None, seed=3):
        model = tiny.build(settings, vocabularies=vocabularies, tie_embeddings=tie_embeddings, seed=seed)
        generator = np.random.default_rng(seed)
        for variable in model.trainable_variables:  # zeros and ones of biases and norms would hide mistakes
            variable.assign(variable + 0.3 * generator.standard_normal(variable.shape))
        return model

    return build


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request, build):
    """A model that the tests of a file share and do not change."""
    return build(ARCHITECTURES[request.param])


@pytest.fixture
def source_ids():
    return np.array([[4, 5, 6, 9, 3], [7, 10, 3, 0, 0]], dtype="int32")  # (B=2, S=5)


@pytest.fixture
def target_ids():
    return np.array([[2, 5, 6, 7, 8, 9, 10], [2, 4, 4, 5, 0, 0, 0]], dtype="int32")  # (B=2, T=7)


@pytest.fixture(scope="module", autouse=True)
def no_left_over_state():
    yield
    keras.backend.clear_session()
