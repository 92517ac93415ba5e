"""Shared type names, and the alphabet of shapes that every docstring uses.

    B  sentences in a batch      S  source length in tokens     D  hidden size
    K  hypotheses in a beam      T  target length in tokens     H  attention heads
    E  embedding size            V  vocabulary size             F  size of the feed-forward layer

A mask is boolean and True where a token is real. A score is a log probability: higher is better.
"""

import os
from typing import Any, TypeAlias

Tensor: TypeAlias = Any
"""A tensor of the running backend, or anything that `keras.ops` turns into one."""

State: TypeAlias = Any
"""A nest of tensors that changes from one decoding step to the next; every leaf begins with (B, K)."""

Memory: TypeAlias = Any
"""A nest of tensors that describes the source and stays constant during search; every leaf begins with (B,)."""

PathLike: TypeAlias = "str | os.PathLike[str]"
"""A path on disk."""

PAD_ID = 0
"""What stands in token ids where a mask is False. All that models know of a vocabulary, besides its size."""
