import json
import subprocess
import sys
from pathlib import Path

import pytest

from nmt.config import advice, load
from nmt.errors import ConfigError
from nmt.yaml_files import read_yaml

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
LEAST = 7


def test_the_shipped_configs_are_found():
    assert len(CONFIGS) >= LEAST


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_loads_without_advice_and_names_the_schema(path, monkeypatch):
    monkeypatch.setenv("MULTI30K", "/corpora/multi30k")
    assert list(advice(load(path))) == []
    first_line = path.read_text(encoding="utf-8").split("\n", 1)[0]
    schema = path.parent / first_line.removeprefix("# yaml-language-server: $schema=")
    assert json.loads(schema.read_text(encoding="utf-8"))["title"] == "Settings of an nmt run"


def test_multi30k_says_what_to_do_where_its_variable_is_not_set(monkeypatch):
    monkeypatch.delenv("MULTI30K", raising=False)
    with pytest.raises(ConfigError) as error:
        load(ROOT / "configs/multi30k_de_en_transformer.yaml")
    assert "\n" not in str(error.value)
    assert "export MULTI30K=" in str(error.value)
    assert "--set data.train.source=" in str(error.value)


def test_the_two_multi30k_configs_read_the_same_text():
    data = [read_yaml((ROOT / f"configs/multi30k_de_en_{kind}.yaml").read_text("utf-8"), kind).value["data"]
            for kind in ("transformer", "rnn")]  # fmt: skip
    assert data[0] == data[1]


def test_the_two_directions_differ_in_language_and_length_alone():
    one, other = (read_yaml((ROOT / f"configs/multi30k_{pair}_two_hours.yaml").read_text("utf-8"), pair).value
                  for pair in ("de_en", "en_de"))  # fmt: skip
    assert one["model"] == other["model"]
    assert one["training"] == other["training"]
    for corpus in ("train", "validation", "test"):
        assert one["data"][corpus]["source"] == other["data"][corpus]["target"]
        assert one["data"][corpus]["target"] == other["data"][corpus]["source"]


@pytest.mark.slow
def test_importing_the_settings_loads_no_heavy_library():
    code = "import sys, nmt.config; print([m for m in ('tensorflow', 'keras', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"
