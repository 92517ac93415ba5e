"""`nmt train`: it refuses corpora, settings and runs that it must not go on with, then starts TensorFlow and trains."""

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from nmt.backend import machine, session
from nmt.checkpoint.index import has_checkpoint, newest_manifest
from nmt.checkpoint.manifest import ANCHOR, ORIGIN, VALIDATION_CHANGES
from nmt.config import Config, advice, changed_settings, load, to_yaml, with_kept_settings
from nmt.config.loader import forgotten_imports
from nmt.data import Corpus, corpus
from nmt.directory.model_directory import CONFIG_NAME, folder_around, parse_run_reference
from nmt.doctor import doubts
from nmt.errors import CheckpointError, ConfigError, DataError
from nmt.kinds import VARIATIONS, either
from nmt.recipes.build_vocabulary import (
    GatheredText,
    begin_text,
    find_text,
    read_training_corpus,
    refuse_foreign_text,
    streams_on_disk,
)
from nmt.settings.data import DataSettings
from nmt.streams.corpora import find_store_of, find_stores, hash_of_corpora
from nmt.text import TextPair
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


class Prepared(NamedTuple):
    """A training of which everything was refused that can be before TensorFlow starts.

    config: the settings; of a run that goes on, with what it keeps.
    validation: the pairs of each validation corpus by its name in the settings, of the one that decides first.
    train_pairs: how many pairs of lines the training corpus has; None if it was not read.
    learning: the tokenizers that are being made; None if the run has some, or takes those of another.
    text: the tokenizers of the run; None if it has none yet.
    before: the settings of the run that goes on; None if one begins.
    facts: what its checkpoints record about its origin and its validation corpus.
    """

    config: Config
    validation: dict[str, list[tuple[str, str]]]
    train_pairs: int | None = None
    learning: Future[TextPair] | None = None
    text: TextPair | None = None
    before: Config | None = None
    facts: Mapping[str, Any] = MappingProxyType({})


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
        ConfigError: if the directory holds a run with other settings or on other data, or memory is too small for the
            run.
        DataError: if a corpus cannot be used.
        CheckpointError: if the directory cannot be used, another process trains there, or the weights to begin with
            cannot be taken over.
        TrainingError: if the loss is no longer a number, memory was not enough after all, or a worker was lost.
        Interrupted: after Ctrl-C or SIGTERM, once the run is saved.
    """
    # The chief of several workers must not refuse before the others can hear of it.
    alone = config.training.distribution != "multi_worker"
    if not session.is_running():
        machine.refuse_to_start(machine.processors_for(threads))
    prepared = prepare(config, overwrite=overwrite) if alone else None
    if not session.is_running():
        start_session(config, threads=threads)

    from nmt.backend.replicas import open_replicas
    from nmt.recipes.training_run import follow, lead

    replicas = open_replicas(config.training.distribution)
    with replicas.watched():
        if not replicas.is_chief:
            return follow(config, replicas, processes=processes)
        prepared = prepared or prepare(config, overwrite=overwrite)
        return lead(config, prepared, replicas, overwrite=overwrite, reporters=reporters, processes=processes)


LEAST_PART_TOKENS = 512
"""Of `training.batch_tokens`, a part; measured with two parts."""

MOST_PARTS = 4
"""Two were measured, more are an estimate: the gradients of all parts together are added up by one core."""


def start_session(config: Config, *, threads: int | None = None) -> None:
    """Start TensorFlow for a training: an operation takes a core if batches have a part for each, else all of them.

    Args:
        config: the run; of `training.batch_tokens: auto` the most is taken that it may become.
        threads: processor cores to use; None is all of them.

    Raises:
        ConfigError: the environment asks Keras for another backend.
        RuntimeError: TensorFlow runs already, on another number of threads.
    """
    training, cores = config.training, machine.processors_for(threads)
    batch_tokens = training.batch_tokens
    if batch_tokens == "auto":
        batch_tokens = training.effective_batch_tokens or MOST_PARTS * LEAST_PART_TOKENS
    session.start(
        threads=threads,
        list_devices=training.distribution != "multi_worker",
        a_core_each=1 < cores == _parts_for(config, batch_tokens, cores),
    )


def batch_parts(config: Config, batch_tokens: int, *, replicas: int = 1) -> int:
    """Return into how many parts to cut a batch, whose gradients are computed side by side, a core each.

    On a processor this is faster than all cores on one operation after another (docs/benchmarks.md). Each part brings
    gradients of all weights, which have to be added up and held, so a part has to be of some size, and there are few.
    It is one if an operation takes all cores, as on a GPU.

    Args:
        config: the run.
        batch_tokens: of a batch.
        replicas: copies of the model in this process, which share its cores.
    """
    cores = session.searches_at_once() // replicas if session.has_a_core_each() else 1
    return _parts_for(config, batch_tokens, cores)


def _parts_for(config: Config, batch_tokens: int, cores: int) -> int:
    """Return as many parts as there are cores and as pay; XLA takes batches whole, and all cores for each."""
    if config.training.compile == "xla":
        return 1
    return max(1, min(cores, MOST_PARTS, batch_tokens // LEAST_PART_TOKENS))


def prepare(config: Config, *, overwrite: bool = False) -> Prepared:
    """Refuse what can be refused before TensorFlow starts, and say what is doubtful about the corpora.

    Args and errors: as for `train`.
    """
    directory, before = Path(config.model_directory), None
    _refuse_unknown_variation(config)
    if not overwrite and has_checkpoint(directory):
        before = load(directory / CONFIG_NAME)
        config = with_kept_settings(config, before)
        refuse_other_settings(before, config)
    else:
        refuse_foreign_text(directory)
        _refuse_unlearned_tags(config)
    if overwrite and config.training.initialize_from is not None:
        source = Path(parse_run_reference(str(config.training.initialize_from))[0])
        if (folder := folder_around(source, directory)) is not None:
            raise ConfigError(
                f"training.initialize_from must not lie in {folder}, where --overwrite deletes files, got {source}: "
                "choose another model_directory"
            )
    read = {name: paths for name, paths in config.named_files.items() if re.match(r"data\.(train|validation)", name)}
    named = [(name, path) for name, paths in read.items() for path in paths]
    if missing := [(name, path) for name, path in named if not Path(path).exists()]:
        options = dict.fromkeys(f"--set {name}=PATH" for name, _ in missing)
        raise DataError(
            "; ".join(f"{name}: there is no file {path}" for name, path in missing)
            + f", seen from {Path.cwd()}: say where the text is, with {' '.join(options)}; a run goes on with the same "
            "text wherever it lies"
        )
    for sentence in advice(config):
        logger.warning("%s", sentence)
    config = streams_on_disk(config, config.data.names("train", "validation"))
    text = None if overwrite else find_text(config)
    fresh = before is None and (text is None or find_stores(config, text) is None)
    if text is not None and before is None:
        logger.info("the vocabulary in %s is used, built before: --overwrite builds it anew", directory)
    builds_text = text is None and config.training.initialize_from is None
    gathered = GatheredText(config) if fresh and builds_text else None
    prepared = check_corpora(config, fresh=fresh, gathered=gathered)._replace(text=text, before=before)
    prepared = prepared._replace(facts=settle_facts(prepared))
    return prepared if gathered is None else prepared._replace(learning=begin_text(config, gathered))


def config_hash(config: Config) -> str:
    """Return the SHA-256 of the effective settings."""
    return hashlib.sha256(to_yaml(config).encode("utf-8")).hexdigest()


def check_corpora(config: Config, *, fresh: bool, gathered: GatheredText | None = None) -> Prepared:
    """Read the corpora once, refuse what cannot be used, and say what is doubtful.

    Args:
        config: the run.
        fresh: whether the training corpus was not encoded by an earlier start.
        gathered: takes in a fresh one, to make tokenizers of.

    Raises:
        DataError: with file and line.
    """
    data = config.data
    if fresh:
        _refuse_one_file(config)
    validation = {name: list(Corpus.of(data, name).pairs()) for name in validation_names(config)}
    if not fresh:
        doubts.report_marks(validation, data.segmentation)
        return Prepared(config, validation)
    judging = dict(validation)
    for name in data.names("test"):
        if all(Path(path).is_file() for path in chain(*data.corpora[name].paths)):
            with suppress(DataError):  # said when it is needed
                judging[name] = list(Corpus.of(data, name).pairs())
    shared = doubts.SharedPairs(judging)
    readers = [shared.update] if gathered is None else [shared.update, gathered.update]
    train_pairs = read_training_corpus(config, readers, validation=validation)
    shared.report()
    return Prepared(config, validation, train_pairs)


def _refuse_one_file(config: Config) -> None:
    for name in config.data.names("train", "validation"):
        of_pairs = config.data.corpora[name].pairs is not None
        Corpus.of(config.data, name).refuse_one_file(f"data.{name}", of_pairs=of_pairs)


def validation_names(config: Config) -> list[str]:
    """Return the names of the validation corpora in the settings, that of the one that decides first."""
    names, deciding = config.data.names("validation"), config.training.deciding_validation
    return sorted(names, key=lambda name: deciding is not None and name != f"validation.{deciding}")


def refuse_other_settings(before: Config, config: Config) -> None:
    """Refuse to go on if settings that decide what is learned were others.

    Args:
        before: the settings that the model directory holds.
        config: the settings now.

    Raises:
        ConfigError: naming every setting that differs.
    """
    directory, changed = config.model_directory, changed_settings(before, config)
    if judged_by(before) != judged_by(config):  # the rest of early_stopping may change
        was, now = judged_by(before), judged_by(config)
        changed.append(f"training.early_stopping.metric: {was} before, {now} now (early_stopping null means bleu)")
    for name in config.data.names("train") if config.data.hints else ():
        corpora = [each.data.corpora[name] for each in (before, config) if name in each.data.corpora]
        if len({each.alignment_tokenized for each in corpora}) > 1:
            changed.append(f"data.{name}.alignment_tokenized: now {str(corpora[1].alignment_tokenized).lower()}")
    if changed:
        raise ConfigError(
            f"{directory} holds a run with other settings:\n"
            + "\n".join(f"  {line}" for line in changed)
            + "\ngo on with the old ones, start anew with --overwrite, or choose another model_directory; "
            f"training.initialize_from {directory} begins there with the weights learned here"
        )


def settle_facts(prepared: Prepared) -> dict[str, Any]:
    """Return what the checkpoints of a run record about its origin and its validation corpus.

    Of a run that goes on, what was recorded is compared with what is there now.

    Raises:
        CheckpointError: the newest checkpoint holds weights alone, such as an average of others.
        ConfigError: tokenizers or training corpus are not what the last checkpoint was trained on, or it was judged
            by another validation corpus, and `training.on_validation_change` is `error`.
        DataError: the corpus cannot be read.
    """
    config, before, (judging, *_) = prepared.config, prepared.before, prepared.validation
    content_hash = corpus.hash_pairs(prepared.validation[judging])
    directory, data, text = config.model_directory, config.data, prepared.text
    newest = None if before is None else newest_manifest(directory)
    if before is None or newest is None:
        return {"validation_hash": content_hash}
    name, facts, changed = newest[0], newest[1].facts, None
    if newest[1].optimizer is None:
        raise CheckpointError(
            f"{directory}: {name} keeps weights and no optimizer, so no training can go on with it: begin a new one in "
            f"another model_directory, with training.initialize_from {directory}"
        )
    if text is None or facts.get("tokenizers") not in (None, text.fingerprints):
        changed = "tokenizers have"
    else:
        stores = find_stores(config, text)  # if they were built from these files, those are not read
        train_hash = hash_of_corpora(
            {
                name: Corpus.of(data, name).content_hash() if stores is None else stores[name].content_hash
                for name in data.names("train")
            }
        )
        if not _holds_same_text(data.names("train"), before.data, data, facts.get("data_hash"), train_hash):
            names = _no_longer_encoded(config, text)
            changed = f"text in {' and '.join(f'data.{name}' for name in names)} has"
    if changed is not None:
        forgotten = forgotten_imports(Path(directory) / CONFIG_NAME)
        raise ConfigError(
            f"{directory} holds a run on other data: the {changed} changed since {name}"
            + (f", or is read otherwise without {forgotten}" if forgotten else "")
            + "; bring back what was "
            "there then, start anew with --overwrite, or choose another model_directory, with "
            f"training.initialize_from {directory} to begin with the weights learned here"
        )
    kept = {fact: facts[fact] for fact in (ANCHOR, ORIGIN, "validation_hash", VALIDATION_CHANGES) if fact in facts}
    if not _holds_same_text([judging], before.data, data, facts.get("validation_hash"), content_hash):
        if config.training.on_validation_change == "error":
            raise ConfigError(
                f"{directory} holds a run that was judged by other text: that in data.validation has changed since "
                f"{name}, and scores on different texts cannot be compared: bring it back; or go on with --set "
                "training.on_validation_change=new_scores, with which best score and patience begin anew"
            )
        kept[VALIDATION_CHANGES] = kept.get(VALIDATION_CHANGES, 0) + 1
    return kept | {"validation_hash": content_hash}


def _no_longer_encoded(config: Config, text: TextPair) -> list[str]:
    """Return which training corpora have other text than was encoded for a run; `train` if none can be told."""
    names = config.data.names("train")
    changed = [name for name in names if find_store_of(config, text, name) is None]
    return changed if 0 < len(changed) < len(names) else ["train"]


def refuse_unknown_tags(config: Config, text: TextPair) -> None:
    """Refuse tags that are no symbols of the vocabulary of a run, such as of one that was there before.

    Raises:
        ConfigError: naming them.
    """
    if text.tags and text.tag_side != config.data.tag_side and config.data.tags:
        raise ConfigError(
            f"data.tag_side must be {text.tag_side}, as when the vocabulary of this run was built, got "
            f"{config.data.tag_side}: build one anew, in another model_directory or with --overwrite"
        )
    if missing := [tag for tag in config.data.tags if tag not in text.tags]:
        raise ConfigError(
            f"each tag must be a symbol of the vocabulary, and that of this run has none for {', '.join(missing)}: "
            "build one anew, in another model_directory or with --overwrite"
        )
    if config.data.hints and not text.has_hint_marks:
        raise ConfigError(
            f"data.variation has {config.data.hints[0]}, whose marks must be symbols of the vocabulary, and that of "
            "this run has none: build one anew, in another model_directory or with --overwrite"
        )


def _refuse_unknown_variation(config: Config) -> None:
    """Refuse kinds of variation that nobody knows; a trained model may have such, and does not need them.

    Raises:
        ConfigError: naming the first.
    """
    for word, rate in (config.data.variation or {}).items():
        if rate and word not in VARIATIONS.built:
            known = either([*VARIATIONS.built])
            raise ConfigError(f"data.variation must name {known}, got {word}: {VARIATIONS.remedy(word)}")


def _refuse_unlearned_tags(config: Config) -> None:
    """Refuse tags of validation and test that nothing would teach to a run that begins.

    Raises:
        ConfigError: naming the first.
    """
    data = config.data
    learned = [*dict.fromkeys(filter(None, map(data.tag_of, data.names("train"))))]
    for name in data.names("validation", "test") if config.training.initialize_from is None else ():
        if (tag := data.tag_of(name)) is not None and tag not in learned:
            known = f"one of data.train, {either(learned)}" if learned else "null, as data.train has no tags"
            raise ConfigError(f"data.{name}.tag must be {known}, got {tag}, whose symbol no training would learn")


def judged_by(config: Config) -> str:
    """Return the metric by which checkpoints of a run are ranked."""
    stopping = config.training.early_stopping
    return "bleu" if stopping is None else stopping.metric


def _holds_same_text(
    names: Sequence[str], before: DataSettings, now: DataSettings, recorded: str | None, content_hash: str
) -> bool:
    """Whether corpora hold what they held: by the hash that was recorded, else by the files they were read from."""
    same = recorded == content_hash
    for name in names:
        read, was = Corpus.of(now, name), Corpus.of(before, name) if name in before.corpora else None
        if recorded is None and was is not None:
            same = was.paths == read.paths
            with suppress(DataError):
                same = same or was.content_hash() == content_hash
        if same and was is not None and was.paths != read.paths:
            files = " and ".join(dict.fromkeys(map(", ".join, read.paths)))
            logger.info("data.%s holds the same text as before, now in %s", name, files)
    return same


def check_config(paths: Sequence[PathLike], overrides: Sequence[str] = ()) -> tuple[Config, list[str]]:
    """Read, merge and check settings as training does, without reading any corpus.

    Args:
        paths: YAML files, merged from left to right.
        overrides: settings of the form "training.seed=7".

    Returns:
        The effective settings, and what may not do what was meant, one line each.

    Raises:
        ConfigError: listing all problems.
        DataError: a corpus is one file for both sides.
    """
    config = load(list(paths), overrides, announce=True)
    _refuse_one_file(config)
    _refuse_unknown_variation(config)
    if not has_checkpoint(Path(config.model_directory)):
        _refuse_unlearned_tags(config)
    remarks, training = list(advice(config)), config.training
    if training.batch_tokens == "auto":
        remark = (
            "training.batch_tokens auto is chosen by the memory there is when training begins, and the run keeps it"
        )
        if not training.effective_batch_tokens:
            remark += "; effective_batch_tokens gives all machines updates of one size"
        remarks.append(remark)
    # What is not here is no error, since the machine that trains may be another one.
    for name, paths in config.named_files.items():
        remarks += [f"{name}: there is no file {path} here" for path in paths if not Path(path).exists()]
    if training.initialize_from is not None:
        initial, _ = parse_run_reference(training.initialize_from)
        if not Path(initial).is_dir():
            remarks.append(f"training.initialize_from: there is no directory {initial} here")
    return config, remarks
