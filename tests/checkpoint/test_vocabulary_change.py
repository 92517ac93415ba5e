"""Checkpoints carried over to other vocabularies, against rows computed here one by one, and against the old model."""

from dataclasses import replace
from typing import NamedTuple

import keras
import numpy as np
import pytest

from nmt.checkpoint.derived import RowMapping, change_vocabulary
from nmt.checkpoint.manager import CheckpointManager
from nmt.checkpoint.manifest import Contents
from nmt.checkpoint.weights import load_weights, named_slots, read_contents
from nmt.errors import CheckpointError
from nmt.models.contract import TOKEN_ROWS, Seq2Seq, Vocabularies
from nmt.tying import named_variables, variable_roles, verify_ties

KINDS = ("rnn", "transformer")
TIES = ("none", "source_target", "target_output", "all")
SOURCE, TARGET, OUTPUT, BIAS = TOKEN_ROWS

JOINT = RowMapping(11, ((0,), (1,), (2,), (3,), (7,), (5,), (4, 9), (10,), (4,), (1,), (6, 6, 8), (8,)))
"""Of 11 tokens 6 and 9 go, most others move, and 12 are there afterwards."""
TARGET_ONLY = RowMapping(13, (*((i,) for i in range(13)), (4, 5, 12), (1,)))
"""13 tokens stay where they are, and two more come."""

CASES = [(kind, ties) for kind in KINDS for ties in TIES]


class Case(NamedTuple):
    """A model after an update, its checkpoint, the same with other vocabularies, and a model for that."""

    old: Seq2Seq
    before: Contents
    mappings: dict[str, RowMapping]
    after: Contents
    new: Seq2Seq
    directory: object


@pytest.fixture(scope="module")
def made():
    return {}


@pytest.fixture
def make(build, update, made, tmp_path_factory):
    def make(kind, ties):
        if (kind, ties) not in made:
            joint = ties in ("source_target", "all")
            mappings = {"source": JOINT, "target": JOINT if joint else TARGET_ONLY}
            old = build(kind, ties, vocabularies=Vocabularies(11, 11 if joint else 13, shared=joint))
            optimizer = keras.optimizers.Adam(0.01)
            update(old, optimizer)
            directory = tmp_path_factory.mktemp(f"{kind}-{ties}")
            averages = {path: keras.Variable(0.5 * variable) for path, variable in named_variables(old).items()}
            with CheckpointManager(directory) as manager:
                manager.save(7, model=old, optimizer=optimizer, ema=averages, state={"epoch": 2}, score=0.5)
            before = read_contents(directory).contents
            after = change_vocabulary(before, mappings)
            with CheckpointManager(directory / "new") as manager:
                manager.write(after)
            sizes = (len(mappings[side].origins) for side in ("source", "target"))
            new = build(kind, ties, seed=5, vocabularies=Vocabularies(*sizes, shared=joint))
            made[kind, ties] = Case(old, before, mappings, after, new, directory / "new")
        return made[kind, ties]

    return make


def expected_rows(old, mapping):
    return np.stack(
        [np.mean([old[token_id].astype("float64") for token_id in origin], 0) for origin in mapping.origins]
    )


@pytest.mark.parametrize(("kind", "ties"), CASES)
def test_rows_follow_their_tokens_in_weights_average_and_slots(make, kind, ties):
    case = make(kind, ties)
    checked = 0
    parts = [(case.before.model, case.after.model), (case.before.ema, case.after.ema)]
    for slot in ("momentums", "velocities"):
        begin = f"{slot}/"
        parts.append([
            {name.removeprefix(begin): array for name, array in part.optimizer.items() if name.startswith(begin)}
            for part in (case.before, case.after)
        ])  # fmt: skip
    for before, after in parts:
        assert list(before) == list(after)
        for path, old in before.items():
            side = TOKEN_ROWS.get(path)
            if side is None:
                np.testing.assert_array_equal(after[path], old)
                continue
            checked += 1
            mapping = case.mappings[side]
            np.testing.assert_array_equal(after[path], expected_rows(old, mapping).astype("float32"))
            for new_id, origin in enumerate(mapping.origins):
                if len(origin) == 1:
                    assert after[path][new_id].tobytes() == old[origin[0]].tobytes()
    assert checked == 4 * {"none": 4, "source_target": 3, "target_output": 3, "all": 2}[ties]
    assert np.any(case.before.optimizer[f"momentums/{SOURCE}"])
    assert case.after.optimizer["iterations"] == 1
    assert (case.after.update, case.after.state, case.after.optimizer_class) == (7, {"epoch": 2}, "Adam")


