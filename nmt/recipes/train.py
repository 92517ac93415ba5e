"""`nmt train`: it refuses corpora, settings and runs that it must not go on with, then starts TensorFlow and trains."""

from __future__ import annotations

import hashlib
import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from nmt.checkpoint.index import has_checkpoint, newest_manifest
from nmt.checkpoint.manifest import VALIDATION_CHANGES
from nmt.config import Config, CorpusSettings, advice, changed_settings, load, to_yaml, with_kept_settings
from nmt.data import TokenStore, find_store, hash_corpus, read_pairs
from nmt.data.corpus import hash_pairs, looks_swapped, refuse_one_file, refuse_pipes
from nmt.errors import CheckpointError, ConfigError, DataError
from nmt.inference.model_directory import CONFIG_NAME
from nmt.inference.output_directory import parse_run_reference, refuse_to_delete_start
from nmt.recipes.batch_parts import start_session
from nmt.recipes.build_vocabulary import (
    CHECKED_PAIRS,
    GatheredText,
    find_text,
    refuse_foreign_text,
    report_marks,
    report_sides,
)
from nmt.text import TextPair
from nmt.text.tokenizer import in_blocks
from nmt.training.events import Reporter
from nmt.types import PathLike

logger = logging.getLogger(__name__)


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


class ReadCorpora(NamedTuple):
    """What is known of the corpora of a run before it begins.

    validation: the pairs of the validation corpus.
    train_pairs: how many pairs of lines the training corpus has; None where it was not read.
    gathered: what tokenizers are to be made of; None where the run has some.
    """

    validation: list[tuple[str, str]]
    train_pairs: int | None = None
    gathered: GatheredText | None = None


@dataclass(frozen=True)
class Prepared:
    """A training of which everything was refused that can be before TensorFlow starts.

    config: the settings; of a run that goes on, with what it keeps.
    given: hash of the settings as they were given.
    resumed: whether the model directory holds a checkpoint to go on from.
    corpora: what was read of them.
    """

    config: Config
    given: str
    resumed: bool
    corpora: ReadCorpora


def train(
    config: Config,
    *,
    overwrite: bool = False,
    reporters: Sequence[Reporter] = (),
    processes: int | None = None,
    threads: int | None = None,
) -> TrainedModel:
    """Train the model that a config describes, or go on with a run that was interrupted.

    The directory is written once settings, corpora and initial weights have passed. A run that is finished says so
    and returns at once. Of several workers the chief does all this, and the others wait until they can join in.
    TensorFlow is started as suits the run, unless it runs already.

    Args:
        config: the run; the same on all workers.
        overwrite: whether to delete what an earlier run left in the model directory.
        reporters: receive what happens, besides the files in the directory.
        processes: how many encode a large corpus, at most; as many as there are cores unless given.
        threads: processor cores to use; all unless given.

    Raises:
        ConfigError: if the directory holds a run with other settings or on other data, what is to be deleted there
            would be needed, or memory is too small for the run.
        DataError: if a corpus cannot be used.
        CheckpointError: if the directory cannot be used, another process trains there, or the weights to begin with
            cannot be taken over.
        TrainingError: if the loss is no longer a number, memory was not enough after all, or a worker was lost.
        Interrupted: after Ctrl-C or SIGTERM, once the run is saved.
    """
    # The chief of several workers must not refuse before the others can hear of it.
    alone = config.training.distribution != "multi_worker"
    prepared = prepare(config, overwrite=overwrite) if alone else None
    if "tensorflow" not in sys.modules:
        start_session(config, threads=threads)

    from nmt.recipes.training_run import train_prepared

    return train_prepared(config, prepared, overwrite=overwrite, reporters=reporters, processes=processes)


