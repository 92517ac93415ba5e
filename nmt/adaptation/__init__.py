"""Adaptation: what changes a trained model, one function per verb: averages, exports, vocabularies, other text."""
