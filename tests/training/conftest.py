import numpy as np
import pytest
import tensorflow as tf

from nmt.data.batches import Batch
from nmt.models.builder import build_model
from nmt.models.contract import Vocabularies

TRANSFORMER = {
    "type": "transformer",
    "hidden_size": 8,
    "ffn_size": 12,
    "num_heads": 2,
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "ffn_dropout": 0.0,
    "norm": "pre",
}
RNN = {
    "type": "rnn",
    "cell": "gru",
    "embedding_size": 6,
    "hidden_size": 8,
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
    "attention": "additive",
    "input_feeding": True,
    "dropout": 0.0,
}


@pytest.fixture(params=[TRANSFORMER, RNN], ids=["transformer", "rnn"])
def settings(request):
    return request.param


@pytest.fixture
def build():
    def build(settings=TRANSFORMER, tie_embeddings="all", seed=3, **changes):
        sizes, settings = Vocabularies(11, 11, shared=True), {**settings, **changes}
        return build_model(sizes, seed=seed, tie_embeddings=tie_embeddings, **settings)

    return build


@pytest.fixture
def make_batch():
    def make_batch(source_lengths, target_lengths, seed=1):
        """Random ids with repeats; lengths count EOS."""
        generator = np.random.default_rng(seed)
        source = np.zeros((len(source_lengths), max(source_lengths)), "int32")
        output = np.zeros((len(target_lengths), max(target_lengths)), "int32")
        for ids, lengths in ((source, source_lengths), (output, target_lengths)):
            for row, length in enumerate(lengths):
                ids[row, :length] = [*generator.integers(4, 11, length - 1), 3]
        shifted = np.concatenate([np.full((len(output), 1), 2, "int32"), output[:, :-1]], axis=1)
        return Batch(source, np.where(output == 0, 0, shifted).astype("int32"), output)

    return make_batch


@pytest.fixture
def eagerly():
    """Run compiled functions step by step: the same numbers, without the seconds that a trace takes."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
