"""How much memory a training will need, from the sizes of the model and of its batches, before anything is built.

Pure arithmetic, calibrated on peaks measured with `benchmarks/memory.py` on a processor: 7 to 18 % above what was
measured, since a run that is killed costs more than one that is told to take smaller batches. Whoever changes what a
layer keeps for the backward pass changes its row in the tables below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from nmt.backend.vocabulary_loss import BLOCK_BYTES, LEAST_ROWS
from nmt.models.contract import TIED_ROLES, Vocabularies, resolve_ties

FLOAT_BYTES = 4


class KeptBytes(NamedTuple):
    """Bytes of a number that is kept until the backward pass, in the mean.

    layers: of what a layer keeps of a token.
    others: of what the embeddings keep of a token, and attention of a pair of positions.
    """

    layers: float
    others: float


KEPT_BYTES = {
    "transformer": {"float32": KeptBytes(4.0, 4.0), "bfloat16": KeptBytes(2.3, 4.0)},
    "rnn": {"float32": KeptBytes(4.0, 4.0), "bfloat16": KeptBytes(4.3, 4.3)},
}
"""By the precision of the matrix products. A recurrent layer keeps all of it in float32, and copies of some of it in
bfloat16."""

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

BLOCK_FLOATS = {"sublayer": 3, "attention": 4, "cross_attention": 2, "feed_forward": 2.2, "weights": 2.3}
"""What a Transformer block keeps a token until the backward pass.

