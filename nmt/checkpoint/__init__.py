"""The model directory on disk: checkpoints that are written whole, hashed, and prove the ties they restore.

What needs no model (`has_checkpoint`, `newest_manifest`, `read_manifest`) loads no Keras: names are resolved when they
are used.
"""
# ruff: noqa: F401

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nmt.checkpoint.index import has_checkpoint, newest_manifest
    from nmt.checkpoint.manager import CheckpointManager, Restored
    from nmt.checkpoint.manifest import Contents, Manifest, read_manifest
    from nmt.checkpoint.retie import TieChange
    from nmt.checkpoint.slots import random_state, restore_random_state
    from nmt.checkpoint.weights import LoadedWeights, SelectedContents, load_weights, read_contents

_NAMES = {
    "index": ("has_checkpoint", "newest_manifest"),
    "manager": ("CheckpointManager", "Restored"),
    "manifest": ("Contents", "Manifest", "read_manifest"),
    "retie": ("TieChange",),
    "slots": ("random_state", "restore_random_state"),
    "weights": ("LoadedWeights", "SelectedContents", "load_weights", "read_contents"),
}


def __getattr__(name: str) -> Any:
    """Import the module of a public name when the name is first used."""
    for module, names in _NAMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
