"""A trained model with another vocabulary: all it has learned about the tokens that remain goes along."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nmt.adaptation import derived
from nmt.checkpoint.derived import RowMapping, change_vocabulary
from nmt.checkpoint.manifest import ANCHOR, VALIDATION
from nmt.config import Config, SearchSettings, changed_settings, load
from nmt.data import encoding
from nmt.data.corpus import holds_both_sides, kind_of, pairs_of
from nmt.data.lines import read_lines, text_lines
from nmt.directory import model_directory
from nmt.doctor import doubts
from nmt.errors import ConfigError, DataError
from nmt.inference import output_directory
from nmt.kinds import either
from nmt.recipes import build_vocabulary, train
from nmt.settings.config import LEAST_AUTO_LENGTH, LEAST_AUTO_RATIO
from nmt.settings.data import DataSettings
from nmt.settings.section import AUTO
from nmt.text import SentencePieceTokenizer, TextPair, Tokenizer, marks, pair
from nmt.text.tokenizer import sample_lines
from nmt.training.state import Pending, TrainingState
from nmt.translation.lengths import settle_limits
from nmt.types import PathLike

MEASURED_PAIRS = 100_000
"""Pairs of the training corpus by which limits of length are found; of more a sample is drawn."""

_LOGGER = logging.getLogger(__name__)

_MAY_CHANGE = re.compile(
    r"data\.(?!tokenizer\.|normalization\.)|data\.tokenizer\.(vocabulary_size|minimum_count|character_coverage):"
)
"""What is left open: what text there is, and how many tokens are learned from it."""


class SideFiles(NamedTuple):
    """Files that say something about vocabularies.

    both: about the joint vocabulary.
    source, target: about the vocabulary of one side.
    """

    both: tuple[PathLike, ...] = ()
    source: tuple[PathLike, ...] = ()
    target: tuple[PathLike, ...] = ()


NO_FILES = SideFiles()


def files_by_vocabulary(text: TextPair, files: SideFiles) -> dict[str, tuple[PathLike, ...]]:
    """Return the files of each vocabulary, by `joint`, or by `source` and `target`; a side may have none.

    Raises:
        ConfigError: files are given for vocabularies that the model does not have.
    """
    if text.joint and (files.source or files.target):
        raise ConfigError(
            "this model has one vocabulary for both languages: give files for both (--with, --tokenizer), not for a "
            "side"
        )
    if not text.joint and files.both:
        raise ConfigError(
            "this model has a vocabulary for each language: say whose files these are (--with-source and "
            "--with-target, --source-tokenizer and --target-tokenizer)"
        )
    given = {"joint": files.both, "source": files.source, "target": files.target}
    return {name: paths for name, paths in given.items() if paths}


def extended_text(
    config: Config,
    text: TextPair,
    corpora: SideFiles,
    *,
    minimum_count: int | None = None,
    max_new_tokens: int | None = None,
) -> TextPair:
    """Append the tokens that text has and a vocabulary lacks; old tokens keep their ids.

    Args:
        config: of the model; its tokenizer settings are those for learning from the text.
        text: the tokenizers of the model.
        corpora: text of both languages, or of each.
        minimum_count: tokens that occur less often are left out; as configured, else 1, unless given.
        max_new_tokens: how many tokens a vocabulary may gain.

    Raises:
        ConfigError: files are given for vocabularies that the model does not have.
        DataError: a file cannot be read or has no text.
    """

    def extend(tokenizer: Tokenizer, paths: Sequence[PathLike]) -> Tokenizer:
        """Extend one vocabulary."""
        settings = build_vocabulary.settings_of(config, tokenizer.extend) | {"max_new_tokens": max_new_tokens}
        if minimum_count is not None:
            settings["minimum_count"] = minimum_count
        return tokenizer.extend(text.lines_to_learn(text_lines(paths)), **settings)

    return _changed(config, text, corpora, extend)


def learned_text(config: Config, text: TextPair, corpora: SideFiles) -> TextPair:
    """Learn vocabularies anew from text alone, with the tokenizer settings of the config.

    Args and errors: as for `extended_text`.
    """

    def learn(tokenizer: Tokenizer, paths: Sequence[PathLike]) -> Tokenizer:
        """Learn one vocabulary."""
        kind, form = type(tokenizer), tokenizer.normalization
        if form is None and isinstance(tokenizer, SentencePieceTokenizer):  # what its file says is in no settings
            form = config.data.normalization_forms[0 if tokenizer is text.source else 1]
        lines = map(tokenizer.normalized, text.lines_to_learn(text_lines(paths)))
        learned = kind.learn(lines, **build_vocabulary.settings_of(config, kind.learn)).with_normalization(form)
        return learned.with_tags(tokenizer.tags)

    return _changed(config, text, corpora, learn)


def adopted_text(config: Config, text: TextPair, files: SideFiles) -> TextPair:
    """Read finished vocabularies of the kind that the model has: SentencePiece models, or lists of tokens.

    Args:
        config: of the model.
        text: its tokenizers.
        files: one for the joint vocabulary, or one per side.

    Raises:
        ConfigError: files are given for vocabularies that the model does not have.
        DataError: a file cannot be read, or is no such vocabulary.
    """

    def adopt(tokenizer: Tokenizer, paths: Sequence[PathLike]) -> Tokenizer:
        """Read one vocabulary."""
        adopted, form = type(tokenizer).adopt(paths[0]), tokenizer.normalization
        return adopted if form is None else adopted.with_normalization(form)

    return _changed(config, text, files, adopt)


def _changed(
    config: Config, text: TextPair, files: SideFiles, change: Callable[[Tokenizer, Sequence[PathLike]], Tokenizer]
) -> TextPair:
    """Change the vocabularies that files are given for."""
    old, kind = text.vocabularies, config.data.tokenizer.type
    given = files_by_vocabulary(text, files)
    if unlike := [old[name].type for name in given if old[name].type != kind]:
        raise ConfigError(f"data.tokenizer.type must be {unlike[0]} as in the model's tokenizer.json, got {kind}")
    return text.with_vocabularies({name: change(old[name], paths) for name, paths in given.items()})


class VocabularyUpdate(NamedTuple):
    """Another vocabulary for a model, ready to be written.

    directory: the model directory it starts from, which is never changed.
    output: the model directory to write.
    before, settings: those of the model, and those of the new directory.
    old, new: the tokenizers before and now.
    differences: what became of each vocabulary and of the text given, by `joint`, or by `source` and `target`.
    overwrite: whether the output may replace an earlier one.
    """

    directory: Path
    output: Path
    before: Config
    settings: Config
    old: TextPair
    new: TextPair
    differences: dict[str, pair.VocabularyDifference]
    overwrite: bool

    @property
    def changes_nothing(self) -> bool:
        """Whether the new tokenizers are the old ones."""
        return self.old.fingerprints == self.new.fingerprints


class UpdatedModel(NamedTuple):
    """A model directory that was written.

    directory: the model directory.
    checkpoint: the name of its checkpoint, which is also that of the one it was made from.
    update: updates made so far.
    ended_by: the limit that the training had reached already, in words; None if it can go on at once.
    can_go_on: whether optimizer and state were kept to go on with.
    """

    directory: Path
    checkpoint: str
    update: int
    ended_by: str | None
    can_go_on: bool


def plan_update(
    directory: PathLike,
    choose: Callable[[Config, TextPair], TextPair],
    *,
    corpora: SideFiles = NO_FILES,
    output: PathLike | None = None,
    overrides: Sequence[str] = (),
    overwrite: bool = False,
) -> VocabularyUpdate:
    """Find other tokenizers for a trained model, and refuse whatever can be refused; nothing is written.

    Args:
        directory: the model directory.
        choose: gives the new tokenizers for the new settings and the old tokenizers, such as `extended_text`.
        corpora: text whose cuts are compared.
        output: the model directory to write; that of the model with `-vocabulary` appended unless given.
        overrides: settings of the new directory, such as "data.train.source=new.de". Corpora and limits may change.
        overwrite: replace what an earlier update wrote to `output`.

    Raises:
        CheckpointError: there is no such model, or the output would lie in it or among checkpoints.
        ConfigError: a setting may not change, or the output is in the way.
        DataError: tokenizers or text cannot be read.
    """
    directory = Path(directory)
    output = Path(output or model_directory.sibling_directory(directory, "vocabulary"))
    before = model_directory.read_settings(directory)
    limits = [f"search.{name}={AUTO}" for name in found_limits(before.search)]
    settings = load(directory / model_directory.CONFIG_NAME, [*limits, *overrides])
    if fixed := [line for line in changed_settings(before, settings) if not _MAY_CHANGE.match(line)]:
        raise ConfigError("a trained model keeps the settings it was trained with: " + "; ".join(fixed))
    if settings.model_directory != before.model_directory:
        raise ConfigError(f"the new model directory is set with -o, got model_directory={settings.model_directory}")
    output_directory.check_output(output, directory, partial(_refusal, overwrite=overwrite))
    old = TextPair.load(directory)
    for path in chain(*corpora):
        kind = kind_of(path)
        if holds_both_sides(path, next(read_lines(path), "") if kind == "tsv" else ""):
            raise DataError(
                f"{path}: must be lines of text, got .{kind}, which has both sides: nmt convert makes lines of it"
            )
    beginnings = {str(path): list(islice(read_lines(path), doubts.MEASURED_LINES)) for path in chain(*corpora)}
    for kind, words in marks.found_marks(beginnings).items():
        if kind not in (marks.TOKENS, settings.data.segmentation):
            _LOGGER.warning("%s, which the model never saw: give plain text", words)
    new = choose(settings, old)
    settings = _settled(settings, new, before.search).model_copy(update={"model_directory": str(output)})
    texts = {
        name: sample_lines(text_lines(paths), doubts.MEASURED_LINES, seed=0)
        for name, paths in files_by_vocabulary(old, corpora).items()
    }
    differences = {
        name: pair.compare_vocabularies(getattr(old, side), getattr(new, side), lines=texts.get(name))
        for name, side in zip(new.vocabularies, ("source", "target"), strict=False)  # a joint one as the source reads
    }
    if (frozen := frozen_vocabulary(settings)) and any(each.added for each in differences.values()):
        _LOGGER.warning(
            "training.freeze has %s, where new tokens learn nothing: begin a run with training.initialize_from here, "
            "which freezes other parts", either(frozen),
        )  # fmt: skip
    return VocabularyUpdate(directory, output, before, settings, old, new, differences, overwrite)


def frozen_vocabulary(config: Config) -> list[str]:
    """Return which of the parts that a run freezes hold weights of single tokens."""
    return [part for part in config.training.freeze if part.partition(".")[0] in ("embeddings", "output")]


def found_limits(search: SearchSettings) -> list[str]:
    """Return the limits of length that a run found when it began, and finds anew; `auto` never chooses less."""
    found = {
        "max_length_ratio": search.settled_max_length_ratio >= LEAST_AUTO_RATIO,
        "max_length": search.settled_max_length >= LEAST_AUTO_LENGTH,
    }
    return [name for name, is_found in found.items() if is_found]


def _refusal(output: Path, *, overwrite: bool) -> str | None:
    """Say why what lies at the output is not replaced."""
    if not (output / model_directory.REPORT_NAME).is_file():
        return "exists, and was not written by update-vocab: choose another directory with -o"
    return None if overwrite else "exists already: choose another directory with -o, or replace it with --overwrite"


def update_vocabulary(planned: VocabularyUpdate, *, checkpoint: str | None = "latest") -> UpdatedModel:
    """Write a model directory with the new vocabulary and one checkpoint, from which training goes on.

    Weights, moving average and optimizer are carried over as `change_vocabulary` says, the update counter and the
    random state stay. The epoch begins anew, since batches are other ones. Scores are forgotten: none was measured
    with this vocabulary. The directory appears once it is complete and opens with its ties.

    Args:
        planned: from `plan_update`.
        checkpoint: `best`, `latest` or `update-N`; if None the best, or the latest if none has a score.

    Raises:
        CheckpointError: the checkpoint cannot be used, was trained with other tokenizers or ties both sides while they
            change apart; or the output cannot be written.
        ConfigError, DataError: settings or tokenizers cannot be written.
    """
    from nmt.backend import session

    session.start()

    from nmt.checkpoint.weights import read_contents
    from nmt.inference.translator import check_tokenizers
    from nmt.recipes.training_run import assemble_limits

    path, contents = read_contents(planned.directory, checkpoint)
    check_tokenizers(planned.old, path, contents.facts)
    # Other corpora have no hash yet. What the model before was the average of is said of that model.
    before, now, facts = planned.before.data, planned.settings.data, dict(contents.facts)
    averaged = {derived.FACT: facts.pop(derived.FACT)} if derived.FACT in facts else {}
    outdated = {"data_hash": before.train != now.train, "validation_hash": before.validation != now.validation}
    for fact in (VALIDATION, *(fact for fact, is_outdated in outdated.items() if is_outdated)):
        facts.pop(fact, None)
    facts |= {
        "config_hash": train.config_hash(planned.settings),
        "tokenizers": planned.new.fingerprints,
        "vocabulary_update_of": {
            "model_directory": str(planned.directory),
            "checkpoint": path.name,
            "tokenizers": planned.old.fingerprints,
            **averaged,
        },
    }
    state, ended_by = dict(contents.state), None
    if ANCHOR in facts:
        _LOGGER.warning(
            "%s: training.pull draws to weights of the old vocabulary, so no training goes on with these: begin one",
            planned.output,
        )
        del facts[ANCHOR]
        state, contents = {}, replace(contents, optimizer=None)
    if state:  # the batches and scores it had mean nothing any more
        found = TrainingState.from_json(state).without_scores()
        remaining = replace(found, batch=0, pending=Pending(), **_place_in(now, before, found))
        state, ended_by = remaining.to_json(), assemble_limits(planned.settings).reached(remaining)
    mappings = {name: RowMapping(each.old_size, each.origins) for name, each in planned.differences.items()}
    sides = {side: mappings.get(side) or mappings["joint"] for side in ("source", "target")}
    contents = change_vocabulary(replace(contents, score=None, state=state, facts=facts), sides)
    written = json.dumps(report(planned), indent=1, ensure_ascii=False)
    output_directory.write_model(
        planned.output,
        planned.directory,
        partial(_refusal, overwrite=planned.overwrite),
        config=planned.settings,
        text=planned.new,
        contents=contents,
        beside={model_directory.REPORT_NAME: written.encode() + b"\n"},
    )
    can_go_on = bool(state) and contents.optimizer is not None
    return UpdatedModel(planned.output, path.name, contents.update, ended_by, can_go_on)


def _place_in(now: DataSettings, before: DataSettings, state: TrainingState) -> dict[str, Any]:
    """Return where a run goes on in corpora whose batches are other ones: in a mixture, with the stage it was in.

    Of other stages than it had, with the first.
    """
    if not isinstance(now.train, tuple):
        is_mixed = state.stage_ends is not None
        return {"stage_updates": None, "stage_ends": None} | ({"epoch": 0} if is_mixed else {})
    goes_on = before.stages == now.stages and state.stage_ends is not None
    return {
        "epoch": 0,
        "stage_updates": state.stage_updates if goes_on else 0,
        "stage_ends": ((0, 0),) * len(state.stage_ends or ()) if goes_on else (),
    }


def report(planned: VocabularyUpdate) -> dict[str, Any]:
    """Return what changes, as JSON values."""
    vocabularies = {name: difference.as_json() for name, difference in planned.differences.items()}
    return {"model_directory": str(planned.directory), "output": str(planned.output), "vocabularies": vocabularies}


def _settled(settings: Config, text: TextPair, before: SearchSettings) -> Config:
    """Return settings that describe tokenizers, with the limits that pairs of the corpus need as these cut them."""
    max_length = settings.data.max_length
    search, known = settings.search, {"max_length_ratio": before.max_length_ratio, "max_length": before.max_length}
    try:
        pairs = sample_lines(pairs_of(settings.data, "train"), MEASURED_PAIRS, seed=settings.seed)
        block = encoding.BlockEncoder(text, max_length).encode(pairs)
    except DataError as error:
        _LOGGER.info("limits of translations are kept, since the training corpus cannot be read here: %s", error)
        block = None
    if block is None or not block.report.kept:
        search = search.model_copy(update={name: old for name, old in known.items() if getattr(search, name) == AUTO})
    else:
        number = encoding.length_dtype(max_length)
        lengths = (np.frombuffer(side.lengths, number) for side in block.sides)
        search = settle_limits(search, *lengths, max_source_length=max_length + 1)
    for name, old in known.items():
        new = getattr(search, name)
        if old not in (AUTO, new):
            advice = f", as the new tokens need it: --set search.{name}={old} keeps it" if new < old else ""
            log = _LOGGER.warning if advice else _LOGGER.info
            log("search.%s: %s before, %s now%s", name, old, new, advice)
    tokenizer, size = settings.data.tokenizer, max(len(side.vocabulary) for side in (text.source, text.target))
    bound = tokenizer.vocabulary_size
    update: dict[str, Any] = {"vocabulary_size": None if bound is None else max(bound, size)}
    if isinstance(text.target, SentencePieceTokenizer) and text.target.model_type in ("unigram", "bpe"):
        update["model_type"] = text.target.model_type
    data = settings.data.model_copy(update={"tokenizer": tokenizer.model_copy(update=update)})
    return settings.model_copy(update={"search": search, "data": data})
