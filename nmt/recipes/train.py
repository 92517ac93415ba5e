"""`nmt train`: from a config to a model directory."""

from __future__ import annotations

import hashlib
import logging
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmt.checkpoint import CheckpointManager, has_checkpoint, list_checkpoints, read_manifest
from nmt.config import Config, PlateauSettings, advice, changed_settings, load, to_yaml, write
from nmt.data import BatchStream, Prefetcher, TokenStore, check_corpus, evaluation_batches, open_store, read_pairs
from nmt.errors import ConfigError
from nmt.inference.evaluation import bleu
from nmt.inference.model_directory import CONFIG_NAME
from nmt.inference.opening import vocabularies_of
from nmt.inference.tokenization import tokenization_for
from nmt.inference.translator import Translator
from nmt.models.builder import build_model
from nmt.models.contract import Seq2Seq
from nmt.recipes.assembly import assemble_cadence, assemble_limits, assemble_optimizer, assemble_schedule
from nmt.recipes.build_vocabulary import build_text, find_text, save_text
from nmt.text import TextPair
from nmt.training.average import MovingAverage
from nmt.training.events import Reporter, Sample, Validation
from nmt.training.log import LogReporter, log_to_file
from nmt.training.metrics_file import MetricsFile
from nmt.training.tensorboard import TensorBoardReporter
from nmt.training.trainer import Trainer
from nmt.training.update import Updater
from nmt.training.validation import TokenScorer
from nmt.tying import named_variables, tie_groups, verify_ties

logger = logging.getLogger(__name__)

METRICS_NAME, LOG_NAME, EVENTS_NAME = "metrics.jsonl", "train.log", "logs"
RUN_FILES = (CONFIG_NAME, "checkpoints", METRICS_NAME, LOG_NAME, EVENTS_NAME)
"""What a run writes into its directory, besides tokenizers and token store, which replace what was there."""

VALIDATION_BATCH_TOKENS = 1024
"""Small, since validation holds the logits of a whole batch where training does not."""

MAX_LOGGED_LOSS = 700.0
"""exp of a larger loss is beyond a float."""


@dataclass(frozen=True)
class TrainedModel:
    """What a run left behind.

    directory: the model directory.
    update: updates made in all.
    reason: the limit that ended the run, in words.
    best_score: best validation score, higher is better (a loss counts negative); None without a validation.
    """

    directory: Path
    update: int
    reason: str
    best_score: float | None


def train(config: Config, *, overwrite: bool = False, reporters: Sequence[Reporter] = ()) -> TrainedModel:
    """Train the model that a config describes, or go on with a run that was interrupted.

    The directory is written once the settings and the corpora have passed. A run that is finished says so and
    returns at once.

    Args:
        config: the run.
        overwrite: whether to delete what an earlier run left in the model directory.
        reporters: receive what happens, besides the files in the directory.

    Raises:
        ConfigError: if the directory holds a run with other settings.
        DataError: if a corpus cannot be used.
        CheckpointError: if the directory cannot be used, or another process trains there.
        TrainingError: if the loss is no longer a number.
        Interrupted: after Ctrl-C or SIGTERM, once the run is saved.
    """
    directory = Path(config.model_directory)
    if not overwrite:
        refuse_other_settings(config, directory)
    for sentence in advice(config):
        logger.warning("%s", sentence)
    check_corpora(config, fresh=overwrite or not has_checkpoint(directory))
    training = config.training
    with CheckpointManager(directory, keep_last=training.keep_last, keep_best=training.keep_best) as checkpoints:
        found = None if overwrite else find_text(config)
        text = found or assemble_text(config)
        model = build_model(vocabularies_of(text), seed=config.seed, **config.model.model_dump())
        store = open_training_store(config, text)
        if overwrite:
            delete_run(directory)
        if found is None:
            save_text(config, text)
        write(config, directory / CONFIG_NAME)
        with log_to_file(directory / LOG_NAME):
            return _train(config, text, model, store, checkpoints, reporters)


def assemble_text(config: Config) -> TextPair:
    """Build vocabulary and tokenizers, and say so, since it can take a while."""
    logger.info("building the vocabulary")
    return build_text(config)


def open_training_store(config: Config, text: TextPair) -> TokenStore:
    """Open the token store of the training corpus; it is encoded where that was not done yet."""
    return open_store(
        config.token_store_directory,
        config.data.train.source_paths,
        config.data.train.target_paths,
        text=text,
        max_length=config.data.max_length,
    )


def refuse_other_settings(config: Config, directory: Path) -> None:
    """Refuse to go on with a run whose settings were others, where they decide what is learned.

    Raises:
        ConfigError: naming every setting that differs.
    """
    if not has_checkpoint(directory):
        return
    changed = changed_settings(load([directory / CONFIG_NAME]), config)
    if changed:
        raise ConfigError(
            f"{directory} holds a run with other settings:\n"
            + "\n".join(f"  {line}" for line in changed)
            + "\ngo on with the old ones, choose another model_directory, or start anew with --overwrite"
        )


def refuse_other_data(directory: Path, facts: Mapping[str, Any]) -> None:
    """Refuse to go on with a run whose training corpus or tokenizers have changed under the same name.

    Raises:
        ConfigError: if they are not what the last checkpoint was trained on.
    """
    for checkpoint in list_checkpoints(directory)[-1:]:
        before = read_manifest(checkpoint.path).facts
        for key, what in (("data_hash", "text in data.train has"), ("tokenizers", "tokenizers have")):
            if before.get(key) not in (None, facts[key]):
                raise ConfigError(
                    f"{directory} holds a run on other data: the {what} changed since {checkpoint.name}; bring them "
                    "back, choose another model_directory, or start anew with --overwrite"
                )


