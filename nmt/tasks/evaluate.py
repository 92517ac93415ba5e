"""Scoring what a trained model, or several together, make of a test set."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from types import MappingProxyType
from typing import Any, NamedTuple

from nmt.config import Config
from nmt.control.controls import Control
from nmt.data import Corpus
from nmt.doctor import doubts
from nmt.errors import ConfigError
from nmt.inference.members import Member, warn_of_no_tag
from nmt.scoring import evaluation as scoring
from nmt.tasks.engines import Engines
from nmt.tasks.translate import warn_of_foreign_text
from nmt.translation.line_translator import Progress, Tally
from nmt.types import PathLike

logger = logging.getLogger(__name__)


class EvaluationSet(NamedTuple):
    """Text to translate and its translations by people, line for line.

    source_paths: where the text is from.
    reference_paths: where the references are from: files of one reference, or a file for each.
    source_lines: the text.
    references: all lines of each reference.
    sets: of several named sets, one behind the other, the lines of each.
    controls: the tag of each line.
    """

    source_paths: tuple[str, ...]
    reference_paths: tuple[str, ...]
    source_lines: list[str]
    references: list[list[str]]
    sets: Mapping[str, range] = MappingProxyType({})
    controls: Sequence[Control] | None = None


class ModelEvaluation(NamedTuple):
    """How well a model, or several together, translate a test set.

    evaluation: the scores.
    hypotheses: the translations, line by line.
    members: the models.
    log_linear: whether their mean was that of log probabilities.
    engine: what computed, `keras` or `ctranslate2`.
    beam_size: of the search.
    length_penalty: of the search.
    shortlist: whether it looked at the tokens of a shortlist alone.
    source: paths of what was translated.
    reference: paths of what it was compared with.
    sets: the scores of each of several named sets; `evaluation` is of all their lines then.
    """

    evaluation: scoring.Evaluation
    hypotheses: list[str]
    members: tuple[Member, ...]
    log_linear: bool
    engine: str
    beam_size: int
    length_penalty: float
    shortlist: bool
    source: tuple[str, ...]
    reference: tuple[str, ...]
    sets: Mapping[str, scoring.Evaluation] = MappingProxyType({})


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
    *others: PathLike,
    engine: str | None = None,
    source: PathLike | None = None,
    references: Sequence[PathLike] = (),
    checkpoint: str | None = None,
    weights: str | None = None,
    overrides: Sequence[str] = (),
    tokenization: str | None = None,
    lowercase: bool = False,
    join: str | None = None,
    output_path: PathLike | None = None,
    member_weights: Sequence[float] | None = None,
    log_linear: bool = False,
    tag: str | None = None,
) -> PreparedEvaluation:
    """Read a test set, and refuse what can be refused before TensorFlow starts.

    Args:
        directory: the model directory, or a checkpoint in it, as RUN@best.
        others: of models that translate together with the first, which says how to search.
        engine: what computes, `auto`, `keras` or `ctranslate2`; as `search.engine` says unless given.
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
        member_weights: of each model in their mean; equal unless given.
        log_linear: whether that is the mean of log probabilities instead of probabilities.
        tag: of each line of `source`; the test sets of the config have their own.

    Raises:
        NMTError: as `find_members`; or there is no test set, its files do not fit, or the output may not be written.
    """
    which: dict[str, Any] = {"checkpoint": checkpoint, "weights": weights, "overrides": overrides}
    engines = Engines([directory, *others], engine, member_weights=member_weights, log_linear=log_linear, **which)
    found = engines.found
    if output_path is not None:
        inputs = [("--source", source), *(("--reference", path) for path in references)] if source else []
        engines.refuse_output(output_path, inputs)
    config = found[0].config
    test_set, data = read_test_set(config, source=source, references=references, tag=tag), config.data
    warn_of_no_tag(found if source is not None and tag is None else ())
    joined = join or data.segmentation
    scoring.check_segmentation(joined)
    cut = tokenization_of(config, test_set, tokenization)

    def run(*, threads: int | None = None, progress: Progress | None = None) -> ModelEvaluation:
        """Translate the test set and score the translations."""
        engines.threads, lines = threads, test_set.source_lines
        chosen = engines.choose(len(lines))
        translator, opened = engines.open()
        doubts.report_unknown(
            "the test set",
            translator.text.source.encode_batch(lines),
            translator.text.target.encode_batch(list(chain(*test_set.references))),
        )
        warn_of_foreign_text(lines, data.source_language, segmentation=data.segmentation)
        tally = Tally()
        hypotheses = translator.translate(lines, progress=progress, tally=tally, controls=test_set.controls)
        tally.report()
        every, score = range(len(lines)), partial(scoring.evaluate_lines, tokenization=cut, lowercase=lowercase)
        evaluation, *named = (
            score(*([side[at] for at in of_set] for side in (hypotheses, *test_set.references)), join=joined)
            for of_set in (every, *test_set.sets.values())
        )
        given = member_weights or [1.0] * len(found)
        members = tuple(
            Member(os.fspath(one.directory), *which, weight / sum(given))
            for one, which, weight in zip(found, opened, given, strict=True)
        )
        search, paths = translator.search, (test_set.source_paths, test_set.reference_paths)
        how = log_linear, chosen.name, search.beam_size, search.length_penalty, search.shortlist
        sets = dict(zip(test_set.sets, named, strict=True))
        return ModelEvaluation(evaluation, hypotheses, members, *how, *paths, sets)

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
    config: Config,
    *,
    source: PathLike | None = None,
    references: Sequence[PathLike] = (),
    part: str = "test",
    tag: str | None = None,
) -> EvaluationSet:
    """Read a source and its references, or a part of a config's data if none are given; no line is left out.

    Args:
        config: of the model.
        source: a file.
        references: as many lines each.
        part: `test` or `validation`.
        tag: of the lines of that file.

    Raises:
        ConfigError: one side is missing, or the config has no such part.
        DataError: the files cannot be read or differ in their number of lines.
    """
    if source is not None and references:
        source_lines, *all_references = scoring.read_together(source, *references)
        paths = tuple(os.fspath(path) for path in references)
        controls = [Control(tag=tag)] * len(source_lines)
        return EvaluationSet((os.fspath(source),), paths, source_lines, all_references, controls=controls)
    if source is not None or references:
        raise ConfigError(f"a test set has two sides: give both a source and a reference, or neither for data.{part}")
    names = config.data.names(part)
    if not names:
        raise ConfigError(
            f"data.{part} is not set for this model: give a source and a reference (--source, --reference), or set "
            f"data.{part}.source and data.{part}.target"
        )
    pairs, sets, controls = list[tuple[str, str]](), dict[str, range](), list[Control]()
    source_paths, reference_paths = (
        tuple(chain.from_iterable(config.data.corpora[name].paths[side] for name in names)) for side in (0, 1)
    )
    for name in names:
        begin = len(pairs)
        pairs += Corpus.of(config.data, name).pairs()
        controls += [Control(tag=config.data.tag_of(name))] * (len(pairs) - begin)
        if "." in name:
            sets[name.partition(".")[2]] = range(begin, len(pairs))
    sources, targets = map(list, zip(*pairs, strict=True))
    return EvaluationSet(source_paths, reference_paths, sources, [targets], sets, controls)
