"""Data: corpus readers, the encoded token store, and batches with a cursor. No Keras here."""

from nmt.data.batches import Batch, BatchStream, Cursor, evaluation_batches
from nmt.data.corpus import Corpus, CorpusReport, read_lines, register_reader
from nmt.data.sequences import TokenSequences
from nmt.data.store import TokenStore, find_store, open_store

__all__ = [
    "Batch",
    "BatchStream",
    "Corpus",
    "CorpusReport",
    "Cursor",
    "TokenSequences",
    "TokenStore",
    "evaluation_batches",
    "find_store",
    "open_store",
    "read_lines",
    "register_reader",
]