sublayer: times D; its input and its norm, and its output's share. Masks of dropout are windows of one row.
attention: times D; query, key and value, the context.
cross_attention: times D; query and context; keys and values of the source count as 2 a source token.
feed_forward: times F; the inner layer, what dropout leaves of it; part of their gradients.
weights: an attention weight; softmax, what dropout leaves of it; part of their gradients.
"""

CELL_FLOATS = {"input": 2, "step": 10, "bridge": 4}
"""What a recurrent layer keeps a token, times D: `input` a gate, `step` a part of its state in the loop, `bridge`
around it."""

ALIGNMENT_FLOATS = 8
"""What the attention of a recurrent decoder keeps a target token, in the size of its state."""

STREAM_FLOATS = {"transformer": 4, "rnn": 6}
"""Times E a token: lookup, scaled, what dropout leaves of it; their gradients."""


class BatchShape(NamedTuple):
    """The padded shape of one batch: B sentences, S and T tokens."""

    sentences: int
    source_length: int
    target_length: int


class Footprint(NamedTuple):
    """What a training step of one model holds, in numbers.

    type: of the model.
    parameters: trainable numbers.
    output_matrix: those of the output projection.
    vocabulary_size: of the target.
    layers: encoder and decoder layers.
    source_token, target_token: kept for the backward pass, a padded token, by the layers.
    source_stream, target_stream: likewise, by the embeddings and what goes around the layers.
    source_pair, target_pair, cross_pair: likewise, a cell of (S, S), (T, T) and (T, S) of one sentence.
    """

    type: str
    parameters: int
    output_matrix: int
    vocabulary_size: int
    layers: int
    source_token: float
    target_token: float
    source_stream: float
    target_stream: float
    source_pair: float
    target_pair: float
    cross_pair: float


class MemoryNeed(NamedTuple):
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


def memory_need(
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
) -> MemoryNeed:
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
    further_parts = parts - 1
    copies = state * (1 if alone else 2) + accumulated + GRADIENT_COPIES + further_parts
    block = max(BLOCK_BYTES / FLOAT_BYTES, LEAST_ROWS * footprint.vocabulary_size)
    matrices = footprint.output_matrix * (OUTPUT_COPIES + further_parts * PART_OUTPUT_COPIES)
    weights = footprint.parameters * copies + matrices + LOSS_BLOCK_COPIES * block * parts
    logits = FLOAT_BYTES * LOGIT_COPIES * footprint.vocabulary_size  # of one target token
    batch = max(_kept(footprint, shape, KEPT_BYTES[footprint.type][precision]) for shape in shapes)
    if all_logits:
        batch += logits * max(shape.sentences * shape.target_length for shape in shapes)
    batch = max(batch, logits * (validation_tokens or 0))
    process = PROCESS_BYTES + footprint.layers * LAYER_BYTES * replicas + (0 if alone else RUN_BYTES)
    return MemoryNeed(process, round(weights * FLOAT_BYTES), round(batch), replicas)


def _kept(footprint: Footprint, shape: BatchShape, kept_bytes: KeptBytes) -> float:
    """Return how many bytes the layers keep of one batch."""
    source, target = shape.source_length, shape.target_length
    layers = source * footprint.source_token + target * footprint.target_token
    others = (
        source * footprint.source_stream
        + target * footprint.target_stream
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


def model_footprint(vocabularies: Vocabularies, *, type: str, **settings: Any) -> Footprint:
    """Count what a training step of a model holds.

    Args:
        vocabularies: sizes of the two vocabularies, and whether they are one.
        type: `transformer` or `rnn`, as for `build_model`.
        settings: the other settings of that model.

    Raises:
        ConfigError: ties ask for one vocabulary where there are two.
    """
    return FOOTPRINTS[type](vocabularies, settings)


def _transformer(vocabularies: Vocabularies, settings: Mapping[str, Any]) -> Footprint:
    size, inner, heads = settings["hidden_size"], settings["ffn_size"], settings["num_heads"]
    encoders, decoders = settings["num_encoder_layers"], settings["num_decoder_layers"]
    attention, feed_forward, norm = 4 * size * (size + 1), 2 * size * inner + inner + size, 2 * size
    final_norms = 2 * norm if settings["norm"] == "pre" else 0
    embeddings, output = _embeddings(vocabularies, size, settings["tie_embeddings"])
    kept = BLOCK_FLOATS
    encoder = size * (2 * kept["sublayer"] + kept["attention"]) + inner * kept["feed_forward"]
    decoder = encoder + size * (kept["sublayer"] + kept["cross_attention"])
    weights, stream = heads * kept["weights"], size * STREAM_FLOATS["transformer"]
    return Footprint(
        type="transformer",
        parameters=embeddings
        + encoders * (attention + feed_forward + 2 * norm)
        + decoders * (2 * attention + feed_forward + 3 * norm)
        + final_norms,
        output_matrix=output,
        vocabulary_size=vocabularies.target_size,
        layers=encoders + decoders,
        source_token=encoders * encoder + 2 * size * decoders,
        target_token=decoders * decoder,
        source_stream=stream,
        target_stream=2 * stream,
        source_pair=encoders * weights,
        target_pair=decoders * weights,
        cross_pair=decoders * weights,
    )


def _rnn(vocabularies: Vocabularies, settings: Mapping[str, Any]) -> Footprint:
    size, width = settings["hidden_size"], settings["embedding_size"]
    encoders, decoders = settings["num_encoder_layers"], settings["num_decoder_layers"]
    gates, parts = {"gru": (3, 1), "lstm": (4, 2)}[settings["cell"]]
    additive = settings["attention"] == "additive"

    def cell(inputs: int, outputs: int) -> int:
        candidate_bias = outputs if settings["cell"] == "gru" else 0
        return (inputs + outputs + 1) * gates * outputs + candidate_bias

    embeddings, output = _embeddings(vocabularies, width, settings["tie_embeddings"])
    parameters = (
        embeddings
        + sum(2 * cell(size if i else width, size // 2) for i in range(encoders))
        + sum(cell(size if i else width, size) for i in range(decoders))
        + (gates * size * (size + 1) if settings["input_feeding"] else 0)
        + decoders * parts * size * (size + 1)
        + (size + 1) * size * (2 if additive else 1)
        + (size if additive else 0)
        + (2 * size + 1) * size
        + (0 if width == size else (size + 1) * width)
    )
    layer = size * (CELL_FLOATS["input"] * gates + CELL_FLOATS["step"] * parts + CELL_FLOATS["bridge"])
    stream = width * STREAM_FLOATS["rnn"]
    return Footprint(
        type="rnn",
        parameters=parameters,
        output_matrix=output,
        vocabulary_size=vocabularies.target_size,
        layers=encoders + decoders,
        source_token=encoders * layer + 2 * size,
        target_token=decoders * layer + size * ALIGNMENT_FLOATS,
        source_stream=stream,
        target_stream=2 * stream,
        source_pair=0,
        target_pair=0,
        cross_pair=size * 1.1 + 6 if additive else 6,
    )


def _embeddings(vocabularies: Vocabularies, size: int, tie_embeddings: str) -> tuple[int, int]:
    """Return the parameters of embeddings, output projection and its bias, and those of the output matrix alone."""
    source, target = vocabularies.source_size * size, vocabularies.target_size * size
    roles = TIED_ROLES[resolve_ties(tie_embeddings, vocabularies)]
    total = source + 2 * target
    total -= target * ("source_embedding" in roles)
    total -= target * ("output_projection" in roles)
    return total + vocabularies.target_size, target


FOOTPRINTS: dict[str, Callable[[Vocabularies, Mapping[str, Any]], Footprint]] = {
    "transformer": _transformer,
    "rnn": _rnn,
}
"""How to count, by the `type` of a model."""