def check_corpora(config: Config, *, fresh: bool) -> None:
    """Read the corpora once and refuse what cannot be used, before anything is written.

    Args:
        config: the run.
        fresh: whether the training corpus was not encoded by an earlier start.

    Raises:
        DataError: with file and line.
    """
    if fresh:
        check_corpus(config.data.train.source_paths, config.data.train.target_paths)
    check_corpus(config.data.validation.source_paths, config.data.validation.target_paths)


def delete_run(directory: Path) -> None:
    """Delete what a run wrote into its directory, and nothing else."""
    for path in (directory / name for name in RUN_FILES):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _train(
    config: Config,
    text: TextPair,
    model: Seq2Seq,
    store: TokenStore,
    checkpoints: CheckpointManager,
    reporters: Sequence[Reporter],
) -> TrainedModel:
    directory, training = Path(config.model_directory), config.training
    facts = {
        "config_hash": config_hash(config),
        "data_hash": store.content_hash,
        "tokenizers": [text.source.fingerprint, text.target.fingerprint],
    }
    refuse_other_data(directory, facts)
    _describe(model, text, store)
    updater = assemble_updater(config, model)
    verify_ties(model, model.declared_ties(), updater.optimizer)
    stream = BatchStream(store, batch_tokens=training.batch_tokens, seed=config.seed)
    own: list[Reporter] = [LogReporter(), MetricsFile(directory / METRICS_NAME)]
    if training.tensorboard:
        own.append(TensorBoardReporter(directory / EVENTS_NAME))
    with Prefetcher(stream) as batches, closing_all([*own, *reporters]) as all_reporters:
        trainer = Trainer(
            updater,
            batches,
            schedule=assemble_schedule(config),
            checkpoints=checkpoints,
            validate=validator(config, model, text),
            limits=assemble_limits(config),
            cadence=assemble_cadence(config),
            micro_batches=round((training.effective_batch_tokens or training.batch_tokens) / training.batch_tokens),
            metric=training.early_stopping.metric if training.early_stopping else "bleu",
            schedule_metric=training.schedule.metric if isinstance(training.schedule, PlateauSettings) else "loss",
            facts=facts,
            reporters=all_reporters,
        )
        result = trainer.run()
    return TrainedModel(directory, result.update, result.reason, result.best_score)


def assemble_updater(config: Config, model: Seq2Seq) -> Updater:
    """Build what makes the updates of a model."""
    training = config.training
    return Updater(
        model,
        assemble_optimizer(training.optimizer),
        label_smoothing=training.label_smoothing,
        clip_norm=training.optimizer.clip_norm,
        average=None if training.ema_decay is None else MovingAverage(model, training.ema_decay),
        xla=training.compile == "xla",
    )


def validator(config: Config, model: Seq2Seq, text: TextPair) -> Callable[[], Validation]:
    """Return a function that judges the model on the validation corpus, every line of it.

    Raises:
        DataError: if the corpus cannot be read.
    """
    corpus, training = config.data.validation, config.training
    pairs = list(read_pairs(corpus.source_paths, corpus.target_paths))
    sources, references = [source for source, _ in pairs], [target for _, target in pairs]
    batches = [entry.batch for entry in evaluation_batches(pairs, text=text, batch_tokens=VALIDATION_BATCH_TOKENS)]
    tokenization = tokenization_for(config.data.target_language)
    scorer, translator = TokenScorer(model), Translator(model, text, config.search)

    def validate() -> Validation:
        scores = scorer.score(batches)
        with hushed(Translator.__module__):
            hypotheses = translator.translate(sources, beam_size=training.validation_beam_size)
        shown = sample_lines(len(pairs), training.sample_translations)
        return Validation(
            loss=scores.loss,
            perplexity=math.exp(min(scores.loss, MAX_LOGGED_LOSS)),
            accuracy=scores.accuracy,
            bleu=bleu(hypotheses, references, tokenization=tokenization).score,
            samples=tuple(Sample(sources[i], references[i], hypotheses[i]) for i in shown),
        )

    return validate


@contextmanager
def hushed(module: str) -> Iterator[None]:
    """Keep the warnings of a module to itself: a model that has just begun to learn repeats itself."""
    logger = logging.getLogger(module)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def sample_lines(count: int, wanted: int) -> list[int]:
    """Return which of `count` lines to show, spread evenly, the same at every validation."""
    wanted = min(wanted, count)
    return [index * count // wanted for index in range(wanted)]


def config_hash(config: Config) -> str:
    """Return the SHA-256 of the effective settings."""
    return hashlib.sha256(to_yaml(config).encode("utf-8")).hexdigest()


@contextmanager
def closing_all(reporters: Sequence[Reporter]) -> Iterator[Sequence[Reporter]]:
    """Close every reporter at the end, however the run ended."""
    try:
        yield reporters
    finally:
        for reporter in reporters:
            reporter.close()


def _describe(model: Seq2Seq, text: TextPair, store: TokenStore) -> None:
    """Log what is trained on what."""
    parameters = sum(math.prod(variable.shape) for variable in named_variables(model).values())
    ties = ", ".join(group.name for group in tie_groups(model)) or "none"
    logger.info("training corpus: %s", store.report.describe())
    logger.info("vocabulary: %d source and %d target tokens", *vocabularies_of(text)[:2])
    logger.info("model: %s, %s parameters, weights tied: %s", model.name, f"{parameters:,}", ties)
