"""Neural machine translation on Keras 3 and TensorFlow.

Example:
    import nmt

    translator = nmt.load_translator("runs/travel")
    translator.translate(["¿Dónde está la estación?"])

Importing this package loads neither TensorFlow nor Keras: a public name is imported when it is first used. The stub
`__init__.pyi` lists them, for type checkers as well. Keras opens files with our models and layers as soon as both
packages are imported, in any order.
"""

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
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


# What Keras has to know before it can open a file with our classes in it

_SERIALIZABLE = {
    "nmt.layers.attention": ("AdditiveAlignment", "CrossAttention", "MultiplicativeAlignment", "SelfAttention"),
    "nmt.layers.core": ("TokenEmbedding",),
    "nmt.layers.tied_output": ("TiedEmbeddingsTransposed",),
    "nmt.models.rnn": ("RNN",),
    "nmt.models.transformer": ("Transformer",),
    "nmt.training.optimization": ("Adam", "AdamW"),
    "nmt.training.update": ("label_smoothed_cross_entropy",),
}
"""What is registered with Keras when its module is imported."""


class _Stand:
    """Stands for a class in Keras's registry, until its module is imported and it takes the place itself."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def from_config(self, config: dict[str, Any]) -> Any:
        """Do what the class does."""
        return getattr(import_module(self.module), self.name).from_config(config)


def _stand(module: str, name: str) -> Callable[..., Any]:
    """Return what stands for a function; Keras saves again what it has opened, and saves functions as such only."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return getattr(import_module(module), name)(*args, **kwargs)

    return call


def _tell(keras: ModuleType) -> None:
    """Tell Keras what we have, and load none of it."""
    for module, names in _SERIALIZABLE.items():
        for name in names if module not in sys.modules else ():
            stand = (_stand if name.islower() else _Stand)(module, name)
            keras.saving.register_keras_serializable(package="nmt", name=name)(stand)


class _AfterKeras(MetaPathFinder):
    """Waits until somebody imports Keras; tells it what we have at the end of that import, before anyone uses it."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Find Keras as Python does; other modules are left to the finders that follow."""
        if name != "keras":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        sys.meta_path.insert(0, self)  # some look for Keras and do not import it yet, as TensorFlow does
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_tell(module: ModuleType) -> None:
                execute(module)
                _tell(module)
                sys.meta_path.remove(self)

            spec.loader.exec_module = execute_and_tell  # type: ignore[method-assign]
        return spec


if "keras" in sys.modules:
    _tell(sys.modules["keras"])
else:
    sys.meta_path.insert(0, _AfterKeras())
