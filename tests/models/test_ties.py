"""Three-way weight tying of both models: writing through one role shows in the others, and counts are right."""

import math

import keras
import numpy as np
import pytest

from nmt.models.contract import Vocabularies
from nmt.tying import tie_groups, verify_ties

TIED_ROLES = {
    "none": (),
    "source_target": ("source_embedding", "target_embedding"),
    "target_output": ("target_embedding", "output_projection"),
    "all": ("source_embedding", "target_embedding", "output_projection"),
}
ROLES = ("source_embedding", "target_embedding", "output_projection")
MATRICES = {"none": 3, "source_target": 2, "target_output": 2, "all": 1}


@pytest.mark.parametrize("tie", TIED_ROLES)
def test_writing_through_one_role_shows_in_the_tied_ones_only(build, both_kinds, tie):
    model = build(both_kinds, tie)
    for written in ROLES:
        before = {role: np.array(getattr(model, role).embeddings) for role in ROLES}
        getattr(model, written).embeddings.assign(before[written] + 1.0)
        for read in ROLES:
            changed = not np.array_equal(getattr(model, read).embeddings, before[read])
            tied = read == written or {read, written} <= set(TIED_ROLES[tie])
            assert changed == tied, (written, read)


def test_each_role_is_used_where_it_belongs(build, both_kinds, source_ids, target_ids):
    model = build(both_kinds, "none")
    memory = np.array(keras.tree.flatten(model.encode(source_ids))[0])
    logits = np.array(model((source_ids, target_ids)))
    model.target_embedding.embeddings.assign(model.target_embedding.embeddings * -2.0)
    np.testing.assert_array_equal(keras.tree.flatten(model.encode(source_ids))[0], memory)
    assert np.abs(np.array(model((source_ids, target_ids))) - logits).max() > 1e-3
    hidden = np.array(model.hidden(source_ids, target_ids))
    matrix, bias = np.array(model.output_projection.embeddings), np.array(model.output_bias)
    np.testing.assert_allclose(model((source_ids, target_ids)), hidden @ matrix.T + bias, atol=2e-5)


@pytest.mark.parametrize("tie", TIED_ROLES)
def test_a_tie_is_one_variable_one_slot_and_fewer_parameters(build, both_kinds, tie):
    untied, model = build(both_kinds, "none"), build(both_kinds, tie)
    size = math.prod(model.source_embedding.embeddings.shape)
    saved = 3 - MATRICES[tie]
    assert len(model.trainable_variables) == len(untied.trainable_variables) - saved
    assert model.count_params() == untied.count_params() - saved * size
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    assert model.declared_ties() == tie_groups(model)
    verify_ties(model, model.declared_ties(), optimizer)
    assert [group.roles for group in tie_groups(model)] == (
        [tuple(f"{role}/embeddings" for role in TIED_ROLES[tie])] if TIED_ROLES[tie] else []
    )


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_weights_of_other_ties_change_nothing(build, both_kinds, suffix, tmp_path):
    other, model = build(both_kinds, "none", seed=4), build(both_kinds, "all")
    for compiled in (other, model):
        compiled.compile(keras.optimizers.Adam(), "mse", run_eagerly=True, jit_compile=False)
        compiled.optimizer.build(compiled.trainable_variables)
        compiled.optimizer.iterations.assign(3 if compiled is other else 5)
    (other.save if suffix == ".keras" else other.save_weights)(tmp_path / f"model{suffix}")
    before = [np.array(variable) for variable in (*model.variables, *model.optimizer.variables)]
    with pytest.raises(ValueError, match="saved with tie_embeddings none, but the model has all"):
        model.load_weights(tmp_path / f"model{suffix}")
    for variable, value in zip((*model.variables, *model.optimizer.variables), before, strict=True):
        np.testing.assert_array_equal(variable, value, err_msg=variable.path)


def test_two_vocabularies_give_matrices_of_their_own_size(build, both_kinds, source_ids, target_ids):
    model = build(both_kinds, "target_output", Vocabularies(11, 13, shared=False))
    assert model.source_embedding.embeddings.shape[0] == 11
    assert model.target_embedding.embeddings.shape[0] == 13
    assert model((source_ids, target_ids)).shape == (2, 7, 13)
