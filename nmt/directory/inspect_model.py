"""What a model directory holds, how two models differ, and whether everything is as it was written. No Keras."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from nmt.checkpoint.folder import checkpoints_folder, damaged_names, read_weights
from nmt.checkpoint.index import candidates, split_checkpoint
from nmt.checkpoint.manifest import OPTIMIZER, read_manifest
from nmt.config import Config, load
from nmt.directory import inspection, model_directory
from nmt.errors import CheckpointError, ConfigError, NMTError
from nmt.text import TextPair
from nmt.types import PathLike


def inspect_model(directory: PathLike, checkpoint: str | None = None) -> tuple[inspection.Description, Config | None]:
    """Describe one checkpoint of a model directory, and list the others.

    Args:
        directory: the model directory.
        checkpoint: `best`, `latest` or `update-N`; the best, else the latest unless given.

    Returns:
        The checkpoint, and the settings beside it, None if they are missing or cannot be read.

    Raises:
        CheckpointError: there is no such directory or checkpoint, or it is damaged.
    """
    directory, checkpoint = split_checkpoint(directory, checkpoint)
    described = inspection.describe(directory, checkpoint)
    try:
        return described, load(Path(directory) / model_directory.CONFIG_NAME)
    except ConfigError:
        return described, None


def inspection_values(described: inspection.Description, config: Config | None) -> dict[str, Any]:
    """Return what `inspect_model` found as JSON values; docs/inspection.md lists the keys."""
    manifest, settings = described.manifest, None
    if config is not None:
        settings = config.model.model_dump(include={"type", "tie_embeddings"})
        settings |= config.data.model_dump(include={"source_language", "target_language"})
    return {
        "model_directory": str(described.directory),
        "checkpoint": described.checkpoint,
        "update": manifest.update,
        "score": manifest.score,
        "settings": settings,
        "parameters": described.parameters,
        "parts": described.parts,
        "variables": [variable._asdict() for variable in described.variables],
        "tie_groups": [_values(tie, parameters="saved_parameters", size="saved_bytes") for tie in described.ties],
        "saved_parameters": sum(tie.parameters for tie in described.ties),
        "saved_bytes": sum(tie.size for tie in described.ties),
        "average": described.keeps_ema,
        "optimizer": manifest.optimizer if OPTIMIZER in manifest.files else None,
        "files": {name: record._asdict() for name, record in manifest.files.items()},
        "versions": dict(manifest.versions),
        "facts": dict(manifest.facts),
        "latest": described.latest,
        "best": described.best,
        "checkpoints": [_values(one, judged=None, size="bytes") for one in described.checkpoints],
        "set_aside": list(described.set_aside),
    }


def diff_models(before: tuple[PathLike, str | None], after: tuple[PathLike, str | None]) -> dict[str, Any]:
    """Compare the weights of two checkpoints.

    Args:
        before: a model directory and which of its checkpoints, as in `inspect_model`.
        after: another, or the same directory again.

    Returns:
        JSON values, whose keys docs/inspection.md lists.

    Raises:
        CheckpointError: there is no such directory or checkpoint, or it is damaged.
    """
    sides, weights = {}, []
    for side, (directory, checkpoint) in (("before", before), ("after", after)):
        name = inspection.choose(directory, inspection.find_checkpoints(directory), checkpoint)
        sides[side] = {"model_directory": str(directory), "checkpoint": name}
        weights.append(read_weights(checkpoints_folder(directory) / name, "raw"))
    return {**sides, **inspection.compare(*weights)}


def verify_model(directory: PathLike, checkpoint: str | None = None) -> dict[str, Any]:
    """Read every byte of every checkpoint, and compare with what was written and with the tokenizers beside it.

    Args:
        directory: the model directory.
        checkpoint: read this one only, damaged or not: `best`, `latest` or `update-N`.

    Returns:
        JSON values: what was read, and what is wrong with it; docs/inspection.md lists the keys.

    Raises:
        CheckpointError: there is no such directory or checkpoint.
    """
    directory = Path(directory)
    folder = checkpoints_folder(directory)
    index = inspection.index_of(inspection.find_checkpoints(directory))
    wanted = candidates(directory, index, checkpoint)
    names, problems = wanted[:1] if checkpoint else list(index.scores), list[str]()
    num_files = size = 0
    for name in names:
        found = inspection.verify_checkpoint(folder / name)
        if not (folder / name).exists():  # pruned while it was read
            continue
        problems += found.problems
        num_files, size = num_files + found.num_files, size + found.size
    problems += inspection.verify_index(folder)
    if holds_text(directory):
        problems += _text_problems(directory, [folder / name for name in names])
    return {
        "model_directory": str(directory),
        "checkpoints": names,
        "files": num_files,
        "bytes": size,
        "set_aside": list(damaged_names(folder)),
        "problems": problems,
    }


def holds_text(directory: Path) -> bool:
    """Whether there are settings or tokenizers with which checkpoints can be compared."""
    return (directory / model_directory.CONFIG_NAME).exists() or TextPair.exists(directory)


def _text_problems(directory: Path, checkpoints: list[Path]) -> Iterator[str]:
    """Yield what is wrong with the settings and the tokenizers, and which checkpoints they do not fit."""
    try:
        load(directory / model_directory.CONFIG_NAME)
    except ConfigError as error:
        yield _one_line(error)
    try:
        text = TextPair.load(directory)
    except NMTError as error:
        yield _one_line(error)
        return
    sides = {"source_embedding/embeddings": text.source, "target_embedding/embeddings": text.target}
    for path in checkpoints:
        with suppress(CheckpointError):  # said already
            manifest = read_manifest(path)
            if manifest.facts.get("tokenizers") not in (None, text.fingerprints):
                yield f"{path}: was trained with other tokenizers than those in the model directory"
                continue
            shapes = {name: variable["shape"] for name, variable in manifest.variables.items()}
            shapes |= {role: group["shape"] for group in manifest.tie_groups for role in group["roles"]}
            for role, side in sides.items():
                rows, size = shapes[role][0] if role in shapes else None, len(side.vocabulary)
                if rows not in (None, size):
                    yield f"{path}: {role} must have a row for each of {size:,} tokens, but has {rows:,}"


def _one_line(error: Exception) -> str:
    return "; ".join(line.strip() for line in str(error).splitlines())


def _values(record: Any, **names: str | None) -> Mapping[str, Any]:
    """The fields of a record, some under other names, or left out if that is None."""
    fields = {names.get(field, field): value for field, value in record._asdict().items()}
    return {field: value for field, value in fields.items() if field is not None}
