"""Whether a training fits into the memory there is, and which `training.batch_tokens` does.

The estimate is arithmetic on sizes, before anything is built: 7 to 19 % above the peaks that `benchmarks/memory.py`
measured on a processor, since a run that is killed costs more than one that is told to take smaller batches.
"""

import logging
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, replace
from typing import NamedTuple

from nmt.backend import products, session
from nmt.backend.machine import MEBIBYTE, RamLimit, device_ram_limit, in_gib, is_out_of_memory, ram_limit
from nmt.config import Config
from nmt.data import TokenStore
from nmt.errors import ConfigError, TrainingError
from nmt.models.contract import Seq2Seq, Vocabularies, model_without_weights
from nmt.models.parts import freeze

logger = logging.getLogger(__name__)

VALIDATION_BATCH_TOKENS = 1024
"""Small, since validation holds the logits of a whole batch and training does not."""

LEAST_AUTO = 512
MOST_AUTO = {"processor": 4096, "GPU": 8192}
"""What `auto` chooses if memory does not matter. On a processor larger batches made training no faster, and smaller
ones learned more in the same time (docs/benchmarks.md); that of a GPU is the usual one and was not measured."""

SHARE_FOR_AUTO = 0.8
"""Of the memory there is; the rest is for others that run there."""

STEP_OF_ADVICE = 256

FLOAT_BYTES = 4

PROCESS_BYTES = 680 * MEBIBYTE
"""TensorFlow, Keras and this toolkit, before there is a model; 620 MiB, and on another machine 40 MiB more."""

LAYER_BYTES = 32 * MEBIBYTE
"""The compiled graphs, per encoder or decoder layer."""

RUN_BYTES = 200 * MEBIBYTE
"""Validation, with its graphs and its batches; data that lies ready."""

LOGIT_COPIES = 3
"""Logits, probabilities, and what of their gradient or their products is held at once."""


