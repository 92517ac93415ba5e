"""A trained model with another vocabulary: all it has learned about the tokens that remain goes along."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nmt.checkpoint.manifest import VALIDATION
from nmt.config import Config, SearchSettings, changed_settings, load, write
from nmt.config.search import LEAST_AUTO_LENGTH, LEAST_AUTO_RATIO
from nmt.config.section import AUTO
from nmt.data.corpus import read_lines, read_pairs
from nmt.data.encoding import BlockEncoder, length_dtype
from nmt.errors import ConfigError, DataError
from nmt.inference.batching import settle_limits
from nmt.inference.model_directory import CONFIG_NAME, read_settings, sibling_directory
from nmt.recipes.average import FACT as AVERAGE_FACT
from nmt.recipes.new_vocabulary import MEASURED_LINES, SideFiles, TextMeasure, measure_text
from nmt.recipes.output_directory import REPORT_NAME, check_place, output_directory
from nmt.text import SentencePieceTokenizer, TextPair
from nmt.text.extension import VocabularyDifference, compare_vocabularies
from nmt.text.marks import TOKENS, found_marks
from nmt.text.sentencepiece_training import sample_lines
from nmt.text.vocabulary import write_file
from nmt.types import PathLike

MEASURED_PAIRS = 100_000
"""Pairs of the training corpus by which limits of length are found; of more a sample is drawn."""

_LOGGER = logging.getLogger(__name__)

_FREE_TOKENIZER_SETTINGS = ("vocabulary_size", "minimum_count", "character_coverage")


class VocabularyUpdate(NamedTuple):
    """Another vocabulary for a model, ready to be written.

    directory: the model directory it starts from, which is never changed.
    output: the model directory to write.
    settings: those of the new directory.
    old, new: the tokenizers before and now.
    differences: what became of each vocabulary, by `joint`, or by `source` and `target`.
    measures: how the text given is cut, before and now, likewise; empty without text.
    overwrite: whether the output may replace an earlier one.
    """

    directory: Path
    output: Path
    settings: Config
    old: TextPair
    new: TextPair
    differences: dict[str, VocabularyDifference]
    measures: dict[str, TextMeasure]
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
    ended_by: the limit that the training had reached already, in words; None where it can go on at once.
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
    corpora: SideFiles | None = None,
    output: PathLike | None = None,
    overrides: Sequence[str] = (),
    overwrite: bool = False,
) -> VocabularyUpdate:
    """Find other tokenizers for a trained model, and refuse whatever can be refused; nothing is written.

    Args:
        directory: the model directory.
        choose: gives the new tokenizers for the new settings and the old tokenizers; see `nmt.recipes.new_vocabulary`.
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
    output = default_output(directory) if output is None else Path(output)
    settings = _new_settings(directory, overrides)
    _check_output(directory, output, overwrite=overwrite)
    old = TextPair.load(directory)
    for kind, words in found_marks(_texts_of(corpora or SideFiles())).items():
        if kind not in (TOKENS, settings.data.segmentation):
            _LOGGER.warning("%s, which the model never saw: give plain text", words)
    new = choose(settings, old)
    settings = _with_limits(settings, new, read_settings(directory).search)
    return VocabularyUpdate(
        directory,
        output,
        _describing(settings, output, new),
        old,
        new,
        _differences(old, new),
        measure_text(old, new, corpora) if corpora and any(corpora) else {},
        overwrite,
    )


def _texts_of(corpora: SideFiles) -> dict[str, list[str]]:
    paths = [str(path) for paths in corpora for path in paths]
    return {path: list(islice(read_lines(path), MEASURED_LINES)) for path in paths}


def default_output(directory: PathLike) -> Path:
    """Return where an update is written unless told: beside the model directory, with `-vocabulary` appended."""
    return sibling_directory(directory, "vocabulary")


