"""Translating text with a trained model."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from nmt.checkpoint.index import split_checkpoint
from nmt.config import Config, SearchSettings
from nmt.data.corpus import read_pairs
from nmt.errors import ConfigError
from nmt.inference.evaluation import Evaluation, evaluate_lines, read_together, settled_tokenization
from nmt.inference.model_directory import read_export_settings, read_settings
from nmt.inference.tokenization import earlier_tokenization
from nmt.recipes.new_vocabulary import report_unknown
from nmt.text.marks import TOKENS, foreign_script, found_marks, in_words
from nmt.types import PathLike

if TYPE_CHECKING:
    from nmt.inference.translation import LineTranslator, Translation

_SAMPLE_LINES = 1000
logger = logging.getLogger(__name__)


class TranslatedLine(NamedTuple):
    """A line of the source and its translations, best first."""

    source: str
    translations: list[Translation]


def translate(
    directory: PathLike,
    chunks: Iterable[Sequence[str]],
    *,
    num_hypotheses: int = 1,
    checkpoint: str | None = None,
    weights: str | None = None,
    overrides: Sequence[str] = (),
    progress: Callable[[int], None] | None = None,
) -> Iterator[TranslatedLine]:
    """Translate lines that come in chunks, each chunk when it comes, in order.

    The model is opened, and whatever is wrong with it raised, before the first line is asked for.

    Args:
        directory: the model directory, or a checkpoint in it.
        chunks: lines of raw text; those of one chunk are sorted by length and translated together.
        num_hypotheses: translations wanted a line.
        checkpoint: `best`, `latest` or `update-N`; the best, else the latest unless given.
        weights: `ema` or `raw`; unless given the moving average where it was kept, or what validation found better.
        overrides: settings of the form "search.beam_size=4".
        progress: is told of every batch how many lines it held.

    Returns:
        Each line with its translations.

    Raises:
        NMTError: as `Translator.load`, or more hypotheses are wanted than the beam holds.
    """
    directory, checkpoint = split_checkpoint(directory, checkpoint)
    check_num_hypotheses(num_hypotheses, read_settings(directory, overrides).search)

    from nmt.inference.translator import Translator, open_model

    opened = open_model(directory, checkpoint=checkpoint, weights=weights, overrides=overrides)
    config = opened.config
    translator = Translator(opened.model, opened.text, config.search, segmentation=config.data.segmentation)
    language = config.data.source_language
    return _translated(chunks, translator, language, num_hypotheses=num_hypotheses, progress=progress)


def translate_with_ctranslate2(
    directory: PathLike,
    chunks: Iterable[Sequence[str]],
    *,
    num_hypotheses: int = 1,
    threads: int | None = None,
    overrides: Sequence[str] = (),
    progress: Callable[[int], None] | None = None,
) -> Iterator[TranslatedLine]:
    """Translate lines as `translate` does, with an export of the model in place of the model.

    Args:
        directory: what `nmt export` wrote.
        chunks: lines of raw text; those of one chunk are sorted by length and translated together.
        num_hypotheses: translations wanted a line.
        threads: processor cores to use; all unless given.
        overrides: settings of the form "search.beam_size=4".
        progress: is told of every batch how many lines it held.

    Returns:
        Each line with its translations.

    Raises:
        NMTError: as `CTranslate2Translator.load`, or more hypotheses are wanted than the beam holds.
    """
    config = read_export_settings(directory, overrides)
    check_num_hypotheses(num_hypotheses, config.search)

    from nmt.inference.ctranslate2_engine import CTranslate2Translator

    translator = CTranslate2Translator.load(directory, threads=threads, overrides=overrides)
    language = config.data.source_language
    return _translated(chunks, translator, language, num_hypotheses=num_hypotheses, progress=progress)


def _translated(
    chunks: Iterable[Sequence[str]],
    translator: LineTranslator,
    language: str,
    *,
    num_hypotheses: int,
    progress: Callable[[int], None] | None,
) -> Iterator[TranslatedLine]:
    """Translate chunk by chunk; what is to be said about the lines is said of all together, at the end."""
    from nmt.inference.translation import Tally

    tally, sample = Tally(), list[str]()
    for chunk in chunks:
        sample += chunk[: _SAMPLE_LINES - len(sample)]
        found = translator.n_best(chunk, num_hypotheses, progress=progress, tally=tally)
        for source, translations in zip(chunk, found, strict=True):
            yield TranslatedLine(source, translations)
    tally.report_unknown()
    tally.report()
    warn_of_foreign_text(sample, language, segmentation=translator.segmentation)


def warn_of_foreign_text(lines: Sequence[str], language: str, *, segmentation: str) -> None:
    """Say that text is in a script that the source language of a model does not have, or is cut in another way.

    Args:
        lines: the text, or its first lines.
        language: that the model translates from.
        segmentation: how the text was cut that it learned from.
    """
    marks = {kind: words for kind, words in found_marks({"the text": lines}).items() if kind != TOKENS}
    if segmentation == "none":
        for words in marks.values():
            logger.warning("%s, which the model never saw: give it plain text", words)
    elif lines and segmentation not in marks:
        logger.warning("the text has no marks of %s, which the model learned from: cut it first", segmentation)
    script = foreign_script(lines, language)
    if script is not None:
        logger.warning("the text is in %s, but the model translates from %s", in_words(script), language)


def check_num_hypotheses(num_hypotheses: int, settings: SearchSettings) -> None:
    """Refuse to look for more hypotheses than the beam holds.

    Raises:
        ConfigError: with the beam size that it takes.
    """
    if not 1 <= num_hypotheses <= settings.beam_size:
        raise ConfigError(
            f"the number of hypotheses must be 1 to search.beam_size, got {num_hypotheses} and {settings.beam_size}: "
            f"set the beam size to {num_hypotheses}"
        )


class EvaluationSet(NamedTuple):
    """Text to translate and its translations by people, line for line.

    source_paths: where the text is from.
    reference_paths: where the references are from: files of one reference, or a file for each.
    source_lines: the text.
    references: all lines of each reference.
    """

    source_paths: tuple[str, ...]
    reference_paths: tuple[str, ...]
    source_lines: list[str]
    references: list[list[str]]


class ModelEvaluation(NamedTuple):
    """How well a model translates a test set.

    evaluation: the scores.
    hypotheses: its translations, line by line.
    checkpoint: name of the checkpoint that was used.
    weights: `ema` or `raw`.
    source_paths: what was translated.
    reference_paths: what it was compared with.
    beam_size: of the search.
    length_penalty: of the search.
    """

    evaluation: Evaluation
    hypotheses: list[str]
    checkpoint: str
    weights: str
    source_paths: tuple[str, ...]
    reference_paths: tuple[str, ...]
    beam_size: int
    length_penalty: float


def evaluate(
    directory: PathLike,
    test_set: EvaluationSet | None = None,
    *,
    checkpoint: str | None = None,
    weights: str | None = None,
    overrides: Sequence[str] = (),
    tokenization: str | None = None,
    lowercase: bool = False,
    join: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> ModelEvaluation:
    """Translate a test set and score the translations; every line counts.

    Args:
        directory: the model directory, or a checkpoint in it.
        test_set: from `read_test_set`; that of the model's config unless given.
        checkpoint: `best`, `latest` or `update-N`; the best, else the latest unless given.
        weights: `ema` or `raw`; unless given the moving average where it was kept, or what validation found better.
        overrides: settings of the form "search.beam_size=4".
        tokenization: how BLEU cuts text; as in validations of the run unless given.
        lowercase: whether the scores ignore case.
        join: how words of both sides were cut, which are joined before they are scored; as in the model's config
            unless given.
        progress: is told of every batch how many lines it held.

    Raises:
        NMTError: there is no such model, no test set, or its files do not fit.
    """
    directory, checkpoint = split_checkpoint(directory, checkpoint)
    config = read_settings(directory, overrides)
    test_set = test_set or read_test_set(config)
    tokenization = tokenization_of(config, test_set, tokenization)

    from nmt.inference.translation import Tally
    from nmt.inference.translator import Translator, open_model

    opened = open_model(directory, checkpoint=checkpoint, weights=weights, overrides=overrides)
    search, text = opened.config.search, opened.text
    report_unknown(
        "the test set",
        text.source.encode_batch(test_set.source_lines),
        text.target.encode_batch([line for reference in test_set.references for line in reference]),
    )
    segmentation = opened.config.data.segmentation
    warn_of_foreign_text(test_set.source_lines, config.data.source_language, segmentation=segmentation)
    translator, tally = Translator(opened.model, text, search, segmentation=segmentation), Tally()
    hypotheses = translator.translate(test_set.source_lines, progress=progress, tally=tally)
    tally.report()
    return ModelEvaluation(
        evaluate_lines(
            hypotheses, *test_set.references, tokenization=tokenization, lowercase=lowercase, join=join or segmentation
        ),
        hypotheses,
        checkpoint=opened.checkpoint,
        weights=opened.weights,
        source_paths=test_set.source_paths,
        reference_paths=test_set.reference_paths,
        beam_size=search.beam_size,
        length_penalty=search.length_penalty,
    )


def tokenization_of(config: Config, test_set: EvaluationSet, tokenization: str | None = None) -> str:
    """Return how BLEU cuts text: as told, else as in validations of the run.

    Validations of version 0.1.0 knew few languages. Here the one that suits is taken then, and the difference is said.

    Raises:
        ConfigError: the tokenisation cannot be used.
    """
    language, of_run = config.data.target_language, config.training.validation_tokenization
    given = tokenization or (None if of_run == "auto" else of_run)
    settled = settled_tokenization(given, test_set.references, language=language)
    if given is None and of_run is None and settled != earlier_tokenization(language):
        logger.warning(
            "BLEU cuts text by %s here; validations of this run did by %s", settled, earlier_tokenization(language)
        )
    return settled


def read_test_set(
    config: Config, *, source: PathLike | None = None, references: Sequence[PathLike] = ()
) -> EvaluationSet:
    """Read a source and its references, or the test set of a config where none are given; no line is left out.

    Args:
        config: of the model.
        source: a file.
        references: as many lines each.

    Raises:
        ConfigError: one side is missing, or the config has no test set.
        DataError: the files cannot be read or differ in their number of lines.
    """
    if source is not None and references:
        source_lines, *all_references = read_together(source, *references)
        return EvaluationSet(
            (os.fspath(source),), tuple(os.fspath(path) for path in references), source_lines, all_references
        )
    if source is not None or references:
        raise ConfigError("a test set has two sides: give both a source and a reference, or neither for data.test")
    if config.data.test is None:
        raise ConfigError(
            "data.test is not set for this model: give a source and a reference (--source, --reference), or set "
            "data.test.source and data.test.target"
        )
    paths = config.data.test.source_paths, config.data.test.target_paths
    pairs = list(read_pairs(*paths))
    return EvaluationSet(*paths, [source for source, _ in pairs], [[target for _, target in pairs]])
