"""Averaging checkpoints of one run into a model directory of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from nmt.checkpoint.derived import average_contents
from nmt.checkpoint.folder import LOCK_NAME, checkpoint_name, checkpoint_names, checkpoints_folder, read_weights
from nmt.checkpoint.index import has_checkpoint, read_index
from nmt.checkpoint.manifest import EMA, MODEL, Contents, read_manifest
from nmt.config import write
from nmt.errors import CheckpointError
from nmt.inference.model_directory import CONFIG_NAME, holds_own_settings, read_settings, sibling_directory
from nmt.inference.output_directory import REPORT_NAME, check_place, output_directory
from nmt.text import TextPair
from nmt.types import PathLike

FACT = "average_of"
"""What the manifest of an average calls the checkpoints that it was made of."""


class AveragedModel(NamedTuple):
    """An average that was written.

    directory: its model directory.
    checkpoint: the name of its checkpoint.
    weights: `ema` or `raw`: what was averaged.
    averaged: names of the checkpoints that it is the mean of, oldest first.
    """

    directory: Path
    checkpoint: str
    weights: str
    averaged: tuple[str, ...]


def chosen_checkpoints(
    directory: PathLike, *, last: int | None = None, best: int | None = None, updates: Sequence[int] = ()
) -> list[str]:
    """Return the names of the newest checkpoints of a run, of the best, or of those after some updates, oldest first.

    Raises:
        CheckpointError: there are fewer, fewer have a score, there is none after an update, or one is named twice.
    """
    folder = checkpoints_folder(directory)
    names = checkpoint_names(folder)
    count = best if last is None else last
    if count is not None:
        what, found = "checkpoints", names[::-1]
        if last is None:
            what, found = "checkpoints with a score", list(read_index(folder).ranked)
        if not 1 <= count <= len(found):
            advice = f"ask for 1 to {len(found)}" if found else "train the model first"
            listed = ", ".join(sorted(found)) or "none"
            raise CheckpointError(f"{directory} has {len(found)} {what}, not {count} ({listed}): {advice}")
        return sorted(found[:count], key=names.index)
    wanted = [checkpoint_name(update) for update in sorted(updates)]
    missing = [name for name in wanted if name not in names]
    if missing or not wanted:
        listed = ", ".join(names) or "none"
        raise CheckpointError(f"{directory} has no {', '.join(missing) or 'such checkpoint'}, it has {listed}")
    if len(set(wanted)) < len(wanted):
        raise CheckpointError(f"each checkpoint counts once in an average, got {', '.join(wanted)}")
    return wanted


def default_output(directory: PathLike) -> Path:
    """Return where an average is written unless told: beside the model directory, with `-average` appended."""
    return sibling_directory(directory, "average")


def average(
    directory: PathLike,
    *,
    last: int | None = None,
    best: int | None = None,
    updates: Sequence[int] = (),
    output: PathLike | None = None,
    weights: str | None = None,
    overwrite: bool = False,
) -> AveragedModel:
    """Write the mean of checkpoints of a run as the only checkpoint of another model directory.

    It translates, scores and starts trainings as any other, but keeps no optimizer to go on with. Whatever can be
    refused is refused before TensorFlow starts.

    Args:
        directory: the model directory of the run.
        last: how many of the newest checkpoints to average; one of `last`, `best` and `updates` is given.
        best: how many of those that stand highest.
        updates: those after so many updates.
        output: the model directory to write; that of the run with `-average` appended unless given. An earlier
            average of the same run is replaced.
        weights: `ema` or `raw`; unless given the moving averages, where each of the checkpoints keeps one and none
            was found to be worse than the weights.
        overwrite: replace whatever model the output holds.

    Raises:
        CheckpointError: there is no such run or checkpoint; one is damaged, does not belong together with the others or
            keeps no moving average that was asked for; the output is in the way or cannot be written, and is then as it
            was; or what was written does not open.
        ConfigError, DataError: settings or tokenizers cannot be read or written.
    """
    config = read_settings(directory)  # what is no model directory is refused by that name
    names = chosen_checkpoints(directory, last=last, best=best, updates=updates)
    directory, output = Path(directory), default_output(directory) if output is None else Path(output)
    text = TextPair.load(directory)
    _check_output(directory, output, overwrite=overwrite)
    contents, weights = _mean_of(directory, names, weights)

    from nmt.backend import session

    session.start()

    from nmt.checkpoint.manager import CheckpointManager
    from nmt.inference.translator import open_model

    with output_directory(output, overwrite=bool(_names_in(output))) as folder:
        _check_output(directory, output, overwrite=overwrite)  # again, since it is locked
        write(config.model_copy(update={"model_directory": str(output)}), folder / CONFIG_NAME)
        text.save(folder)
        with CheckpointManager(folder) as manager:
            name = manager.write(contents).name
        open_model(folder, checkpoint=name, weights="raw")
    return AveragedModel(output, name, weights, tuple(names))


def _mean_of(directory: Path, names: Sequence[str], weights: str | None) -> tuple[Contents, str]:
    """Compute the mean, and record in its facts what it is of."""
    folder = checkpoints_folder(directory)
    try:
        manifests = {name: read_manifest(folder / name) for name in names}
        better = {manifest.preferred_weights for manifest in manifests.values()}
        weights = weights or ("ema" if better == {"ema"} else "raw")
        contents = average_contents(read_weights(folder / name, weights) for name in names)
    except CheckpointError as error:
        pruned = [name for name in names if not (folder / name).exists()]
        if pruned:
            raise CheckpointError(f"{', '.join(pruned)}: was pruned while it was read: try again") from error
        raise
    read = (MODEL, EMA) if weights == "ema" else (MODEL,)
    sources = [
        {"checkpoint": name, "sha256": {file: manifest.files[file].sha256 for file in read}}
        for name, manifest in manifests.items()
    ]
    origin = {"directory": str(directory), "weights": weights, "checkpoints": sources}
    return replace(contents, facts={**contents.facts, FACT: origin}), weights


def _check_output(directory: Path, output: Path, *, overwrite: bool) -> None:
    """Refuse to write where something else lies.

    Raises:
        CheckpointError: saying what lies there.
    """
    if output.resolve() == directory.resolve():
        raise CheckpointError(f"{output}: the average must not replace the run that it is made of: choose another -o")
    if output.exists() and not output.is_dir():
        raise CheckpointError(f"{output}: must be a directory to write the average to, got a file: choose another -o")
    check_place(output, directory)
    names = _names_in(output)
    is_model = holds_own_settings(output) if CONFIG_NAME in names else has_checkpoint(output)
    if names - {LOCK_NAME} and not is_model:
        raise CheckpointError(f"{output}: holds files that are no model: choose another -o")
    if not overwrite and names - {LOCK_NAME} and not _is_average_of(directory, output):
        raise CheckpointError(
            f"{output}: exists, and is no earlier average of {directory}: choose another -o, or replace it with "
            "--overwrite"
        )


def _names_in(output: Path) -> set[str]:
    try:
        return {path.name for path in output.iterdir()} if output.exists() else set()
    except OSError as error:
        raise CheckpointError(f"{output}: cannot be read: {error.strerror}") from error


def _is_average_of(directory: Path, output: Path) -> bool:
    """Return whether all that lies there is an average, and not what was made of one."""
    if (output / REPORT_NAME).exists():
        return False
    folder = checkpoints_folder(output)
    names = checkpoint_names(folder)
    try:
        origins = [read_manifest(folder / name).facts[FACT]["directory"] for name in names]
    except (CheckpointError, KeyError, TypeError):
        return False
    return bool(origins) and all(Path(origin).resolve() == directory.resolve() for origin in origins)
