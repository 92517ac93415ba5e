"""Whether a training fits into the memory there is, and which `training.batch_tokens` does."""

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from nmt.backend.machine import RamLimit, device_ram_limit, in_gib, is_out_of_memory, ram_limit
from nmt.backend.products import BFLOAT16, FLOAT32, check_precision, has_bfloat16_products
from nmt.backend.session import has_gpu, library_kernel_bytes, thread_kernel_bytes
from nmt.config import Config
from nmt.data import TokenStore
from nmt.errors import ConfigError, TrainingError
from nmt.models.builder import model_footprint
from nmt.models.contract import Footprint, Vocabularies
from nmt.recipes.batch_parts import batch_parts
from nmt.recipes.validation import VALIDATION_BATCH_TOKENS
from nmt.training.ram_need import BatchShape, RamNeed, largest_shapes, ram_need

logger = logging.getLogger(__name__)

LEAST_AUTO = 512
MOST_AUTO = {"processor": 4096, "GPU": 8192}
"""What `auto` chooses where memory does not matter. On a processor larger batches made training no faster, and smaller
ones learned more in the same time (docs/benchmarks.md); that of a GPU is the usual one and was not measured."""

SHARE_FOR_AUTO = 0.8
"""Of the memory there is; the rest is for others that run there."""

STEP_OF_ADVICE = 256


@dataclass(frozen=True)
class RamBudget:
    """The memory that a training may take.

    limit: what there is; None where nobody knows.
    on_device: whether that of a GPU.
    kernel_bytes: what compiled kernels take of it, at most.
    thread_kernel_bytes: what more of them take in a run through batches of many shapes.
    """

    limit: RamLimit | None
    on_device: bool
    kernel_bytes: int = 0
    thread_kernel_bytes: int = 0

    @property
    def size(self) -> float:
        """Bytes of it; no end of them where nobody knows."""
        return math.inf if self.limit is None else self.limit.size

    def __str__(self) -> str:
        return "" if self.limit is None else f"{in_gib(self.limit.size)} ({self.limit.owner})"

    def bytes_needed(self, need: RamNeed) -> int:
        """Return what of a need lies in this memory, whatever the shapes of batches are."""
        return need.device if self.on_device else need.total + self.kernel_bytes

    def bytes_at_most(self, need: RamNeed) -> int:
        """Return what of a need lies in this memory, where batches have many shapes."""
        return self.bytes_needed(need) + self.thread_kernel_bytes


class SettledBatchSize(NamedTuple):
    """How large the batches of a run are.

    config: its settings, with a number for `training.batch_tokens`.
    parts: into how many a batch is cut.
    remarks: what the log says about it.
    """

    config: Config
    parts: int
    remarks: tuple[str, ...]


def find_budget() -> RamBudget:
    """Look how much memory there is: of the GPU where there is one, else of the machine."""
    if has_gpu():
        return RamBudget(device_ram_limit(), on_device=True)
    kept = {"kernel_bytes": library_kernel_bytes(), "thread_kernel_bytes": thread_kernel_bytes()}
    return RamBudget(ram_limit(), on_device=False, **kept)


def refuse_too_large_model(config: Config, vocabularies: Vocabularies, *, budget: RamBudget | None = None) -> None:
    """Refuse a model that would not fit whatever the batch; to be called before it is built.

    Args:
        config: the run.
        vocabularies: sizes of its vocabularies.
        budget: the memory there is; looked up unless given.

    Raises:
        ConfigError: saying what it needs and what there is.
    """
    budget, footprint = budget or find_budget(), model_footprint(vocabularies, **config.model.model_dump())
    if footprint is None:
        return
    kept = {"validation_tokens": VALIDATION_BATCH_TOKENS, **_kept_by_settings(config)}
    need = ram_need(footprint, [BatchShape(1, 1, 1)], accumulated=False, **kept)
    before, needed = need.process + budget.kernel_bytes, budget.bytes_needed(need)
    if needed <= budget.size:
        return
    if not budget.on_device and before > budget.size:
        sentence = (
            f"training needs about {in_gib(before)} of memory for TensorFlow alone, and there are {budget}: raise that "
            "limit, or train elsewhere"
        )
    else:
        sentence = (
            f"training a model of {footprint.parameters:,} parameters needs about {in_gib(needed)} of memory before "
            f"the first batch, and there are {budget}: lower model.hidden_size, the number of layers or "
            "data.tokenizer.vocabulary_size, or train elsewhere"
        )
    _refuse_or_warn(config, sentence)


