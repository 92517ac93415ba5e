"""Floating point operations of a model, counted from its matrices: 2 a multiply-add, backward twice the forward."""

from __future__ import annotations

import math
from typing import NamedTuple

from nmt.models.contract import Seq2Seq
from nmt.tying import named_variables

ENCODER_PARTS = ("encoder_blocks", "encoder_layers")
PER_SOURCE_TOKEN = ("cross_attention/key_value", "alignment/key")
"""Matrices of the decoder that are applied to source tokens."""


class Flops(NamedTuple):
    """Operations of one forward pass.

    source: a source token.
    target: a target token, or one hypothesis of one step; the output projection included.
    """

    source: float
    target: float


def forward_flops(model: Seq2Seq) -> Flops:
    """Count the matrix products of a model; looking up embeddings is none, projecting by them is."""
    source = target = 0.0
    for path, variable in named_variables(model).items():
        if len(variable.shape) != 2 or path.endswith("/embeddings"):
            continue
        operations = 2.0 * math.prod(variable.shape)
        if path.startswith(ENCODER_PARTS) or any(part in path for part in PER_SOURCE_TOKEN):
            source += operations
        else:
            target += operations
    return Flops(source, target + 2.0 * math.prod(model.output_projection.embeddings.shape))
