from pathlib import Path

import pytest

MINIMAL = """\
model_directory: runs/toy
data:
  source_language: de
  target_language: en
  train: {source: train.de, target: train.en}
  validation: {source: validation.de, target: validation.en}
"""


@pytest.fixture
def write_config(tmp_path):
    """Writes YAML texts to files, the first one behind a minimal config, and returns their paths."""

    def write(*texts: str, minimal: bool = True) -> list[Path]:
        paths = []
        for number, text in enumerate(texts or ("",)):
            path = tmp_path / f"config{number}.yaml"
            path.write_text((MINIMAL if minimal and number == 0 else "") + text, encoding="utf-8")
            paths.append(path)
        return paths

    return write


@pytest.fixture
def refused(write_config):
    """Returns the lines of the error for a minimal config with an addition and overrides."""
    from nmt.config import load
    from nmt.errors import ConfigError

    def lines(*texts: str, overrides=(), minimal: bool = True) -> list[str]:
        paths = write_config(*texts, minimal=minimal)
        with pytest.raises(ConfigError) as error:
            load(paths, overrides)
        found = str(error.value).replace(str(paths[0].parent) + "/", "").split("\n")
        return found if len(found) == 1 else [line.strip() for line in found[1:]]

    return lines
