"""Writes the effective settings of a run, so that loading them gives the same `Config`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from nmt.atomic_files import replace_file
from nmt.config.loader import VERSION_KEY
from nmt.config.settings import FORMAT_VERSION, Config
from nmt.config.yaml_reader import CORE_SCALARS
from nmt.errors import ConfigError
from nmt.types import PathLike
from nmt.version import __version__


class _Dumper(yaml.SafeDumper):
    """Quotes what any reader would take for something else than a text: one of YAML 1.1, or ours of YAML 1.2."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indents lists below their key, as people write them."""
        super().increase_indent(flow, False)


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    """Puts texts with the line breaks of Unicode in double quotes: PyYAML would write them raw and read a space."""
    style = '"' if any(character in text for character in "\x85\u2028\u2029") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
for _name, _pattern, _first in CORE_SCALARS:
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(_pattern), list(_first))


def to_yaml(config: Config) -> str:
    """Returns the effective settings, defaults included, as YAML with the format version."""
    head = f"# Effective settings, written by nmt {__version__}.\n{VERSION_KEY}: {FORMAT_VERSION}\n"
    style: dict[str, Any] = {"sort_keys": False, "allow_unicode": True, "default_flow_style": False, "width": 10**6}
    parts = []
    for key, value in config.model_dump().items():
        gap = "\n" if isinstance(value, dict) else ""
        parts.append(gap + yaml.dump({key: _plain(value)}, Dumper=_Dumper, **style))
    return head + "".join(parts)


def write(config: Config, path: PathLike) -> None:
    """Writes the effective settings as YAML; a reader sees the old file or the new one, never half.

    Raises:
        ConfigError: the file cannot be written.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        replace_file(target, to_yaml(config).encode("utf-8"))
    except OSError as error:
        raise ConfigError(f"{target} cannot be written: {error.strerror}") from error


def _plain(value: Any) -> Any:
    """Returns nested settings with lists in place of tuples, as YAML knows them."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
