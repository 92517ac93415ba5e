"""`nmt adapt`: a trained model goes on with other text, with some of the old, and is compared with what it was."""

from __future__ import annotations

import json
import logging
import math
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from nmt.adaptation import update_vocabulary as vocabularies
from nmt.adaptation.corpora import (
    ASKED,
    FOLDER,
    SETTINGS,
    Columns,
    HeldOut,
    Pairs,
    Replayed,
    RunText,
    corpus_of,
    describe,
    replayed_corpora,
    without_held_out,
)
from nmt.backend import session
from nmt.checkpoint.index import has_checkpoint
from nmt.config import Config, load, write
from nmt.config.loader import load_values
from nmt.control.controls import Control
from nmt.corpora.convert import BY_LANGUAGE
from nmt.data.corpus import Corpus, hash_pairs, kind_of, pairs_of
from nmt.data.lines import read_lines
from nmt.directory import model_directory
from nmt.doctor.doubts import SWAPPED, looks_swapped
from nmt.errors import CheckpointError, ConfigError, DataError
from nmt.kinds import either
from nmt.recipes import train
from nmt.scoring.evaluation import paired_p_value
from nmt.settings.section import AUTO, CONFIG_NAME
from nmt.streams.corpora import find_stores
from nmt.tasks.evaluate import ModelEvaluation, prepare_evaluation, tokenization_of
from nmt.text import UNK_ID, TextPair, marks
from nmt.text.tokenizer import sample_lines
from nmt.training.events import Reporter
from nmt.types import PathLike

logger = logging.getLogger(__name__)

MEASURED_PAIRS = 5_000
"""Pairs of the new corpus whose tokens are counted."""

MUCH_UNKNOWN = 0.005
"""Share of unknown tokens above which the vocabulary is extended."""

MOST_NEW_TOKENS = 1_000

LEAST_GAIN = 0.1
"""BLEU below which no difference is called a gain, however sure it is."""

LEAST_UPDATES, VALIDATIONS = 100, 10


