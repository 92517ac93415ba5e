import os

import pytest
from pydantic import ValidationError

from nmt.config import load
from nmt.errors import ConfigError
from nmt.version import __version__


def test_settings_that_are_not_given_have_their_defaults(write_config):
    config = load(write_config())
    assert config.model.type == "transformer"
    assert config.data.tokenizer.type == "sentencepiece"
    assert config.training.optimizer.type == "adam"
    assert config.training.schedule.type == "inverse_sqrt"
    assert config.data.test is None
    assert config.token_store_directory == os.path.join("runs/toy", "token_store")


def test_one_path_need_not_be_a_list(write_config):
    (path,) = write_config("seed: 7")
    assert load(path) == load(str(path)) == load([path])


def test_settings_are_frozen_and_hashable(write_config):
    config = load(write_config(), ["data.train={source: [a, b], target: [c, d]}"])
    with pytest.raises(ValidationError, match="frozen"):
        config.model.num_heads = 3
    assert hash(config) == hash(config.model_copy())
    assert config.data.train.paths[0] == ("a", "b")
    assert config.data.validation.paths[1] == ("validation.en",)


@pytest.mark.parametrize(
    ("override", "value"),
    [("data.source_language=no", "no"), ("data.source_language=12:30", "12:30"), ("data.source_language='a=b'", "a=b")],
)
def test_override_values_are_yaml_1_2(write_config, override, value):
    assert load(write_config(), [override]).data.source_language == value


def test_an_int_is_fine_for_a_float(write_config):
    rate = load(write_config(), ["training.optimizer.learning_rate=2"]).training.optimizer.learning_rate
    assert rate == 2
    assert isinstance(rate, float)


def test_paths_are_expanded(write_config, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("CORPUS", "~/corpus")
    overrides = ["data.train={source: ['${CORPUS}/a', b$c], target: [~/x, ./~y]}", "data.store_directory=${CORPUS}"]
    config = load(write_config(), overrides)
    assert config.data.train.paths[0] == ("/home/ada/corpus/a", "b$c")
    assert config.data.train.paths[1] == ("/home/ada/x", "./~y")
    assert config.token_store_directory == "/home/ada/corpus"


def test_only_paths_are_expanded(write_config):
    assert load(write_config(), ["data.source_language=~x${Y}"]).data.source_language == "~x${Y}"


def test_paths_that_need_one_unset_variable_are_one_problem(refused, monkeypatch):
    monkeypatch.delenv("CORPUS", raising=False)
    (line,) = refused("  test: {source: '${CORPUS}/a', target: '${CORPUS}/b'}")
    assert line.startswith(
        "data.test.source, data.test.target use ${CORPUS}, but the environment variable CORPUS is not"
    )
    assert "export CORPUS=" in line
    assert "--set data.test.source=" in line


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("''", "must be a path, got an empty text"),
        ("${1}", r"contains '\$\{' that begins no variable"),
        ("~nobody_of_this_name/x", "no such user"),
        ('"a\\0b"', "NUL"),
    ],
)
def test_paths_that_cannot_be_expanded_are_refused(write_config, path, message):
    with pytest.raises(ConfigError, match=f"^model_directory .*{message}"):
        load(write_config(), [f"model_directory={path}"])


def test_an_empty_variable_is_refused(write_config, monkeypatch):
    monkeypatch.setenv("CORPUS", "")
    with pytest.raises(ConfigError, match="CORPUS is empty"):
        load(write_config(), ["model_directory=${CORPUS}/x"])


def test_files_that_hold_no_config_are_all_reported(tmp_path):
    contents = {  # what each file holds, by its name
        "empty": b"# nothing\n", "scalar": b"hello", "list": b"- a",
        "latin": b"seed: 1\nmodel: \xe9\n",
        "bom": b"\xef\xbb\xbfseed: 1\n\xff: 2", "later": b"format_version: 2\nsearch: {no_such: 1}",
        "text": b"format_version: x",
    }  # fmt: skip
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    paths = [tmp_path / name for name in [*contents, "absent"]] + [tmp_path]
    with pytest.raises(ConfigError) as error:
        load(paths)
    expected = [
        "empty is empty", "scalar holds no settings", "list holds no settings",
        "latin line 2: is not UTF-8 (byte 0xe9)",
        "bom line 2: is not UTF-8",
        f"later has format version 2, but nmt {__version__} reads versions up to 1: install a newer",
        "text: format_version must be", "absent does not exist", " is a directory",
    ]  # fmt: skip
    lines = str(error.value).replace(str(tmp_path) + "/", "").split("\n")
    assert len(lines) == 1 + len(expected)
    for line, beginning in zip(lines[1:], expected, strict=True):
        assert beginning in line


def test_a_missing_file_names_its_neighbour(write_config):
    (path,) = write_config()
    with pytest.raises(ConfigError, match=r"did you mean .*config0\.yaml"):
        load(path.with_name("confg0.yaml"))


def test_a_byte_order_mark_is_no_part_of_the_config(write_config):
    (path,) = write_config("seed: 3")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load(path).seed == 3


@pytest.mark.parametrize("override", ["seed", "=3", "a..b=3", ".a=3", ""])
def test_overrides_of_another_form_are_refused(write_config, override):
    with pytest.raises(ConfigError, match=r"must have the form section\.key=value"):
        load(write_config(), [override])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=", "has no value: write null"),
        ("format_version=1", "format_version is unknown"),
        ("model={a: 1, a: 2}", "a is given twice"),
        ("model={a: 1", r"^--set model=\{a: 1: line 1, column 6: is no valid YAML"),
        ("model_directory=\udcff", "U\\+DCFF"),
    ],
)
def test_overrides_that_cannot_be_read_are_refused(write_config, override, message):
    with pytest.raises(ConfigError, match=message):
        load(write_config(), [override])


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match=r"config\.yaml cannot be read: Is no regular file"):
        load(tmp_path / "config.yaml")
