"""The estimate of memory, beside models that are built; `benchmarks/memory.py` compares it with what steps take."""

import keras
import numpy as np
import pytest

from nmt.backend import session
from nmt.backend.machine import RamLimit
from nmt.backend.products import BLOCK_BYTES
from nmt.config import load
from nmt.data.batches import plan_epoch
from nmt.models.contract import Vocabularies, build_model, model_without_weights
from nmt.training import batch_size
from nmt.training.batch_size import LAYER_BYTES, TrainingRam
from tests import tiny

TRANSFORMER = {
    **tiny.with_dropout(tiny.TRANSFORMER, 0.1),
    "tie_embeddings": "all",
    "hidden_size": 128,
    "ffn_size": 512,
    "num_heads": 4,
    "num_decoder_layers": 2,
}
RNN = {**tiny.with_dropout(tiny.RNN, 0.2), "tie_embeddings": "all", "embedding_size": 64, "hidden_size": 256}
KINDS = pytest.mark.parametrize("settings", [TRANSFORMER, RNN], ids=["transformer", "rnn"])

SIZE = 3000
SHARED = Vocabularies(SIZE, SIZE, shared=True)
MANY = 10**9
"""Tokens of a batch that holds all pairs."""


@pytest.fixture
def ram(untrained_config):
    """What steps alone take with a model, a corpus whose pairs all have these lengths, and settings of the training."""

    def ram(settings, *overrides, shape=(2, 3, 5), sizes=SHARED, alone=True, **options):
        config = load([untrained_config], [f"training.{each}" for each in overrides])
        pairs = dict(zip(("pairs", "source_length", "target_length"), shape, strict=True))
        model = model_without_weights(sizes, **settings)
        return TrainingRam(config, model, RamLimit(), **pairs, alone=alone, **options)

    return ram


@KINDS
def test_a_model_without_weights_has_the_shapes_of_one_with_them(settings):
    empty, model = model_without_weights(SHARED, **settings), build_model(SHARED, seed=1, **settings)
    assert [variable.shape for variable in empty.variables] == [variable.shape for variable in model.variables]
    assert empty.count_params() == model.count_params()


def test_a_model_without_weights_takes_no_memory_even_later():
    """Keras gives values to all variables that wait for them when a scope like this ends."""
    sizes = Vocabularies(10**9, 10**9, shared=True)
    model = model_without_weights(sizes, **{**TRANSFORMER, "hidden_size": 2**14, "ffn_size": 2**16})
    assert model.count_params() > 10**13
    with keras.StatelessScope():
        pass


@KINDS
def test_every_part_of_a_training_adds_to_the_need(ram, settings):
    model = ram(settings).model
    one = 4 * model.count_params()

    def needed(*overrides, parts=1, **options):
        return ram(settings, *overrides, **options).needed(MANY, parts)

    adam = needed("ema_decay=null")
    assert needed("ema_decay=null", "optimizer={type: sgd}") + 2 * one == adam
    assert needed("ema_decay=0.9") == adam + one
    accumulated = ram(settings, "ema_decay=null", "batch_tokens=200", "effective_batch_tokens=400")
    assert accumulated.needed(200) == accumulated.needed(400) + one
    matrix = 4 * SIZE * model.architecture.embedding_size
    whole, parts = needed("ema_decay=null", shape=(6, 3, 5)), needed("ema_decay=null", shape=(6, 3, 5), parts=3)
    assert parts == whole + 2 * (one + 4 * matrix + 3 * BLOCK_BYTES)


@KINDS
def test_a_whole_run_keeps_a_copy_for_checkpoints_and_validates(ram, settings, monkeypatch):
    monkeypatch.setattr(session, "library_kernel_bytes", lambda: 7)
    alone = ram(settings, "ema_decay=null")
    whole = ram(settings, "ema_decay=null", alone=False)
    assert whole.process == alone.process + batch_size.RUN_BYTES + 7
    copies = 3 * 4 * alone.model.count_params()
    kept, logits = (
        2 * alone.model.kept_bytes(3, 5, precision="float32"),
        4 * 3 * SIZE * batch_size.VALIDATION_BATCH_TOKENS,
    )
    added = whole.needed(MANY) - whole.process - alone.needed(MANY) + alone.process
    assert added == pytest.approx(copies + logits - kept, abs=1)


