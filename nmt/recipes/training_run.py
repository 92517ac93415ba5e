"""The training itself, once it was prepared and TensorFlow runs: from a config to a model directory."""

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from nmt.backend import products, session
from nmt.backend.replicas import Replicas
from nmt.checkpoint.index import has_checkpoint
from nmt.checkpoint.manager import CheckpointManager
from nmt.config import Config, write
from nmt.data import Corpus, TokenStore, open_store, sequences
from nmt.data.encoding import NO_WEIGHT
from nmt.data.store import delete_stores
from nmt.directory import model_directory as directories
from nmt.doctor import doubts
from nmt.errors import CheckpointError, DataError
from nmt.export.engines import make_engine_of_run
from nmt.inference import translator
from nmt.kinds import imported_hashes
from nmt.models import parts as parts_of_model
from nmt.models.contract import Seq2Seq
from nmt.recipes import build_vocabulary, pretrained, train
from nmt.recipes import start as starts
from nmt.recipes.validation import Validator, settle_tokenization
from nmt.settings.training import OPTIMIZERS, SCHEDULES
from nmt.streams import BatchStream, MixtureStream
from nmt.streams.corpora import filters_of, hash_of_corpora, mixture_of
from nmt.text import TextPair
from nmt.training import batch_size, events, optimization, state
from nmt.training.trainer import Cadence, Trainer
from nmt.training.update import Updater
from nmt.translation.lengths import settle_limits
from nmt.tying import named_variables, tie_groups, verify_ties
from nmt.variation import describe_rates, variations_of

logger = logging.getLogger(__name__)


MUCH_DROPPED = 0.1
"""Share of the pairs of a training corpus above which it is a warning that they are dropped."""


def lead(
    config: Config,
    prepared: train.Prepared,
    replicas: Replicas,
    *,
    overwrite: bool,
    reporters: Sequence[events.Reporter],
    processes: int | None,
) -> train.TrainedModel:
    """Write the directory, and train; on the only worker, or on the chief of several.

    Args and errors: as for `train`, and with what it prepared.
    """
    given, resumed, validation = train.config_hash(config), prepared.before is not None, prepared.validation
    training = prepared.config.training
    precision = products.settle_precision(training.precision, compile=training.compile, resumed=resumed)
    config = settle_tokenization(prepared.config.with_training(precision=precision), next(iter(validation.values())))
    directory, training = Path(config.model_directory), config.training
    other = None if resumed or training.initialize_from is None else starts.start_from_other(config)
    with CheckpointManager(directory, keep_last=training.keep_last, keep_best=training.keep_best) as checkpoints:
        if not overwrite and has_checkpoint(directory) != resumed:
            raise CheckpointError(f"{directory}: another training wrote here a moment ago: start again")
        text = prepared.text if prepared.learning is None else prepared.learning.result()
        start = other or starts.start_own(config, text)
        train.refuse_unknown_tags(config, start.text)
        told, total = [events.LogReporter(), *reporters], prepared.train_pairs
        stores = open_training_stores(config, start.text, processes=processes, reporters=told, total=total)
        if training.pretrained_embeddings is not None and not resumed:
            begun = pretrained.begin_with_vectors(start.model, start.text, training.pretrained_embeddings)
            start = replace(start, remarks=(*start.remarks, *begun))
        sides = ([getattr(store, side) for store in stores.values()] for side in ("source_lengths", "target_lengths"))
        lengths, longest = list(map(np.concatenate, sides)), config.data.max_length + 1
        # Limits that are `auto` become numbers.
        search = settle_limits(config.search, *lengths, max_source_length=longest)
        config = config.model_copy(update={"search": search})
        count = len(replicas.own_numbers)
        parts_of = partial(train.batch_parts, config, replicas=count)
        config, parts, remarks = batch_size.settle_batch_size(
            config, start.model, *stores.values(), parts_of=parts_of, resumed=resumed, replicas=count
        )
        facts = {**_facts_of(config, start, stores), **start.facts, **prepared.facts}
        start = replace(start, facts=facts, remarks=(*start.remarks, *remarks))
        if overwrite:
            directories.delete_run(directory)
        if start.text is not prepared.text:
            build_vocabulary.save_text(config, start.text)
        # Scores begin anew for the change that was asked for, not for one that nobody noticed.
        write(config.with_training(on_validation_change="error"), directory / directories.CONFIG_NAME)
        if training.pull is not None and not resumed:
            start = replace(start, facts={**start.facts, **starts.keep_anchor(directory, start.model)})
        determinism = session.deterministic() if training.deterministic else nullcontext()
        with _log_to_file(directory / directories.LOG_NAME), determinism, batch_size.advised_when_out_of_memory(config):
            starts.invite(replicas, config, start.facts, given=given)
            trained = _train(
                config, start, stores, checkpoints, replicas, reporters, validation=validation, parts=parts
            )
            checkpoints.wait()
            make_engine_of_run(config)
            return trained


