"""Which checkpoints there are, and which is the best: `index.json`, and the folders that it sums up."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from nmt.atomic_files import replace_file
from nmt.checkpoint.disk import DamagedCheckpointError, read_file
from nmt.checkpoint.folder import checkpoint_names, checkpoints_folder, update_of
from nmt.checkpoint.json_files import is_number
from nmt.checkpoint.manifest import (
    AVERAGE,
    FORMAT_VERSION,
    VALIDATION_CHANGES,
    Manifest,
    check_format,
    json_bytes,
    parse_json,
    read_manifest,
)
from nmt.types import PathLike

INDEX = "index.json"

logger = logging.getLogger(__name__)


class CheckpointInfo(NamedTuple):
    """One checkpoint, or the weights that were loaded from it.

    name: such as `update-00012000`.
    path: its folder.
    update: updates made.
    score: of its validation, higher is better; None without one.
    weights: `ema` or `raw`: what was loaded, or in a list, what would be.
    """

    name: str
    path: Path
    update: int
    score: float | None
    weights: str


class Index(NamedTuple):
    """The score of each checkpoint, None without a validation; oldest first."""

    scores: dict[str, float | None]

    @property
    def latest(self) -> str | None:
        """The newest checkpoint."""
        return next(reversed(self.scores), None)

    @property
    def best(self) -> str | None:
        """The one with the highest score, the last that reached it; None where none has a score."""
        return next(iter(self.ranked), None)

    @property
    def ranked(self) -> list[str]:
        """Those with a score, best first; of equal ones the newer is better, as it has learned longer."""
        scored = {name: score for name, score in self.scores.items() if score is not None}
        return sorted(scored, key=lambda name: (-scored[name], -(update_of(name) or 0)))

    def kept(self, *, keep_last: int, keep_best: int) -> set[str]:
        """Choose what pruning leaves: the newest and the best, always the newest one and the best one."""
        return {*list(self.scores)[-max(keep_last, 1) :], *self.ranked[: max(keep_best, 1)]}


def scan_index(folder: Path, known: Mapping[str, float | None] | None = None) -> Index:
    """Make the index from the folders themselves, reading the manifest of each that is not known yet.

    Scores on different validation corpora cannot be compared: those on the newest that has one count.

    Raises:
        CheckpointError: one is of a newer format.
    """
    scores: dict[str, float | None] = {}
    changes: dict[str, object] = {}
    for name in checkpoint_names(folder):
        if known is not None and name in known:
            scores[name] = known[name]
            continue
        try:
            manifest = read_manifest(folder / name)
            scores[name], changes[name] = manifest.score, manifest.facts.get(VALIDATION_CHANGES, 0)
        except DamagedCheckpointError as error:
            if (folder / name).exists():  # else it was pruned just now
                logger.warning("%s: skipped, it is damaged: %s", name, error)
    newest = next((changes[name] for name in reversed(changes) if scores[name] is not None), None)
    return Index({name: score if changes.get(name, newest) == newest else None for name, score in scores.items()})


def read_index(folder: Path) -> Index:
    """Return the checkpoints that exist, with the scores that `index.json` has for them.

    A trainer that was killed between its two renames leaves an index that lags behind: the folders decide.

    Raises:
        CheckpointError: the index or a checkpoint is of a newer format.
    """
    stored = _read_stored(folder)
    index = scan_index(folder, stored.scores)
    if stored.best not in (None, *index.scores) and _read_stored(folder).best == stored.best:  # not pruned just now
        logger.warning(
            "%s: %s, the best by %s, is no longer there: %s takes its place",
            folder, stored.best, INDEX, index.best or index.latest or "none",
        )  # fmt: skip
    return index


class _Stored(NamedTuple):
    """What `index.json` says; of no checkpoint where there is no such file, or none that can be used."""

    scores: dict[str, float | None]
    best: str | None


def _read_stored(folder: Path) -> _Stored:
    path = folder / INDEX
    if not os.path.lexists(path):
        return _Stored({}, None)
    try:
        values = parse_json(path, read_file(path))
        check_format(path, values.get("format_version"))
        return _Stored({name: _score(entry["score"]) for name, entry in values["scores"].items()}, values["best"])
    except (DamagedCheckpointError, AttributeError, KeyError, TypeError) as error:
        logger.warning("%s: cannot be used, the checkpoints themselves are read: %s", path, error)
        return _Stored({}, None)


def write_index(folder: Path, index: Index) -> None:
    """Write `index.json` in one step.

    Raises:
        OSError: the disk refuses.
    """
    scores = {name: {"update": update_of(name), "score": score} for name, score in index.scores.items()}
    values = {"format_version": FORMAT_VERSION, "latest": index.latest, "best": index.best, "scores": scores}
    replace_file(folder / INDEX, json_bytes(values))


def has_checkpoint(directory: PathLike) -> bool:
    """Return whether a model directory holds a checkpoint; its hashes are not looked at."""
    return bool(checkpoint_names(checkpoints_folder(directory)))


def list_checkpoints(directory: PathLike) -> list[CheckpointInfo]:
    """List the checkpoints of a model directory, oldest first.

    Raises:
        CheckpointError: one is of a newer format.
    """
    folder = checkpoints_folder(directory)
    return [describe_checkpoint(folder / name, score) for name, score in read_index(folder).scores.items()]


def newest_manifest(directory: PathLike) -> tuple[str, Manifest] | None:
    """Return name and manifest of the newest checkpoint whose manifest is whole; None where there is none.

    Damaged ones are passed over without a word: whoever restores names them.

    Raises:
        CheckpointError: it is of a newer format.
    """
    folder = checkpoints_folder(directory)
    for name in reversed(checkpoint_names(folder)):
        with suppress(DamagedCheckpointError):
            return name, read_manifest(folder / name)
    return None


def describe_checkpoint(path: Path, score: float | None, weights: str | None = None) -> CheckpointInfo:
    """Describe one checkpoint, by default with the weights that readers prefer."""
    weights = weights or ("ema" if (path / AVERAGE).exists() else "raw")
    return CheckpointInfo(path.name, path, update_of(path.name) or 0, score, weights)


def _score(value: object) -> float | None:
    if value is None:
        return None
    if not (isinstance(value, int | float) and is_number(value)):
        raise TypeError(f"a score must be a finite number, got {value!r:.40}")
    return float(value)
