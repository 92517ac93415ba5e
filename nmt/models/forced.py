"""The log probabilities of given targets, and how a model looks at the source meanwhile: all positions at once.

Logits of a whole batch never exist: they are made of so many rows at a time that they fit into the cache.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from keras import ops

from nmt.backend import machine
from nmt.backend.functions import Spec, compile_function, scan, select_rows
from nmt.backend.products import BLOCK_BYTES, linear
from nmt.models.contract import Seq2Seq, token_mask
from nmt.text import BOS_ID
from nmt.types import Tensor


def forced_log_probs(
    models: Sequence[Seq2Seq],
    source_ids: Sequence[Tensor],
    target_ids: Tensor,
    *,
    mean: Callable[[Sequence[Tensor]], Tensor] | None = None,
) -> Tensor:
    """Compute the log probability of each token of given targets.

    Args:
        models: one, or those of an ensemble.
        source_ids: (B, S) as each model cuts the source.
        target_ids: (B, T), padded; EOS is a token like others.
        mean: of logits of several models, see `Ensemble.mean`.

    Returns:
        (N,) float32, of the N real tokens, row by row.
    """
    begin = ops.full_like(target_ids[:, :1], BOS_ID)
    read = ops.concatenate([begin, target_ids[:, :-1]], axis=1)
    mask = token_mask(target_ids)
    hidden = [select_rows(model.hidden(ids, read), mask) for model, ids in zip(models, source_ids, strict=True)]
    matrices = [model.output_matrix() for model in models]  # (E, V) each

    def of_block(token_ids: Tensor, *hidden: Tensor) -> Tensor:
        factors = zip(hidden, matrices, models, strict=True)
        logits = [linear(rows, matrix, model.output_bias) for rows, matrix, model in factors]  # (rows, V) each
        joint = ops.cast(logits[0], "float32") if mean is None else mean(logits)
        return ops.take_along_axis(ops.log_softmax(joint), token_ids[:, None], axis=1)[:, 0]

    rows = max(BLOCK_BYTES // (4 * models[0].output_bias.shape[0]), 1)
    return in_blocks(of_block, [select_rows(target_ids, mask), *hidden], rows)


class ReadOut(NamedTuple):
    """Which attention is taken for an alignment.

    layer: of the decoder, from 1, or 0 for the mean of all; a good one unless given.
    head: of that layer, from 1; the mean of all unless given.
    shift: whether a token is aligned by the step that reads it (SHIFT-ATT, Chen et al. 2020, arXiv:2004.14837), instead
        of the one that predicts it.
    """

    layer: int | None = None
    head: int | None = None
    shift: bool = False


def forced_attention(
    models: Sequence[Seq2Seq], shares: Sequence[float], source_ids: Tensor, target_ids: Tensor, read_out: ReadOut
) -> Tensor:
    """Compute how models look at the source for each token of given targets.

    A target has no EOS here. Nobody trained a model to read one, and none need do so: the step that reads the last
    token is the one that predicts EOS.

    Args:
        models: one, or several that cut the source alike.
        shares: of each in their mean, which add up to 1.
        source_ids: (B, S), EOS at the end.
        target_ids: (B, T), padded.
        read_out: which attention.

    Returns:
        (B, T, S) float32; the rows of real tokens add up to 1.
    """
    read = ops.concatenate([ops.full_like(target_ids[:, :1], BOS_ID), target_ids], axis=1)  # (B, T+1)
    total: Tensor = 0.0
    for model, share in zip(models, shares, strict=True):
        weights = ops.cast(model.attention(source_ids, read, layer=read_out.layer, head=read_out.head), "float32")
        total = total + share * (weights[:, 1:] if read_out.shift else weights[:, :-1])
    return total


def in_blocks(function: Callable[..., Tensor], inputs: Sequence[Tensor], rows: int) -> Tensor:
    """Apply a function of rows to so many at a time, so that what it makes of them fits into a cache.

    Args:
        function: takes (rows, ...) of each input, and returns a number a row.
        inputs: (N, ...) each.
        rows: of a block; the last one is filled up with zeros.

    Returns:
        (N,) float32.
    """
    count = ops.shape(inputs[0])[0]
    num_blocks = (count + rows - 1) // rows

    def cut(values: Tensor) -> Tensor:
        filling = ops.zeros((num_blocks * rows - count, *values.shape[1:]), dtype=values.dtype)
        return ops.reshape(ops.concatenate([values, filling]), (num_blocks, rows, *values.shape[1:]))

    results, _ = scan(lambda _, block: function(*block), ops.zeros((rows,)), [cut(values) for values in inputs])
    return ops.reshape(results, (-1,))[:count]


class TokenScores(NamedTuple):
    """How well a model predicts the reference, token by token.

    loss: unsmoothed cross-entropy per real target token, in nats, EOS counted.
    accuracy: share of real target tokens with the highest logit, 0 to 1.
    """

    loss: float
    accuracy: float


class TokenScorer:
    """Predicts every reference token from those before it, without dropout; compiled once for all shapes.

    Args:
        model: what is judged.
    """

    def __init__(self, model: Seq2Seq) -> None:
        self._model = model
        self._sums = compile_function(self._batch_sums, (Spec((None, None), "int32"),) * 3)

    def score(self, batches: Sequence[tuple[np.ndarray | None, ...]], *, at_once: int = 1) -> TokenScores:
        """Average over all real target tokens of all batches.

        Args:
            batches: what is to be predicted, at least one: source ids (B, S), then what the decoder reads and what it
                is to write, (B, T) each; nothing else of a batch is used.
            at_once: batches side by side, each of which holds all its logits.
        """
        cross_entropy = correct = tokens = 0.0
        for sums in machine.map_at_once(
            lambda batch: list(map(float, self._sums(*batch[:3]))), batches, at_once=at_once
        ):
            cross_entropy, correct, tokens = cross_entropy + sums[0], correct + sums[1], tokens + sums[2]
        return TokenScores(cross_entropy / tokens, correct / tokens)

    def _batch_sums(self, source_ids: Tensor, target_input_ids: Tensor, target_output_ids: Tensor) -> list[Tensor]:
        logits = self._model((source_ids, target_input_ids))  # (B, T, V)
        losses = ops.sparse_categorical_crossentropy(target_output_ids, logits, from_logits=True)  # (B, T)
        mask = ops.cast(token_mask(target_output_ids), "float32")
        correct = ops.cast(ops.equal(ops.cast(ops.argmax(logits, axis=-1), "int32"), target_output_ids), "float32")
        return [ops.sum(losses * mask), ops.sum(correct * mask), ops.sum(mask)]