def prepare(config: Config, *, overwrite: bool = False) -> Prepared:
    """Refuse what can be refused before TensorFlow starts, and say what is doubtful about the corpora.

    Args and errors: as for `train`.
    """
    given, directory = config_hash(config), Path(config.model_directory)
    resumed = not overwrite and has_checkpoint(directory)
    if resumed:
        config = with_kept_settings(config, load(directory / CONFIG_NAME))
        refuse_other_settings(config, directory)
        refuse_without_optimizer(directory)
    else:
        refuse_foreign_text(directory)
    refuse_missing_corpora(config)
    if overwrite:
        refuse_to_delete_start(config)
    for sentence in advice(config):
        logger.warning("%s", sentence)
    text = None if overwrite or resumed else find_text(config)
    fresh = not resumed and not corpus_is_encoded(config, text)
    builds = text is None and config.training.initialize_from is None
    return Prepared(config, given, resumed, check_corpora(config, fresh=fresh, builds_text=builds))


def config_hash(config: Config) -> str:
    """Return the SHA-256 of the effective settings."""
    return hashlib.sha256(to_yaml(config).encode("utf-8")).hexdigest()


CORPORA_READ = ("data.train.source", "data.train.target", "data.validation.source", "data.validation.target")
"""The settings whose files a training reads."""

SAID_SHARE, DOUBTFUL_SHARE = 0.05, 0.5
"""Share of the validation or test pairs above which it is said, or a warning, that they are also trained on."""


def check_corpora(config: Config, *, fresh: bool, builds_text: bool = False) -> ReadCorpora:
    """Read the corpora once, refuse what cannot be used, and say what is doubtful.

    Args:
        config: the run.
        fresh: whether the training corpus was not encoded by an earlier start.
        builds_text: whether tokenizers are to be made of a fresh one.

    Raises:
        DataError: with file and line.
    """
    refuse_pipes({name: config.named_files[name] for name in CORPORA_READ})
    for name in ("train", "validation") if fresh else ():
        refuse_one_file(f"data.{name}", *_paths(getattr(config.data, name)))
    validation = list(read_pairs(*_paths(config.data.validation)))
    if not fresh:
        report_marks(config, {"validation": validation})
        return ReadCorpora(validation)
    gathered = GatheredText(config) if builds_text else None
    train_pairs, first_pairs = _check_training_corpus(config, validation, gathered)
    report_sides(config, "train", first_pairs)
    report_sides(config, "validation", validation)
    if looks_swapped(validation, like=first_pairs):
        logger.warning(
            "data.validation: source and target look swapped: each shares more words with the other side of "
            "data.train than with its own"
        )
    report_marks(config, {"train": first_pairs, "validation": validation})
    return ReadCorpora(validation, train_pairs, gathered)


def _check_training_corpus(
    config: Config, validation: Sequence[tuple[str, str]], gathered: GatheredText | None
) -> tuple[int, list[tuple[str, str]]]:
    """Read the training corpus, and say how many of the pairs that judge the model stand in it.

    Returns:
        Their number, and the first of them.
    """
    judging = {"validation": [hash(pair) for pair in validation]}  # hashes, one a pair
    test = config.data.test
    if test is not None and all(Path(path).is_file() for side in _paths(test) for path in side):
        with suppress(DataError):  # said where it is needed
            judging["test"] = [hash(pair) for pair in read_pairs(*_paths(test))]
    judges = {key for keys in judging.values() for key in keys}
    pairs, seen = read_pairs(*_paths(config.data.train)), set[int]()
    first_pairs = list(islice(pairs, CHECKED_PAIRS))
    count = 0
    for block in in_blocks(chain(first_pairs, pairs)):
        count += len(block)
        seen |= judges.intersection(map(hash, block))
        if gathered is not None:
            gathered.update(block)
    for name, keys in judging.items():
        number = sum(key in seen for key in keys)
        if number > SAID_SHARE * len(keys):
            level = logging.WARNING if number > DOUBTFUL_SHARE * len(keys) else logging.INFO
            logger.log(
                level,
                "%s of %s pairs of data.%s stand in data.train too, word for word: its scores say little of new text",
                f"{number:,}", f"{len(keys):,}", name,
            )  # fmt: skip
    return count, first_pairs