class Sizes(NamedTuple):
    """How a model is adapted, by the size of the new corpus; see `chosen_sizes`.

    learning_rate: the peak.
    batch_tokens: padded tokens of a batch.
    batches: of an update; more than one if an update of the old run had more, since memory may hold no larger ones.
    max_updates: of the new run.
    warmup_updates: a tenth of them.
    """

    learning_rate: float
    batch_tokens: int
    batches: int
    max_updates: int
    warmup_updates: int

    def with_updates(self, limit: int) -> Sizes:
        """Return the same with another limit of updates, a tenth of which warms up."""
        return self._replace(max_updates=limit, warmup_updates=max(1, limit // 10))


def described_sizes(config: Config) -> str:
    """Return with what sizes a new run is trained, in words."""
    training = config.training
    limit = "no limit of updates" if training.max_updates is None else f"{training.max_updates:,} updates"
    tokens = training.batch_tokens if training.batch_tokens == AUTO else f"{training.batch_tokens:,} tokens"
    return f"learning rate {training.optimizer.learning_rate:g}, batches of {tokens}, {limit}"


@dataclass(frozen=True)
class Adaptation:
    """An adaptation that was planned and whose text was written.

    run: the old model, as RUN or RUN@checkpoint.
    config: of the new run.
    tests: `data.test` by `old` and `new`, the two test sets, as lists of JSON values; the old one may be missing.
    remarks: what was chosen and why, one line each.
    """

    run: str
    config: Config
    tests: Mapping[str, list[dict[str, Any]]]
    remarks: tuple[str, ...]


class Comparison(NamedTuple):
    """What an adaptation did to a test set.

    name: `old` or `new`.
    lines: of the test set.
    before, after: BLEU and chrF of the old model and of the new one.
    p_value: by paired bootstrap, of the difference in BLEU.
    """

    name: str
    lines: int
    before: tuple[float, float]
    after: tuple[float, float]
    p_value: float


class Adapted(NamedTuple):
    """A model that was adapted.

    directory: the new model directory.
    comparisons: of the test sets that there are.
    verdict: in words whether it is better.
    is_better: whether it may be called that.
    """

    directory: Path
    comparisons: tuple[Comparison, ...]
    verdict: str
    is_better: bool


def chosen_sizes(config: Config, pairs: int, tokens_per_pair: float) -> Sizes:
    """Choose learning rate, batches and updates for a corpus that training goes through with what is replayed.

    The fewer pairs, the smaller the steps: a tenth of the old peak below 5,000 pairs, a quarter below 50,000, else a
    half. An epoch has at least 20 updates, if batches need not become smaller than 512 tokens for that. There are
    20 epochs below 5,000 pairs, 10 below 50,000, else 5; at least 100 updates, and no more than the old run had.

    Args:
        config: of the old run.
        pairs: of the new corpus and what is replayed.
        tokens_per_pair: of the longer side, in the mean.
    """
    with session.importing():  # the training says how it runs
        from nmt.recipes.training_run import assemble_schedule
        from nmt.training.batch_size import MOST_AUTO

    training = config.training
    peak = assemble_schedule(config).highest_rate()
    share, epochs = next(rule for most, *rule in _RULES if pairs < most)
    of_batch = training.batch_tokens if training.batch_tokens != "auto" else MOST_AUTO["processor"]
    of_update, tokens = training.effective_batch_tokens or of_batch, pairs * tokens_per_pair
    of_update = max(min(of_update, max(512, int(tokens / 20))), config.data.max_length + 1)
    of_batch = min(of_update, of_batch)
    updates = max(LEAST_UPDATES, math.ceil(epochs * tokens / of_update))
    if training.max_updates is not None:
        updates = min(updates, training.max_updates)
    batches = round(of_update / of_batch)
    return Sizes(float(f"{share * peak:.3g}"), of_batch, batches, updates, max(1, updates // 10))


_RULES = ((5_000, 0.1, 20), (50_000, 0.25, 10), (math.inf, 0.5, 5))


def plan_adaptation(
    run: str,
    corpus: str,
    *,
    output: PathLike | None = None,
    validation: str | None = None,
    test: str | None = None,
    columns: Columns = (None, None),
    tag: str | None = None,
    replay: float = 0.25,
    replay_source: PathLike | None = None,
    freeze: Sequence[str] = (),
    extend_vocabulary: bool | None = None,
    overrides: Sequence[str] = (),
    overwrite: bool = False,
    threads: int | None = None,
) -> Adaptation:
    """Choose settings for an adaptation, and write the text that it needs; the model is left as it is.

    Nothing is written before the settings have passed. If the output holds what the same call began, that goes on.

    Args:
        run: the old model, RUN or RUN@checkpoint.
        corpus: the new text, as `corpus_of` takes it.
        output: the new model directory; RUN-adapted unless given.
        validation: new text that picks the best checkpoint; unless given a twentieth of the corpus, 500 pairs at most.
        test: new text for the comparison; unless given as much again.
        columns: where source and target stand in files of pairs of new text; where the format has them unless given.
        tag: one that the old model knows, with which it learns the new text; none, or `none`, if it knows text without.
        replay: share of old pairs in what is trained on, in [0, 1).
        replay_source: old or similar text in the source language, whose translations by the old model are replayed.
        freeze: parts that keep their weights.
        extend_vocabulary: whether to add tokens; if more than 0.5 % of the new text is unknown unless given.
        overrides: settings of the new run, which come last.
        overwrite: replace what lies there.
        threads: processor cores that TensorFlow is to use, unless it runs already; all unless given.

    Raises:
        NMTError: there is no such model, text cannot be read, or settings do not fit.
    """
    directory, checkpoint = model_directory.parse_run_reference(run)
    old, text = model_directory.read_settings(directory), TextPair.load(directory)
    output = Path(output or model_directory.sibling_directory(directory, "adapted"))
    _refuse(directory, output, replay=replay, replay_source=replay_source)
    tag = settled_tag(directory, old, text, tag)
    # The new text, without what validates and tests; and what of the old is replayed while it is passed through.
    texts, held, remarks = _new_text((corpus, validation, test), old, tag, columns)
    asked = {
        "RUN": [os.path.realpath(directory), checkpoint], "text": {part: hash_pairs(texts[part]) for part in texts},
        "--tag": tag, "--replay": replay, "--replay-source": replay_source and os.path.realpath(replay_source),
        "--freeze": [*freeze], "--update-vocab": extend_vocabulary, "--set": [*overrides],
    }  # fmt: skip
    if has_checkpoint(output) and not overwrite:
        return _continued(run, asked, old, output)
    new = len(texts["train"])
    wanted, replayed = round(replay / (1 - replay) * new), list[Replayed]()
    if wanted and replay_source is None:
        replayed = replayed_corpora(old.data, held, _kept(old, text))
        remarks.append(describe(replayed, replay, old.data.names("train")))
    # Sizes, a vocabulary that is extended if too much of the new text is unknown, and the settings they make.
    lengths, unknown = _measured(text, texts["train"], seed=old.seed)
    sizes = chosen_sizes(old, new + wanted, lengths)
    extends = unknown > MUCH_UNKNOWN if extend_vocabulary is None else extend_vocabulary
    place = model_directory.sibling_directory(output, "vocabulary")
    of_run = RunText(output, _languages(old), tag, replay if wanted else 0.0, replayed)
    config = _settings(old, str(place) if extends else run, of_run, sizes, freeze=freeze, overrides=overrides)
    remarks += [*_left_behind(old), f"chosen for {new:,} new and {wanted:,} old pairs: {described_sizes(config)}"]
    if extends:
        _refuse_extension(config, place)

    # All is settled: what training reads is written, by TensorFlow as the training wants it.
    if not session.is_running():
        train.start_session(config, threads=threads)
    if wanted and replay_source is not None:
        texts["replay"], remark = _translated(run, replay_source, wanted, held, tag=tag, seed=old.seed)
        remarks.append(remark)
    of_run.write(texts, held, asked)
    remarks.append(f"{unknown:.2%} of the tokens of the new text are unknown")
    if extends:
        remarks[-1] += _extend(directory, checkpoint, of_run.files("train"), place, joint=text.joint)
    write(config, output / FOLDER / SETTINGS)
    tests, missing = _tests_of(config, old, directory)
    return Adaptation(run, config, tests, (*remarks, *missing))


def _languages(old: Config) -> tuple[str, str]:
    return old.data.source_language, old.data.target_language


def _new_text(
    given: Sequence[str | None], old: Config, tag: str | None, columns: Columns
) -> tuple[dict[str, Pairs], HeldOut, list[str]]:
    """Read the new text, to train, validate and test; return it with what is held out, and what is to be said of it."""
    languages, parts = _languages(old), zip(("train", "validation", "test"), given, strict=True)
    read = {part: list(corpus_of(each, languages, columns).pairs()) for part, each in parts if each is not None}
    texts, held, remark = without_held_out(read, seed=old.seed)
    _warn_of_swapped(old, texts["train"], tag)
    if texts["validation"] == texts["test"]:
        logger.warning("--validation and --test are the same: its scores are better than on new text")
    return texts, held, [remark, *_by_language(given, tag, languages)]


def _by_language(given: Iterable[str | None], tag: str | None, languages: tuple[str, str]) -> list[str]:
    """Return which files of new text were read by their languages, though a tag may be of another direction."""
    files = [each for each in given if each is not None and kind_of(each) in BY_LANGUAGE]
    if tag is None or not files:
        return []
    return [
        f"{', '.join(files)}: read from {languages[0]} into {languages[1]}, as the run names them: if {tag} is of the "
        "other direction, give SOURCE,TARGET (nmt convert)"
    ]


def _kept(old: Config, text: TextPair) -> dict[str, int]:
    """Return how many pairs of each old corpus lie encoded; nothing if they no longer do."""
    try:
        stores = find_stores(old, text)
    except DataError:  # a file is gone: of text, which is said where it is read, or of links, which are not needed
        stores = None
    return {name: len(store) for name, store in (stores or {}).items()}


def _left_behind(old: Config) -> list[str]:
    """Return which settings of the old run the new one cannot have, one line each."""
    remarks = list[str]()
    if old.data.hints:
        remarks.append(f"no {either(old.data.hints)} of data.variation: the new text has no links between words")
    if old.search.shortlist:
        remarks.append("search.shortlist is false in the new run: its shortlist is built by nmt build-shortlist")
    return remarks


def _tests_of(config: Config, old: Config, directory: str) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """Return both test sets, each as a list of JSON values; and what of the old text they do not measure."""
    sets = dict[str, list[dict[str, Any]]]()
    for name, each in (("new", config), ("old", old)):
        test = each.data.model_dump(mode="json")["test"]
        sets[name] = test if isinstance(test, list) else [{"name": "test", **(test or {})}]
    try:
        if old.data.test is None:
            raise DataError("the old run names no test set (data.test)")
        deque(pairs_of(old.data, "test"), maxlen=0)
    except DataError as error:  # it may be gone, as the old corpus may
        del sets["old"]
        return sets, [f"what is forgotten is not measured: {error}"]
    if (Path(directory) / FOLDER).exists():
        return sets, ["the old run is an adaptation too: what was known before that is not measured"]
    return sets, []


NO_TAG = "none"
"""What stands for no tag where one is given."""


def settled_tag(directory: PathLike, old: Config, text: TextPair, tag: str | None) -> str | None:
    """Return the tag with which a model learns new text; None for none.

    Args:
        directory: of the model.
        old: its settings.
        text: its tokenizers.
        tag: as it is asked for; `none` is none.

    Raises:
        ConfigError: the model does not know the tag, or it has learned no text without one.
    """
    if tag is not None and (tag in text.tags or tag != NO_TAG):
        text.begins(tag)  # refuses what it does not know
        return tag
    if all(old.data.tag_of(name) is not None for name in old.data.names("train")):
        raise ConfigError(
            f"--tag must say with which tag the new text is trained, as {directory} learned none without: give "
            f"{either([*text.tags])}"
        )
    return None


def _continued(run: str, asked: Mapping[str, Any], old: Config, output: Path) -> Adaptation:
    """Return what lies in a directory as the adaptation that it is, if it was asked for in the same way.

    Raises:
        CheckpointError: it was not.
    """
    try:
        before = json.loads((output / FOLDER / ASKED).read_bytes())
    except (OSError, ValueError):  # another model
        before = None
    differ = [] if before is None else [option for option in asked if before.get(option) != asked[option]]
    if before is None or differ:
        other = f", adapted with another {either(differ)}" if differ else ""
        raise CheckpointError(
            f"{output}: holds a model already{other}: go on with it by nmt train {output / CONFIG_NAME}, choose "
            "another -o, or replace it with --overwrite"
        )
    config = load(output / FOLDER / SETTINGS, [f"model_directory={json.dumps(str(output))}"])  # what differs is refused
    tests, missing = _tests_of(config, old, asked["RUN"][0])
    return Adaptation(run, config, tests, (f"{output} goes on, which the same command began", *missing))


def _warn_of_swapped(old: Config, pairs: Pairs, tag: str | None) -> None:
    """Say if the sides of new text look swapped beside those of an old corpus with its tag, if one is there."""
    names = [name for name in old.data.names("train") if old.data.tag_of(name) == tag]
    for name in names[:1]:
        with suppress(DataError):  # it may be gone
            if looks_swapped(pairs, like=Corpus.of(old.data, name).pairs()):
                logger.warning("the new text: %s", SWAPPED.format(main=f"the old data.{name}"))


def _refuse(directory: str, output: Path, *, replay: float, replay_source: PathLike | None) -> None:
    """Refuse what can be refused before anything is read or written."""
    if output.resolve() == Path(directory).resolve():
        raise ConfigError(f"{output} must be another directory than the old model's, which stays: choose another -o")
    if not 0 <= replay < 1:
        raise ConfigError(f"--replay must be a share from 0 to below 1, got {replay:g}")
    if replay_source is not None and not replay:
        raise ConfigError(f"--replay must be above 0 for {replay_source} to be replayed: leave one of the two out")


def _refuse_extension(config: Config, place: Path) -> None:
    """Refuse to add tokens that could learn nothing, or to write over a run that was trained with such tokens."""
    if vocabularies.frozen_vocabulary(config):
        raise ConfigError(
            "the vocabulary is to be extended, and new tokens learn nothing where training.freeze has "
            f"{either(config.training.freeze)}: give --keep-vocab, or freeze other parts"
        )
    if (place / model_directory.METRICS_NAME).exists():
        raise CheckpointError(f"{place}: holds a run that was trained, in the way of the extended vocabulary: move it")


def adapt(
    planned: Adaptation,
    *,
    most_lost: float = 0.5,
    overwrite: bool = False,
    reporters: Sequence[Reporter] = (),
    threads: int | None = None,
) -> Adapted:
    """Train as planned, and compare both models on both test sets.

    Args:
        planned: from `plan_adaptation`.
        most_lost: BLEU on the old test set that may be lost.
        overwrite: replace a run in the new directory.
        reporters: receive what happens in training.
        threads: processor cores to use; all unless given.

    Raises:
        NMTError: as `train`.
    """
    for remark in planned.remarks:
        logger.info("%s", remark)
    done = train.train(planned.config, overwrite=overwrite, reporters=reporters, processes=threads, threads=threads)
    comparisons = tuple(compared(planned, name, str(done.directory)) for name in planned.tests)
    verdict, is_better = judged(comparisons, most_lost=most_lost)
    return Adapted(done.directory, comparisons, verdict, is_better)


def compared(planned: Adaptation, name: str, new: str) -> Comparison:
    """Translate a test set with both models, and compare them by paired bootstrap (Koehn 2004)."""
    overrides = [f"data.test={json.dumps(planned.tests[name], ensure_ascii=False)}"]
    prepared = [prepare_evaluation(which, overrides=overrides) for which in (planned.run, new)]
    evaluations, test_set = list[ModelEvaluation](), prepared[0].test_set
    for which, each in zip((planned.run, new), prepared, strict=True):
        logger.info("%s on the %s test set:", which, name)
        evaluations.append(each.run())
    segmentation = planned.config.data.segmentation
    lines = [*(each.hypotheses for each in evaluations), *test_set.references]
    joined = (marks.joined_side(side, segmentation) for side in lines)
    p_value = paired_p_value(*joined, tokenization=tokenization_of(planned.config, test_set))
    before, after = map(_scores, evaluations)
    return Comparison(name, len(lines[0]), before, after, p_value)


def _scores(evaluated: ModelEvaluation) -> tuple[float, float]:
    return evaluated.evaluation.bleu.score, evaluated.evaluation.chrf2.score


def judged(comparisons: Sequence[Comparison], *, most_lost: float) -> tuple[str, bool]:
    """Say in words whether a model became better, and whether it may be called that."""
    found = {each.name: each for each in comparisons}
    gains = {name: each.after[0] - each.before[0] for name, each in found.items()}
    gain = gains["new"]
    if gain < LEAST_GAIN or found["new"].p_value > 0.05:
        return f"not better: the new test set changed by {gain:+.2f} BLEU (p = {found['new'].p_value:.3f})", False
    if "old" not in gains:
        return f"better on the new test set by {gain:+.2f} BLEU; what it forgot was not measured", False
    if gains["old"] < -most_lost:
        return (
            f"not better: it gained {gain:+.2f} BLEU on the new test set, and lost {-gains['old']:.2f} on the old one, "
            f"above the {most_lost:g} allowed (--most-lost): try more --replay, --freeze, training.pull, or nmt "
            "average of both models with --shares",
            False,
        )
    return f"better: {gain:+.2f} BLEU on the new test set, {gains['old']:+.2f} on the old one", True


def _translated(
    run: str, source: PathLike, count: int, held: HeldOut, *, tag: str | None, seed: int
) -> tuple[Pairs, str]:
    """Return lines of a text with translations by the old model to be replayed, and say how many there are."""
    lines = [line for line in read_lines(source) if line.strip()]
    far = [line for line in lines if not held.is_near([line])]
    drawn = sample_lines(far, count, seed=seed)

    from nmt.inference.translator import load_translator

    targets = load_translator(run).translate(drawn, controls=[Control(tag=tag)] * len(drawn))
    pairs = [pair for pair in zip(drawn, targets, strict=True) if not held.is_near(pair)]
    if not pairs:
        raise DataError(f"{source}: must have lines to be replayed that are not near to held-out ones, got none")
    left_out = len(lines) - len(far) + len(drawn) - len(pairs)
    return pairs, (
        f"replay: {len(pairs):,} of {count:,} wanted pairs, {source} and its translations by {run} (Kim and Rush "
        f"2016); {left_out:,} left out because a side of them is near to a held-out line"
    )


def _measured(text: TextPair, pairs: Pairs, *, seed: int) -> tuple[float, float]:
    """Return the tokens of the longer side per pair, EOS counted, and the share of unknown ones."""
    sides = zip(*sample_lines(pairs, MEASURED_PAIRS, seed=seed), strict=True)
    tokenizers = (text.source, text.target)
    source, target = (each.encode_batch(list(lines)) for each, lines in zip(tokenizers, sides, strict=True))
    longer = [max(len(one), len(other)) + 1 for one, other in zip(source, target, strict=True)]
    tokens = [token for side in (source, target) for row in side for token in row]
    return sum(longer) / len(longer), sum(token == UNK_ID for token in tokens) / max(1, len(tokens))


def _extend(directory: str, checkpoint: str | None, paths: tuple[Path, Path], place: Path, *, joint: bool) -> str:
    """Write the old model with the tokens that new text has and its vocabulary lacks; say whether there are any."""
    files = vocabularies.SideFiles(both=paths) if joint else vocabularies.SideFiles(source=paths[:1], target=paths[1:])
    choose = partial(vocabularies.extended_text, corpora=files, max_new_tokens=MOST_NEW_TOKENS)
    planned = vocabularies.plan_update(directory, choose, corpora=files, output=place, overwrite=True)
    vocabularies.update_vocabulary(planned, checkpoint=checkpoint)
    if planned.changes_nothing:
        return ": it lacks no token"
    return f": the vocabulary was extended by what it lacks, in {place}"


def _settings(
    old: Config,
    initial: str,
    text: RunText,
    sizes: Sizes,
    *,
    freeze: Sequence[str],
    overrides: Sequence[str],
) -> Config:
    """Return the settings of the new run: those of the old one, but what an adaptation changes."""
    data, values = text.settings(old.data), old.model_dump(mode="json")
    # The longest pair has a closing token, and may have a tag.
    least = old.data.max_length + 1 + any(each.get("tag") for each in data["train"] if isinstance(each, dict))
    if rates := old.data.variation:
        data["variation"] = {word: rates[word] for word in rates if word not in old.data.hints} or None
    every = max(1, sizes.max_updates // VALIDATIONS)
    batch_tokens = max(sizes.batch_tokens, least)
    # Limits that were found in the old text are found anew, and a shortlist is made of what a finished model knows.
    values["search"] |= dict.fromkeys(vocabularies.found_limits(old.search), AUTO) | {"shortlist": False}
    values |= {"model_directory": str(text.output), "data": data}
    values["training"] |= {
        "initialize_from": initial,
        "freeze": [],
        "deciding_validation": None,
        "pull": None,
        "learning_rate_factors": {},
        "pretrained_embeddings": None,
        "batch_tokens": batch_tokens,
        "effective_batch_tokens": batch_tokens * sizes.batches if sizes.batches > 1 else None,
        "max_updates": sizes.max_updates,
        "max_epochs": None,
        "max_minutes": None,
        "validate_every_updates": every,
        "save_every_updates": every,
        "log_every_updates": max(1, every // 5),
        "schedule": {"type": "inverse_sqrt", "warmup_updates": sizes.warmup_updates},
        "early_stopping": {"metric": "bleu", "patience": 3},
    }
    values["training"]["optimizer"] |= {"learning_rate": sizes.learning_rate}
    parts = [f"training.freeze={json.dumps([*freeze])}"] if freeze else []
    config = load_values(values, [*parts, *overrides])
    if (limit := config.training.max_updates) not in (None, sizes.max_updates):  # of which others are parts
        return _settings(old, initial, text, sizes.with_updates(limit), freeze=freeze, overrides=overrides)
    return config


def table(adapted: Adapted) -> Iterator[str]:
    """Yield the lines of a table of the test sets, before and after."""
    yield f"{'test set':<10}{'lines':>8}{'BLEU before':>13}{'after':>8}{'chrF before':>13}{'after':>8}{'p':>8}"
    for name, lines, before, after, p_value in adapted.comparisons:
        scores = f"{before[0]:>13.2f}{after[0]:>8.2f}{before[1]:>13.2f}{after[1]:>8.2f}"
        yield f"{name:<10}{lines:>8,}{scores}{p_value:>8.3f}"
    yield adapted.verdict


def as_json(adapted: Adapted) -> dict[str, Any]:
    """Return what came of an adaptation, as JSON values."""
    comparisons = [each._asdict() for each in adapted.comparisons]
    return {**adapted._asdict(), "directory": str(adapted.directory), "comparisons": comparisons}