def settle_batch_size(
    config: Config,
    vocabularies: Vocabularies,
    store: TokenStore,
    *,
    resumed: bool,
    replicas: int = 1,
    budget: RamBudget | None = None,
) -> SettledBatchSize:
    """Choose `training.batch_tokens` where it is `auto`, and refuse a run that does not fit into memory.

    A batch is cut into parts where there is memory for the gradients of each, and else stays whole. Where nobody has
    counted what a model of this kind takes, a warning says so, and any memory is taken to be enough.

    Args:
        config: the run.
        vocabularies: sizes of its vocabularies.
        store: its training corpus, whose longest pairs count.
        resumed: whether a run goes on, so that its batches cannot change.
        replicas: copies of the model that this process trains.
        budget: the memory there is; looked up unless given.

    Raises:
        ConfigError: the run does not fit; the message says what would.
    """
    budget, footprint = budget or find_budget(), model_footprint(vocabularies, **config.model.model_dump())
    if footprint is None:
        budget = replace(budget, limit=None)
        logger.warning(
            "how much memory training takes is not known of models of type %s: it is not compared with what there is",
            config.model.type,
        )
    longest = int(max(store.source_lengths.max(), store.target_lengths.max()))

    def parts_of(batch_tokens: int) -> int:
        return batch_parts(config, batch_tokens=batch_tokens, replicas=replicas)

    if config.training.batch_tokens == "auto":
        most = MOST_AUTO["GPU" if budget.on_device else "processor"]
        most = min(most, config.training.effective_batch_tokens or most)
        need_of = _needs(config, footprint, store, replicas=replicas)
        chosen = choose_batch_tokens(lambda size: need_of(size, parts_of(size)), budget, longest=longest, most=most)
        config = config.with_training(batch_tokens=chosen)
    need_of, batch_tokens = _needs(config, footprint, store, replicas=replicas), config.training.settled_batch_tokens
    parts = parts_of(batch_tokens)
    if budget.bytes_needed(need_of(batch_tokens, parts)) > budget.size:
        parts = 1
    need = need_of(batch_tokens, parts)
    needed, at_most = budget.bytes_needed(need), budget.bytes_at_most(need)
    if needed > budget.size:
        advice = _advice(config, need_of, budget, longest=longest, resumed=resumed)
        _refuse_or_warn(
            config,
            f"training with training.batch_tokens {batch_tokens} needs about {in_gib(needed)} of memory, and there are "
            f"{budget}: {advice}",
        )
    elif at_most > budget.size:
        logger.warning(
            "training may come to need %s of memory as it sees batches of more shapes, and there are %s: if it is "
            "killed, the same command goes on with it",
            *(in_gib(at_most), budget),
        )
    remarks = []
    if footprint is not None:
        there = "" if budget.limit is None else f" of {budget}"
        remarks.append(f"memory: batches of {batch_tokens} tokens need about {in_gib(at_most)}{there}")
    if parts > 1:
        remarks.append(f"batches go through in {parts} parts side by side, a processor core each")
    return SettledBatchSize(config, parts, tuple(remarks))


