"""The estimate of memory, beside models that are built; `benchmarks/memory.py` compares it with what steps take."""

import numpy as np
import pytest

from nmt.backend.vocabulary_loss import BLOCK_BYTES
from nmt.data.batches import plan_epoch
from nmt.models.builder import build_model, model_footprint
from nmt.models.contract import TIED_ROLES, Vocabularies
from nmt.training.ram_need import BatchShape, largest_shapes, ram_need
from tests import tiny

ALONE = {"slots": 2, "averaged": False, "accumulated": False, "validation_tokens": None}

TRANSFORMER = {
    **tiny.with_dropout(tiny.TRANSFORMER, 0.1),
    "tie_embeddings": "all",
    "hidden_size": 128,
    "ffn_size": 512,
    "num_heads": 4,
    "num_decoder_layers": 2,
}
RNN = {**tiny.with_dropout(tiny.RNN, 0.2), "tie_embeddings": "all", "embedding_size": 64, "hidden_size": 256}
MODELS = pytest.mark.parametrize("settings", [TRANSFORMER, RNN], ids=["transformer", "rnn"])

SIZE = 3000


@pytest.mark.parametrize("ties", [*TIED_ROLES, "auto"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"norm": "post", "num_encoder_layers": 3, "num_decoder_layers": 1},
        {**RNN, "hidden_size": 6, "embedding_size": 4},
        {**RNN, "hidden_size": 6, "embedding_size": 6, "cell": "lstm", "num_encoder_layers": 2},
        {**RNN, "hidden_size": 6, "attention": "multiplicative", "input_feeding": False, "num_decoder_layers": 3},
    ],
)
def test_parameters_are_counted_as_the_model_has_them(ties, changes):
    small = {"hidden_size": 8, "ffn_size": 12, "num_heads": 2}
    base = {} if changes.get("type") == "rnn" else {**TRANSFORMER, **small}
    settings = {**base, **changes, "tie_embeddings": ties}
    joint = ties in ("all", "source_target", "auto")
    sizes = Vocabularies(11, 11, shared=True) if joint else Vocabularies(13, 11, shared=False)
    footprint = model_footprint(sizes, **settings)
    model = build_model(sizes, seed=1, **settings)
    assert footprint.parameters == model.count_params()
    assert footprint.output_matrix == np.prod(model.output_projection.embeddings.shape)


@MODELS
def test_every_part_of_a_training_adds_to_the_need(settings):
    footprint = model_footprint(Vocabularies(SIZE, SIZE, shared=True), **settings)
    one = 4 * footprint.parameters

    def weights(**changes):
        return ram_need(footprint, [BatchShape(2, 3, 5)], **{**ALONE, **changes}).weights

    assert weights(slots=0) + 2 * one == weights()
    assert weights(averaged=True) == weights() + one
    assert weights(accumulated=True) == weights() + one
    matrix, block = 4 * footprint.output_matrix, BLOCK_BYTES
    assert weights(parts=3) == weights() + 2 * (one + 4 * matrix + 3 * block)
    assert weights(validation_tokens=1) == weights() + 3 * one, "checkpoints are saved from a copy of weights and slots"


@MODELS
def test_parts_are_filled_up_to_one_size(settings):
    footprint = model_footprint(Vocabularies(SIZE, SIZE, shared=True), **settings)

    def batch(sentences, parts):
        return ram_need(footprint, [BatchShape(sentences, 30, 50)], **ALONE, parts=parts).batch

    assert batch(1, 4) == batch(4, 1) == batch(4, 4)
    assert batch(5, 3) == batch(6, 1) > batch(5, 1)


@MODELS
def test_logits_that_are_held_at_once_add_to_the_need(settings):
    footprint = model_footprint(Vocabularies(7, SIZE, shared=False), **{**settings, "tie_embeddings": "none"})
    shapes, logits = [BatchShape(2, 3, 5)], 4 * 3 * SIZE
    batch = ram_need(footprint, shapes, **ALONE).batch
    assert ram_need(footprint, shapes, **ALONE, all_logits=True).batch == batch + 10 * logits
    assert ram_need(footprint, shapes, **{**ALONE, "validation_tokens": 9000}).batch == 9000 * logits
    assert ram_need(footprint, shapes, **{**ALONE, "validation_tokens": 1}).batch == batch


@MODELS
def test_each_replica_of_a_process_needs_weights_and_batch_of_its_own(settings):
    footprint = model_footprint(Vocabularies(SIZE, SIZE, shared=True), **settings)
    one, three = (ram_need(footprint, [BatchShape(2, 3, 5)], **ALONE, replicas=count) for count in (1, 3))
    assert three.total - one.total == 2 * (one.weights + one.batch) + three.process - one.process
    assert three.device == one.device == one.weights + one.batch


@MODELS
def test_the_largest_of_several_batches_counts(settings):
    footprint = model_footprint(Vocabularies(SIZE, SIZE, shared=True), **settings)
    shapes = [BatchShape(2, 30, 5), BatchShape(70, 30, 50), BatchShape(9, 3, 50)]
    alone = [ram_need(footprint, [shape], **ALONE).batch for shape in shapes]
    assert ram_need(footprint, shapes, **ALONE).batch == max(alone) == alone[1] > 2 * max(alone[0], alone[2])


def test_long_pairs_need_more_than_short_ones_of_as_many_tokens():
    footprint = model_footprint(Vocabularies(SIZE, SIZE, shared=True), **TRANSFORMER)
    short, long = (ram_need(footprint, [BatchShape(1200 // n, n, n)], **ALONE).batch for n in (10, 200))
    weights = 4 * (1 + 2 + 2) * 1200 * (200 - 10)  # heads * (layers of the encoder, the decoder, to the source) * ...
    assert 2 <= (long - short) / (4 * weights) < 3, "softmax, what dropout leaves of it"


@pytest.mark.parametrize(("source_scale", "target_scale"), [(1.0, 1.0), (1.0, 0.4), (0.3, 1.0)])
def test_no_batch_of_a_corpus_is_larger_than_the_largest_shape(source_scale, target_scale):
    generator = np.random.default_rng(4)
    lengths = generator.integers(3, 60, 4000)
    noise = generator.integers(0, 5, (2, 4000))
    source = np.maximum(1, (lengths * source_scale).astype("int32") + noise[0])
    target = np.maximum(1, (lengths * target_scale).astype("int32") + noise[1])
    footprint = model_footprint(Vocabularies(SIZE, SIZE, shared=True), **TRANSFORMER)
    bounds = largest_shapes(900, pairs=4000, source_length=source.max(), target_length=target.max())
    plan = plan_epoch(source, target, batch_tokens=900, seed=1, epoch=0)
    batches = [plan[number] for number in range(len(plan))]
    shapes = [BatchShape(len(batch), source[batch].max(), target[batch].max()) for batch in batches]
    found, bound = (ram_need(footprint, each, **ALONE).batch for each in (shapes, bounds))
    assert 0.6 * bound < found <= bound


def test_a_corpus_of_few_pairs_needs_no_more_than_it_has():
    assert largest_shapes(4096, pairs=3, source_length=9, target_length=9) == [BatchShape(3, 9, 9)]
    assert largest_shapes(5, pairs=30, source_length=9, target_length=9) == [BatchShape(1, 9, 9)]


def test_two_pairs_that_are_a_little_shorter_than_the_longest_count():
    """4,096 tokens hold one pair of 2,049, but two of 2,048."""
    assert BatchShape(2, 2049, 2049) in largest_shapes(4096, pairs=9, source_length=2049, target_length=2049)
