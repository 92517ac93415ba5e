"""How much memory a training will need, from the sizes of the model and of its batches, before anything is built.

Pure arithmetic, calibrated on peaks measured with `benchmarks/memory.py` on a processor: 7 to 18 % above what was
measured, since a run that is killed costs more than one that is told to take smaller batches. What a model keeps for
the backward pass it says itself, as its `Footprint`.
"""

from collections.abc import Iterable
from typing import NamedTuple

from nmt.backend.vocabulary_loss import BLOCK_BYTES, LEAST_ROWS
from nmt.models.contract import Footprint

FLOAT_BYTES = 4

MEBIBYTE = 2**20

PROCESS_BYTES = 680 * MEBIBYTE
"""TensorFlow, Keras and this toolkit, before there is a model. 620 MiB where the tables were calibrated;
another machine held up to 40 MiB more in the same steps."""

LAYER_BYTES = 32 * MEBIBYTE
"""The compiled graphs, an encoder or decoder layer."""

RUN_BYTES = 200 * MEBIBYTE
"""Validation, with its graphs and its batches; data that lies ready."""

GRADIENT_COPIES = 2
"""A gradient, and the one that is scaled for the optimizer."""

OUTPUT_COPIES = 6
"""Matrices of the size of the output projection, beside its gradient: the parts of that gradient while it is summed up
in the loss, and those of the lookups where it is tied."""

PART_OUTPUT_COPIES = 4
"""The same for each further part of a batch that is computed side by side, which has a gradient of its own too."""

LOGIT_COPIES = 3
"""Logits, probabilities, and what of their gradient or their products is held at once."""

LOSS_BLOCK_COPIES = 3
"""Logits, probabilities and their shares of one block of the vocabulary's loss."""


class BatchShape(NamedTuple):
    """The padded shape of one batch: B sentences, S and T tokens."""

    sentences: int
    source_length: int
    target_length: int


class RamNeed(NamedTuple):
    """The most memory of a training, in bytes.

    process: TensorFlow, compiled graphs and this toolkit.
    weights: of one replica: weights, gradients, the optimizer's slots, sums and averages, and the copy that a
        checkpoint is saved from.
    batch: of one replica: what the layers keep for the backward pass of the largest batch.
    replicas: copies of the model in this process.
    """

    process: int
    weights: int
    batch: int
    replicas: int = 1

    @property
    def total(self) -> int:
        """All of it together, where all lies in the memory of the machine."""
        return self.process + self.replicas * (self.weights + self.batch)

    @property
    def device(self) -> int:
        """What of it lies in the memory of a GPU, where each replica has one."""
        return self.weights + self.batch


def ram_need(
    footprint: Footprint,
    shapes: Iterable[BatchShape],
    *,
    slots: int,
    averaged: bool,
    accumulated: bool,
    validation_tokens: int | None,
    all_logits: bool = False,
    precision: str = "float32",
    replicas: int = 1,
    parts: int = 1,
) -> RamNeed:
    """Estimate the most memory that a training takes.

    Args:
        footprint: of the model.
        shapes: batches, among them the largest; at least one.
        slots: numbers that the optimizer keeps a parameter.
        averaged: whether a moving average of the weights is kept.
        accumulated: whether gradients of several batches are summed.
        validation_tokens: padded target tokens of a batch of validation, whose logits are held at once; None where the
            step is alone, without validations and without checkpoints, which are saved from a copy of their values.
        all_logits: whether the loss holds all logits of a batch too, as it does with XLA.
        precision: of the matrix products, `float32` or `bfloat16`.
        replicas: copies of the model that this process trains, each with a batch of its own.
        parts: of a batch, whose gradients are computed side by side; they have equal numbers of sentences.
    """
    alone = validation_tokens is None
    shapes = [shape._replace(sentences=-(-shape.sentences // parts) * parts) for shape in shapes]  # filled with PAD
    state = 1 + slots + averaged
    copies = state * (1 if alone else 2) + accumulated + GRADIENT_COPIES + parts - 1
    block = max(BLOCK_BYTES / FLOAT_BYTES, LEAST_ROWS * footprint.vocabulary_size)
    matrices = footprint.output_matrix * (OUTPUT_COPIES + (parts - 1) * PART_OUTPUT_COPIES)
    weights = footprint.parameters * copies + matrices + LOSS_BLOCK_COPIES * block * parts
    logits = FLOAT_BYTES * LOGIT_COPIES * footprint.vocabulary_size  # of one target token
    batch = max(_kept(footprint, shape, precision) for shape in shapes)
    if all_logits:
        batch += logits * max(shape.sentences * shape.target_length for shape in shapes)
    batch = max(batch, logits * (validation_tokens or 0))
    process = PROCESS_BYTES + footprint.layers * LAYER_BYTES * replicas + (0 if alone else RUN_BYTES)
    return RamNeed(process, round(weights * FLOAT_BYTES), round(batch), replicas)


def _kept(footprint: Footprint, shape: BatchShape, precision: str) -> float:
    """Return how many bytes the layers keep of one batch."""
    kept_bytes, source, target = footprint.kept_bytes[precision], shape.source_length, shape.target_length
    layers = source * footprint.source_token + target * footprint.target_token
    others = (
        (source + 2 * target) * footprint.stream
        + source * source * footprint.source_pair
        + target * target * footprint.target_pair
        + target * source * footprint.cross_pair
    )
    return shape.sentences * (kept_bytes.layers * layers + kept_bytes.others * others)


def largest_shapes(batch_tokens: int, *, pairs: int, source_length: int, target_length: int) -> list[BatchShape]:
    """Return shapes of which one is at least as large as every batch of a corpus.

    A batch whose longest sequence has L tokens holds at most batch_tokens / L pairs. The largest is not that of the
    longest L where one side is always shorter than the other, or where a little less lets one more pair in.

    Args:
        batch_tokens: padded tokens of the longer side, at most.
        pairs: of the corpus.
        source_length: the longest source, EOS counted.
        target_length: the longest target, EOS counted.
    """
    shapes = []
    for longest in {max(source_length, target_length), min(source_length, target_length)}:
        sentences = min(pairs, -(-batch_tokens // longest))  # so many fit where sequences are little shorter
        shapes.append(BatchShape(sentences, min(longest, source_length), min(longest, target_length)))
    return shapes
