"""What is made of a trained model in another directory: the average of checkpoints, an export for another engine."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nmt.atomic_files import recover_directory
from nmt.checkpoint import manifest as manifests
from nmt.checkpoint.derived import average_contents
from nmt.checkpoint.folder import checkpoint_name, checkpoint_names, checkpoints_folder, read_weights
from nmt.checkpoint.index import candidates, has_checkpoint, read_index
from nmt.directory import model_directory
from nmt.errors import CheckpointError, ConfigError
from nmt.inference import output_directory
from nmt.text import TextPair
from nmt.types import PathLike

if TYPE_CHECKING:
    from nmt.export.ctranslate2_export import Export

_LOGGER = logging.getLogger(__name__)

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
        weights: `ema` or `raw`; unless given the moving averages, if each of the checkpoints keeps one and none
            was found to be worse than the weights.
        overwrite: replace whatever model the output holds.

    Raises:
        CheckpointError: there is no such run or checkpoint; one is damaged, does not belong together with the others or
            keeps no moving average that was asked for; the output is in the way or cannot be written, and is then as it
            was; or what was written does not open.
        ConfigError, DataError: settings or tokenizers cannot be read or written.
    """
    config = model_directory.read_settings(directory)  # what is no model directory is refused by that name
    names = chosen_checkpoints(directory, last=last, best=best, updates=updates)
    directory, output = Path(directory), Path(output or model_directory.sibling_directory(directory, "average"))
    text = TextPair.load(directory)

    def refusal(place: Path) -> str | None:
        """Say why what lies there is not replaced."""
        has_config = (place / model_directory.CONFIG_NAME).exists()
        if not (model_directory.holds_own_settings(place) if has_config else has_checkpoint(place)):
            return "holds files that are no model: choose another -o"
        if overwrite or _is_average_of(directory, place):
            return None
        return f"exists, and is no earlier average of {directory}: choose another -o, or replace it with --overwrite"

    output_directory.check_output(output, directory, refusal)
    folder = checkpoints_folder(directory)
    records = {name: manifests.read_manifest(folder / name) for name in names}
    if weights is None:
        weights = "ema" if {record.preferred_weights for record in records.values()} == {"ema"} else "raw"
    contents = average_contents(read_weights(folder / name, weights) for name in names)
    read = (manifests.MODEL, manifests.EMA) if weights == "ema" else (manifests.MODEL,)
    sources = [
        {"checkpoint": name, "sha256": {file: record.files[file].sha256 for file in read}}
        for name, record in records.items()
    ]
    origin = {"directory": str(directory), "weights": weights, "checkpoints": sources}
    contents = replace(contents, facts={**contents.facts, FACT: origin})

    from nmt.backend import session

    session.start()
    name = output_directory.write_model(output, directory, refusal, config=config, text=text, contents=contents)
    return AveragedModel(output, name, weights, tuple(names))