def _facts_of(config: Config, start: starts.Start, stores: Mapping[str, TokenStore]) -> dict[str, Any]:
    """What the checkpoints of a run record about settings, text and what is frozen."""
    facts: dict[str, Any] = {
        "config_hash": train.config_hash(config),
        "data_hash": _hash_of(stores),
        "tokenizers": start.text.fingerprints,
    }
    if frozen := parts_of_model.frozen_paths(start.model):
        facts["frozen"] = frozen
    if hashes := imported_hashes():
        facts["imports"] = hashes
    return facts


def follow(config: Config, replicas: Replicas, *, processes: int | None) -> train.TrainedModel:
    """Train as a worker that is not the chief: nothing is written but a token store if none is shared.

    Raises:
        ConfigError: this worker was started with other settings than the chief.
        DataError: its model directory or its training corpus is not the chief's.
    """
    config, facts = starts.accept(replicas, given=train.config_hash(config))
    products.settle_precision(config.training.precision)
    text = starts.find_shared_text(Path(config.model_directory), tokenizers=facts["tokenizers"])
    start = starts.start_own(config, text)  # the chief's weights follow
    stores = open_training_stores(config, start.text, processes=processes, keep_others=True)
    if _hash_of(stores) != facts["data_hash"]:
        raise DataError(
            "all workers must train on the same corpus, but the text in data.train is not the chief's on this worker: "
            "copy it anew, or put it on a file system that all machines share"
        )
    parts = train.batch_parts(config, config.training.settled_batch_tokens, replicas=len(replicas.own_numbers))
    with session.deterministic() if config.training.deterministic else nullcontext():
        return _train(config, start, stores, None, replicas, [], parts=parts)


def open_training_stores(
    config: Config,
    text: TextPair,
    *,
    processes: int | None = None,
    reporters: Sequence[events.Reporter] = (),
    total: int | None = None,
    keep_others: bool = False,
) -> dict[str, TokenStore]:
    """Open the token stores of the training corpora; each is encoded if that was not done yet.

    In the model directory new stores replace the old; a directory of the user's own may serve other runs too.

    Args:
        config: the run.
        text: its tokenizers.
        processes: that encode; by the number of cores unless given.
        reporters: are told how many pairs are encoded.
        total: pairs that there are, if that is known.
        keep_others: whether the old one stays in the model directory too; another worker may be reading it.

    Returns:
        The stores by the names of their corpora in the settings.
    """
    started, stores = time.monotonic(), dict[str, TokenStore]()

    def report_pairs(pairs: int) -> None:
        """Tell all reporters."""
        before = sum(store.report.pairs_read for store in stores.values())
        event = events.EncodingEvent(before + pairs, total, time.monotonic() - started)
        for reporter in reporters:
            reporter.on_encoding(event)

    for name in config.data.names("train"):
        corpus = Corpus.of(config.data, name)
        stores[name] = open_store(
            config.token_store_directory,
            *corpus.paths,
            layout=corpus.layout,
            text=text,
            max_length=config.data.max_length,
            filters=filters_of(config.data, name),
            keep_text=config.data.variation is not None,
            keep_others=True,
            processes=processes,
            report_pairs=report_pairs,
        )
    if not keep_others and config.data.store_directory is None:
        delete_stores(config.token_store_directory, keep=[store.path for store in stores.values()])
    return stores


def _hash_of(stores: Mapping[str, TokenStore]) -> str:
    return hash_of_corpora({name: store.content_hash for name, store in stores.items()})


