"""Inference: translating text with a model. Nothing is imported here, so that what needs no model loads none."""
