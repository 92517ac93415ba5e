"""Where a verb may write: over nothing that is read or that a model consists of, and whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from nmt.atomic_files import copy_entry, new_directory, recover_directory, same_file
from nmt.checkpoint.folder import LOCK_NAME, DirectoryLock, checkpoint_names, checkpoints_folder
from nmt.checkpoint.manifest import Contents
from nmt.config import Config, write
from nmt.directory import model_directory as names
from nmt.errors import CheckpointError, ConfigError
from nmt.text import TextPair
from nmt.types import PathLike

STANDARD_INPUT, STANDARD_OUTPUT = 0, 1
"""Descriptors."""


def refuse_output(
    output: PathLike | None,
    *,
    inputs: Sequence[tuple[str, PathLike | None]],
    directory: PathLike,
    config: Config,
) -> None:
    """Refuse to write translations over a file that is read, that the settings name, or that a model consists of.

    Such a file may come under another spelling, behind a link, or as standard input or output.

    Args:
        output: the file to write; None for standard output.
        inputs: what names the files to read, and their paths; None is standard input.
        directory: of the model, or of an export.
        config: its settings.

    Raises:
        CheckpointError: it would lie among checkpoints.
        ConfigError: naming both.
    """
    named = [(name, path) for name, paths in config.named_files.items() for path in paths]
    refuse_inputs(output, [*inputs, *named])
    if output is None:
        return
    place = Path(output).resolve()
    holders = (folder for folder in list(place.parents)[:3] if names.holds_own_settings(folder))
    for model in (Path(directory).resolve(), *holders):
        if names.is_part_of_model(place, model):
            raise ConfigError(f"{output} must not be replaced, the model in {model} needs it: write to another file")
    check_not_among_checkpoints(place)
    if place.suffix in (".yaml", ".yml") and names.has_key(place, "model_directory"):
        raise ConfigError(f"{output} must not be replaced, it holds the settings of a run: write to another file")


def refuse_inputs(output: PathLike | None, inputs: Sequence[tuple[str, PathLike | None]]) -> None:
    """Refuse to write over a file that is read; see `refuse_output`.

    Raises:
        ConfigError: naming both.
    """
    for name, given in inputs:
        path = STANDARD_INPUT if given is None else Path(given)
        what = "standard input" if path == STANDARD_INPUT else f"the file that {name} names, {path}"
        if output is None:
            # A shell that was told to write over it has emptied it by now; at least nobody takes that for a result.
            if same_file(path, STANDARD_OUTPUT):
                raise ConfigError(f"standard output is {what}: write to another file")
        elif same_file(Path(output), path):
            raise ConfigError(f"{output} must not be replaced, it is {what}: write to another file")


def refuse_to_replace_inputs(paths: Sequence[PathLike], output: PathLike) -> None:
    """Refuse a model directory to be written whose place holds a file that is read, and would be lost.

    Raises:
        ConfigError: naming the file.
    """
    for path in paths:
        if names.is_part_of_model(Path(path).resolve(), Path(output).resolve()):
            raise ConfigError(
                f"{path} must not be replaced, it is read: choose another directory than {output} with -o"
            )


def check_not_among_checkpoints(output: Path) -> None:
    """Refuse to write where a model directory keeps its checkpoints.

    Raises:
        CheckpointError: naming the folder.
    """
    place = output.resolve()
    for folder in (place, *place.parents):
        is_of_run = checkpoint_names(folder) or (folder.parent / names.CONFIG_NAME).is_file()
        if is_of_run and folder == checkpoints_folder(folder.parent):
            raise CheckpointError(f"{output}: must not lie among the checkpoints in {folder}: choose another -o")


def check_output(output: Path, run: Path, refusal: Callable[[Path], str | None]) -> bool:
    """Refuse to write a model directory over the one that it is made of, within or around it, or over something else.

    If a killed process left the output half replaced, that is put right first.

    Args:
        output: the model directory to write.
        run: the one that it is made of.
        refusal: says why what lies there must not be replaced; None if it may.

    Returns:
        Whether something lies there, to be replaced.

    Raises:
        CheckpointError: saying what is in the way.
    """
    place, source = output.resolve(), run.resolve()
    if place == source:
        raise CheckpointError(f"{output}: the model must stay as it is: choose another -o")
    if output.exists() and not output.is_dir():
        raise CheckpointError(f"{output}: must be a directory to write a model to, got a file: choose another -o")
    check_not_among_checkpoints(output)
    for inner, outer, word in ((place, source, "lie in"), (source, place, "hold")):
        if inner.is_relative_to(outer):
            raise CheckpointError(f"{output}: must not {word} the model directory {run}: choose another -o")
    recover_directory(place)
    found = {path.name for path in names.entries(output)}
    if found - {LOCK_NAME} and (problem := refusal(output)):
        raise CheckpointError(f"{output}: {problem}")
    return bool(found)


def write_model(
    output: Path,
    run: Path,
    refusal: Callable[[Path], str | None],
    *,
    config: Config,
    text: TextPair,
    contents: Contents,
    beside: Mapping[str, bytes] | None = None,
) -> str:
    """Write a model directory of one checkpoint: it appears once it is complete and opens with its ties, or not at all.

    What others keep in a directory that is replaced is copied into the new one.

    Args:
        output: the model directory to write.
        run: the one that it is made of.
        refusal: as for `check_output`, which is asked again while nobody else can write there.
        config: settings, which get the new model directory.
        text: the tokenizers.
        contents: of the checkpoint.
        beside: other files, by name.

    Returns:
        The name of the checkpoint.

    Raises:
        CheckpointError: the output is in the way, cannot be written or does not open, or another process writes there.
        ConfigError, DataError: settings or tokenizers cannot be written.
    """
    from nmt.checkpoint.manager import CheckpointManager
    from nmt.inference import translator

    place, lock = output.resolve(), DirectoryLock(output)
    try:
        if check_output(output, run, refusal):
            lock.acquire()
        with new_directory(place, overwrite=lock.held) as folder:
            check_output(output, run, refusal)
            write(config.model_copy(update={"model_directory": str(output)}), folder / names.CONFIG_NAME)
            text.save(folder)
            with CheckpointManager(folder) as manager:
                name = manager.write(contents).name
            for file, content in (beside or {}).items():
                (folder / file).write_bytes(content)
            translator.open_model(folder, checkpoint=name)  # proves shapes, values and ties
            for path in names.foreign_files(place) if lock.held else ():
                copy = folder / path.relative_to(place)
                copy.parent.mkdir(exist_ok=True)
                copy_entry(path, copy)
            lock.verify()
    except OSError as error:
        raise CheckpointError(f"{output}: cannot be written: {error.strerror or error}") from error
    finally:
        lock.release()
    return name
