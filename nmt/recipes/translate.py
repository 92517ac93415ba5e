"""Translating text with a trained model, and scoring what it makes of a test set."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from nmt.config import Config
from nmt.data import Corpus, doubts
from nmt.errors import ConfigError
from nmt.inference import evaluation as scoring
from nmt.inference import model_directory, output_directory
from nmt.inference.translation import LineTranslator, Progress, Tally, Translation, check_num_hypotheses
from nmt.text.marks import TOKENS, foreign_script, found_marks, in_words
from nmt.types import PathLike

logger = logging.getLogger(__name__)

_SAMPLE_LINES = 1000


class TranslatedLine(NamedTuple):
    """A line of the source and its translations, best first."""

    source: str
    translations: list[Translation]


def prepare_translation(
    directory: PathLike,
    *,
    ctranslate2: bool = False,
    num_hypotheses: int = 1,
    checkpoint: str | None = None,
    weights: str | None = None,
    overrides: Sequence[str] = (),
    threads: int | None = None,
    input_path: PathLike | None = None,
    output_path: PathLike | None = None,
) -> Callable[..., Iterator[TranslatedLine]]:
    """Refuse what can be refused before anything is opened, and return what translates.

    Args:
        directory: the model directory, or a checkpoint in it.
        ctranslate2: whether that engine computes; the directory is then what `nmt export` wrote, and TensorFlow is not
            loaded at all.
        num_hypotheses: translations wanted a line.
        checkpoint: `best`, `latest` or `update-N`; the best, else the latest unless given.
        weights: `ema` or `raw`; unless given the moving average if it was kept, or what validation found better.
        overrides: settings of the form "search.beam_size=4".
        threads: processor cores to use; all unless given.
        input_path: where the lines come from, None for standard input; named if the output would replace it.
        output_path: where the translations go, None for standard output.

    Returns:
        A function of chunks of lines, and of what is told of every batch how many lines it held (or None). It opens the
        model, raising an NMTError if anything is wrong with it, and returns the translations of the lines in order.
        The lines of a chunk are sorted by length and translated together when the first of them is asked for.

    Raises:
        NMTError: as `find_model`; or more hypotheses are wanted than the beam holds, or the output may not be written,
            or the package of the engine is missing.
    """
    if ctranslate2:
        from nmt.inference import ctranslate2_engine as engine

        config = model_directory.read_export_settings(directory, overrides)
        engine.load_package()
    else:
        found = model_directory.find_model(directory, checkpoint=checkpoint, weights=weights, overrides=overrides)
        directory, config = found.directory, found.config
    check_num_hypotheses(num_hypotheses, config.search)
    output_directory.refuse_output(output_path, inputs=[("--input", input_path)], directory=directory, config=config)

    def open_translator() -> LineTranslator:
        """Start what computes, and open the model."""
        if ctranslate2:
            return engine.CTranslate2Translator.open(directory, config, threads=threads)
        from nmt.backend import session

        session.start(threads=threads, a_core_each=True)

        from nmt.inference.translator import Translator, open_found

        return Translator.of(open_found(found))

    def translated(
        chunks: Iterable[Sequence[str]], translator: LineTranslator, progress: Progress | None
    ) -> Iterator[TranslatedLine]:
        """Translate chunk by chunk."""
        tally, sample = Tally(), list[str]()
        for chunk in chunks:
            sample += chunk[: _SAMPLE_LINES - len(sample)]
            best = translator.n_best(chunk, num_hypotheses, progress=progress, tally=tally)
            yield from map(TranslatedLine, chunk, best)
        # What is to be said about the lines is said of all together.
        tally.report_unknown()
        tally.report()
        warn_of_foreign_text(sample, config.data.source_language, segmentation=translator.segmentation)

    return lambda chunks, progress=None: translated(chunks, open_translator(), progress)


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
    beam_size: of the search.
    length_penalty: of the search.
    source: paths of what was translated.
    reference: paths of what it was compared with.
    """

    evaluation: scoring.Evaluation
    hypotheses: list[str]
    checkpoint: str
    weights: str
    beam_size: int
    length_penalty: float
    source: tuple[str, ...]
    reference: tuple[str, ...]


class PreparedEvaluation(NamedTuple):
    """A model and a test set that were found.

    test_set: what is translated.
    run: translates it and scores the translations, every line of them. It takes `threads`, processor cores to use, or
        all unless given, and `progress`, which is told of every batch how many lines it held; it raises an NMTError
        if the model cannot be opened.
    """

    test_set: EvaluationSet
    run: Callable[..., ModelEvaluation]


