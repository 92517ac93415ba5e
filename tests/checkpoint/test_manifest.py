import contextlib
import json
from dataclasses import replace

import pytest

from nmt.checkpoint.disk import DamagedCheckpointError, FileRecord
from nmt.checkpoint.manifest import FORMAT_VERSION, Manifest, _own_hash, installed_versions, read_manifest
from nmt.errors import CheckpointError

TIE = {"name": "a=b", "roles": ["a/x", "b/x"], "variable": "a/x", "shape": [3, 5]}
MANIFEST = Manifest(
    update=12,
    score=31.25,
    files={"model.safetensors": FileRecord("ab" * 32, 7), "state.json": FileRecord("cd" * 32, 5)},
    tie_groups=(TIE,),
    variables={"a/x": {"shape": [3, 5], "dtype": "float32"}},
    optimizer="Adam",
    versions=installed_versions(),
    facts={"data_hash": "0a", "précision": "float32"},
)


@pytest.fixture
def stored(tmp_path):
    (tmp_path / "manifest.json").write_bytes(MANIFEST.to_bytes())
    return tmp_path


def rewrite(folder, **changes):
    """Change values and make the manifest's own hash fit again."""
    values = json.loads((folder / "manifest.json").read_text())
    del values["sha256"]
    values.update(changes)
    (folder / "manifest.json").write_text(json.dumps({**values, "sha256": _own_hash(values)}))


def test_a_manifest_is_read_as_it_was_written(stored):
    assert read_manifest(stored) == MANIFEST


def test_versions_name_all_that_decide_the_meaning():
    assert set(installed_versions()) == {"nmt", "keras", "tensorflow", "numpy"}
    assert "unknown" not in installed_versions().values()


def test_a_flipped_bit_anywhere_is_noticed(stored):
    path = stored / "manifest.json"
    content, unnoticed = path.read_bytes(), 0
    for place in range(0, len(content), 3):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with contextlib.suppress(CheckpointError):
            unnoticed += read_manifest(stored) != MANIFEST
    assert unnoticed == 0


@pytest.mark.parametrize("cut", [0, 1, 40])
def test_a_manifest_cut_short_is_damaged(stored, cut):
    content = (stored / "manifest.json").read_bytes()
    (stored / "manifest.json").write_bytes(content[:cut])
    with pytest.raises(DamagedCheckpointError, match="manifest"):
        read_manifest(stored)


def test_a_missing_manifest_is_damage(tmp_path):
    with pytest.raises(DamagedCheckpointError, match=r"manifest\.json: is missing"):
        read_manifest(tmp_path)


def test_a_newer_format_is_refused_with_its_version_and_is_no_damage(stored):
    rewrite(stored, format_version=FORMAT_VERSION + 6, something_new=[1])
    message = f"format version {FORMAT_VERSION + 6}.*reads up to {FORMAT_VERSION}"
    with pytest.raises(CheckpointError, match=message) as caught:
        read_manifest(stored)
    assert not isinstance(caught.value, DamagedCheckpointError)


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "model.pkl", "sub/model.safetensors"])
def test_files_that_no_checkpoint_has_are_refused(stored, name):
    rewrite(stored, files={name: {"sha256": "ab" * 32, "size": 7}})
    with pytest.raises(DamagedCheckpointError, match="is no manifest: files cannot be what it says"):
        read_manifest(stored)


CHANGES = ({"files": {"state.json": {}}}, {"files": 3}, {"unknown": 1}, {"format_version": "1"})


@pytest.mark.parametrize("changes", CHANGES)
def test_other_structures_are_damage(stored, changes):
    rewrite(stored, **changes)
    with pytest.raises(DamagedCheckpointError):
        read_manifest(stored)


def test_values_that_json_has_no_word_for_are_refused():
    with pytest.raises(CheckpointError, match="only keep finite numbers"):
        Manifest(update=1, score=float("nan"), files={}).to_bytes()


WRONG_FIELDS = (
    {"update": -1},
    {"update": True},
    {"score": "high"},
    {"score": True},
    {"score": 10**400},
    {"files": {"state.json": {"sha256": 5, "size": 7}}},
    {"files": {"state.json": {"sha256": "ab", "size": "7"}}},
    {"tie_groups": [{"name": "a=b"}]},
    {"variables": {"a": {"shape": ["3"], "dtype": "float32"}}},
    {"facts": []},
)


@pytest.mark.parametrize("changes", WRONG_FIELDS)
def test_fields_that_cannot_be_what_they_say_are_named(stored, changes):
    rewrite(stored, **changes)
    with pytest.raises(DamagedCheckpointError, match=f"is no manifest: {next(iter(changes))} cannot be"):
        read_manifest(stored)


def test_names_that_are_numbers_become_texts_and_the_hash_fits(tmp_path):
    (tmp_path / "manifest.json").write_bytes(replace(MANIFEST, facts={2: 1, 10: 1}).to_bytes())
    assert read_manifest(tmp_path).facts == {"2": 1, "10": 1}