def choose_batch_tokens(need_of: Callable[[int], RamNeed], budget: RamBudget, *, longest: int, most: int) -> int:
    """Return the largest size that leaves memory for others: `most`, or a power of two below it.

    Args:
        need_of: maps a size to what a training with it needs.
        budget: the memory there is.
        longest: tokens of the longest pair, which every batch must hold.
        most: the largest size.
    """
    least = 1 << max(longest - 1, LEAST_AUTO - 1).bit_length()
    sizes = [1 << power for power in range(least.bit_length() - 1, most.bit_length()) if 1 << power < most]
    for size in (max(most, longest), *reversed(sizes)):
        if budget.bytes_at_most(need_of(size)) <= SHARE_FOR_AUTO * budget.size:
            return size
    return sizes[0] if sizes else max(most, longest)


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


def _advice(
    config: Config, need_of: Callable[[int], RamNeed], budget: RamBudget, *, longest: int, resumed: bool
) -> str:
    """Say what would fit."""
    now = config.training.settled_batch_tokens
    sizes = range(now // STEP_OF_ADVICE * STEP_OF_ADVICE, longest - 1, -STEP_OF_ADVICE)
    fitting = next((size for size in sizes if size < now and budget.bytes_needed(need_of(size)) <= budget.size), None)
    if fitting is None:
        return (
            f"no smaller batch that holds the longest pair ({longest} tokens) would fit either, so lower "
            "data.max_length or model.hidden_size, or train where there is more memory"
        )
    update = config.training.effective_batch_tokens or now
    smaller = (
        f"training.batch_tokens {fitting}, with training.effective_batch_tokens {update} to keep the size of an update"
    )
    if resumed:
        return (
            f"go on where there is more memory, or begin in another model_directory with {smaller}, and "
            f"training.initialize_from {config.model_directory} to keep what was learned"
        )
    return f"set {smaller}; a lower data.max_length saves memory too"


def _needs(config: Config, footprint: Footprint | None, store: TokenStore, *, replicas: int) -> Callable[..., RamNeed]:
    """Return what maps the size of a batch, and its parts, to what a run needs; to nothing where nobody knows."""
    given = config.training.batch_tokens  # the size of an update that the advice keeps
    effective = config.training.effective_batch_tokens or (0 if given == "auto" else given)
    sides = {"source_length": int(store.source_lengths.max()), "target_length": int(store.target_lengths.max())}

    def need_of(batch_tokens: int, parts: int = 1) -> RamNeed:
        if footprint is None:
            return RamNeed(0, 0, 0)
        return ram_need(
            footprint,
            largest_shapes(batch_tokens, pairs=len(store), **sides),
            accumulated=effective > batch_tokens,
            validation_tokens=VALIDATION_BATCH_TOKENS * parts,
            replicas=replicas,
            parts=parts,
            **_kept_by_settings(config),
        )

    return need_of


def _kept_by_settings(config: Config) -> dict[str, Any]:
    """Return the arguments of `ram_need` that settings alone decide."""
    training = config.training
    return {
        "slots": training.optimizer.slots,
        "averaged": training.ema_decay is not None,
        "all_logits": training.compile == "xla",
        "precision": "bfloat16" if training.precision == "bfloat16" else "float32",
    }


def _refuse_or_warn(config: Config, sentence: str) -> None:
    if config.training.on_short_memory == "refuse":
        raise ConfigError(f"{sentence}; training.on_short_memory warn tries it anyway")
    logger.warning("%s", sentence)


def settle_precision(config: Config, *, resumed: bool = False) -> Config:
    """Return settings with `float32` or `bfloat16` for `training.precision`.

    Args:
        config: the run.
        resumed: whether it goes on in the precision that it was begun in.

    Raises:
        ConfigError: this machine does not multiply in that precision, or what compiles the training step does not.
    """
    training = config.training
    precision: str = training.precision
    if precision == "auto":  # bfloat16 pays on machines with instructions for it; under XLA it was not tried
        precision = BFLOAT16 if training.compile == "graph" and has_bfloat16_products() else FLOAT32
    if resumed and precision == BFLOAT16 and training.compile == "xla":
        raise ConfigError(
            "training.compile must be graph in a run that was begun in bfloat16, got xla: set it to graph, or begin "
            "another run with training.initialize_from"
        )
    check_precision(precision, resumed=resumed)
    return config.with_training(precision=precision)
