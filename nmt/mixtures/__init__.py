"""Mixtures: several encoded corpora as one stream of batches, by shares that may change from stage to stage."""

from nmt.mixtures.shares import Stage
from nmt.mixtures.stream import MixedCorpus, MixtureCursor, MixtureStream, Seen

__all__ = ["MixedCorpus", "MixtureCursor", "MixtureStream", "Seen", "Stage"]
