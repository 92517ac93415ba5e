"""Scoring a model on a test set, or translations that exist already."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from nmt.checkpoint.selection import split_checkpoint
from nmt.config import Config
from nmt.data.corpus import read_pairs
from nmt.errors import ConfigError
from nmt.inference.evaluation import Evaluation, evaluate_lines, read_together, settled_tokenization
from nmt.inference.model_directory import read_settings
from nmt.inference.tokenization import earlier_tokenization
from nmt.recipes.text_measure import report_unknown
from nmt.recipes.translate import warn_of_foreign_text
from nmt.types import PathLike

logger = logging.getLogger(__name__)


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

    from nmt.inference.opening import open_model
    from nmt.inference.translation import Tally
    from nmt.inference.translator import Translator

    opened = open_model(directory, checkpoint=checkpoint, weights=weights, overrides=overrides)
    search, text = opened.config.search, opened.text
    report_unknown(
        "the test set",
        text.source.encode_batch(test_set.source_lines),
        text.target.encode_batch([line for reference in test_set.references for line in reference]),
    )
    warn_of_foreign_text(test_set.source_lines, config.data.source_language)
    segmentation = opened.config.data.segmentation
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
