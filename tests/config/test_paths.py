"""What the config of a model directory means once the directory was moved, copied or is used from another folder."""

import os

import pytest

from nmt.config import load, write

FILES = [f"data/{name}.{side}" for name in ("train", "validation") for side in ("de", "en")]


@pytest.fixture
def project(write_config, tmp_path, monkeypatch):
    """A folder with corpora and, in runs/toy, a model directory; the current folder."""
    project = tmp_path / "project"
    (project / "data").mkdir(parents=True)
    for file in FILES:
        (project / file).touch()
    monkeypatch.chdir(project)
    train, validation = ({"source": f"data/{name}.de", "target": f"data/{name}.en"} for name in ("train", "validation"))
    write(load(write_config(), [f"data.train={train}", f"data.validation={validation}"]), "runs/toy/config.yaml")
    (project / "runs/toy/tokenizer.json").touch()
    return project


def corpora(config):
    data = config.data
    return [path for corpus in (data.train, data.validation) for path in (*corpus.paths[0], *corpus.paths[1])]


def test_where_nothing_was_moved_paths_are_as_they_are_written(project, caplog):
    caplog.set_level("INFO")
    config = load("runs/toy/config.yaml", announce=True)
    assert (config.model_directory, corpora(config)) == ("runs/toy", FILES)
    os.symlink("toy", "runs/latest")
    assert load("runs/latest/config.yaml", announce=True).model_directory == "runs/toy"
    assert caplog.text == ""


@pytest.mark.parametrize("beside", ["tokenizer.json", "checkpoints"])
def test_a_config_in_a_model_directory_means_that_directory(project, beside, caplog):
    caplog.set_level("INFO")
    os.rename("runs/toy/tokenizer.json", f"runs/toy/{beside}")
    os.rename("runs/toy", "runs/moved")
    assert load("runs/moved/config.yaml").model_directory == "runs/moved"
    assert load("runs/../runs/moved/config.yaml").model_directory == "runs/../runs/moved"
    assert caplog.text == ""
    load("runs/moved/config.yaml", announce=True)
    [message] = caplog.messages
    assert message == (
        "runs/moved/config.yaml: model_directory is runs/moved, where this config lies, not runs/toy as it says"
    )


def test_from_within_the_directory_its_full_name_is_used(project, monkeypatch):
    monkeypatch.chdir("runs/toy")
    assert load("config.yaml").model_directory == str(project / "runs/toy")
    monkeypatch.chdir(project / "data")
    assert load("../runs/toy/config.yaml").model_directory == "../runs/toy"


def test_another_directory_that_somebody_names_wins(project, caplog, write_config):
    caplog.set_level("INFO")
    os.rename("runs/toy", "runs/moved")
    named = "runs/moved/config.yaml"
    assert load(named, ["model_directory=runs/other"], announce=True).model_directory == "runs/other"
    [second] = write_config("model_directory: runs/second", minimal=False)
    assert load([named, second], announce=True).model_directory == "runs/second"
    assert load([second, named]).model_directory == "runs/moved"
    assert caplog.text == ""


@pytest.mark.parametrize("case", ["copied away", "written by hand", "another name", "export"])
def test_other_configs_mean_what_they_say(project, case):
    path = project / "runs/moved/config.yaml"
    os.rename("runs/toy", "runs/moved")
    if case == "copied away":
        (project / "runs/moved/tokenizer.json").unlink()
    elif case == "written by hand":
        path.write_text(path.read_text(encoding="utf-8").replace("format_version: 1\n", ""), encoding="utf-8")
    elif case == "another name":
        path = path.rename(path.with_name("again.yaml"))
    else:
        (project / "runs/moved/export.json").touch()
    assert load(path).model_directory == "runs/toy"


def test_corpora_are_looked_for_above_the_directory_where_they_are_not_here(project, monkeypatch, tmp_path, caplog):
    caplog.set_level("INFO")
    monkeypatch.chdir(tmp_path)
    path = "project/runs/toy/config.yaml"
    assert corpora(load(path, announce=True)) == [str(project / file) for file in FILES]
    assert f"{path}: data.train.source is read from {project}/data/train.de, as it is not here" in caplog.messages
    assert load(path, ["data.train.source=data/train.de"]).data.train.source == "data/train.de"
    os.rename(project / "data/train.en", project / "runs/toy/lost")
    assert corpora(load(path))[:2] == [str(project / FILES[0]), FILES[1]]
    (tmp_path / "data").mkdir()
    (tmp_path / FILES[0]).touch()  # what is here is read
    assert corpora(load(path))[0] == FILES[0]


def test_files_of_a_list_and_of_a_linked_directory_are_found_too(project, monkeypatch, tmp_path):
    config = load("runs/toy/config.yaml", ["data.train={source: [data/train.de, x], target: [data/train.en, y]}"])
    write(config, "runs/toy/config.yaml")
    os.symlink(project / "runs/toy", tmp_path / "link")
    monkeypatch.chdir("/")
    found = load(tmp_path / "link/config.yaml")
    assert found.data.train.source == (str(project / "data/train.de"), "x")
    assert found.data.validation.target == str(project / "data/validation.en")
    assert found.model_directory == str(tmp_path / "link")
