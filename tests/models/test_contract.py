"""What every model of the contract must do, checked for all of them."""

import random

import keras
import numpy as np
import pytest

from nmt.backend.functions import Spec, compile_function
from nmt.errors import ConfigError
from nmt.models.contract import Vocabularies, resolve_ties
from nmt.search import beam_search

BEAM_SIZE = 3


def leaves(nest):
    return keras.tree.flatten(nest)


def test_stepwise_gives_the_logits_of_the_parallel_pass(model, source_ids, target_ids):
    parallel = np.array(model((source_ids, target_ids)))  # (B, T, V)
    memory, step_of = model.encode(source_ids), model.decoder()
    state = model.initial_state(memory, BEAM_SIZE, 9)
    for step in range(target_ids.shape[1]):
        beams = np.repeat(target_ids[:, step : step + 1], BEAM_SIZE, axis=1)
        before = state
        logits, state = model.decode_step(beams, before, memory)
        if step in (0, 3):
            np.testing.assert_allclose(step_of(beams, before, memory)[0], logits, atol=2e-6)
        assert logits.shape == (2, BEAM_SIZE, 11)
        real = target_ids[:, step] != 0
        for beam in range(BEAM_SIZE):
            np.testing.assert_allclose(np.array(logits)[real, beam], parallel[real, step], atol=2e-5)


def test_reading_leaves_the_logits_and_the_state_of_steps(model, source_ids, target_ids):
    memory, given = model.encode(source_ids), target_ids[:, :4]
    state, logits = model.initial_state(memory, 1, 9), []
    for step in range(4):
        next_logits, state = model.decode_step(given[:, step : step + 1], state, memory)
        logits.append(next_logits[:, 0])
    read_logits, read_state = model.read(given, memory)
    np.testing.assert_allclose(read_logits, np.stack(logits, axis=1), atol=2e-5)
    for read, stepped in zip(leaves(read_state), leaves(state), strict=True):
        np.testing.assert_allclose(read, stepped, atol=2e-5)


def test_beams_are_independent_of_each_other(model, source_ids):
    memory = model.encode(source_ids)
    paths = np.array([[[2, 4, 5], [2, 6, 7]], [[2, 8, 9], [2, 10, 4]]])  # (B, K, T)
    state = model.initial_state(memory, 2, 9)
    for step in range(3):
        logits, state = model.decode_step(paths[:, :, step], state, memory)
    for beam in range(2):
        alone = np.array(model((source_ids, paths[:, beam])))[:, -1]
        np.testing.assert_allclose(np.array(logits)[:, beam], alone, atol=2e-5)


def test_state_and_memory_leaves_begin_with_batch_and_beam(model, source_ids):
    memory = model.encode(source_ids)
    state = model.initial_state(memory, BEAM_SIZE, 9)
    assert all(leaf.shape[0] == 2 for leaf in leaves(memory))
    assert all(tuple(leaf.shape[:2]) == (2, BEAM_SIZE) for leaf in leaves(state))


def test_padding_changes_nothing(model, source_ids, target_ids):
    together = np.array(model((source_ids, target_ids)))
    alone = np.array(model((source_ids[1:, :3], target_ids[1:, :4])))
    np.testing.assert_allclose(together[1:, :4], alone, atol=2e-5)


def test_a_position_does_not_see_what_follows(model, source_ids, target_ids):
    before = np.array(model((source_ids, target_ids)))
    changed = target_ids.copy()
    changed[0, 4:] = [4, 4, 4]
    after = np.array(model((source_ids, changed)))
    np.testing.assert_allclose(after[0, :4], before[0, :4], atol=1e-6)
    assert np.abs(after[0, 4:] - before[0, 4:]).max() > 1e-3


def test_every_source_token_matters(model, source_ids, target_ids):
    """Each row but the last, which changes with none of them, has another token in another place."""
    rows = [0] * 5 + [1]
    changed = source_ids[rows]
    np.fill_diagonal(changed[:5], 8)
    before, after = (np.array(model((ids, target_ids[rows]))) for ids in (source_ids[rows], changed))
    assert (np.abs(after - before)[:5].max(axis=(1, 2)) > 1e-4).all()
    np.testing.assert_array_equal(after[5], before[5])


