"""`nmt adapt`: a trained model goes on with other text, with some of the old, and is compared with what it was."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from nmt.adaptation import update_vocabulary as vocabularies
from nmt.checkpoint.index import has_checkpoint
from nmt.config import Config, load, to_yaml
from nmt.corpora.split import near_hash
from nmt.data import Corpus
from nmt.data.corpus import Layout, hash_pairs, pairs_of, reader_of
from nmt.data.lines import read_lines
from nmt.directory import model_directory
from nmt.errors import CheckpointError, ConfigError, DataError
from nmt.recipes import train
from nmt.scoring.evaluation import paired_p_value
from nmt.settings.data import files_of_pairs, languages_in
from nmt.settings.section import CONFIG_NAME
from nmt.tasks.evaluate import ModelEvaluation, prepare_evaluation, tokenization_of
from nmt.text import UNK_ID, TextPair, marks
from nmt.text.tokenizer import sample_lines
from nmt.training.events import Reporter
from nmt.types import PathLike

logger = logging.getLogger(__name__)

FOLDER = "adaptation"
"""Where a new model directory keeps the text that was made for it."""

MEASURED_PAIRS = 5_000
"""Pairs of the new corpus whose tokens are counted."""

MUCH_UNKNOWN = 0.005
"""Share of unknown tokens above which the vocabulary is extended."""

MOST_NEW_TOKENS = 1_000

LEAST_UPDATES, VALIDATIONS = 100, 10

Pairs = Sequence[tuple[str, str]]


class Sizes(NamedTuple):
    """How a model is adapted, by the size of the new corpus; see `chosen_sizes`.

    learning_rate: the peak.
    batch_tokens: padded tokens of an update.
    max_updates: of the new run.
    warmup_updates: a tenth of them.
    """

    learning_rate: float
    batch_tokens: int
    max_updates: int
    warmup_updates: int


@dataclass(frozen=True)
class Adaptation:
    """An adaptation that was planned and whose text was written.

    run: the old model, as RUN or RUN@checkpoint.
    config: of the new run.
    tests: files of source and target by `old` and `new`, the two test sets; either may be missing.
    remarks: what was chosen and why, one line each.
    """

    run: str
    config: Config
    tests: dict[str, tuple[Path, Path]]
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


def corpus_of(given: str, languages: tuple[str, str]) -> Corpus:
    """Open a corpus that is given as `SOURCE,TARGET`, as a file of pairs, or as `corpus.{es,en}`.

    Raises:
        ConfigError: a file of lines stands for both sides, or the languages in braces stand the wrong way round.
    """
    if languages[0] != languages[1] and languages_in(given) == languages[::-1]:
        raise ConfigError(
            f"{given} must have the source first, got {languages[1]} for a model from {languages[0]} into "
            f"{languages[1]}: write {{{','.join(languages)}}}"
        )
    source, comma, target = given.partition(",")
    layout = Layout(languages=languages)
    sources, targets = ((source,), (target,)) if comma and "{" not in given else files_of_pairs(given)
    for path, other in zip(sources, targets, strict=False):
        if path == other and reader_of(path, layout) is None:
            raise ConfigError(
                f"a file of lines has another one for the other side, got {path} for both: give SOURCE,TARGET, "
                "'corpus.{es,en}' in quotes, or a file of pairs, .tsv for instance"
            )
    return Corpus(sources, targets, layout=layout)


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
    from nmt.recipes.training_run import assemble_schedule

    training = config.training
    peak = assemble_schedule(config).highest_rate()
    share, epochs = next(rule for most, *rule in _RULES if pairs < most)
    old = training.effective_batch_tokens or (training.batch_tokens if training.batch_tokens != "auto" else 4096)
    tokens = pairs * tokens_per_pair
    batch_tokens = max(min(old, max(512, int(tokens / 20))), config.data.max_length + 1)
    updates = max(LEAST_UPDATES, math.ceil(epochs * tokens / batch_tokens))
    if training.max_updates is not None:
        updates = min(updates, training.max_updates)
    return Sizes(float(f"{share * peak:.3g}"), batch_tokens, updates, max(1, updates // 10))


_RULES = ((5_000, 0.1, 20), (50_000, 0.25, 10), (math.inf, 0.5, 5))


def plan_adaptation(
    run: str,
    corpus: str,
    *,
    output: PathLike | None = None,
    validation: str | None = None,
    test: str | None = None,
    replay: float = 0.25,
    replay_source: PathLike | None = None,
    freeze: Sequence[str] = (),
    extend_vocabulary: bool | None = None,
    overrides: Sequence[str] = (),
    overwrite: bool = False,
) -> Adaptation:
    """Choose settings for an adaptation, and write the text that it needs; the model is left as it is.

    Args:
        run: the old model, RUN or RUN@checkpoint.
        corpus: the new text, as `corpus_of` takes it.
        output: the new model directory; RUN-adapted unless given.
        validation: new text that picks the best checkpoint; unless given a twentieth of the corpus, 500 pairs at most.
        test: new text for the comparison; unless given as much again.
        replay: share of old pairs in what is trained on, in [0, 1).
        replay_source: old or similar text in the source language, whose translations by the old model are replayed.
        freeze: parts that keep their weights.
        extend_vocabulary: whether to add tokens; if more than 0.5 % of the new text is unknown unless given.
        overrides: settings of the new run, which come last.
        overwrite: replace what lies there.

    Raises:
        NMTError: there is no such model, text cannot be read, or settings do not fit.
    """
    directory, checkpoint = model_directory.parse_run_reference(run)
    old = model_directory.read_settings(directory)
    output = Path(output or model_directory.sibling_directory(directory, "adapted"))
    _refuse(directory, old, output, replay=replay, overwrite=overwrite)
    languages = old.data.source_language, old.data.target_language
    folder, text, remarks = output / FOLDER, TextPair.load(directory), list[str]()

    # The new text, without what validates and tests.
    given = list(corpus_of(corpus, languages).pairs())
    parts = {name: list(corpus_of(given, languages).pairs()) for name, given in (("validation", validation),
             ("test", test)) if given is not None}  # fmt: skip
    pairs, taken = _without(given, parts, seed=old.seed)
    remarks.append(taken)
    paths = {name: _written(folder, f"new-{name}", part, languages) for name, part in parts.items()}
    paths["train"] = _written(folder, "new-train", pairs, languages)

    # What of the old is replayed.
    wanted = round(replay / (1 - replay) * len(pairs))
    again: Pairs = ()
    if wanted:
        again, where = _replay(run, old, wanted, replay_source)
        paths["replay"] = _written(folder, "replay", again, languages)
        remarks.append(f"replay: {len(again):,} of {wanted:,} wanted pairs, {where}")
    lengths, unknown = _measured(text, pairs, seed=old.seed)
    sizes = chosen_sizes(old, len(pairs) + len(again), lengths)
    remarks.append(
        f"chosen for {len(pairs):,} new and {len(again):,} old pairs: learning rate {sizes.learning_rate:g}, batches "
        f"of {sizes.batch_tokens:,} tokens, {sizes.max_updates:,} updates"
    )

    # The vocabulary, if too much of the new text is unknown.
    initial, remark = run, f"{unknown:.2%} of the tokens of the new text are unknown"
    if extend_vocabulary or (extend_vocabulary is None and unknown > MUCH_UNKNOWN):
        initial = str(_extended(directory, checkpoint, paths["train"], output, joint=text.joint))
        remark += f": the vocabulary was extended by what it lacks, in {initial}"
    remarks.append(remark)
    config = _settings(old, initial, output, sizes, paths, freeze=freeze, overrides=overrides)
    tests = {"new": paths["test"]}
    try:
        if old.data.test is None:
            raise DataError("the old run names no test set (data.test)")
        tests["old"] = _written(folder, "old-test", list(pairs_of(old.data, "test")), languages)
    except DataError as error:  # it may be gone, as the old corpus may
        remarks.append(f"what is forgotten is not measured: {error}")
    return Adaptation(run, config, tests, tuple(remarks))


def _refuse(directory: str, old: Config, output: Path, *, replay: float, overwrite: bool) -> None:
    """Refuse what can be refused before anything is read or written."""
    if output.resolve() == Path(directory).resolve():
        raise ConfigError(f"{output} must be another directory than the old model's, which stays: choose another -o")
    if has_checkpoint(output) and not overwrite:
        raise CheckpointError(
            f"{output}: holds a model already: go on with it by nmt train {output / CONFIG_NAME}, choose another -o, "
            "or replace it with --overwrite"
        )
    if old.data.tags:
        raise ConfigError(
            f"{directory} was trained with tags ({', '.join(old.data.tags)}), which an adaptation would lose: train "
            "with training.initialize_from and a list of corpora with their tags in data.train"
        )
    if not 0 <= replay < 1:
        raise ConfigError(f"--replay must be a share from 0 to below 1, got {replay:g}")


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
    source, target = planned.tests[name]
    prepared = [prepare_evaluation(which, source=source, references=[target]) for which in (planned.run, new)]
    evaluations = [each.run() for each in prepared]
    segmentation = planned.config.data.segmentation
    lines = [*(each.hypotheses for each in evaluations), list(read_lines(target))]
    joined = (marks.joined_side(side, segmentation) for side in lines)
    p_value = paired_p_value(*joined, tokenization=tokenization_of(planned.config, prepared[0].test_set))
    before, after = map(_scores, evaluations)
    return Comparison(name, len(lines[0]), before, after, p_value)


def _scores(evaluated: ModelEvaluation) -> tuple[float, float]:
    return evaluated.evaluation.bleu.score, evaluated.evaluation.chrf2.score


def judged(comparisons: Sequence[Comparison], *, most_lost: float) -> tuple[str, bool]:
    """Say in words whether a model became better, and whether it may be called that."""
    found = {each.name: each for each in comparisons}
    gains = {name: each.after[0] - each.before[0] for name, each in found.items()}
    gain = gains["new"]
    if gain <= 0 or found["new"].p_value > 0.05:
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


def _without(pairs: Pairs, parts: dict[str, list[tuple[str, str]]], *, seed: int) -> tuple[Pairs, str]:
    """Take validation and test out of a corpus if they are not given; no line near to one of theirs is left in it."""
    count, distinct = len(pairs), list(dict.fromkeys(pairs))
    size = min(500, len(distinct) // 20)
    for name in ("validation", "test"):
        if name not in parts:
            if not size:
                different = f"{len(distinct)} different" if len(distinct) < count else f"{count}"
                raise DataError(f"a corpus of {different} pairs is too small to take a {name} set from: give --{name}")
            parts[name] = sample_lines(distinct, size, seed=seed)
            chosen = {*parts[name]}
            distinct = [pair for pair in distinct if pair not in chosen]
    sides = [{_nearness(pair[side]) for part in parts.values() for pair in part} for side in (0, 1)]
    left = [pair for pair in pairs if not any(_nearness(text) in side for text, side in zip(pair, sides, strict=True))]
    if not left:
        raise DataError("no pair of the new corpus is left that is not near to one of its validation or test set")
    held = ", ".join(f"{len(part):,} for {name}" for name, part in parts.items())
    return left, (
        f"new corpus: {count:,} pairs read, {len(left):,} kept for training, {count - len(left):,} left out because a "
        f"side of them is near to a line that is held out ({held})"
    )


def _nearness(text: str) -> int | str:
    """What near lines share, as `nmt split` keeps them apart; a line without letters is near to itself alone."""
    number = near_hash(text)
    return text if number is None else number


def _written(folder: Path, name: str, pairs: Pairs, languages: tuple[str, str]) -> tuple[Path, Path]:
    """Write pairs as two files of lines, and return their paths."""
    endings = languages if languages[0] != languages[1] else ("source", "target")
    paths = tuple(folder / f"{name}.{ending}" for ending in endings)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for side, path in enumerate(paths):
            path.write_text("".join(f"{pair[side]}\n" for pair in pairs), encoding="utf-8", newline="")
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}: choose another -o") from error
    return paths[0], paths[1]


def _replay(run: str, old: Config, count: int, source: PathLike | None) -> tuple[Pairs, str]:
    """Return pairs to be replayed and where they are from: the old corpus, or translations by the old model."""
    if source is not None:
        lines = sample_lines((line for line in read_lines(source) if line.strip()), count, seed=old.seed)

        from nmt.backend import session

        session.start()
        from nmt.inference.translator import load_translator

        targets = load_translator(run).translate(lines)
        return list(zip(lines, targets, strict=True)), f"{source} and its translations by {run} (Kim and Rush 2016)"
    try:
        pairs = sample_lines(pairs_of(old.data, "train"), count, seed=old.seed)
    except DataError as error:
        raise DataError(
            f"the old corpus must be there to be replayed: {error}: give other text in the source language with "
            "--replay-source, which the old model translates, or --replay 0"
        ) from error
    where = f"drawn from the old corpus by seed {old.seed} ({hash_pairs(pairs)[:12]})"
    if any(old.data.corpora[name].loss_weight_column is not None for name in old.data.names("train")):
        where += ", which count alike: their loss weights (loss_weight_column) are not used"
    return pairs, where


def _measured(text: TextPair, pairs: Pairs, *, seed: int) -> tuple[float, float]:
    """Return the tokens of the longer side per pair, EOS counted, and the share of unknown ones."""
    sides = zip(*sample_lines(pairs, MEASURED_PAIRS, seed=seed), strict=True)
    tokenizers = (text.source, text.target)
    source, target = (each.encode_batch(list(lines)) for each, lines in zip(tokenizers, sides, strict=True))
    longer = [max(len(one), len(other)) + 1 for one, other in zip(source, target, strict=True)]
    tokens = [token for side in (source, target) for row in side for token in row]
    return sum(longer) / len(longer), sum(token == UNK_ID for token in tokens) / max(1, len(tokens))


def _extended(directory: str, checkpoint: str | None, paths: tuple[Path, Path], output: Path, *, joint: bool) -> Path:
    """Write the old model with the tokens that new text has and its vocabulary lacks; return its directory."""
    files = vocabularies.SideFiles(both=paths) if joint else vocabularies.SideFiles(source=paths[:1], target=paths[1:])
    choose = partial(vocabularies.extended_text, corpora=files, max_new_tokens=MOST_NEW_TOKENS)
    place = model_directory.sibling_directory(output, "vocabulary")
    planned = vocabularies.plan_update(directory, choose, corpora=files, output=place, overwrite=True)
    return vocabularies.update_vocabulary(planned, checkpoint=checkpoint or "best").directory


def _settings(
    old: Config,
    initial: str,
    output: Path,
    sizes: Sizes,
    paths: dict[str, tuple[Path, Path]],
    *,
    freeze: Sequence[str],
    overrides: Sequence[str],
) -> Config:
    """Return the settings of the new run: those of the old one, but what an adaptation changes."""
    mixed = [paths[name] for name in ("train", "replay") if name in paths]
    corpora = {"train": mixed, "validation": [paths["validation"]], "test": [paths["test"]]}
    data = {
        name: {side: tuple(str(pair[place]) for pair in pairs) for place, side in enumerate(("source", "target"))}
        for name, pairs in corpora.items()
    }
    values = old.model_dump()
    values["model_directory"] = str(output)
    values["data"] |= data | {"store_directory": None, "temperature": 1.0, "stages": None}
    every = max(1, sizes.max_updates // VALIDATIONS)
    values["training"] |= {
        "initialize_from": initial,
        "freeze": (),
        "deciding_validation": None,
        "pull": None,
        "learning_rate_factors": {},
        "pretrained_embeddings": None,
        "batch_tokens": sizes.batch_tokens,
        "effective_batch_tokens": None,
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
    config = Config.model_validate(values)
    file = output / FOLDER / "settings.yaml"
    file.write_text(to_yaml(config), encoding="utf-8")
    parts = [f"training.freeze={json.dumps([*freeze])}"] if freeze else []
    return load([file], [*parts, *overrides])


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