@pytest.mark.parametrize(("kind", "ties"), CASES)
def test_it_restores_with_every_tie_slot_and_average(make, kind, ties):
    case = make(kind, ties)
    optimizer = keras.optimizers.Adam(0.01)
    averages = {path: keras.Variable(variable) for path, variable in named_variables(case.new).items()}
    with CheckpointManager(case.directory) as manager:
        assert manager.restore(case.new, optimizer, averages).state == {"epoch": 2}
    verify_ties(case.new, case.new.declared_ties(), optimizer)
    roles = variable_roles(case.new)
    for role, side in TOKEN_ROWS.items():
        old = np.array(variable_roles(case.old)[role])
        np.testing.assert_array_equal(roles[role], expected_rows(old, case.mappings[side]).astype("float32"))
    slots = named_slots(case.new, optimizer)
    assert {name: tuple(slot.shape) for name, slot in slots.items()} == {
        name: array.shape for name, array in case.after.optimizer.items()
    }
    assert {name: facts["shape"] for name, facts in case.after.variables.items()} == {
        name: list(variable.shape) for name, variable in named_variables(case.new).items()
    }
    assert [tuple(group["shape"]) for group in case.after.tie_groups] == [g.shape for g in case.new.declared_ties()]


@pytest.mark.parametrize(("kind", "ties"), CASES)
def test_text_of_remaining_tokens_gets_the_logits_it_had(make, batch, kind, ties):
    case = make(kind, ties)
    load_weights(case.directory, case.new, weights="raw")
    kept = {
        side: {origin[0]: new_id for new_id, origin in reversed(list(enumerate(mapping.origins))) if len(origin) == 1}
        for side, mapping in case.mappings.items()
    }
    old_inputs, new_inputs = [], []
    for side, token_ids in zip(("source", "target"), batch, strict=True):
        remaining = np.where(np.isin(token_ids, list(kept[side])), token_ids, 5)  # of the dropped ones no text is left
        old_inputs.append(remaining)
        new_inputs.append(np.vectorize(kept[side].get)(remaining).astype("int32"))
    old_ids, new_ids = list(kept["target"]), list(kept["target"].values())
    assert len(old_ids) >= 9
    old, new = np.array(case.old(tuple(old_inputs))), np.array(case.new(tuple(new_inputs)))
    np.testing.assert_allclose(new[..., new_ids], old[..., old_ids], rtol=1e-5, atol=1e-5)


def test_what_was_given_is_not_changed(make):
    case = make("transformer", "all")
    before = {path: array.copy() for path, array in case.before.model.items()}
    changed = change_vocabulary(case.before, case.mappings)
    for path in TOKEN_ROWS.keys() & changed.model.keys():
        changed.model[path] += 1.0
    for path, array in case.before.model.items():
        if path in TOKEN_ROWS:
            np.testing.assert_array_equal(array, before[path])
    assert case.before.variables[SOURCE]["shape"] == [11, 8]


def test_one_side_may_stay(make):
    case = make("transformer", "target_output")
    after = change_vocabulary(case.before, {"target": TARGET_ONLY})
    assert {path: after.model[path].shape[0] for path in (SOURCE, TARGET, BIAS)} == {SOURCE: 11, TARGET: 15, BIAS: 15}
    np.testing.assert_array_equal(after.model[SOURCE], case.before.model[SOURCE])


def test_a_tie_across_sides_needs_one_vocabulary(make):
    for mappings in ({"source": JOINT, "target": RowMapping(11, JOINT.origins[:-1])}, {"target": JOINT}):
        with pytest.raises(CheckpointError, match="are one variable, so both vocabularies must change alike"):
            change_vocabulary(make("transformer", "all").before, mappings)


def test_what_does_not_fit_is_refused(make):
    case = make("transformer", "none")
    with pytest.raises(CheckpointError, match=r"must have a row for each of the 12 tokens .* got shape \(11, 8\)"):
        change_vocabulary(case.before, {"source": RowMapping(12, ((0,),))})
    optimizer = {**case.before.optimizer, f"momentums/{SOURCE}": np.zeros((8,), "float32")}
    with pytest.raises(CheckpointError, match="momentums/source_embedding/embeddings must have a row for each"):
        change_vocabulary(replace(case.before, optimizer=optimizer), case.mappings)


def test_slots_of_optimizers_within_optimizers_are_found(make):
    case = make("transformer", "none")
    optimizer = {f"inner_optimizer/velocities/{BIAS}": np.arange(13.0, dtype="float32"), "iterations": np.array(3)}
    after = change_vocabulary(replace(case.before, optimizer=optimizer), case.mappings).optimizer
    assert after[f"inner_optimizer/velocities/{BIAS}"].tolist() == [*range(13), 7.0, 1.0]
    assert after["iterations"] == 3
