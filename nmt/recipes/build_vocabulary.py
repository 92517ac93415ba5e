"""Building the tokenizers of a run from its training corpus."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from inspect import signature
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nmt.checkpoint.folder import DirectoryLock
from nmt.checkpoint.index import has_checkpoint
from nmt.config import Config, SentencePieceSettings, load, write
from nmt.data import TokenStore
from nmt.data.corpus import doubts_about_sides, read_lines, read_pairs, refuse_one_file, refuse_pipes
from nmt.errors import ConfigError, DataError
from nmt.inference.model_directory import CONFIG_NAME, holds_own_settings
from nmt.inference.output_directory import LOG_NAME, METRICS_NAME, REPORT_NAME
from nmt.text import EOS_ID, PAD_ID, TOKENIZERS, UNK_ID, TextPair, Tokenizer
from nmt.text.marks import PIECES, TOKENS, found_marks, joined_side
from nmt.text.pair import TextLearner
from nmt.text.tokenizer import Sample, in_blocks, normalized
from nmt.text.vocabulary import MOST_UNKNOWN
from nmt.types import PathLike

logger = logging.getLogger(__name__)

TOKENIZER_NAME = "tokenizer.json"
"""The file that `TextPair.save` writes last, and without which there are no tokenizers."""


_WRITTEN = re.compile(r"tokenizer(\.\w+)?\.model|vocabulary(\.\w+)?\.txt")
"""The files that `TextPair.save` writes besides `tokenizer.json`."""

CHECKED_PAIRS = 100_000
"""Pairs from the beginning of a corpus that are looked at before a vocabulary is built."""

MEASURED_LINES = 20_000
"""Lines, or pairs of them, on which tokens are counted; of more a sample is drawn."""

_CHANGED_SHARE = 0.001
"""Share of the targets above which it is a warning that they cannot come back as they are."""

_EXAMPLES = 3


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
    train = config.data.train
    refuse_pipes({"data.train.source": train.source_paths, "data.train.target": train.target_paths})
    refuse_one_file("data.train", train.source_paths, train.target_paths)
    pairs = read_pairs(train.source_paths, train.target_paths)
    first_pairs = list(islice(pairs, CHECKED_PAIRS))
    report_sides(config, "train", first_pairs)
    report_marks(config, {"train": first_pairs})
    gathered, measured = GatheredText(config), Sample[tuple[str, str]](MEASURED_LINES, seed=0)
    for block in in_blocks(chain(first_pairs, pairs)):
        gathered.update(block)
        measured.update(block)
    text = build_text(config, gathered)
    source, target = zip(*measured.lines, strict=True)
    report_unknown("the training corpus", text.source.encode_batch(source), text.target.encode_batch(target))
    lock = DirectoryLock(directory)
    lock.acquire()
    try:
        save_text(config, text)
    finally:
        lock.release()
    return VocabularyResult(text, built=True)


def refuse_foreign_text(directory: Path) -> None:
    """Refuse a model directory in which files of somebody else have the names that a run would write.

    Ours are tokenizers that `tokenizer.json` describes, and what a build that was stopped left beside its config.

    Raises:
        ConfigError: naming the files.
    """
    found = {path.name for path in directory.glob("*")}
    names = sorted(filter(_WRITTEN.fullmatch, found))
    if CONFIG_NAME in found and not holds_own_settings(directory):
        names = [*names, CONFIG_NAME]
    elif TextPair.exists(directory):
        with suppress(DataError):
            TextPair.load(directory)
            names = []
    elif CONFIG_NAME in found:
        names = []
    if CONFIG_NAME not in found:
        names += sorted(found & {METRICS_NAME, LOG_NAME, REPORT_NAME})
    if names:
        raise ConfigError(
            f"{directory}: holds {', '.join(names)}, which nmt did not write and would replace: move it elsewhere "
            "(data.tokenizer.model takes a finished SentencePiece model), or choose another model_directory"
        )


def report_sides(config: Config, name: str, pairs: Sequence[tuple[str, str]]) -> None:
    """Say what looks wrong about the sides of a corpus.

    Args:
        config: the run.
        name: of the corpus, `train` or `validation`.
        pairs: its pairs of lines, all or the first.
    """
    languages = config.data.source_language, config.data.target_language
    for doubt in doubts_about_sides(f"data.{name}", pairs, languages=languages):
        logger.warning("%s", doubt)


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
    if (directory / CONFIG_NAME).is_file() and not has_checkpoint(directory):
        before = load(directory / CONFIG_NAME)
        if _text_depends_on(before) != _text_depends_on(config):
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
    description = directory / TOKENIZER_NAME
    try:
        description.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{description}: cannot be replaced: {error.strerror}") from error
    write(config, directory / CONFIG_NAME)
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
        if not _finished_models(config):
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
        gathered, train = GatheredText(config), config.data.train
        for block in in_blocks(read_pairs(train.source_paths, train.target_paths)):
            gathered.update(block)
    settings = config.data.tokenizer
    if gathered.learner is None:
        paths = _finished_models(config)
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
    report_changed_targets(text.target, gathered.targets.lines)
    gathered.targets.lines.clear()
    return text


def _finished_models(config: Config) -> tuple[str, ...]:
    settings = config.data.tokenizer
    return settings.model_paths if isinstance(settings, SentencePieceSettings) else ()


def report_marks(config: Config, corpora: Mapping[str, Sequence[tuple[str, str]]]) -> None:
    """Say which corpora look cut into pieces in a way that no setting names, or tokenised.

    Args:
        config: the run.
        corpora: pairs of lines by the name of their corpus, `train` or `validation`.
    """
    segmentation, texts = config.data.segmentation, {}
    for name, pairs in corpora.items():
        for side, lines in zip(("source", "target"), map(list, zip(*pairs, strict=True)), strict=True):
            texts[f"data.{name}.{side}"] = words = joined_side(lines, segmentation)
            if segmentation != "none" and words is lines:
                logger.warning(
                    "data.%s.%s has no marks of data.segmentation %s: cut all text in the same way, or set none if "
                    "nothing is cut",
                    name, side, segmentation,
                )  # fmt: skip
    as_pieces = "translations will be pieces, what is translated has to be, and BLEU of pieces is not that of words: "
    consequences = {
        TOKENS: "translations will look so too, what is translated has to, and BLEU cannot be compared with that of "
        "plain text: give plain text if there is some",
        PIECES: f"{as_pieces}join them with the program that cut them, and let nmt learn its own pieces",
    }
    for kind, words in found_marks(texts).items():
        joins = (
            f"{as_pieces}set data.segmentation {kind} in a new run to have words; nmt evaluate --join {kind} scores "
            "this one"
        )
        logger.warning("%s: %s", words, consequences.get(kind, joins))


def settings_of(config: Config, method: Callable[..., Tokenizer]) -> dict[str, Any]:
    """The settings of a run by which a tokenizer is learned or extended: those that the method has arguments for."""
    settings = {**config.data.tokenizer.model_dump(), "seed": config.seed}
    return {name: settings[name] for name in signature(method).parameters if name in settings}


def report_unknown(what: str, source: Iterable[Sequence[int]], target: Iterable[Sequence[int]]) -> None:
    """Log the share of tokens that are `<unk>`, which a model can neither read nor learn to write.

    Args:
        what: the text, in words.
        source: token ids of its lines, PAD and EOS not counted.
        target: likewise.
    """
    shares = [unknown_share(side) for side in (source, target)]
    sentence = f"unknown tokens in {what}: {shares[0]:.2%} of the source, {shares[1]:.2%} of the target"
    if max(shares) <= MOST_UNKNOWN:
        logger.info("%s", sentence)
    else:
        logger.warning(
            "%s: the model can neither read nor write what they stand for; a larger data.tokenizer.vocabulary_size or "
            "character_coverage, a lower minimum_count or type sentencepiece leaves fewer",
            sentence,
        )


def report_unknown_in_store(store: TokenStore) -> None:
    """Log the share of unknown tokens in an encoded training corpus, or in pairs spread evenly over it."""
    indices = np.arange(0, len(store), max(1, len(store) // MEASURED_LINES))
    blocks = np.array_split(indices, 1 + len(indices) // 1000)
    sides = ((row for block in blocks for row in side.padded(block)[0]) for side in (store.source, store.target))
    report_unknown("the training corpus", *sides)


def unknown_share(sequences: Iterable[Sequence[int]]) -> float:
    """Return the share of `<unk>` among the tokens of sequences, PAD and EOS not counted; 0 where there are none."""
    unknown = tokens = 0
    for sequence in sequences:
        token_ids = np.asarray(sequence)
        unknown += int(np.count_nonzero(token_ids == UNK_ID))
        tokens += int(np.count_nonzero((token_ids != PAD_ID) & (token_ids != EOS_ID)))
    return unknown / max(1, tokens)


def report_changed_targets(tokenizer: Tokenizer, lines: Sequence[str]) -> None:
    """Say how many targets a model could never write as they are, and why: they come back from their tokens changed.

    A word that is not in a vocabulary of words is no surprise, and not counted.

    Args:
        tokenizer: of the target.
        lines: of the target, or a sample of them.
    """
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    token_ids = tokenizer.encode_batch(lines)
    for line, ids in zip(lines, token_ids, strict=True):
        wanted, given = normalized(line, "nfc"), tokenizer.decode(ids)
        if given == wanted or (UNK_ID in ids and tokenizer.type == "whitespace"):
            continue
        if UNK_ID in ids:
            cause = "with unknown characters"
        elif normalized(tokenizer.normalized(line), "nfc") != wanted:
            cause = "folded by normalisation (data.normalization.target, or the rule of a finished model)"
        else:
            cause = "with signs that the tokenizer uses itself, such as ▁"
        found[cause].append((wanted, given))
    count = sum(map(len, found.values()))
    if not count:
        return
    level = logging.WARNING if count > _CHANGED_SHARE * len(lines) else logging.INFO
    logger.log(level, "%s of %s targets cannot be written by the model as they are:", f"{count:,}", f"{len(lines):,}")
    for cause, pairs in found.items():
        logger.log(level, "  %s %s, for example:", f"{len(pairs):,}", cause)
        for wanted, given in pairs[:_EXAMPLES]:
            logger.log(level, "    %s", _difference(wanted, given))


def _difference(wanted: str, given: str) -> str:
    """The place where two lines begin to differ, with a little around it."""
    start = next(
        (i for i, (a, b) in enumerate(zip(wanted, given, strict=False)) if a != b), min(len(wanted), len(given))
    )
    begin = max(start - 10, 0)
    return f"{wanted[begin : begin + 30]!r} becomes {given[begin : begin + 30]!r}"


def text_lines(paths: Sequence[PathLike]) -> Iterator[str]:
    """Yield the lines of files that hold text.

    Raises:
        DataError: a file cannot be read, or all its lines are empty.
    """
    for path in paths:
        has_text = False
        for line in read_lines(path):
            has_text = has_text or bool(line.strip())
            yield line
        if not has_text:
            raise DataError(f"{path}: must have text to learn tokens from, got only empty lines")


def _text_depends_on(config: Config) -> tuple[object, ...]:
    train = config.data.train
    return config.data.tokenizer, config.data.normalization_forms, train.source_paths, train.target_paths, config.seed
