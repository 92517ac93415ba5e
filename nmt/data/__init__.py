"""Data: corpora, the encoded token store, and batches of it. No Keras here."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nmt.data.batches import Batch
    from nmt.data.corpus import Corpus, register_reader
    from nmt.data.store import TokenStore, find_store, open_store

__all__ = ["Batch", "Corpus", "TokenStore", "find_store", "open_store", "register_reader"]

_MODULES = {"Batch": "batches", "Corpus": "corpus", "register_reader": "corpus"}  # all others: store


def __getattr__(name: str) -> Any:
    """Import what is asked for: a program that only reads lines starts a twentieth of a second sooner."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"nmt.data.{_MODULES.get(name, 'store')}"), name)