def update_vocabulary(planned: VocabularyUpdate, *, checkpoint: str = "latest") -> UpdatedModel:
    """Write a model directory with the new vocabulary and one checkpoint, from which training goes on.

    Weights, moving average and optimizer are carried over as `change_vocabulary` says, the update counter and the
    random state stay. The epoch begins anew, since batches are other ones. Scores are forgotten: none was measured
    with this vocabulary. The directory appears once it is complete and opens with its ties.

    Args:
        planned: from `plan_update`.
        checkpoint: `best`, `latest` or `update-N`.

    Raises:
        CheckpointError: the checkpoint cannot be used, was trained with other tokenizers or ties both sides while they
            change apart; or the output cannot be written.
        ConfigError, DataError: settings or tokenizers cannot be written.
    """
    from nmt.checkpoint import CheckpointManager, read_contents
    from nmt.checkpoint.derived import RowMapping, change_vocabulary
    from nmt.inference.translator import check_tokenizers, open_model
    from nmt.recipes.assembly import assemble_limits
    from nmt.training.state import TrainingState

    path, contents = read_contents(planned.directory, checkpoint)
    check_tokenizers(planned.old, path, contents.facts)
    mappings = {name: RowMapping(each.old_size, each.origins) for name, each in planned.differences.items()}
    sides = {side: mappings.get(side) or mappings["joint"] for side in ("source", "target")}
    state = _state_to_go_on_with(contents.state)
    contents = change_vocabulary(
        replace(contents, score=None, state=state, facts=_facts(planned, path.name, contents.facts)), sides
    )
    with output_directory(planned.output, overwrite=planned.overwrite) as folder:
        write(planned.settings, folder / CONFIG_NAME)
        planned.new.save(folder)
        with CheckpointManager(folder) as manager:
            manager.write(contents)
        write_file(folder / REPORT_NAME, json.dumps(report(planned), indent=1, ensure_ascii=False).encode() + b"\n")
        open_model(folder, checkpoint="latest")  # proves shapes, values and ties
    limits = assemble_limits(planned.settings)
    return UpdatedModel(
        planned.output,
        path.name,
        contents.update,
        limits.reached(TrainingState.from_json(state)) if state else None,
        can_go_on=bool(state) and contents.optimizer is not None,
    )


def report(planned: VocabularyUpdate) -> dict[str, Any]:
    """Return what changes, as JSON values."""
    vocabularies = {}
    for name, difference in planned.differences.items():
        measure = planned.measures.get(name)
        vocabularies[name] = {
            "size_before": difference.old_size,
            "size_now": difference.new_size,
            "kept": difference.kept,
            "moved": difference.moved,
            "added": len(difference.added),
            "dropped": len(difference.dropped),
            "added_tokens": difference.added,
            "dropped_tokens": difference.dropped,
            "text": None if measure is None else measure._asdict(),
        }
    return {"model_directory": str(planned.directory), "output": str(planned.output), "vocabularies": vocabularies}


def _new_settings(directory: Path, overrides: Sequence[str]) -> Config:
    """Load the settings of the model with overrides; those that its weights depend on may not change."""
    old = read_settings(directory)
    new = load(directory / CONFIG_NAME, [*_limits_to_be_found(old.search), *overrides])
    fixed = [line for line in changed_settings(old, new) if not _may_change(line.partition(":")[0])]
    if fixed:
        raise ConfigError("a trained model keeps the settings it was trained with: " + "; ".join(fixed))
    if new.model_directory != old.model_directory:
        raise ConfigError(f"the new model directory is set with -o, got model_directory={new.model_directory}")
    return new


def _limits_to_be_found(search: SearchSettings) -> Iterator[str]:
    """Yield overrides for the limits of length that were found when the run began; `auto` never chooses less."""
    if search.settled_max_length_ratio >= LEAST_AUTO_RATIO:
        yield "search.max_length_ratio=auto"
    if search.settled_max_length >= LEAST_AUTO_LENGTH:
        yield "search.max_length=auto"