@contextmanager
def _log_to_file(path: Path) -> Iterator[None]:
    """Append what the package logs to a file while the block runs."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    package = logging.getLogger("nmt")
    level = package.level
    package.addHandler(handler)
    package.setLevel(min(level or logging.INFO, logging.INFO))
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(level)
        handler.close()


def _train(
    config: Config,
    start: starts.Start,
    stores: Mapping[str, TokenStore],
    checkpoints: CheckpointManager | None,
    replicas: Replicas,
    reporters: Sequence[events.Reporter],
    *,
    validation: Mapping[str, Sequence[tuple[str, str]]] = MappingProxyType({}),
    parts: int,
) -> train.TrainedModel:
    """Train, once text, first weights and store are there; without `checkpoints` as a worker that does not write."""
    start = starts.mirrored(start, config, replicas)
    directory, training, model = Path(config.model_directory), config.training, start.model
    _describe(config, start, stores)
    anchor = starts.read_anchor(config, start.facts)
    weighed = any(store.weights is not None for store in stores.values())
    updater = assemble_updater(config, model, replicas, parts=parts, weighed=weighed, anchor=anchor)
    verify_ties(model, model.declared_ties(), updater.optimizer)
    # An update takes a batch of the stream for each replica, unless settings say its size.
    micro_batches = replicas.count if training.effective_batch_tokens is None else training.micro_batches
    if replicas.count > 1:
        counts = (training.distribution, replicas.count, replicas.workers, micro_batches)
        logger.info("distribution: %s, replicas: %d, workers: %d, batches an update: %d", *counts)
    stream = open_stream(config, start.text, stores, replicas, micro_batches=micro_batches)
    all_reporters, validator = [*reporters], None
    if replicas.is_chief:
        board = [events.TensorBoardReporter(directory / directories.EVENTS_NAME)] if training.tensorboard else []
        metrics = events.MetricsFile(directory / directories.METRICS_NAME)
        all_reporters = [events.LogReporter(), metrics, *board, *reporters]
        (name, pairs), *others = validation.items()
        validator = Validator(config, model, start.text, pairs, name=name, others=dict(others), at_once=parts)
    with stream, ExitStack() as stack:
        for reporter in reversed(all_reporters):
            stack.callback(reporter.close)
        trainer = Trainer(
            updater,
            stream,
            schedule=assemble_schedule(config),
            checkpoints=checkpoints,
            validate=validator or _left_to_the_chief,
            measure_loss=validator.measure_loss if validator and training.validate_both_weights else None,
            uniform_loss=math.log(len(start.text.target.vocabulary)),
            limits=assemble_limits(config),
            cadence=Cadence(training.validate_every_updates, training.save_every_updates, training.log_every_updates),
            micro_batches=micro_batches,
            metric=train.judged_by(config),
            schedule_metric=getattr(training.schedule, "metric", "loss"),
            facts=start.facts,
            reporters=all_reporters,
            draws=stream.draws_per_update,
        )
        result = trainer.run()
    return train.TrainedModel(directory, result.update, result.reason, result.best_score)


def open_stream(
    config: Config, text: TextPair, stores: Mapping[str, TokenStore], replicas: Replicas, *, micro_batches: int
) -> BatchStream | MixtureStream:
    """Return the batches of the training corpus, or of the mixture of several, by their names in the settings."""
    how: dict[str, Any] = {
        "batch_tokens": config.training.settled_batch_tokens,
        "seed": config.seed,
        "segmentations": sequences.segmentations_of(text, config.data.subword_sampling),
        "batches_per_update": micro_batches,
        "replicas": replicas.count,
        "own_numbers": replicas.own_numbers,
    }
    varied = variations_of(config.data, text, stores, seed=config.seed)
    if [*stores] == ["train"]:
        return BatchStream(stores["train"], variation=varied.get("train"), **how)
    corpora, stages = mixture_of(config.data, text, stores)
    corpora = [replace(corpus, variation=varied.get(f"train.{corpus.name}")) for corpus in corpora]
    return MixtureStream(corpora, stages, **how)


def assemble_schedule(config: Config) -> optimization.Schedule:
    """Build the schedule that `training.schedule` describes."""
    training = config.training
    return SCHEDULES.build(training.schedule, training.optimizer.learning_rate, hidden_size=config.model.hidden_size)


def assemble_limits(config: Config) -> state.Limits:
    """Collect what ends a run."""
    training, stopping = config.training, config.training.early_stopping
    patience = None if stopping is None else stopping.patience
    return state.Limits(training.max_updates, training.max_epochs, training.max_minutes, patience)


def assemble_updater(
    config: Config,
    model: Seq2Seq,
    replicas: Replicas | None = None,
    *,
    parts: int = 1,
    weighed: bool = False,
    anchor: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> Updater:
    """Build what makes the updates of a model, whose variables were created in the scope of the replicas.

    Args:
        config: the run.
        model: what is trained.
        replicas: its copies; one unless given.
        parts: into which each batch is cut.
        weighed: whether batches come with weights of their pairs.
        anchor: the weights to which it is pulled, if it is.
    """
    training, replicas = config.training, replicas or Replicas()
    vectors = training.pretrained_embeddings
    with replicas.scope():
        optimizer = OPTIMIZERS.build(training.optimizer)
        ema = None if training.ema_decay is None else optimization.EmaWeights(model, training.ema_decay)
    return Updater(
        model,
        optimizer,
        label_smoothing=training.label_smoothing,
        clip_norm=training.optimizer.clip_norm,
        loss=training.loss,
        ema=ema,
        xla=training.compile == "xla",
        replicas=replicas,
        precision=training.precision,
        parts=parts,
        weighed=weighed,
        factors=parts_of_model.factors_by_path(model, training.learning_rate_factors),
        pull=training.pull,
        anchors=anchor,
        held=() if vectors is None else list(pretrained.embeddings_of(model, vectors)),
        held_updates=0 if vectors is None else vectors.freeze_updates,
    )


def _left_to_the_chief() -> events.Validation:
    raise RuntimeError("only the chief validates")


def _describe(config: Config, start: starts.Start, stores: Mapping[str, TokenStore]) -> None:
    """Log what is trained on what, and what settings mean whose effect is not seen elsewhere."""
    parameters = sum(math.prod(variable.shape) for variable in named_variables(start.model).values())
    ties = ", ".join(group.name for group in tie_groups(start.model)) or "none"
    corpora = {f"training corpus{name[len('train') :].replace('.', ' ')}": store for name, store in stores.items()}
    for what, store in corpora.items():
        report = store.report
        without = report.filtered.get(NO_WEIGHT, 0)
        if report.dropped - without > MUCH_DROPPED * report.pairs_read:
            logger.warning("%s: %s: put one sentence on a line, or raise data.max_length", what, report.describe())
        else:
            logger.info("%s: %s", what, report.describe())
        if store.weights is not None:
            mean, least, most = store.weights.mean(), store.weights.min(), store.weights.max()
            share = f"{without / report.pairs_read:.1%}"
            logger.info(
                "%s: the loss of its pairs is weighted, by %.4g in the mean (%.4g to %.4g); %s of those read have 0",
                what, mean, least, most, share,
            )  # fmt: skip
    logger.info("vocabulary: %d source and %d target tokens", *translator.vocabularies_of(start.text)[:2])
    for what, store in corpora.items():
        doubts.report_unknown_in_store(store, f"the {what}")
    logger.info("model: %s, %s parameters, weights tied: %s", start.model.name, f"{parameters:,}", ties)
    if names := config.training.freeze:
        logger.info("%s", parts_of_model.describe_frozen(start.model, names))
    if factors := config.training.learning_rate_factors:
        factors_of = parts_of_model.factors_by_path(start.model, factors)
        named = ", ".join(f"{name} {factor:g}" for name, factor in factors.items())
        logger.info(
            "learning rate times: %s; %d variables in all, one of several parts the least", named, len(factors_of)
        )
    if config.training.pull is not None:
        logger.info("loss: plus %g / 2 times the squared distance from the first weights", config.training.pull)
    for remark in start.remarks:
        logger.info("%s", remark)
    precision, alpha, limits = config.training.precision, config.data.subword_sampling, config.search
    is_mixed = config.model.type == "rnn" and precision == products.BFLOAT16
    within = ", within the recurrent loops float32" if is_mixed else ""
    logger.info("matrix products of the training step: %s%s", precision, within)
    logger.info(
        "translations have at most %g * source length + %d tokens, and %d",
        limits.max_length_ratio, limits.max_length_offset, limits.max_length,
    )  # fmt: skip
    if config.data.variation is not None:
        logger.info("pairs are varied in each epoch: %s", describe_rates(config.data.variation))
    if alpha is not None:
        logger.info("words are cut in another way in each epoch: subword sampling with alpha %g", alpha)