def refuse_missing_corpora(config: Config) -> None:
    """Refuse to train where a file of the corpora is not there, and ask for it by the name of its setting.

    Raises:
        DataError: naming all of them.
    """
    read = {name: config.named_files[name] for name in CORPORA_READ}
    missing = [(name, path) for name, paths in read.items() for path in paths if not Path(path).exists()]
    if missing:
        options = dict.fromkeys(f"--set {name}=PATH" for name, _ in missing)
        raise DataError(
            "; ".join(f"{name}: there is no file {path}" for name, path in missing)
            + f", seen from {Path.cwd()}: say where the text is, with {' '.join(options)}; a run goes on with the same "
            "text wherever it lies"
        )


def corpus_is_encoded(config: Config, text: TextPair | None) -> bool:
    """Whether the training corpus lies encoded by the tokenizers of the run, if there are any, so none of it is wrong.

    Raises:
        DataError: a file of the corpus is missing.
    """
    return text is not None and _find_store(config, text) is not None


def refuse_other_settings(config: Config, directory: Path) -> None:
    """Refuse to go on with a run whose settings were others, where they decide what is learned.

    Args:
        config: the settings now.
        directory: where the run has a checkpoint.

    Raises:
        ConfigError: naming every setting that differs.
    """
    before = load([directory / CONFIG_NAME])
    changed = changed_settings(before, config)
    if judged_by(before) != judged_by(config):  # the rest of early_stopping may change
        was, now = judged_by(before), judged_by(config)
        changed.append(f"training.early_stopping.metric: {was} before, {now} now (early_stopping null means bleu)")
    if changed:
        raise ConfigError(
            f"{directory} holds a run with other settings:\n"
            + "\n".join(f"  {line}" for line in changed)
            + "\ngo on with the old ones, start anew with --overwrite, or choose another model_directory; "
            f"training.initialize_from {directory} begins there with the weights learned here"
        )


def refuse_without_optimizer(directory: Path) -> None:
    """Refuse to go on with a checkpoint that holds weights alone, such as an average of others.

    Raises:
        CheckpointError: naming the setting that begins with such weights.
    """
    newest = newest_manifest(directory)
    if newest is not None and newest[1].optimizer is None:
        raise CheckpointError(
            f"{directory}: {newest[0]} keeps weights and no optimizer, so no training can go on with it: "
            f"begin a new one in another model_directory, with training.initialize_from {directory}"
        )


def refuse_other_data(config: Config, directory: Path, text: TextPair) -> None:
    """Refuse to go on with a run whose tokenizers or training corpus have changed under the same name.

    Args:
        config: the run.
        directory: where it has a checkpoint.
        text: its tokenizers.

    Raises:
        ConfigError: if they are not what the last checkpoint was trained on.
        DataError: the corpus cannot be read.
    """
    newest = newest_manifest(directory)
    if newest is None:
        return
    name, facts = newest[0], newest[1].facts
    before, now, changed = load(directory / CONFIG_NAME).data.train, config.data.train, None
    if facts.get("tokenizers") not in (None, text.fingerprints):
        changed = "tokenizers have"
    else:
        store = _find_store(config, text)  # where one was built from these files, they are not read
        content_hash = hash_corpus(*_paths(now)) if store is None else store.content_hash
        if not _holds_same_text(before, now, recorded=facts.get("data_hash"), content_hash=content_hash):
            changed = "text in data.train has"
    if changed is not None:
        raise ConfigError(
            f"{directory} holds a run on other data: the {changed} changed since {name}; bring them back, start anew "
            f"with --overwrite, or choose another model_directory, with training.initialize_from {directory} to begin "
            "with the weights learned here"
        )
    _say_if_moved("train", before, now)


