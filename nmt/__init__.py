"""Neural machine translation on Keras 3 and TensorFlow.

Example:
    import nmt

    translator = nmt.Translator.load("runs/travel")
    translator.translate(["¿Dónde está la estación?"])

Importing this package loads neither TensorFlow nor Keras: a public name is imported when it is first used. The stub
`__init__.pyi` lists them, for type checkers as well.
"""

import ast
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from nmt.errors import NOT_ON_WINDOWS
from nmt.version import __version__ as __version__

_HOMES = {
    alias.asname: (node.module, alias.name)
    for node in ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")).body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
}
"""Where each public name lives: its module, and its name there."""
_HOMES["load_config"] = _HOMES.pop("_load")  # a stub gives on what it imports under its own name

__all__ = sorted([*_HOMES, "__version__"], key=lambda name: (not name.isupper(), not name[0].isupper(), name))


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, and keep it."""
    if name not in _HOMES:
        raise AttributeError(f"module 'nmt' has no attribute {name!r}")
    if sys.platform == "win32":
        raise ImportError(NOT_ON_WINDOWS)
    from nmt.backend.session import starting_quietly

    module, name_there = _HOMES[name]
    with starting_quietly():
        value = getattr(import_module(module), name_there)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