def interpolate(
    references: Sequence[str],
    shares: Sequence[float],
    *,
    output: PathLike,
    weights: str | None = None,
    overwrite: bool = False,
) -> AveragedModel:
    """Write a mean of checkpoints of several runs, such as a model before and after it was adapted.

    Wortsman et al. (2022, arXiv:2109.01903) interpolate so between a model and what was made of it.

    Args:
        references: of checkpoints, RUN, RUN@best, RUN@latest or RUN@update-N; settings are those of the last.
        shares: of each, from 0 to 1, 1 together.
        output: the model directory to write.
        weights: `ema` or `raw`; unless given what each run would translate with.
        overwrite: replace whatever model the output holds.

    Raises:
        ConfigError: the shares are none; or settings cannot be read.
        CheckpointError, DataError: as for `average`.
    """
    if len(shares) != len(references) or min(shares, default=-1) < 0 or not abs(sum(shares) - 1) <= 1e-6:
        given = ", ".join(f"{share:g}" for share in shares)
        raise ConfigError(f"--shares must be a number of 0 or more for each of {len(references)} models, 1 together, "
                          f"got {given}: try {','.join(['0.5'] * 2)}")  # fmt: skip
    found = [model_directory.parse_run_reference(reference) for reference in references]
    last, output = Path(found[-1][0]), Path(output)
    config, text = model_directory.read_settings(last), TextPair.load(last)

    def refusal(place: Path) -> str | None:
        """Say why what lies there is not replaced."""
        return (
            None if overwrite and has_checkpoint(place) else "exists: choose another -o, or replace it with --overwrite"
        )

    for directory, _ in found:
        model_directory.read_settings(directory)  # what is no model directory is refused by that name
        output_directory.check_output(output, Path(directory), refusal)
    kinds = []

    def contents_of(directory: str, checkpoint: str | None) -> manifests.Contents:
        """Read the weights of one of them."""
        folder = checkpoints_folder(directory)
        name = next(iter(candidates(Path(directory), read_index(folder), checkpoint)))
        record = manifests.read_manifest(folder / name)
        kind = weights or record.preferred_weights
        read = manifests.EMA if kind == "ema" else manifests.MODEL
        kinds.append({"directory": directory, "checkpoint": name, "weights": kind, "sha256": record.files[read].sha256})
        return read_weights(folder / name, kind, manifest=record)

    contents = average_contents((contents_of(*each) for each in found), shares)
    origin = [{**kind, "share": share} for kind, share in zip(kinds, shares, strict=True)]
    facts = {name: fact for name, fact in contents.facts.items() if name != manifests.ANCHOR}
    contents = replace(contents, facts={**facts, "interpolation_of": origin})

    from nmt.backend import session

    session.start()
    name = output_directory.write_model(output, last, refusal, config=config, text=text, contents=contents)
    return AveragedModel(
        output, name, weights or "own", tuple(f"{s:g} {r}" for s, r in zip(shares, references, strict=True))
    )


def _is_average_of(directory: Path, output: Path) -> bool:
    """Return whether all that lies there is an average, and not what was made of one."""
    folder = checkpoints_folder(output)
    try:
        facts = [manifests.read_manifest(folder / name).facts for name in checkpoint_names(folder)]
        origins = {Path(each[FACT]["directory"]).resolve() for each in facts}
    except (CheckpointError, KeyError, TypeError):
        return False
    return origins == {directory.resolve()} and not (output / model_directory.REPORT_NAME).exists()


def export_for_ctranslate2(
    directory: PathLike,
    output: PathLike,
    *,
    quantization: str = "float32",
    checkpoint: str | None = None,
    weights: str | None = None,
    overwrite: bool = False,
    threads: int | None = None,
) -> Export:
    """Write a trained Transformer as a directory that CTranslate2 reads, and prove that it translates alike.

    They are compared on the first pairs of the validation set, or the test set, if their files are there, else on
    text drawn from the vocabulary.

    Args:
        directory: the model directory, or a checkpoint in it.
        output: the directory to write.
        quantization: how weights are stored: `float32`, `float16`, `bfloat16`, `int16` or `int8`.
        checkpoint: `best`, `latest` or `update-N`; the best, else the latest unless given.
        weights: `ema` or `raw`; unless given the moving average if it was kept, or what validation found better.
        overwrite: replace an earlier export.
        threads: processor cores to use; all unless given.

    Raises:
        NMTError: there is no such model, it cannot be exported, or the export is not equal to it; the output is then
            as it was.
    """
    from nmt.translation.ctranslate2_engine import check_exportable

    found = model_directory.find_model(directory, checkpoint=checkpoint, weights=weights)
    place = Path(os.path.abspath(output))  # with a name at its end, which `.` and `..` have not
    output_directory.check_not_among_checkpoints(place)
    recover_directory(place)  # if an export was killed while it took the place of another
    check_exportable(found.config, place, quantization=quantization, overwrite=overwrite)

    from nmt.backend import session

    session.start(threads=threads)

    from nmt.export.ctranslate2_export import SamplePair, export_ctranslate2
    from nmt.export.engines import sample_pairs
    from nmt.inference.translator import open_found

    opened = open_found(found)
    sample = [SamplePair(*pair) for pair in sample_pairs(opened.config, opened.text)]
    return export_ctranslate2(opened, place, sample, quantization=quantization, overwrite=overwrite)
