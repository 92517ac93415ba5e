"""Data: corpus readers, the encoded token store, and batches with a cursor. No Keras here."""

from nmt.data.batches import Batch, BatchStream, Cursor, evaluation_batches
from nmt.data.corpus import CorpusReport, hash_corpus, read_lines, read_pairs
from nmt.data.sequences import TokenSequences
from nmt.data.store import TokenStore, find_store, open_store

__all__ = [
    "Batch",
    "BatchStream",
    "CorpusReport",
    "Cursor",
    "TokenSequences",
    "TokenStore",
    "evaluation_batches",
    "find_store",
    "hash_corpus",
    "open_store",
    "read_lines",
    "read_pairs",
]
