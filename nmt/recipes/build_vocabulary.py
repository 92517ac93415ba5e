"""Building the tokenizers of a run from its training corpus."""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from inspect import signature
from itertools import chain, islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from nmt.checkpoint.folder import DirectoryLock
from nmt.checkpoint.index import has_checkpoint
from nmt.config import Config, load, write
from nmt.data import corpus
from nmt.data.lines import is_stream
from nmt.directory import model_directory as directories
from nmt.doctor import doubts
from nmt.errors import ConfigError, DataError
from nmt.kinds import TOKENIZERS
from nmt.settings.data import SentencePieceSettings
from nmt.text import TextPair, Tokenizer
from nmt.text.pair import FILE_NAME, TextLearner
from nmt.text.tokenizer import Sample, in_blocks

logger = logging.getLogger(__name__)

CHECKED_PAIRS = 100_000
"""Pairs from the beginning of a corpus that are looked at before a vocabulary is built."""


class VocabularyResult(NamedTuple):
    """The tokenizers of a run, and whether they were built just now or found in its directory."""

    text: TextPair
    built: bool


def build_vocabulary(config: Config, *, overwrite: bool = False) -> VocabularyResult:
    """Build the tokenizers that a config describes and save them, with the config, in the model directory.

    Tokenizers that were built there before for the same settings are kept.

    Args:
        config: the settings of the run.
        overwrite: build them anew in any case.

    Raises:
        ConfigError: the directory holds a model, which needs the tokenizers it has; or the settings do not fit the
            corpus.
        DataError: the corpus cannot be used, or the directory cannot be written.
        CheckpointError: a training has begun in the directory and needs its tokenizers.
    """
    directory = Path(config.model_directory)
    if not overwrite and (text := find_text(config)) is not None:
        return VocabularyResult(text, built=False)  # the corpus is not read again
    if has_checkpoint(directory):
        raise ConfigError(
            f"{directory} holds a trained model, which needs the vocabulary it has: choose another model_directory"
        )
    refuse_foreign_text(directory)
    for name in config.data.names("train"):
        corpus.Corpus.of(config.data, name).refuse_one_file(f"data.{name}")
    config = streams_on_disk(config, config.data.names("train"))
    gathered, measured = GatheredText(config), Sample[tuple[str, str]](doubts.MEASURED_LINES, seed=0)
    read_training_corpus(config, [gathered.update, measured.update])
    text = build_text(config, gathered)
    source, target = zip(*measured.lines, strict=True)
    doubts.report_unknown("the training corpus", text.source.encode_batch(source), text.target.encode_batch(target))
    lock = DirectoryLock(directory)
    lock.acquire()
    try:
        save_text(config, text)
    finally:
        lock.release()
    return VocabularyResult(text, built=True)


def streams_on_disk(config: Config, names: Sequence[str]) -> Config:
    """Copy corpora that can be read only once to where the encoded ones are kept, since training reads them again.

    Args:
        config: the run.
        names: of its corpora.

    Returns:
        The settings, in which the copies are named.

    Raises:
        DataError: a stream or the disk fails, or several workers would each want one.
    """
    data, changes = config.data, dict[str, Any]()
    for name in names:
        settings, copies = data.corpora[name], dict[str, str]()
        for path in dict.fromkeys(chain(*settings.paths, settings.alignment_paths)):
            if is_stream(path):
                if config.training.distribution == "multi_worker":
                    raise DataError(f"data.{name}: {path}: must be a file that all workers can read, got a stream")
                logger.info("data.%s: %s can be read only once: copying it to disk first", name, path)
                copies[path] = corpus.copy_stream(path, config.token_store_directory, settings.format)
        if copies:
            logger.info("data.%s is read from %s, as a run that goes on does", name, ", ".join(copies.values()))
            sources, targets = (tuple(copies.get(path, path) for path in side) for side in settings.paths)
            both = {"pairs": sources} if sources == targets else {"source": sources, "target": targets, "pairs": None}
            links = tuple(copies.get(path, path) for path in settings.alignment_paths) or None
            changes[name] = settings.model_copy(update=both | {"alignment": links})
    return config.model_copy(update={"data": data.with_corpora(changes)}) if changes else config


