"""Streams: batches of training data without end, of one encoded corpus or of a mixture, with a cursor and in stages."""

from nmt.streams.mixture import MixedCorpus, MixtureCursor, MixtureStream, Seen
from nmt.streams.shares import Stage
from nmt.streams.stream import BatchStream, Cursor, Stream

__all__ = ["BatchStream", "Cursor", "MixedCorpus", "MixtureCursor", "MixtureStream", "Seen", "Stage", "Stream"]
