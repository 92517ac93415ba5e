"""Layers of the models: embedding, attention, recurrent cells, Transformer blocks, positions."""
