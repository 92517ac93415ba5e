"""Directories: what lies in a model directory, found and described without opening the model."""
