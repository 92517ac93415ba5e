"""The model directory on disk: checkpoints that are written whole, hashed, and prove the ties they restore.

What needs no model (`has_checkpoint`, `list_checkpoints`, `read_manifest`) loads no Keras: names are resolved when
they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nmt.checkpoint.index import CheckpointInfo, has_checkpoint, list_checkpoints, newest_manifest
    from nmt.checkpoint.manager import CheckpointManager, Restored
    from nmt.checkpoint.manifest import Contents, Manifest, read_manifest
    from nmt.checkpoint.reader import LoadedWeights, SelectedContents, load_weights, read_contents
    from nmt.checkpoint.retie import TieChange
    from nmt.checkpoint.slots import random_state, restore_random_state

_MODULES = {
    "CheckpointInfo": "index",
    "CheckpointManager": "manager",
    "Contents": "manifest",
    "LoadedWeights": "reader",
    "Manifest": "manifest",
    "Restored": "manager",
    "SelectedContents": "reader",
    "TieChange": "retie",
    "has_checkpoint": "index",
    "list_checkpoints": "index",
    "load_weights": "reader",
    "newest_manifest": "index",
    "random_state": "slots",
    "read_contents": "reader",
    "read_manifest": "manifest",
    "restore_random_state": "slots",
}

__all__ = [
    "CheckpointInfo",
    "CheckpointManager",
    "Contents",
    "LoadedWeights",
    "Manifest",
    "Restored",
    "SelectedContents",
    "TieChange",
    "has_checkpoint",
    "list_checkpoints",
    "load_weights",
    "newest_manifest",
    "random_state",
    "read_contents",
    "read_manifest",
    "restore_random_state",
]


def __getattr__(name: str) -> Any:
    """Import the module of a public name when the name is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
