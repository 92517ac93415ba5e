import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from nmt.config import Config, load, to_yaml, write
from nmt.errors import ConfigError
from nmt.settings.config import FORMAT_VERSION
from nmt.yaml_files import read_yaml

KINDS = [
    [],
    ["model={type: rnn, cell: lstm}", "training.optimizer={type: adamw, epsilon: 1e-12}", "training.max_minutes=3"],
    [
        "data.tokenizer={type: character}",
        "training.schedule={type: plateau, metric: bleu}",
        "training.early_stopping={}",
    ],
    ["data.tokenizer={type: whitespace, vocabulary_size: null}", "training.optimizer={type: sgd}", "seed=4294967295"],
    ["data.train={source: [a, b], target: [c, d]}", "data.source_language=no", "data.target_language='1e-3'"],
]


@pytest.mark.parametrize("overrides", KINDS)
def test_what_is_written_loads_as_an_equal_config(write_config, tmp_path, overrides):
    config = load(write_config(), overrides)
    path = tmp_path / "runs" / "toy" / "config.yaml"
    write(config, path)
    assert load(path) == config
    assert [file.name for file in path.parent.iterdir()] == ["config.yaml"]


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: text.strip()))
def test_any_text_survives(text):
    corpus = {"source": "a", "target": "b"}
    data = {"source_language": text, "target_language": "en", "train": corpus, "validation": corpus}
    written = to_yaml(Config.model_validate({"model_directory": "x", "data": data}))
    for value in (read_yaml(written, "x").value, yaml.safe_load(written)):
        assert value["data"]["source_language"] == text


@pytest.mark.parametrize(
    "text",
    [
        "no",
        "1e-3",
        "0o17",
        "12:30",
        "null",
        "~",
        "true",
        "017",
        "1_0",
        "a\x85",
        "\u2028b",
        "a\rb",
        "\ufeff",
        "2024-01-01",
        ".5",
    ],
)
def test_texts_that_look_like_something_else_are_quoted(write_config, text):
    written = to_yaml(load(write_config(), ["data.source_language=" + json.dumps(text)]))
    for value in (read_yaml(written, "x").value, yaml.safe_load(written)):
        assert value["data"]["source_language"] == text


def test_all_settings_and_the_version_are_written(write_config):
    written = read_yaml(to_yaml(load(write_config())), "x").value
    assert next(iter(written)) == "format_version"
    assert written.pop("format_version") == FORMAT_VERSION
    assert written["training"]["optimizer"]["beta_2"] == 0.98
    assert list(written) == ["model_directory", "seed", "data", "model", "training", "search"]


def test_expanded_paths_are_written(write_config, monkeypatch):
    monkeypatch.setenv("PLACE", "/somewhere")
    text = to_yaml(load(write_config(), ["model_directory=${PLACE}/x"]))
    assert "model_directory: /somewhere/x\n" in text


def test_an_old_file_survives_a_failed_write(write_config, tmp_path, monkeypatch):
    config = load(write_config())
    path = tmp_path / "config.yaml"
    path.write_text("old")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(ConfigError, match="cannot be written: No space left on device"):
        write(config, path)
    assert path.read_text() == "old"
    assert not list(tmp_path.glob(".config*"))