def _with_limits(settings: Config, text: TextPair, before: SearchSettings) -> Config:
    """Return settings with the limits that pairs of the training corpus need as the new tokenizers cut them."""
    train, max_length = settings.data.train, settings.data.max_length
    search, known = settings.search, {"max_length_ratio": before.max_length_ratio, "max_length": before.max_length}
    try:
        pairs = sample_lines(read_pairs(train.source_paths, train.target_paths), MEASURED_PAIRS, seed=settings.seed)
        block = BlockEncoder(text, max_length).encode(*zip(*pairs, strict=True))
    except DataError as error:
        _LOGGER.info("limits of translations are kept, since the training corpus cannot be read here: %s", error)
        block = None
    if block is None or not block.kept:
        search = search.model_copy(update={name: old for name, old in known.items() if getattr(search, name) == AUTO})
    else:
        lengths = (np.frombuffer(side.lengths, length_dtype(max_length)) for side in (block.source, block.target))
        search = settle_limits(search, *lengths, max_source_length=max_length + 1)
    for name, old in known.items():
        new = getattr(search, name)
        if isinstance(old, int | float) and new < old:
            _LOGGER.warning(
                "search.%s: %s before, %s now, as the new tokens need it: --set search.%s=%s keeps it",
                name, old, new, name, old,
            )  # fmt: skip
        elif old not in (AUTO, new):
            _LOGGER.info("search.%s: %s before, %s now", name, old, new)
    return settings.model_copy(update={"search": search})


def _may_change(path: str) -> bool:
    """Return whether a setting is left open: what text there is, and how many tokens are learned from it."""
    section, _, name = path.rpartition(".")
    if section == "data.tokenizer":
        return name in _FREE_TOKENIZER_SETTINGS
    return path.startswith("data.") and section != "data.normalization"


def _describing(settings: Config, output: Path, text: TextPair) -> Config:
    """Return settings of the new directory that describe its tokenizers."""
    tokenizer, size = settings.data.tokenizer, max(len(side.vocabulary) for side in (text.source, text.target))
    update: dict[str, Any] = {}
    if tokenizer.vocabulary_size is not None:
        update["vocabulary_size"] = max(tokenizer.vocabulary_size, size)
    if isinstance(text.target, SentencePieceTokenizer) and text.target.model_type in ("unigram", "bpe"):
        update["model_type"] = text.target.model_type
    data = settings.data.model_copy(update={"tokenizer": tokenizer.model_copy(update=update)})
    return settings.model_copy(update={"model_directory": str(output), "data": data})


def _differences(old: TextPair, new: TextPair) -> dict[str, VocabularyDifference]:
    if new.joint:
        return {"joint": compare_vocabularies(old.source, new.source)}
    return {
        "source": compare_vocabularies(old.source, new.source),
        "target": compare_vocabularies(old.target, new.target),
    }


def _check_output(directory: Path, output: Path, *, overwrite: bool) -> None:
    if output.resolve() == directory.resolve():
        raise ConfigError(f"{output}: the model must stay as it is: choose another directory with -o")
    check_place(output, directory)
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not (output / REPORT_NAME).is_file():
        raise ConfigError(f"{output}: exists, and was not written by update-vocab: choose another directory with -o")
    if not overwrite:
        raise ConfigError(f"{output}: exists already: choose another directory with -o, or replace it with --overwrite")


def _facts(planned: VocabularyUpdate, checkpoint: str, before: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of the new checkpoint, with which a training goes on; other corpora have no hash yet.

    What the model before was the average of is said of that model: the new one is no average.
    """
    from nmt.recipes.train import config_hash

    old, new = load(planned.directory / CONFIG_NAME).data, planned.settings.data
    left_out = {
        AVERAGE_FACT,
        VALIDATION,
        *({"data_hash"} if old.train != new.train else ()),
        *({"validation_hash"} if old.validation != new.validation else ()),
    }
    return {
        **{key: value for key, value in before.items() if key not in left_out},
        "config_hash": config_hash(planned.settings),
        "tokenizers": planned.new.fingerprints,
        "vocabulary_update_of": {
            "model_directory": str(planned.directory),
            "checkpoint": checkpoint,
            "tokenizers": planned.old.fingerprints,
            **({AVERAGE_FACT: before[AVERAGE_FACT]} if AVERAGE_FACT in before else {}),
        },
    }


def _state_to_go_on_with(before: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of a run whose batches and scores will be others: those it had mean nothing any more."""
    from nmt.training.state import Pending, TrainingState

    if not before:
        return {}
    return replace(TrainingState.from_json(dict(before)).without_scores(), batch=0, pending=Pending()).to_json()