@KINDS
def test_parts_are_filled_up_to_one_size(ram, settings):
    def batch(sentences, parts):
        needed = ram(settings, shape=(sentences, 30, 50)).needed(MANY, parts)
        return needed - ram(settings, shape=(parts, 1, 1)).needed(MANY, parts)

    assert batch(1, 4) == batch(4, 4) > 0
    assert batch(5, 3) == batch(6, 3) > batch(3, 3)


@KINDS
def test_logits_that_are_held_at_once_add_to_the_need(ram, settings):
    sizes, settings = Vocabularies(7, SIZE, shared=False), {**settings, "tie_embeddings": "none"}
    xla = ram(settings, "compile=xla", "precision=float32", sizes=sizes).needed(MANY)
    assert xla == ram(settings, sizes=sizes).needed(MANY) + 10 * 4 * 3 * SIZE


@KINDS
def test_each_replica_of_a_process_needs_weights_and_batch_of_its_own(ram, settings):
    one, three = ram(settings), ram(settings, replicas=3)
    layers = one.config.model.num_encoder_layers + one.config.model.num_decoder_layers
    assert three.process - one.process == 2 * layers * LAYER_BYTES
    assert three.needed(MANY) - three.process == pytest.approx(3 * (one.needed(MANY) - one.process), abs=3)


@KINDS
def test_longer_sides_and_more_pairs_need_more(ram, settings):
    shapes = [(2, 30, 5), (70, 30, 5), (70, 30, 50), (70, 90, 50)]
    needs = [ram(settings, shape=shape).needed(MANY) for shape in shapes]
    assert needs == sorted(set(needs))


def test_long_pairs_need_more_than_short_ones_of_as_many_tokens(ram):
    short, long = (ram(TRANSFORMER, shape=(1200 // n, n, n)).needed(MANY) for n in (10, 200))
    weights = 4 * (1 + 2 + 2) * 1200 * (200 - 10)  # heads * (layers of the encoder, the decoder, to the source) * ...
    assert 2 <= (long - short) / (4 * weights) < 3, "softmax, what dropout leaves of it"


@pytest.mark.parametrize(("source_scale", "target_scale"), [(1.0, 1.0), (1.0, 0.4), (0.3, 1.0)])
def test_no_batch_of_a_corpus_needs_more_than_was_expected(ram, source_scale, target_scale):
    generator = np.random.default_rng(4)
    lengths = generator.integers(3, 60, 4000)
    noise = generator.integers(0, 5, (2, 4000))
    source = np.maximum(1, (lengths * source_scale).astype("int32") + noise[0])
    target = np.maximum(1, (lengths * target_scale).astype("int32") + noise[1])
    plan = plan_epoch(source, target, batch_tokens=900, seed=1, epoch=0)
    batches = [plan[number] for number in range(len(plan))]
    shapes = {(len(batch), source[batch].max(), target[batch].max()) for batch in batches}
    one = ram(TRANSFORMER, "batch_tokens=900")  # a model serves for every shape

    def needed(pairs, source_length, target_length):
        lengths = {"source_length": source_length, "target_length": target_length}
        return TrainingRam(one.config, one.model, RamLimit(), pairs=pairs, alone=True, **lengths).needed(900)

    nothing = needed(0, 1, 1)
    found = max(needed(*shape) for shape in shapes) - nothing
    bound = needed(4000, source.max(), target.max()) - nothing
    assert 0.6 * bound < found <= bound


def test_a_corpus_of_few_pairs_needs_no_more_than_it_has(ram):
    few, all_of_them = (ram(TRANSFORMER, "batch_tokens=auto", shape=(pairs, 9, 9)) for pairs in (3, 30))
    assert few.needed(4096) == few.needed(27) < all_of_them.needed(4096)
    assert few.needed(5) == few.needed(9), "one pair at least"


def test_two_pairs_that_are_a_little_shorter_than_the_longest_count(ram):
    """4,096 tokens hold one pair of 2,049, but two of 2,048."""
    longest = ram(TRANSFORMER, "batch_tokens=auto", shape=(9, 2049, 2049))
    assert longest.needed(4096) == longest.needed(2 * 2049) > longest.needed(2049)