def read_training_corpus(
    config: Config,
    readers: Sequence[Callable[[Sequence[tuple[str, str]]], None]],
    *,
    validation: Mapping[str, Sequence[tuple[str, str]]] = MappingProxyType({}),
) -> int:
    """Read the training corpus once, from end to end, and say what is doubtful about it.

    Args:
        config: the run.
        readers: are shown all of it, pair after pair.
        validation: pairs of the validation corpora by their names, to be judged with it.

    Returns:
        How many pairs it has.

    Raises:
        DataError: it cannot be used.
    """
    data, count = config.data, 0
    # What is tagged may be text of other languages, or made by a model.
    plain = [name for name in data.names("train") if data.tag_of(name) is None]
    names = [*plain, *(name for name in data.names("train") if name not in plain)]
    one, limit = corpus.Corpus.of(data, names[0]).pairs(), CHECKED_PAIRS // len(names)
    first = {names[0]: list(islice(one, limit))}
    first |= {name: list(islice(corpus.Corpus.of(data, name).pairs(), limit)) for name in names[1:]}  # read on later
    judging = {name: each for name, each in validation.items() if data.tag_of(name) is None}
    if plain:
        languages = (data.source_language, data.target_language)
        looked_at = {name: first[name] for name in plain} | judging
        doubts.report_doubts(looked_at, languages=languages, segmentation=data.segmentation)
    else:
        doubts.report_marks({**first, **validation}, data.segmentation)
    others = chain.from_iterable(corpus.Corpus.of(data, name).pairs() for name in names[1:])
    for block in in_blocks(chain(first[names[0]], one, others)):
        count += len(block)
        for reader in readers:
            reader(block)
    return count


def refuse_foreign_text(directory: Path) -> None:
    """Refuse a model directory in which files of somebody else have the names that a run would write.

    Ours are tokenizers that `tokenizer.json` describes, and what a build that was stopped left beside its config.

    Raises:
        ConfigError: naming the files.
    """
    found = [path.name for path in directories.entries(directory)]
    names = list(filter(directories.TEXT_FILES.fullmatch, found))
    if directories.CONFIG_NAME in found and not directories.holds_own_settings(directory):
        names.append(directories.CONFIG_NAME)
    elif TextPair.exists(directory):
        with suppress(DataError):
            TextPair.load(directory)
            names = []
    elif directories.CONFIG_NAME in found:
        names = []
    if directories.CONFIG_NAME not in found:
        others = (directories.METRICS_NAME, directories.LOG_NAME, directories.REPORT_NAME)
        names += [name for name in found if name in others]
    if names:
        raise ConfigError(
            f"{directory}: holds {', '.join(names)}, which nmt did not write and would replace: move it elsewhere "
            "(data.tokenizer.model takes a finished SentencePiece model), or choose another model_directory"
        )


def find_text(config: Config) -> TextPair | None:
    """Return the tokenizers in the model directory, if they are there and were built for the same settings.

    Tokenizers without a config beside them were put there by a person, and are taken as they are.

    Raises:
        DataError: they cannot be read.
        ConfigError: the config beside them cannot be read.
    """
    directory = Path(config.model_directory)
    if not TextPair.exists(directory):
        return None
    if (directory / directories.CONFIG_NAME).is_file() and not has_checkpoint(directory):
        settings = (load(directory / directories.CONFIG_NAME), config)
        before, now = (
            (
                s.data.tokenizer,
                s.data.normalization_forms,
                [vars(corpus.Corpus.of(s.data, name)) for name in s.data.names("train")],
                (s.data.tags, s.data.tag_side, bool(s.data.hints), s.seed),
            )
            for s in settings
        )
        if before != now:
            return None
    return TextPair.load(directory)