def test_dropout_only_in_training_and_new_each_time(build, both_kinds, source_ids, target_ids):
    model = build(both_kinds)
    inputs = (source_ids, target_ids)
    np.testing.assert_array_equal(model(inputs), model(inputs))
    first, second = np.array(model(inputs, training=True)), np.array(model(inputs, training=True))
    assert np.abs(first - second).max() > 1e-3
    assert np.abs(first - np.array(model(inputs))).max() > 1e-3


def test_the_seed_generator_brings_back_every_dropout_mask(build, both_kinds, source_ids, target_ids):
    model = build(both_kinds)
    kept = np.array(model.seed_generator.state.value)
    first = np.array(model((source_ids, target_ids), training=True))
    assert not np.array_equal(kept, model.seed_generator.state.value)
    model.seed_generator.state.assign(kept)
    np.testing.assert_array_equal(first, model((source_ids, target_ids), training=True))


def test_compiled_with_unknown_shapes_equals_eager(build, both_kinds, source_ids, target_ids):
    model = build(both_kinds)
    compiled = compile_function(lambda source, target: model((source, target)), [Spec((None, None), "int32")] * 2)
    for end in (7, 4):
        eager = np.array(model((source_ids, target_ids[:, :end])))
        np.testing.assert_allclose(compiled(source_ids, target_ids[:, :end]), eager, atol=2e-5)


def test_building_a_model_leaves_the_random_numbers_of_the_program_alone(build, both_kinds):
    random.seed(9)
    expected = [random.random() for _ in range(2)]
    random.seed(9)
    first = random.random()
    build(both_kinds, seed=4)
    assert [first, random.random()] == expected


def test_the_seed_decides_the_weights(build, both_kinds):
    first, same, other = (build(both_kinds, seed=seed) for seed in (5, 5, 6))
    for mine, equal in zip(first.trainable_variables, same.trainable_variables, strict=True):
        np.testing.assert_array_equal(mine, equal)
    assert not np.allclose(first.source_embedding.embeddings, other.source_embedding.embeddings)


@pytest.mark.parametrize(
    ("tie", "shared", "expected"),
    [
        ("auto", True, "all"),
        ("auto", False, "target_output"),
        ("none", False, "none"),
        ("target_output", False, "target_output"),
        ("source_target", True, "source_target"),
        ("all", True, "all"),
    ],
)
def test_ties_follow_the_setting_and_the_vocabularies(tie, shared, expected):
    assert resolve_ties(tie, Vocabularies(7, 7, shared)) == expected


@pytest.mark.parametrize("tie", ["source_target", "all"])
def test_different_vocabularies_of_equal_size_are_refused(tie):
    with pytest.raises(ConfigError, match=f"tie_embeddings: {tie} needs one vocabulary .*data.tokenizer.joint: true"):
        resolve_ties(tie, Vocabularies(7, 7, shared=False))


def test_an_unknown_tie_is_refused():
    with pytest.raises(ConfigError, match="must be auto or one of none, source_target, target_output, all, got three"):
        resolve_ties("three", Vocabularies(7, 7, shared=True))


def test_a_compiled_search_finds_what_an_eager_one_finds(build, one_layer, source_ids):
    """Optimisers rewrite the loop; with one decoder layer one of them once returned nothing at all."""
    model, beam_size = build(one_layer), 3

    def search(source_ids, max_length):
        memory = model.encode(source_ids)
        state = model.initial_state(memory, beam_size, 6)
        return beam_search(
            model.decoder(),
            state,
            memory=memory,
            batch_size=keras.ops.shape(source_ids)[0],
            bos_id=2,
            eos_id=3,
            max_length=max_length,
            beam_size=beam_size,
        )

    max_length = np.array([6, 4], "int32")
    compiled = compile_function(search, [Spec((None, None), "int32"), Spec((None,), "int32")])
    for one, other in zip(compiled(source_ids, max_length)[:5], search(source_ids, max_length)[:5], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
def test_quantisation_in_place_is_refused(build, both_kinds, source_ids, target_ids, mode):
    """Keras would skip every layer with a warning each, and return."""
    model = build(both_kinds)
    before = np.asarray(model((source_ids, target_ids)))
    with pytest.raises(ValueError, match=r"cannot be quantised in place: quantise an export .* --quantization int8"):
        model.quantize(mode)
    np.testing.assert_array_equal(model((source_ids, target_ids)), before)
