"""Scoring: how good translations are, by references or by each other. No Keras here, and so no TensorFlow."""
