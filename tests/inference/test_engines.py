"""Which engine translates, and where engines lie; how equal they are is a matter of `tests/export`."""

import json
import shutil
import sys

import pytest

from nmt.checkpoint.folder import ENGINES_NAME, remove_engines
from nmt.config import load
from nmt.directory import engines as places
from nmt.directory.model_directory import EXPORT_NAME, FoundModel, delete_run, foreign_files, is_part_of_model
from nmt.errors import ConfigError, ExportError
from nmt.inference import engines
from tests import tiny

NAME = "0123456789abcdef"


@pytest.fixture
def found(tmp_path):
    """A Transformer that nobody trained, whose settings leave the engine open."""
    pairs = {role: [("uno", "one")] for role in ("train", "validation")}
    config = load(tiny.write_config(tmp_path, pairs, model=tiny.TRANSFORMER))
    return FoundModel(tmp_path / "run", None, None, config)


def with_engine(found, engine):
    search = found.config.search.model_copy(update={"engine": engine})
    return found._replace(config=found.config.model_copy(update={"search": search}))


def refused(_):
    raise ExportError("no room")


@pytest.mark.parametrize(
    ("setting", "asked_for", "there", "lacks", "num_lines", "make", "name", "why"),
    [
        ("auto", None, True, [], 1, None, "ctranslate2", "from /engines/x"),
        ("auto", None, True, ["markup"], 1, None, "keras", "cannot have markup"),
        ("auto", None, False, [], 500, refused, "keras", "has no engine of this checkpoint yet, which a text of"),
        ("auto", None, False, [], 501, lambda _: "/engines/new", "ctranslate2", "from /engines/new"),
        ("auto", None, False, [], 501, refused, "keras", "has no engine of this checkpoint"),
        ("auto", "keras", True, [], 501, None, "keras", "as --engine says"),
        ("keras", None, True, [], 501, None, "keras", "as search.engine says"),
        ("keras", "auto", True, [], 1, None, "ctranslate2", "from /engines/x"),
        ("keras", "ctranslate2", False, [], 1, lambda _: "/engines/new", "ctranslate2", "as --engine says"),
    ],
)
def test_the_choice(found, monkeypatch, setting, asked_for, there, lacks, num_lines, make, name, why):
    monkeypatch.setattr(engines, "find_engine", lambda _: "/engines/x" if there else None)
    choice = engines.choose_engine(
        [with_engine(found, setting)], asked_for, lacks=lacks, num_lines=num_lines, make=make
    )
    assert choice.name == name
    assert why in choice.why
    assert (choice.directory is None) == (name == "keras")


def test_what_is_asked_for_and_cannot_be_is_refused(found, monkeypatch):
    monkeypatch.setattr(engines, "find_engine", lambda _: None)
    with pytest.raises(ConfigError, match="there is no engine for CTranslate2 yet: translate once with --engine"):
        engines.choose_engine([found], "ctranslate2")
    with pytest.raises(ExportError, match="no room"):
        engines.choose_engine([found], "ctranslate2", make=refused)
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    assert "is not installed" in engines.choose_engine([found], "auto").why


def test_the_name_of_an_engine_follows_all_that_decides_its_content(found, monkeypatch):
    def name(files, search=None):
        monkeypatch.setattr(places, "identity_of", lambda _: places.Identity("update-1", "ema", files))
        changed = found.config.search.model_copy(update=search or {})
        return places.engine_name(found._replace(config=found.config.model_copy(update={"search": changed})))

    first = name({"a": "1"})
    assert first == name({"a": "1"}, {"beam_size": 9, "max_length": 100})
    assert len({first, name({"a": "2"}), name({"a": "1"}, {"max_length": 3000})}) == 3
    monkeypatch.setattr(places.metadata, "version", lambda _: "99")
    assert name({"a": "1"}) != first


def test_an_engine_goes_with_its_checkpoint_and_its_run(tmp_path):
    for number in (1, 2):
        folder = tmp_path / ENGINES_NAME / f"{number:016x}"
        folder.mkdir(parents=True)
        (folder / EXPORT_NAME).write_text(json.dumps({"checkpoint": f"update-0000000{number}"}))
    (tmp_path / ENGINES_NAME / "mine").write_text("")
    assert is_part_of_model(folder / EXPORT_NAME, tmp_path)
    assert foreign_files(tmp_path) == [tmp_path / ENGINES_NAME / "mine"]
    remove_engines(tmp_path, kept={"update-00000002"})
    assert {path.name for path in (tmp_path / ENGINES_NAME).iterdir()} == {f"{2:016x}", "mine"}
    delete_run(tmp_path)
    assert [path.name for path in (tmp_path / ENGINES_NAME).iterdir()] == ["mine"]


def test_an_engine_lies_in_the_model_directory_or_else_in_the_cache(found, monkeypatch, tmp_path):
    from nmt.export.engines import writable_folder

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(places, "engine_name", lambda _: NAME)
    assert writable_folder(found) == found.directory / ENGINES_NAME
    shutil.rmtree(found.directory)
    found.directory.write_text("a place where nothing can be written")
    cached = tmp_path / "cache" / "nmt" / ENGINES_NAME
    assert writable_folder(found) == cached
    assert places.find_engine(found) is None
    (cached / NAME).mkdir()
    (cached / NAME / EXPORT_NAME).write_text("")
    assert places.find_engine(found) == cached / NAME
    monkeypatch.setenv("XDG_CACHE_HOME", str(found.directory))
    with pytest.raises(ExportError, match="an engine needs a place to be written"):
        writable_folder(found)
