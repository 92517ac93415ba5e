"""A search that was compiled before finds the same, and no fault of the cache is more than lost time."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nmt.backend.functions import Spec, compile_function
from nmt.backend.stored_functions import handles_of, load_function, store_function
from nmt.config import SearchSettings
from nmt.control.controls import Control, Kinds, Sampling
from nmt.directory.model_directory import find_model
from nmt.inference import stored_searches
from nmt.inference.compiled_translator import CompiledFor
from nmt.inference.stored_searches import FOLDER, StoredSearches, StoredTranslator
from nmt.tasks import engines
from nmt.tasks.translate import prepare_translation
from nmt.text import TextPair

LINES = ["uno dos tres", "", "siete", "cuatro uno"]
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The folder of stored searches, which is not there yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "nmt" / FOLDER


@pytest.fixture
def no_model(monkeypatch):
    """Let nobody open a model."""

    def refuse(*_, **__):
        raise AssertionError("a model is opened")

    def begin():
        monkeypatch.setattr(engines, "open_translator", refuse)
        monkeypatch.setattr(stored_searches, "open_in_keras", refuse)

    return begin


def translated(run, beam_size=3, **how):
    overrides = [f"search.beam_size={beam_size}"]
    found = prepare_translation(run.directory, engine="keras", overrides=overrides, **how)([LINES])
    return [line.translations for line in found]


@pytest.mark.parametrize("kind", ["trained_run", "transformer_run"])
def test_it_finds_the_same_to_the_bit_and_opens_no_model(kind, request, cache, no_model):
    run = request.getfixturevalue(kind)
    ways = [
        {"num_hypotheses": 2, "token_scores": True},
        {"asked": Control(avoid=("eight",))},
        {"beam_size": 1},
    ]
    before = [translated(run, **way) for way in ways]
    assert len({path.name.split("-")[0] for path in cache.iterdir()}) == 1
    no_model()
    assert [translated(run, **way) for way in ways] == before
    with pytest.raises(AssertionError, match="a model is opened"):
        translated(run, num_hypotheses=3)


def test_weights_are_those_of_the_checkpoint(trained_run, cache, no_model):
    latest = translated(trained_run, checkpoint="latest")
    shutil.rmtree(cache)
    best = translated(trained_run)
    assert best != latest
    no_model()
    assert (translated(trained_run), translated(trained_run, checkpoint="latest")) == (best, latest)


def test_what_was_not_stored_is_asked_of_the_model_and_stored_unless_it_is_drawn(trained_run, cache):
    plain, ways = translated(trained_run), [{"sampling": Sampling(seed=5)}, {"num_hypotheses": 2, "alignments": True}]
    first = [translated(trained_run, **way) for way in ways]
    assert len(list(cache.iterdir())) == 2
    assert [translated(trained_run, **way) for way in ways] == first
    shutil.rmtree(cache)
    assert [translated(trained_run, **way) for way in ways] == first
    assert translated(trained_run) == plain


def test_a_file_that_is_not_what_was_written_is_not_read_and_made_anew(trained_run, cache, flip, no_model, monkeypatch):
    plain = CompiledFor(SearchSettings(), 1, False, (), Kinds(), None)
    stored, other = StoredSearches.of(find_model(trained_run.directory), None), plain._replace(num_hypotheses=2)
    before = translated(trained_run)
    (path,) = cache.iterdir()
    content = path.read_bytes()
    for each in (plain, other):
        shutil.copy(path, stored.path(each))
        assert stored.read(each) is None  # it is of another name
    monkeypatch.setattr(StoredSearches, "path", lambda *_: path)
    assert stored.read(plain) == content.partition(b"\n")[2]
    monkeypatch.setattr(stored_searches.os, "getuid", lambda: -1)
    assert stored.read(plain) is None  # a program of somebody else
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parents[1]))
    for harmed in (b"something else", content[:-1], content[:70], b""):
        path.write_bytes(harmed)
        assert not any(map(stored.read, (plain, other)))
    path.write_bytes(content)
    flip(path)
    assert translated(trained_run) == before
    no_model()
    assert translated(trained_run) == before


def test_a_file_of_the_right_name_that_cannot_be_loaded_is_no_error(trained_run, cache, monkeypatch):
    before = translated(trained_run)

    def fail(*_):
        raise ValueError("another TensorFlow")

    monkeypatch.setattr(stored_searches, "load_function", fail)
    assert translated(trained_run) == before
    monkeypatch.setattr(stored_searches, "handles_of", fail)
    assert translated(trained_run) == before


def test_the_name_tells_code_settings_and_tokenizers_but_not_weights(trained_run, transformer_run, monkeypatch):
    def key(run=trained_run, threads=None, **which):
        return StoredSearches.of(find_model(run.directory, **which), threads).key

    first = key()
    assert first == key(checkpoint="latest") == key(overrides=["search.beam_size=2"])
    others = [key(transformer_run), key(threads=1)]
    monkeypatch.setenv("KERAS_FLOATX", "float16")
    others.append(key())
    monkeypatch.delenv("KERAS_FLOATX")
    monkeypatch.setattr(stored_searches.metadata, "version", lambda name: f"99 of {name}")
    others.append(key())
    monkeypatch.undo()
    monkeypatch.setattr(stored_searches, "_hash_of_code", lambda: "other code")
    others.append(key())
    assert len({first, *others}) == 6 - (stored_searches.processors_for(None) == 1)
    monkeypatch.setattr(stored_searches, "imported_files", lambda: ["own.py"])
    assert StoredSearches.of(find_model(trained_run.directory), None) is None


def test_a_cache_that_cannot_be_written_is_no_error(trained_run, tmp_path):
    (tmp_path / "cache").write_text("no folder")
    assert translated(trained_run) == translated(trained_run)


def test_those_that_were_used_last_are_kept(trained_run, cache, monkeypatch):
    monkeypatch.setattr(stored_searches, "MOST_FILES", 2)
    translated(trained_run)
    (first,) = cache.iterdir()
    translated(trained_run, num_hypotheses=2)
    (second,) = set(cache.iterdir()) - {first}
    translated(trained_run)
    translated(trained_run, num_hypotheses=3)
    assert first.exists()
    assert not second.exists()
    assert len(list(cache.iterdir())) == 2


def test_a_damaged_checkpoint_is_passed_by_as_ever(trained_run, tmp_path, flip, caplog):
    copy = trained_run._replace(directory=tmp_path / "copy")
    shutil.copytree(trained_run.directory, copy.directory)
    translated(copy)
    latest = translated(copy, checkpoint="latest")
    for path in (copy.directory / "checkpoints" / "update-00000010").glob("*.safetensors"):
        flip(path)
    assert translated(copy) == latest
    assert "update-00000010: skipped, it is damaged" in caplog.text


def test_what_is_wrong_with_a_model_is_left_to_those_who_open_it(trained_run, tmp_path, monkeypatch):
    translated(trained_run)
    stored = StoredSearches.of(find_model(trained_run.directory), None)
    assert isinstance(stored.open(), StoredTranslator)
    manifest = stored_searches.read_manifest(trained_run.directory / "checkpoints" / "update-00000010")

    def told(names):
        return lambda _: dataclasses.replace(manifest, facts={"tokenizers": names})

    monkeypatch.setattr(stored_searches, "read_manifest", told(TextPair.load(trained_run.directory).fingerprints))
    assert stored.open() is not None
    monkeypatch.setattr(stored_searches, "read_manifest", told(["of", "others"]))
    assert stored.open() is None
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    read = stored_searches.read_weights

    def infinite(*which):
        contents = read(*which)
        contents.model["output_bias"] = np.full_like(contents.model["output_bias"], np.inf)
        return contents

    monkeypatch.setattr(stored_searches, "read_weights", infinite)
    assert stored.open() is None
    monkeypatch.setattr(stored_searches, "read_weights", read)
    monkeypatch.setattr(stored_searches.session, "has_gpu", lambda: True)
    assert stored.open() is None


def test_a_function_that_reads_what_nobody_names_is_not_stored():
    import keras

    weight, other = keras.Variable(np.float32([2.0, 3.0])), keras.Variable(np.ones((5, 50), "float32"))
    plain = compile_function(lambda inputs: inputs * weight.value, (Spec((None, 2), "float32"),))
    more = compile_function(lambda inputs: inputs * weight.value + other.value[0, 0], (Spec((None, 2), "float32"),))
    inputs = np.float32([[5.0, 7.0]])
    plain(inputs), more(inputs)
    assert store_function(more, {"w": weight}, [other]) is None
    content = store_function(plain, {"w": weight})
    # Whatever is compiled in another process may have the names of this one.
    assert b'"name": "stored_' in content
    assert b"__inference" not in re.sub(rb"stored_[0-9a-f]{16}__inference", b"", content)
    again = load_function(content, handles_of({"w": np.float32([4.0, 6.0])}))
    np.testing.assert_array_equal(again(inputs)[0], [[20.0, 42.0]])


PROGRAM = """
import json, sys
from nmt.control.controls import Sampling
from nmt.tasks.translate import prepare_translation
ways = [{}, {"num_hypotheses": 2}, {"sampling": Sampling(seed=3)}, {}]
for how in ways[:int(sys.argv[3])]:
    how["overrides"] = ["search.beam_size=3"]
    lines = prepare_translation(sys.argv[1], engine="keras", **how)([json.loads(sys.argv[2])])
    print(json.dumps([[each.text for each in line.translations] for line in lines]))
    print("keras" in sys.modules)
import tensorflow as tf
print(tf.add(1, 1).numpy(), tf.config.threading.get_intra_op_parallelism_threads())
"""


def test_a_process_imports_keras_only_for_what_was_not_stored(trained_run, monkeypatch, tmp_path):
    def run(ways):
        command = [sys.executable, "-c", PROGRAM, str(trained_run.directory), json.dumps(LINES), str(ways)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
        lines = done.stdout.splitlines()
        return [json.loads(line) for line in lines[:-1:2]], lines[1::2], lines[-1]

    first, second = run(1), run(4)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    ways = {}, {"num_hypotheses": 2}, {"sampling": Sampling(seed=3)}, {}
    found = [[[each.text for each in line] for line in translated(trained_run, **how)] for how in ways]
    assert (first[0], second[0]) == (found[:1], found)
    assert (first[1], second[1]) == (["True"], ["False", "True", "True", "True"])
    assert first[2] == second[2]


def test_a_cache_that_may_not_be_looked_into_is_none(trained_run, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    stored = StoredSearches.of(find_model(trained_run.directory), None)
    monkeypatch.setattr(Path, "glob", refuse)
    assert stored.open() is None
