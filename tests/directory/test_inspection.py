"""What is said about a model directory: parts, ties and what they save, and which checkpoints there are."""

import keras
import numpy as np
import pytest

from nmt.checkpoint.disk import stored_header, write_arrays
from nmt.checkpoint.manager import CheckpointManager
from nmt.checkpoint.manifest import slot_variable
from nmt.directory.inspection import describe, find_checkpoints, part_of
from nmt.errors import CheckpointError
from nmt.models.contract import TIED_ROLES
from nmt.tying import named_variables, variable_roles


def save(directory, model, *updates, **parts):
    with CheckpointManager(directory) as manager:
        for update, score in updates:
            manager.save(update, model=model, score=score, **parts)


@pytest.mark.parametrize("kind", ["transformer", "rnn"])
def test_what_a_tie_saves_is_what_the_untied_model_has_more(kind, build, tmp_path):
    numbers, sizes, described = {}, {}, {}
    for ties in TIED_ROLES:
        model = build(kind, ties)
        average = named_variables(model)
        save(tmp_path / ties, model, (5, None), optimizer=keras.optimizers.Adam(), ema=average)
        described[ties] = describe(tmp_path / ties)
        numbers[ties] = model.count_params()
        assert described[ties].parameters == sum(described[ties].parts.values()) == numbers[ties]
        assert set(described[ties].parts) == {"embeddings", "encoder", "decoder"}
        roles = [role for variable in described[ties].variables for role in variable.roles]
        assert sorted(roles) == sorted(variable_roles(model))
        folder = tmp_path / ties / "checkpoints/update-00000005"
        shapes = [shape for file in folder.glob("*.safetensors") for _, shape in stored_header(file).values()]
        sizes[ties] = sum(4 * int(np.prod(shape)) for shape in shapes)
    for ties, found in described.items():
        assert sum(tie.parameters for tie in found.ties) == numbers["none"] - numbers[ties]
        assert sum(tie.size for tie in found.ties) == sizes["none"] - sizes[ties]
    assert len({len(found.ties) for found in described.values()}) == 2


def test_the_parts_of_a_model_of_someone_else():
    paths = ("encoder", "encoder_norm/gamma", "decoder_blocks/0/x", "output_bias", "bridges/0/bias", "dense/kernel")
    assert [part_of(path) for path in paths] == ["encoder", "encoder", "decoder", "embeddings", "decoder", "other"]


def test_a_slot_belongs_to_the_longest_path_that_it_ends_in():
    variables = ["bias", "dense/bias", "dense/kernel"]
    assert slot_variable("momentums/dense/bias", variables) == "dense/bias"
    assert slot_variable("inner/velocities/bias", variables) == "bias"
    assert slot_variable("iterations", variables) is None
    assert slot_variable("momentums/other_dense/kernel", ["dense/kernel"]) is None


def test_shapes_are_those_of_the_arrays(tmp_path):
    write_arrays(tmp_path / "a.safetensors", {"x": np.zeros((2, 3), "float32"), "n": np.array(4)})
    assert stored_header(tmp_path / "a.safetensors") == {"n": ("I64", ()), "x": ("F32", (2, 3))}
    (tmp_path / "b.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(CheckpointError, match=r"b\.safetensors: is no safetensors file that could be read"):
        stored_header(tmp_path / "b.safetensors")


@pytest.fixture
def directory(tmp_path, small_model):
    save(tmp_path / "run", small_model(), (1, 0.5), (2, 0.75), (3, None))
    return tmp_path / "run"


def test_the_checkpoint_is_chosen_as_readers_choose_it(directory):
    named = {which: describe(directory, which).checkpoint for which in (None, "best", "latest", "update-1")}
    assert list(named.values()) == ["update-00000002", "update-00000002", "update-00000003", "update-00000001"]
    found = describe(directory)
    assert (found.best, found.latest) == ("update-00000002", "update-00000003")
    assert [(one.update, one.score, one.weights, one.problem) for one in found.checkpoints] == [
        (1, 0.5, "raw", None), (2, 0.75, "raw", None), (3, None, "raw", None),
    ]  # fmt: skip
    for which, message in (
        ("update-7", "has no checkpoint update-7, it has update-00000001, "),
        ("first", "best, lat"),
    ):
        with pytest.raises(CheckpointError, match=message):
            describe(directory, which)


def cut(path):
    path.write_bytes(path.read_bytes()[:-2])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: cut(folder / "model.safetensors"), "model.safetensors: must have [0-9,]+ bytes, but has"),
        (lambda folder: (folder / "state.json").unlink(), "state.json: is missing"),
        (lambda folder: cut(folder / "manifest.json"), "manifest.json: "),
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json: is missing"),
    ],
)  # fmt: skip
def test_a_damaged_checkpoint_is_named_and_passed_over(directory, damage, message):
    damage(directory / "checkpoints/update-00000002")
    found = describe(directory)
    assert (found.checkpoint, found.best) == ("update-00000001", "update-00000001")
    problems = {one.name: one.problem for one in found.checkpoints}
    assert list(problems) == ["update-00000001", "update-00000002", "update-00000003"]
    assert problems["update-00000001"] is problems["update-00000003"] is None
    with pytest.raises(CheckpointError, match=f"update-00000002 cannot be used: .*{message}"):
        describe(directory, "update-2")


def test_where_nothing_is_whole_that_is_said(directory, tmp_path):
    for one in find_checkpoints(directory):
        cut(directory / "checkpoints" / one.name / "state.json")
    with pytest.raises(CheckpointError, match=r"run: no checkpoint can be used: .*1/state\.json: must have"):
        describe(directory)
    with pytest.raises(CheckpointError, match="nowhere: there is no such model directory"):
        describe(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="there is no checkpoint yet"):
        describe(tmp_path)