@dataclass(frozen=True)
class TrainingRam:
    """What a training takes of the memory there is, in bytes.

    Args:
        config: the run.
        model: what is trained, with its weights or without.
        limit: the memory there is, of the machine or of a GPU.
        pairs: of the corpus.
        source_length: the longest source, EOS counted.
        target_length: the longest target, EOS counted.
        replicas: copies of the model in this process; of several GPUs each holds one.
        alone: whether training steps are all that there is: no validations, no checkpoints, which are saved from a copy
            of all values, and no batches of many shapes.
    """

    config: Config
    model: Seq2Seq
    limit: RamLimit
    _: KW_ONLY
    pairs: int = 1
    source_length: int = 1
    target_length: int = 1
    replicas: int = 1
    alone: bool = False

    @property
    def process(self) -> int:
        """What TensorFlow, this toolkit and compiled code take, none of it on a GPU."""
        if self.limit.on_device:
            return 0
        layers = sum(getattr(self.config.model, f"num_{side}_layers", 1) for side in ("encoder", "decoder"))
        run = 0 if self.alone else RUN_BYTES + session.library_kernel_bytes()
        return PROCESS_BYTES + layers * LAYER_BYTES * self.replicas + run

    def needed(self, batch_tokens: int, parts: int = 1) -> int:
        """Return the most that a training with such batches takes, each cut into equal parts side by side."""
        training, (vocabulary_size, size) = self.config.training, self.model.output_projection.embeddings.shape
        given = training.batch_tokens  # the size of an update that a smaller batch keeps
        accumulated = (training.effective_batch_tokens or (0 if given == "auto" else given)) > batch_tokens
        # Of each parameter itself, and if it is trained slots, average, and gradients, one more scaled; of all but
        # gradients a copy for a checkpoint.
        trained = sum(math.prod(variable.shape) for variable in self.model.trainable_variables)
        copies, slots = 1 if self.alone else 2, training.optimizer.slots + (training.ema_decay is not None)
        slots += training.pull is not None  # the weights pulled to
        numbers = self.model.count_params() * copies + trained * (slots * copies + accumulated + 1 + parts)
        numbers += vocabulary_size * size * (2 + 4 * parts)  # parts of its gradient while they are summed up
        weights = FLOAT_BYTES * numbers + LOGIT_COPIES * products.BLOCK_BYTES * parts
        token_logits = FLOAT_BYTES * LOGIT_COPIES * vocabulary_size
        batch: float = 0 if self.alone else token_logits * VALIDATION_BATCH_TOKENS * parts
        # A batch whose longest sequence has L tokens holds at most batch_tokens / L pairs, or one more when others are
        # a little shorter. The largest is that of the longest L, or of the longest that both sides can have.
        for longest in {max(self.source_length, self.target_length), min(self.source_length, self.target_length)}:
            sentences = min(self.pairs, -(-batch_tokens // longest))
            sentences = -(-sentences // parts) * parts  # filled up with PAD
            source, target = min(longest, self.source_length), min(longest, self.target_length)
            blockwise = training.compile != "xla" and training.loss in (None, "blockwise")
            logits = 0 if blockwise else token_logits * target  # all at once
            kept = self.model.kept_bytes(source, target, precision=training.precision) or 0.0
            batch = max(batch, sentences * (kept + logits))
        return self.process + round((1 if self.limit.on_device else self.replicas) * (weights + batch))

    def at_most(self, batch_tokens: int, parts: int = 1) -> int:
        """Return what it may come to when batches have many shapes, for which TensorFlow's threads keep kernels."""
        kernels = 0 if self.limit.on_device else session.THREAD_KERNEL_BYTES
        return self.needed(batch_tokens, parts) + kernels

    def fits(self, batch_tokens: int, parts: int = 1) -> bool:
        """Return whether there is memory for such batches."""
        return self.needed(batch_tokens, parts) <= self.limit.size


class SettledBatchSize(NamedTuple):
    """How large the batches of a run are.

    config: its settings, with a number for `training.batch_tokens`.
    parts: into how many a batch is cut.
    remarks: what the log says about it.
    """

    config: Config
    parts: int
    remarks: tuple[str, ...]


def find_limit() -> RamLimit:
    """Look how much memory there is: of the GPU if there is one, else of the machine."""
    return device_ram_limit() if session.has_gpu() else ram_limit()


def refuse_too_large_model(config: Config, vocabularies: Vocabularies, *, limit: RamLimit | None = None) -> None:
    """Refuse a model that would not fit whatever the batch; to be called before it is built.

    Args:
        config: the run.
        vocabularies: sizes of its vocabularies.
        limit: the memory there is; looked up unless given.

    Raises:
        ConfigError: saying what it needs and what there is.
    """
    limit = limit or find_limit()
    if not limit.owner:  # nobody knows of one
        return
    model = model_without_weights(vocabularies, **config.model.model_dump())
    freeze(model, config.training.freeze)
    ram = TrainingRam(config, model, limit)
    pair = sys.maxsize  # one pair of one token in a batch of its own
    if ram.fits(pair):
        return
    process = f", {in_gib(ram.process)} of that for TensorFlow alone" if ram.process else ""
    _refuse_or_warn(
        config,
        f"training a model of {ram.model.count_params():,} parameters needs about {in_gib(ram.needed(pair))} of memory "
        f"before the first batch{process}, and there are {ram.limit}: lower model.hidden_size, the number of layers or "
        "data.tokenizer.vocabulary_size, or train where there is more memory",
    )


def settle_batch_size(
    config: Config,
    model: Seq2Seq,
    *stores: TokenStore,
    parts_of: Callable[[int], int],
    resumed: bool,
    replicas: int = 1,
    limit: RamLimit | None = None,
) -> SettledBatchSize:
    """Choose `training.batch_tokens` if it is `auto`, and refuse a run that does not fit into memory.

    A batch is cut into parts if there is memory for the gradients of each, and else stays whole. If nobody has
    measured what a model of this kind keeps, a warning says so.

    Args:
        config: the run.
        model: what is trained.
        stores: its training corpora, whose longest pairs count.
        parts_of: maps the size of a batch to the parts into which it may be cut.
        resumed: whether a run goes on, so that its batches cannot change.
        replicas: copies of the model that this process trains.
        limit: the memory there is; looked up unless given.

    Raises:
        ConfigError: the run does not fit; the message says what would.
    """
    ram = TrainingRam(
        config,
        model,
        limit or find_limit(),
        pairs=sum(map(len, stores)),
        source_length=max(store.longest_sides[0] for store in stores) + bool(config.data.tags),
        target_length=max(store.longest_sides[1] for store in stores) + (config.data.tag_side == "target"),
        replicas=replicas,
    )
    known = model.kept_bytes(1, 1, precision=config.training.precision) is not None
    if not known:
        logger.warning(
            "how much memory batches take is not known of models of type %s: they are not compared with what there is",
            config.model.type,
        )
    if config.training.batch_tokens == "auto":
        most = MOST_AUTO["GPU" if ram.limit.on_device else "processor"]
        most = min(most, config.training.effective_batch_tokens or most)
        longest = max(ram.source_length, ram.target_length)
        chosen = choose_batch_tokens(
            lambda size: ram.at_most(size, parts_of(size)), ram.limit.size, longest=longest, most=most
        )
        config = config.with_training(batch_tokens=chosen)
        ram = replace(ram, config=config)
    batch_tokens = config.training.settled_batch_tokens
    parts = next((count for count in (parts_of(batch_tokens), 1) if ram.fits(batch_tokens, count)), 1)
    at_most = ram.at_most(batch_tokens, parts)
    if not ram.fits(batch_tokens, parts):
        _refuse_or_warn(
            config,
            f"training with training.batch_tokens {batch_tokens} needs about {in_gib(ram.needed(batch_tokens))} of "
            f"memory, and there are {ram.limit}: {_advice(ram, resumed=resumed)}",
        )
    elif at_most > ram.limit.size:
        logger.warning(
            "training may come to need %s of memory as it sees batches of more shapes, and there are %s: if it is "
            "killed, the same command goes on with it",
            *(in_gib(at_most), ram.limit),
        )
    remarks = []
    if known:
        there = f" of {ram.limit}" if ram.limit.owner else ""
        remarks.append(f"memory: batches of {batch_tokens} tokens need about {in_gib(at_most)}{there}")
    if parts > 1:
        remarks.append(f"batches go through in {parts} parts side by side, a processor core each")
    return SettledBatchSize(config, parts, tuple(remarks))


def choose_batch_tokens(bytes_of: Callable[[int], int], there_are: float, *, longest: int, most: int) -> int:
    """Return the largest size that leaves memory for others: `most`, or a power of two below it.

    Args:
        bytes_of: maps a size to the memory that a training with it takes.
        there_are: bytes of memory there are.
        longest: tokens of the longest pair, which every batch must hold.
        most: the largest size.
    """
    least = max(longest, LEAST_AUTO)
    smaller = (1 << power for power in reversed(range(most.bit_length())))
    sizes = [max(most, longest), *(size for size in smaller if least <= size < most)]
    return next((size for size in sizes if bytes_of(size) <= SHARE_FOR_AUTO * there_are), sizes[-1])


@contextmanager
def advised_when_out_of_memory(config: Config) -> Iterator[None]:
    """Turn the error of memory that was not enough after all into one with advice.

    Raises:
        TrainingError: in its place.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            f"memory was not enough for training.batch_tokens {config.training.batch_tokens}: lower it, in another "
            "model_directory or with --overwrite, with training.effective_batch_tokens as it was to keep the size of "
            "an update, or go on where there is more memory"
        ) from error


def _advice(ram: TrainingRam, *, resumed: bool) -> str:
    """Say what would fit."""
    training, longest = ram.config.training, max(ram.source_length, ram.target_length)
    now = training.settled_batch_tokens
    sizes = range((now - 1) // STEP_OF_ADVICE * STEP_OF_ADVICE, longest - 1, -STEP_OF_ADVICE)
    fitting = next(filter(ram.fits, sizes), None)
    if fitting is None:
        return (
            f"no smaller batch that holds the longest pair ({longest} tokens) would fit either, so lower "
            "data.max_length or model.hidden_size, or train where there is more memory"
        )
    update = training.effective_batch_tokens or now
    smaller = (
        f"training.batch_tokens {fitting}, with training.effective_batch_tokens {update} to keep the size of an update"
    )
    if resumed:
        return (
            f"go on where there is more memory, or begin in another model_directory with {smaller}, and "
            f"training.initialize_from {ram.config.model_directory} to keep what was learned"
        )
    return f"set {smaller}; a lower data.max_length saves memory too"


def _refuse_or_warn(config: Config, sentence: str) -> None:
    if config.training.on_short_memory == "refuse":
        raise ConfigError(f"{sentence}; training.on_short_memory warn tries it anyway")
    logger.warning("%s", sentence)