def settle_validation(config: Config, validation: Sequence[tuple[str, str]], *, resumed: bool) -> dict[str, Any]:
    """Return what the checkpoints of a run record about its validation corpus: its hash, and how often it changed.

    Args:
        config: the run.
        validation: the pairs of its validation corpus.
        resumed: whether it has a checkpoint, so that its scores are compared with those to come.

    Raises:
        ConfigError: the text is not that of the last checkpoint, and `training.on_validation_change` is `error`.
    """
    directory, now = Path(config.model_directory), config.data.validation
    content_hash = hash_pairs(validation)
    newest = newest_manifest(directory) if resumed else None
    changes = 0
    if newest is not None:
        name, facts = newest[0], newest[1].facts
        changes = facts.get(VALIDATION_CHANGES, 0)
        before = load(directory / CONFIG_NAME).data.validation
        if _holds_same_text(before, now, recorded=facts.get("validation_hash"), content_hash=content_hash):
            _say_if_moved("validation", before, now)
        elif config.training.on_validation_change == "error":
            raise ConfigError(
                f"{directory} holds a run that was judged by other text: that in data.validation has changed since "
                f"{name}, and scores on different texts cannot be compared: bring it back; or go on with --set "
                "training.on_validation_change=new_scores, with which best score and patience begin anew"
            )
        else:
            changes += 1
    return {"validation_hash": content_hash} | ({VALIDATION_CHANGES: changes} if changes else {})


def judged_by(config: Config) -> str:
    """Return the metric by which checkpoints of a run are ranked."""
    stopping = config.training.early_stopping
    return "bleu" if stopping is None else stopping.metric


def _holds_same_text(before: CorpusSettings, now: CorpusSettings, *, recorded: str | None, content_hash: str) -> bool:
    """Whether a corpus holds what it held: by the hash that was recorded, else by the files it was read from."""
    if recorded is not None:
        return recorded == content_hash
    if _paths(before) == _paths(now):
        return True
    with suppress(DataError):
        return hash_corpus(*_paths(before)) == content_hash
    return False


def _say_if_moved(name: str, before: CorpusSettings, now: CorpusSettings) -> None:
    if _paths(before) != _paths(now):
        files = " and ".join(", ".join(paths) for paths in _paths(now))
        logger.info("data.%s holds the same text as before, now in %s", name, files)


def _paths(corpus: CorpusSettings) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return corpus.source_paths, corpus.target_paths


def _find_store(config: Config, text: TextPair) -> TokenStore | None:
    paths = _paths(config.data.train)
    return find_store(config.token_store_directory, *paths, text=text, max_length=config.data.max_length)


class CheckedConfig(NamedTuple):
    """Settings that are valid.

    config: the effective settings.
    remarks: what may not do what was meant, one line each.
    """

    config: Config
    remarks: list[str]


def check_config(paths: Sequence[PathLike], overrides: Sequence[str] = ()) -> CheckedConfig:
    """Read, merge and check settings as training does, without reading any corpus.

    Args:
        paths: YAML files, merged from left to right.
        overrides: settings of the form "training.seed=7".

    Raises:
        ConfigError: listing all problems.
        DataError: a corpus is one file for both sides.
    """
    config = load(list(paths), overrides, announce=True)
    for name, corpus in (("data.train", config.data.train), ("data.validation", config.data.validation)):
        refuse_one_file(name, *_paths(corpus))
    remarks, training = list(advice(config)), config.training
    if training.batch_tokens == "auto":
        even = (
            "" if training.effective_batch_tokens else "; effective_batch_tokens gives all machines updates of one size"
        )
        remarks.append(
            "training.batch_tokens auto is chosen by the memory there is when training begins, and the run keeps it"
            f"{even}"
        )
    # What is not here is no error, since the machine that trains may be another one.
    for name, paths in config.named_files.items():
        remarks += [f"{name}: there is no file {path} here" for path in paths if not Path(path).exists()]
    if training.initialize_from is not None:
        initial = parse_run_reference(training.initialize_from).directory
        if not Path(initial).is_dir():
            remarks.append(f"training.initialize_from: there is no directory {initial} here")
    return CheckedConfig(config, remarks)
