import numpy as np
import pytest

from nmt.data.batches import Batch
from tests import tiny


@pytest.fixture(params=tiny.MODELS)
def settings(request):
    return tiny.MODELS[request.param]


@pytest.fixture
def build():
    def build(settings=tiny.TRANSFORMER, tie_embeddings="all", seed=3, **changes):
        return tiny.build({**settings, **changes}, tie_embeddings=tie_embeddings, seed=seed)

    return build


@pytest.fixture(scope="session")
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
