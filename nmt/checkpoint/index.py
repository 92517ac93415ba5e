"""Which checkpoints there are, and which is the best: `index.json`, and the folders that it sums up."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from nmt.atomic_files import replace_file
from nmt.checkpoint.disk import DamagedCheckpointError, is_number, json_bytes, read_object
from nmt.checkpoint.folder import checkpoint_name, checkpoint_names, checkpoints_folder, damaged_names, update_of
from nmt.checkpoint.manifest import VALIDATION_CHANGES, Judged, Manifest, check_format, read_manifest
from nmt.errors import CheckpointError
from nmt.types import PathLike

logger = logging.getLogger(__name__)

INDEX = "index.json"

INDEX_VERSION = 2
"""The newest format of the index. It is written as version 1, which 0.1.0 reads too, if that version would take the
same weights for the best; else that version refuses the directory, and does not translate with others."""

LEAST_TELLING_SCORE = 1.0
"""Below this BLEU, a score says more about chance than about a model."""


def standing(score: float, loss: float | None) -> tuple[float, float, float]:
    """Return how good a validation was, to be compared: only what stands higher than all before it is a new best.

    This is the one order for the log, the patience, the plateau schedule and the best checkpoint. The higher BLEU is
    better; those below 1 are taken for equal, and the lower loss is better; only if that is equal too, their BLEU
    counts. A score below 0 is a negative loss. One that is not finite has no standing and must not come here.

    Args:
        score: of a validation, finite, higher is better.
        loss: found with it, finite; None if it was not recorded, as version 0.1.0 did not.
    """
    if score >= LEAST_TELLING_SCORE:
        return score, 0.0, 0.0
    known = -score if score < 0 else math.inf if loss is None else loss
    return 0.0, -known, score


class Index(NamedTuple):
    """The score of each checkpoint, None without a validation, and what was found besides; oldest first."""

    scores: dict[str, float | None]
    judged: Mapping[str, Judged] = MappingProxyType({})

    @property
    def latest(self) -> str | None:
        """The newest checkpoint."""
        return next(reversed(self.scores), None)

    @property
    def best(self) -> str | None:
        """The one that stands highest, the first of equals; None if none has a score."""
        return next(iter(self.ranked), None)

    @property
    def ranked(self) -> list[str]:
        """Those with a score, best first; of equal ones the older is better, as a tie is no new best.

        Version 0.1.0, which recorded no loss, took the newer one of equals, and its checkpoints stay ranked so.
        """
        ranks = {}
        for name, score in self.scores.items():
            if score is not None:
                judged, update = self.judged.get(name), update_of(name) or 0
                loss, age = (None, update) if judged is None else (judged.loss, -update)
                ranks[name] = *standing(score, loss), age
        return sorted(ranks, key=lambda name: ranks[name], reverse=True)

    @property
    def diverged(self) -> set[str]:
        """Those whose validation found no finite loss."""
        return {name for name, judged in self.judged.items() if judged.loss is None}

    def kept(self, *, keep_last: int, keep_best: int) -> set[str]:
        """Choose what pruning leaves: the newest and the best, always the newest one and the best one.

        If one has diverged, the last that was good stays too.
        """
        good = [name for name, score in self.scores.items() if score is not None and self.diverged]
        return {*list(self.scores)[-max(keep_last, 1) :], *self.ranked[: max(keep_best, 1)], *good[-1:]}

    def only(self, names: Iterable[str]) -> Index:
        """Return the index of those of these checkpoints that it lists, in this order."""
        scores = {name: self.scores[name] for name in names if name in self.scores}
        return Index(scores, {name: self.judged[name] for name in scores if name in self.judged})


def index_of(manifests: Mapping[str, Manifest]) -> Index:
    """Return the index of checkpoints, oldest first.

    Scores on different validation corpora cannot be compared: those on the newest that has one count.
    """
    changes = {name: manifest.facts.get(VALIDATION_CHANGES, 0) for name, manifest in manifests.items()}
    newest = next((changes[name] for name in reversed(changes) if manifests[name].score is not None), None)
    scores = {name: manifest.score if changes[name] == newest else None for name, manifest in manifests.items()}
    return Index(scores, {name: found for name, manifest in manifests.items() if (found := manifest.judged)})


def scan_index(folder: Path, known: Index | None = None) -> Index:
    """Make the index from the folders themselves, reading the manifest of each that is not known yet.

    Raises:
        CheckpointError: one is of a newer format.
    """
    names, manifests, known = checkpoint_names(folder), {}, known or Index({})
    for name in names:
        try:
            if name not in known.scores:
                manifests[name] = read_manifest(folder / name)
        except DamagedCheckpointError as error:
            if (folder / name).exists():  # else it was pruned just now
                logger.warning("%s: skipped, it is damaged: %s", name, error)
    read = index_of(manifests)
    return Index(known.scores | read.scores, {**known.judged, **read.judged}).only(names)


def read_index(folder: Path) -> Index:
    """Return the checkpoints that exist, with the scores that `index.json` has for them.

    A trainer that was killed between its two renames leaves an index that lags behind: the folders decide.

    Raises:
        CheckpointError: the index or a checkpoint is of a newer format.
    """
    known, _, best = _read_stored(folder)
    index = scan_index(folder, known)
    if best not in (None, *index.scores) and _read_stored(folder).best == best:  # not pruned just now
        logger.warning(
            "%s: %s, the best by %s, is no longer there: %s takes its place",
            folder, best, INDEX, index.best or index.latest or "none",
        )  # fmt: skip
    return index


class StoredIndex(NamedTuple):
    """What `index.json` says."""

    known: Index
    latest: str | None
    best: str | None


def _read_stored(folder: Path) -> StoredIndex:
    """Read `index.json`; an index of nothing if there is no such file, or none that can be used."""
    path = folder / INDEX
    try:
        if os.path.lexists(path):
            return read_index_file(path)
    except DamagedCheckpointError as error:
        logger.warning("%s: cannot be used, the checkpoints themselves are read: %s", path, error)
    return StoredIndex(Index({}), None, None)


def read_index_file(path: Path) -> StoredIndex:
    """Return what `write_index` wrote.

    Raises:
        DamagedCheckpointError: it is no such thing.
        CheckpointError: it is of a newer format.
    """
    values = read_object(path)
    check_format(path, values.get("format_version"), INDEX_VERSION)
    try:
        scores, judged = {}, {}
        for name, entry in values["scores"].items():
            score = scores[name] = entry["score"]
            if score is not None and not is_number(score):
                raise TypeError(f"a score must be a finite number, got {score!r:.40}")
            if (found := Judged.from_json(entry)) is not None:
                judged[name] = found
        return StoredIndex(Index(scores, judged), values["latest"], values["best"])
    except (AttributeError, KeyError, TypeError) as error:
        raise DamagedCheckpointError(f"{path}: is no index of checkpoints: {error!r}") from error


def write_index(folder: Path, index: Index) -> None:
    """Write `index.json` in one step.

    Raises:
        OSError: the disk refuses.
    """
    scores = {}
    for name, score in index.scores.items():
        judged = index.judged.get(name)
        scores[name] = {"update": update_of(name), "score": score} | ({} if judged is None else judged.to_json())
    # Version 1 if version 0.1.0 takes the same weights of the same checkpoints.
    has_raw = any(judged.weights == "raw" for judged in index.judged.values())
    version = INDEX_VERSION if has_raw or Index(index.scores).best != index.best else 1
    values = {"format_version": version, "latest": index.latest, "best": index.best, "scores": scores}
    replace_file(folder / INDEX, json_bytes(values))


def has_checkpoint(directory: PathLike) -> bool:
    """Return whether a model directory holds a checkpoint; its hashes are not looked at."""
    return bool(checkpoint_names(checkpoints_folder(directory)))


def newest_manifest(directory: PathLike) -> tuple[str, Manifest] | None:
    """Return name and manifest of the newest checkpoint whose manifest is whole; None if there is none.

    Damaged ones are passed over without a word: whoever restores names them.

    Raises:
        CheckpointError: it is of a newer format.
    """
    folder = checkpoints_folder(directory)
    for name in reversed(checkpoint_names(folder)):
        with suppress(DamagedCheckpointError):
            return name, read_manifest(folder / name)
    return None


def candidates(directory: Path, index: Index, checkpoint: str | None) -> list[str]:
    """List the checkpoints that answer a request, the wanted one first, then those that stand in if it is damaged.

    Args:
        directory: the model directory.
        index: of its checkpoints.
        checkpoint: `best`, `latest` or `update-N`; the best, or the latest if none has a score, unless given.

    Raises:
        CheckpointError: there is none.
    """
    if not index.scores:
        raise CheckpointError(_nothing_to_read(directory))
    newest_first = list(reversed(index.scores))
    if checkpoint == "latest":
        return newest_first
    newest_first.sort(key=index.diverged.__contains__)  # what has diverged stands in last
    if checkpoint in (None, "best") and index.best is not None:
        return [*index.ranked, *(name for name in newest_first if name not in index.ranked)]
    if checkpoint is None:
        return newest_first
    if checkpoint == "best":
        raise CheckpointError(f"{directory}: no checkpoint was validated yet, so none is the best: ask for latest")
    name = name_of_update(checkpoint)
    if name is None:
        raise CheckpointError(f"checkpoint must be best, latest or update-N, got {checkpoint}")
    if name not in index.scores:
        raise CheckpointError(f"{directory} has no checkpoint {checkpoint}, it has {', '.join(index.scores)}")
    return [name]


def split_checkpoint(directory: PathLike, checkpoint: str | None = None) -> tuple[Path, str | None]:
    """Take the path of a checkpoint, RUN/checkpoints/update-N, for the model directory RUN and that checkpoint.

    Args:
        directory: a model directory or a checkpoint in one.
        checkpoint: as in `candidates`.

    Raises:
        CheckpointError: the path is that of a checkpoint, and another one is asked for.
    """
    path = Path(directory)
    full = path if path.parent.name else Path(os.path.abspath(path))
    run, named = full.parent.parent, name_of_update(full.name)
    if named is None or full.parent != checkpoints_folder(run) or (path / "config.yaml").exists():
        return path, checkpoint
    if checkpoint is not None and name_of_update(checkpoint) != named:
        raise CheckpointError(f"{path} is a checkpoint already, got {checkpoint}: leave that out, or give {run}")
    return run, named


def name_of_update(checkpoint: str | None) -> str | None:
    """Return the one checkpoint that was asked for by its update, so that no other may stand in for it, else None."""
    if checkpoint is None or not checkpoint.startswith("update-"):
        return None
    update = checkpoint.removeprefix("update-")
    return checkpoint_name(int(update)) if update.isascii() and update.isdecimal() else None


def _nothing_to_read(directory: Path) -> str:
    if not directory.is_dir():
        hint = ": a checkpoint is named best, latest or update-N" if "@" in directory.name else ""
        return f"{directory}: there is no such model directory{hint}"
    damaged = damaged_names(checkpoints_folder(directory))
    if damaged:
        return f"{directory}: no whole checkpoint is left, only {', '.join(damaged)}"
    return f"{directory}: there is no checkpoint yet: train the model first, or give the model_directory of a run"