def save_text(config: Config, text: TextPair) -> None:
    """Save tokenizers and the config they were built for in the model directory.

    A stop in between leaves no whole tokenizers: those that are there belong to the config beside them.

    Raises:
        ConfigError: the config cannot be written.
        DataError: the tokenizers cannot be written.
    """
    directory = Path(config.model_directory)
    description = directory / FILE_NAME
    try:
        description.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{description}: cannot be replaced: {error.strerror}") from error
    write(config, directory / directories.CONFIG_NAME)
    text.save(directory)


class GatheredText:
    """What one reading of the training corpus keeps for its tokenizers: samples and counts, in bounded memory.

    Args:
        config: the run.
    """

    def __init__(self, config: Config) -> None:
        self.targets = Sample[str](CHECKED_PAIRS, seed=0)
        self.learner: TextLearner | None = None
        settings = config.data.tokenizer
        if not settings.model_paths:
            kind, forms = TOKENIZERS[settings.type], config.data.normalization_forms
            self.learner = TextLearner(
                kind, joint=settings.joint, normalization=forms, **settings_of(config, kind.learn)
            )

    def update(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Take in the next pairs of lines."""
        sides = list(zip(*pairs, strict=True))
        self.targets.update(sides[1])
        if self.learner is not None:
            for side, lines in enumerate(sides):
                self.learner.update(side, lines)


def begin_text(config: Config, gathered: GatheredText) -> Future[TextPair]:
    """Begin to make the tokenizers, as `build_text` does, in a thread: meanwhile TensorFlow can be imported."""
    logger.info("building the vocabulary")
    thread = ThreadPoolExecutor(1, thread_name_prefix="build-vocabulary")
    text = thread.submit(build_text, config, gathered)
    thread.shutdown(wait=False)
    # SentencePiece takes its lines one by one from Python, 50,000 a second if nothing else runs there, and then learns
    # by itself: an import that began at once would hold it up until its own end.
    wait([text], timeout=1.0)
    return text


def build_text(config: Config, gathered: GatheredText | None = None) -> TextPair:
    """Make the tokenizers of the training corpus; nothing is written.

    Args:
        config: the run.
        gathered: what was gathered of the corpus, and is used up here; unless given, its files are read, once.

    Raises:
        ConfigError: the settings do not fit the corpus.
        DataError: the corpus cannot be used.
    """
    if gathered is None:
        gathered = GatheredText(config)
        for block in in_blocks(corpus.pairs_of(config.data, "train")):
            gathered.update(block)
    settings = config.data.tokenizer
    if gathered.learner is None:
        paths = settings.model_paths
        tokenizers = [TOKENIZERS[settings.type].adopt(path) for path in paths]
        logger.info("tokenizer: %s as it is, with its own normalisation", " and ".join(paths))
        text = TextPair(tokenizers[0], tokenizers[-1], joint=settings.joint)
    else:
        text = gathered.learner.learn()
        size = max(len(text.source.vocabulary), len(text.target.vocabulary))
        if isinstance(settings, SentencePieceSettings) and size < settings.vocabulary_size:
            logger.info(
                "data.tokenizer.vocabulary_size allows %s tokens, but the corpus gives only %s",
                f"{settings.vocabulary_size:,}", f"{size:,}",
            )  # fmt: skip
    doubts.report_changed_targets(text.target, gathered.targets.lines)
    gathered.targets.lines.clear()
    text = text.with_tags(config.data.tags, config.data.tag_side)
    return text.with_hint_marks() if config.data.hints else text


def settings_of(config: Config, method: Callable[..., Tokenizer]) -> dict[str, Any]:
    """The settings of a run by which a tokenizer is learned or extended: those that the method has arguments for."""
    settings = {**config.data.tokenizer.model_dump(), "seed": config.seed}
    return {name: settings[name] for name in signature(method).parameters if name in settings}
