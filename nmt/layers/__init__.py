"""Layers of the models: embedding, attention, recurrent cells, Transformer blocks, positions, tied outputs."""

from nmt.layers.tied_output import TiedEmbeddingsTransposed

__all__ = ["TiedEmbeddingsTransposed"]