def prepare_evaluation(
    directory: PathLike,
    *,
    source: PathLike | None = None,
    references: Sequence[PathLike] = (),
    checkpoint: str | None = None,
    weights: str | None = None,
    overrides: Sequence[str] = (),
    tokenization: str | None = None,
    lowercase: bool = False,
    join: str | None = None,
    output_path: PathLike | None = None,
) -> PreparedEvaluation:
    """Read a test set, and refuse what can be refused before TensorFlow starts.

    Args:
        directory: the model directory, or a checkpoint in it.
        source: text to translate; with `references` in place of the test set of the model's config.
        references: its translations, a file each.
        checkpoint: `best`, `latest` or `update-N`; the best, else the latest unless given.
        weights: `ema` or `raw`; unless given the moving average if it was kept, or what validation found better.
        overrides: settings of the form "search.beam_size=4".
        tokenization: how BLEU cuts text; as in validations of the run unless given.
        lowercase: whether the scores ignore case.
        join: how words of both sides were cut, which are joined before they are scored; as in the model's config
            unless given.
        output_path: where the translations go, if anywhere.

    Raises:
        NMTError: there is no such model, no test set, its files do not fit, or the output may not be written.
    """
    found = model_directory.find_model(directory, checkpoint=checkpoint, weights=weights, overrides=overrides)
    if output_path is not None:
        inputs = [("--source", source), *(("--reference", path) for path in references)] if source else []
        output_directory.refuse_output(output_path, inputs=inputs, directory=found.directory, config=found.config)
    test_set, data = read_test_set(found.config, source=source, references=references), found.config.data
    joined = join or data.segmentation
    scoring.check_segmentation(joined)
    cut = tokenization_of(found.config, test_set, tokenization)

    def run(*, threads: int | None = None, progress: Progress | None = None) -> ModelEvaluation:
        """Translate the test set and score the translations."""
        from nmt.backend import session

        session.start(threads=threads, a_core_each=True)

        from nmt.inference.translator import Translator, open_found

        opened, lines = open_found(found), test_set.source_lines
        doubts.report_unknown(
            "the test set",
            opened.text.source.encode_batch(lines),
            opened.text.target.encode_batch(list(chain(*test_set.references))),
        )
        warn_of_foreign_text(lines, data.source_language, segmentation=data.segmentation)
        translator, tally = Translator.of(opened), Tally()
        hypotheses = translator.translate(lines, progress=progress, tally=tally)
        tally.report()
        evaluation = scoring.evaluate_lines(
            hypotheses, *test_set.references, tokenization=cut, lowercase=lowercase, join=joined
        )
        search, paths = translator.search, (test_set.source_paths, test_set.reference_paths)
        which = opened.checkpoint, opened.weights, search.beam_size, search.length_penalty
        return ModelEvaluation(evaluation, hypotheses, *which, *paths)

    return PreparedEvaluation(test_set, run)


def tokenization_of(config: Config, test_set: EvaluationSet, tokenization: str | None = None) -> str:
    """Return how BLEU cuts text: as told, else as in validations of the run.

    Validations of version 0.1.0 knew few languages. Here the one that suits is taken then, and the difference is said.

    Raises:
        ConfigError: the tokenisation cannot be used.
    """
    language, of_run = config.data.target_language, config.training.validation_tokenization
    given = tokenization or (None if of_run == "auto" else of_run)
    settled = scoring.settled_tokenization(given, test_set.references, language=language)
    if given is None and of_run is None and settled != scoring.earlier_tokenization(language):
        logger.warning(
            "BLEU cuts text by %s here; validations of this run did by %s",
            settled,
            scoring.earlier_tokenization(language),
        )
    return settled


def read_test_set(
    config: Config, *, source: PathLike | None = None, references: Sequence[PathLike] = ()
) -> EvaluationSet:
    """Read a source and its references, or the test set of a config if none are given; no line is left out.

    Args:
        config: of the model.
        source: a file.
        references: as many lines each.

    Raises:
        ConfigError: one side is missing, or the config has no test set.
        DataError: the files cannot be read or differ in their number of lines.
    """
    if source is not None and references:
        source_lines, *all_references = scoring.read_together(source, *references)
        paths = tuple(os.fspath(path) for path in references)
        return EvaluationSet((os.fspath(source),), paths, source_lines, all_references)
    if source is not None or references:
        raise ConfigError("a test set has two sides: give both a source and a reference, or neither for data.test")
    if config.data.test is None:
        raise ConfigError(
            "data.test is not set for this model: give a source and a reference (--source, --reference), or set "
            "data.test.source and data.test.target"
        )
    test = config.data.test
    sources, targets = map(list, zip(*Corpus(*test.paths).pairs(), strict=True))
    return EvaluationSet(*test.paths, sources, [targets])
