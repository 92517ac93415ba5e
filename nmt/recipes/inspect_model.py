"""What a model directory holds, how two models differ, and whether everything is as it was written. No Keras."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from nmt.checkpoint import inspection
from nmt.checkpoint.folder import checkpoints_folder, damaged_names, read_weights
from nmt.checkpoint.index import candidates, split_checkpoint
from nmt.checkpoint.inspection import Description, Difference
from nmt.checkpoint.manifest import OPTIMIZER, Contents, Manifest, read_manifest
from nmt.config import Config, load
from nmt.errors import CheckpointError, ConfigError, NMTError
from nmt.inference.model_directory import CONFIG_NAME
from nmt.text import TextPair
from nmt.types import PathLike


class NamedCheckpoint(NamedTuple):
    """A checkpoint of a model directory."""

    directory: Path
    name: str


class ModelDifference(NamedTuple):
    """What differs between two checkpoints.

    before: the first.
    after: the second, which need not be newer.
    difference: from the first to the second.
    """

    before: NamedCheckpoint
    after: NamedCheckpoint
    difference: Difference


class Verification(NamedTuple):
    """What was read, and what is wrong with it.

    directory: the model directory.
    checkpoints: names of those that were read.
    num_files: how many files they have.
    size: their bytes.
    text: whether there were settings and tokenizers to compare with.
    set_aside: names of damaged checkpoints that a trainer moved out of the way; they were not read.
    problems: one sentence each; none where all is well.
    """

    directory: Path
    checkpoints: tuple[str, ...]
    num_files: int
    size: int
    text: bool
    set_aside: tuple[str, ...]
    problems: tuple[str, ...]


class Inspection(NamedTuple):
    """A checkpoint and the settings beside it, None where they are missing or cannot be read."""

    description: Description
    config: Config | None


def inspect_model(directory: PathLike, checkpoint: str | None = None) -> Inspection:
    """Describe one checkpoint of a model directory, and list the others.

    Args:
        directory: the model directory.
        checkpoint: `best`, `latest` or `update-N`; the best, else the latest unless given.

    Raises:
        CheckpointError: there is no such directory or checkpoint, or it is damaged.
    """
    directory, checkpoint = split_checkpoint(directory, checkpoint)
    description = inspection.describe(directory, checkpoint)
    try:
        return Inspection(description, load(Path(directory) / CONFIG_NAME))
    except ConfigError:
        return Inspection(description, None)


def diff_models(before: tuple[PathLike, str | None], after: tuple[PathLike, str | None]) -> ModelDifference:
    """Compare the weights of two checkpoints.

    Args:
        before: a model directory and which of its checkpoints, as in `inspect_model`.
        after: another, or the same directory again.

    Raises:
        CheckpointError: there is no such directory or checkpoint, or it is damaged.
    """
    first, second = (
        NamedCheckpoint(Path(d), inspection.choose(d, inspection.find_checkpoints(d), which))
        for d, which in (before, after)
    )
    return ModelDifference(first, second, inspection.compare(_weights(first), _weights(second)))


def verify_model(directory: PathLike, checkpoint: str | None = None) -> Verification:
    """Read every byte of every checkpoint, and compare with what was written and with the tokenizers beside it.

    Args:
        directory: the model directory.
        checkpoint: read this one only, damaged or not: `best`, `latest` or `update-N`.

    Raises:
        CheckpointError: there is no such directory or checkpoint.
    """
    directory = Path(directory)
    folder = checkpoints_folder(directory)
    index = inspection.index_of(inspection.find_checkpoints(directory))
    names = candidates(directory, index, checkpoint)[:1] if checkpoint else list(index.scores)
    if not names:
        candidates(directory, index, None)  # raises: there is nothing to read
    problems: list[str] = []
    num_files = size = 0
    for name in names:
        found = inspection.verify_checkpoint(folder / name)
        if not (folder / name).exists():  # pruned while it was read
            continue
        problems += found.problems
        num_files, size = num_files + found.num_files, size + found.size
    problems += inspection.verify_index(folder)
    has_text = (directory / CONFIG_NAME).exists() or TextPair.exists(directory)
    if has_text:
        problems += _text_problems(directory, [folder / name for name in names])
    return Verification(
        directory, tuple(names), num_files, size, has_text, tuple(damaged_names(folder)), tuple(problems)
    )


def _weights(checkpoint: NamedCheckpoint) -> Contents:
    return read_weights(checkpoints_folder(checkpoint.directory) / checkpoint.name, "raw")


def _text_problems(directory: Path, checkpoints: list[Path]) -> list[str]:
    """What is wrong with the settings and the tokenizers, and which checkpoints they do not fit."""
    problems = []
    try:
        load(directory / CONFIG_NAME)
    except ConfigError as error:
        problems.append(_one_line(error))
    try:
        text = TextPair.load(directory)
    except NMTError as error:
        return [*problems, _one_line(error)]
    for path in checkpoints:
        try:
            problems += _misfits(path, read_manifest(path), text)
        except CheckpointError:
            continue  # said already
    return problems


def _misfits(path: Path, manifest: Manifest, text: TextPair) -> list[str]:
    wanted = manifest.facts.get("tokenizers")
    if wanted not in (None, text.fingerprints):
        return [f"{path}: was trained with other tokenizers than those in the model directory"]
    shapes = {name: variable["shape"] for name, variable in manifest.variables.items()}
    shapes |= {role: group["shape"] for group in manifest.tie_groups for role in group["roles"]}
    sides = {"source_embedding/embeddings": text.source, "target_embedding/embeddings": text.target}
    return [
        f"{path}: {role} must have a row for each of {len(side.vocabulary):,} tokens, but has {shapes[role][0]:,}"
        for role, side in sides.items()
        if role in shapes and shapes[role][0] != len(side.vocabulary)
    ]


def _one_line(error: Exception) -> str:
    return "; ".join(line.strip() for line in str(error).splitlines())


def inspection_values(found: Inspection) -> dict[str, Any]:
    """Return an inspection as JSON values; docs/inspection.md lists the keys."""
    described, manifest = found.description, found.description.manifest
    return {
        "model_directory": str(described.directory),
        "checkpoint": described.checkpoint,
        "update": manifest.update,
        "score": manifest.score,
        "settings": settings_values(found.config),
        "parameters": described.parameters,
        "parts": described.parts,
        "variables": [variable._asdict() for variable in described.variables],
        "tie_groups": [
            {
                "name": tie.name,
                "roles": tie.roles,
                "variable": tie.variable,
                "shape": tie.shape,
                "saved_parameters": tie.parameters,
                "saved_bytes": tie.size,
            }
            for tie in described.ties
        ],
        "saved_parameters": sum(tie.parameters for tie in described.ties),
        "saved_bytes": sum(tie.size for tie in described.ties),
        "average": described.keeps_ema,
        "optimizer": manifest.optimizer if OPTIMIZER in manifest.files else None,
        "files": {name: record._asdict() for name, record in manifest.files.items()},
        "versions": dict(manifest.versions),
        "facts": dict(manifest.facts),
        "latest": described.latest,
        "best": described.best,
        "checkpoints": [
            {
                "name": one.name,
                "update": one.update,
                "score": one.score,
                "weights": one.weights,
                "bytes": one.size,
                "problem": one.problem,
            }
            for one in described.checkpoints
        ],
        "set_aside": list(described.set_aside),
    }


def settings_values(config: Config | None) -> Mapping[str, Any] | None:
    """Return what of the settings says which model this is."""
    if config is None:
        return None
    return {
        "type": config.model.type,
        "tie_embeddings": config.model.tie_embeddings,
        "source_language": config.data.source_language,
        "target_language": config.data.target_language,
    }


def difference_values(found: ModelDifference) -> dict[str, Any]:
    """Return a comparison as JSON values; docs/inspection.md lists the keys."""
    values = asdict(found.difference)
    for key in ("added", "removed", "shapes_changed", "changed"):
        values[key] = [one._asdict() for one in getattr(found.difference, key)]
    sides = {
        side: {"model_directory": str(one.directory), "checkpoint": one.name}
        for side, one in (("before", found.before), ("after", found.after))
    }
    return {**sides, **values}


def verification_values(found: Verification) -> dict[str, Any]:
    """Return a verification as JSON values; docs/inspection.md lists the keys."""
    return {
        "model_directory": str(found.directory),
        "checkpoints": list(found.checkpoints),
        "files": found.num_files,
        "bytes": found.size,
        "set_aside": list(found.set_aside),
        "problems": list(found.problems),
    }
