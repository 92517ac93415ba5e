"""Everything that can be wrong with a checkpoint or the index is named."""

import json
from dataclasses import replace

import numpy as np
import pytest

from nmt.checkpoint.folder import write_checkpoint
from nmt.checkpoint.index import scan_index, write_index
from nmt.checkpoint.manifest import Contents
from nmt.directory.inspection import verify_checkpoint, verify_index

TIE = {"name": "a=b", "roles": ["a/w", "b/w"], "variable": "a/w", "shape": [2, 3]}
WEIGHTS = {"a/w": np.ones((2, 3), "float32"), "n": np.array(4)}
GOOD = Contents(
    update=7,
    score=0.5,
    model=WEIGHTS,
    ema={"a/w": WEIGHTS["a/w"]},
    optimizer={"momentums/a/w": WEIGHTS["a/w"], "iterations": np.array(7)},
    state={"epoch": 1},
    tie_groups=(TIE,),
    variables={"a/w": {"shape": [2, 3], "dtype": "float32"}, "n": {"shape": [], "dtype": "int64"}},
    optimizer_class="Adam",
)
FILES = ("model.safetensors", "average.safetensors", "optimizer.safetensors", "state.json")


def verified(folder, **changes):
    return verify_checkpoint(write_checkpoint(folder, replace(GOOD, **changes)))


def test_a_whole_checkpoint_has_no_problems(tmp_path):
    path = write_checkpoint(tmp_path, GOOD)
    size = sum((path / name).stat().st_size for name in FILES)
    assert verify_checkpoint(path) == ((), 4, size)


@pytest.mark.parametrize("name", FILES)
def test_a_changed_short_or_missing_file_is_named(name, tmp_path, flip):
    path = write_checkpoint(tmp_path, GOOD)
    flip(path / name)
    assert verify_checkpoint(path).problems == (f"{path / name}: its content does not fit the hash in the manifest",)
    (path / name).write_bytes((path / name).read_bytes()[:-1])
    assert "must have" in verify_checkpoint(path).problems[0]
    (path / name).unlink()
    assert verify_checkpoint(path).problems == (f"{path / name}: is missing",)


def test_a_changed_manifest_is_named(tmp_path, flip):
    path = write_checkpoint(tmp_path, GOOD)
    flip(path / "manifest.json")
    (problem,) = verify_checkpoint(path).problems
    assert problem.startswith(f"{path / 'manifest.json'}: ")


def test_files_and_folders_that_do_not_belong_are_named(tmp_path):
    path = write_checkpoint(tmp_path, GOOD)
    (path / "notes.txt").write_text("mine")
    moved = path.rename(tmp_path / "update-00000008")
    assert verify_checkpoint(moved).problems == (
        f"{moved / 'manifest.json'}: is of update 7, which is not that of its folder",
        f"{moved / 'notes.txt'}: is not named in manifest.json",
    )


SECOND = np.zeros((2, 3), "float32")
UNTIED = {**GOOD.variables, "b/w": {"shape": [2, 3], "dtype": "float32"}}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"model": {"n": np.array(4)}}, "model.safetensors: a/w is missing"),
        ({"model": {**WEIGHTS, "c": SECOND}}, "model.safetensors: c is stored, but is no variable of the model"),
        ({"ema": {"c": SECOND}}, "average.safetensors: c is stored, but is no variable of the model"),
        ({"model": {**WEIGHTS, "b/w": SECOND}}, "b/w is stored, but b/w is tied to a/w: one of them is too many"),
        ({"optimizer": {"momentums/b/w": SECOND}}, "momentums/b/w is stored, but b/w is tied to a/w"),
        ({"model": {**WEIGHTS, "a/w": SECOND.T}}, "a/w must be float32 of shape (2, 3), but is float32 of (3, 2)"),
        ({"model": {**WEIGHTS, "n": np.float32(4)}}, "n must be int64 of shape (), but is float32 of ()"),
        (
            {"model": {**WEIGHTS, "a/w": SECOND + np.float32("nan")}},
            "model.safetensors: a/w holds values that are not fin",
        ),
        ({"optimizer": {"momentums/a/w": SECOND - np.inf}}, "optimizer.safetensors: momentums/a/w holds values that"),
        ({"optimizer_class": None}, "must name optimizer.safetensors and the class of the optimizer, or neither"),
        (
            {"variables": UNTIED, "model": {**WEIGHTS, "b/w": SECOND}},
            "listed as a variable, of its shape, and no other",
        ),
        ({"tie_groups": ({**TIE, "variable": "b/w"},)}, "the tie a=b must have two roles or more, the first of which"),
        ({"tie_groups": ({**TIE, "roles": ["a/w"]},)}, "the tie a=b must have two roles or more"),
        ({"tie_groups": ({**TIE, "shape": [3, 2]},)}, "a=b must have two roles or more, the first of which is listed"),
        (
            {"tie_groups": ({**TIE, "roles": ["c", "d"], "variable": "c"},)},
            "a=b must have two roles or more, the first",
        ),
        ({"tie_groups": ({"name": "a=b"},)}, "manifest.json: "),
    ],
)
def test_arrays_and_ties_that_contradict_the_manifest_are_named(changes, problem, tmp_path):
    assert any(problem in found for found in verified(tmp_path, **changes).problems)


def test_an_index_that_fits_has_no_problems(tmp_path):
    assert verify_index(tmp_path) == []
    write_checkpoint(tmp_path, GOOD)
    write_checkpoint(tmp_path, replace(GOOD, update=9, score=None))
    assert verify_index(tmp_path) == [f"{tmp_path / 'index.json'}: is missing; the next training writes it anew"]
    write_index(tmp_path, scan_index(tmp_path))
    assert verify_index(tmp_path) == []


def test_an_index_of_other_checkpoints_is_named(tmp_path):
    for update in (7, 9):
        write_checkpoint(tmp_path, replace(GOOD, update=update))
    index = tmp_path / "index.json"
    entry = {"update": 7, "score": 0.5}
    both = {"update-00000007": entry, "update-00000009": entry}
    nine = "update-00000009"
    for scores, marked, problem in (
        ({"update-00000007": entry}, nine, "update-00000009 is not listed"),
        ({**both, "update-00000008": entry}, nine, "update-00000008 is listed, but is not there"),
        ({**both, nine: {"score": 0.75}}, nine, "the score of update-00000009 must be 0.5, but is 0.75"),
        (
            both,
            "update-00000007",
            "latest and best must be update-00000009 and update-00000009, but are update-00000009",
        ),
    ):
        values = {"format_version": 1, "latest": nine, "best": marked, "scores": scores}
        index.write_text(json.dumps(values))
        (found,) = verify_index(tmp_path)
        assert found.startswith(f"{index}: {problem}")
    for content, problem in (
        ("{", "is no JSON file"),
        ("{}", "has no format_version"),
        ("[]", "must hold a JSON object"),
    ):
        index.write_text(content)
        assert verify_index(tmp_path)[0].startswith(f"{index}: {problem}")
    index.write_text('{"format_version": 1}')
    assert verify_index(tmp_path)[0].startswith(f"{index}: is no index of checkpoints")
