"""Inference: translating text with a model, and scoring translations.

Nothing is imported here: `evaluation` must work where no model, and so no TensorFlow, is needed.
"""
