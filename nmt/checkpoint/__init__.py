"""The model directory on disk: checkpoints that are written whole, hashed, and prove the ties they restore.

Of its modules, `manager` and `weights` load Keras; the others are light.
"""
