"""Data: corpora, the encoded token store, and batches with a cursor. No Keras here."""

from nmt.data.batches import Batch, BatchStream, Cursor
from nmt.data.corpus import Corpus, register_reader
from nmt.data.store import TokenStore, find_store, open_store

__all__ = ["Batch", "BatchStream", "Corpus", "Cursor", "TokenStore", "find_store", "open_store", "register_reader"]
