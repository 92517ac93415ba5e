"""Between the variables of a model and of its optimizer and a checkpoint: what must fit, and proof that it did.

Readers may come while a trainer is writing; they change nothing in the directory.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import keras
import numpy as np

from nmt.backend.kernels import array_view, assign_array
from nmt.checkpoint.derived import TieChange, retie
from nmt.checkpoint.disk import DamagedCheckpointError
from nmt.checkpoint.folder import checkpoint_name, checkpoints_folder, read_checkpoint, read_weights
from nmt.checkpoint.index import candidates, name_of_update, read_index
from nmt.checkpoint.manifest import Contents, Manifest, read_manifest
from nmt.errors import CheckpointError
from nmt.tying import named_layers, named_variables, tie_groups, variable_roles, verify_ties
from nmt.types import PathLike

_TRIES = 10
"""Times that the checkpoints are looked up anew when pruning took the one that was being read."""

logger = logging.getLogger(__name__)

Read = TypeVar("Read")


class SelectedContents(NamedTuple):
    """The folder of the checkpoint that was chosen, and all it keeps."""

    path: Path
    contents: Contents


class LoadedWeights(NamedTuple):
    """Where the weights of a model came from.

    path: the folder of the checkpoint.
    weights: `ema` or `raw`.
    manifest: of the checkpoint.
    tie_change: what had to be merged or split; None if the ties were the model's.
    """

    path: Path
    weights: str
    manifest: Manifest
    tie_change: TieChange | None

    @property
    def name(self) -> str:
        """The name of the checkpoint, such as `update-00012000`."""
        return self.path.name


def load_weights(
    directory: PathLike,
    model: keras.Layer,
    *,
    checkpoint: str | None = None,
    weights: str | None = None,
    on_tie_change: str = "error",
) -> LoadedWeights:
    """Load weights of a model directory into a model with the same variables.

    A damaged checkpoint is skipped with a warning, unless it was asked for by its update.

    Args:
        directory: the model directory.
        model: built; it is changed only if everything fits.
        checkpoint: `best`, `latest` or `update-N`; the best, or the latest if none has a score, unless given.
        weights: `ema` or `raw`; unless given the moving average if it was kept, or what validation found better.
        on_tie_change: what to do if the ties of the checkpoint are not the model's; see `retie`.

    Returns:
        The checkpoint, which of its weights were loaded, and what became of its ties.

    Raises:
        CheckpointError: there is no such directory, checkpoint or average; it is damaged and no other can take its
            place; it is of a newer format; it holds weights that are not finite; or it does not fit the model, naming
            everything that does not.
    """
    if weights not in (None, "ema", "raw"):
        raise CheckpointError(f"weights must be ema or raw, got {weights}")

    def load(path: Path) -> LoadedWeights:
        manifest = read_manifest(path)
        kind = weights or manifest.preferred_weights
        contents = read_weights(path, kind, manifest=manifest)
        return LoadedWeights(path, kind, manifest, restore_contents(contents, model, rule=on_tie_change, weights=kind))

    return _read_selected(directory, checkpoint, load)


def read_contents(directory: PathLike, checkpoint: str | None = None) -> SelectedContents:
    """Read everything one checkpoint of a model directory keeps, into memory.

    A damaged checkpoint is skipped with a warning, unless it was asked for by its update.

    Args:
        directory: the model directory.
        checkpoint: `best`, `latest` or `update-N`; the best, or the latest if none has a score, unless given.

    Raises:
        CheckpointError: as `load_weights`, but no model has to fit.
    """
    return _read_selected(directory, checkpoint, lambda path: SelectedContents(path, read_checkpoint(path)))


def _read_selected(directory: PathLike, checkpoint: str | None, read: Callable[[Path], Read]) -> Read:
    """Read the checkpoint that answers a request, or the next that does if it is damaged.

    Args:
        directory: the model directory.
        checkpoint: as in `load_weights`.
        read: is given the folder of a checkpoint.
    """
    folder = checkpoints_folder(directory)
    for _ in range(_TRIES):
        index = read_index(folder)
        for name in candidates(Path(directory), index, checkpoint):
            try:
                return read(folder / name)
            except DamagedCheckpointError as error:
                if not (folder / name).exists():
                    break  # pruned while we read it: look again
                if name_of_update(checkpoint) is not None:
                    raise
                logger.warning("%s: skipped, it is damaged: %s", name, error)
        else:
            raise CheckpointError(f"{folder}: every checkpoint is damaged: {', '.join(index.scores)}")
    raise CheckpointError(f"{folder}: the checkpoints changed {_TRIES} times while they were read: try again")


def describe_ties(model: keras.Layer) -> tuple[dict[str, Any], ...]:
    """Return the tie groups of a model, as the manifest keeps them."""
    return tuple({**g._asdict(), "roles": list(g.roles), "shape": list(g.shape)} for g in tie_groups(model))


def restore_contents(
    contents: Contents,
    model: keras.Layer,
    optimizer: keras.optimizers.Optimizer | None = None,
    ema: Mapping[str, keras.Variable] | None = None,
    *,
    rule: str,
    weights: str | None = None,
) -> TieChange | None:
    """Check everything, then assign everything, then prove it: every variable is read back through each of its roles.

    Args:
        contents: of a checkpoint.
        model: must have its variables.
        optimizer: must have its slots; None leaves those in the checkpoint alone, which need not follow the ties then.
        ema: must have its moving averages; None if it keeps none.
        rule: what to do if the ties of the checkpoint are not the model's.
        weights: `ema` or `raw` if they are to be worked with, so that all must be finite; to find out takes some
            15 ms of 60 million numbers. None for a trainer, which may have a way out.

    Returns:
        What became of the ties.

    Raises:
        CheckpointError: naming everything that does not fit; nothing was changed then.
    """
    # First the arrays take the shape of the model's ties: from here on there is one array for each variable.
    source = checkpoint_name(contents.update)
    if optimizer is None:
        contents = replace(contents, optimizer=None)
    contents, tie_change = retie(contents, describe_ties(model), rule)
    variables, groups = named_variables(model), tie_groups(model)

    # Then everything is checked, so that a refusal leaves model and optimizer as they were.
    parts = [(variables, contents.model, "model")]
    if optimizer is not None:
        found, wanted = contents.optimizer_class, optimizer_class(optimizer)
        if found != wanted:
            kept = f"the slots of {found}" if found else "no optimizer"
            raise CheckpointError(f"{source} keeps {kept}, not of {wanted}")
        parts.append((named_slots(model, optimizer), contents.optimizer or {}, "optimizer"))
    parts.append((dict(ema or {}), contents.ema or {}, "moving average"))
    for held, arrays, part in parts:
        problems = list(_misfits(held, arrays, contents.variables))
        if problems:
            raise CheckpointError(f"the {part} in {source} does not fit: {'; '.join(problems)}")
    broken = [name for name, array in contents.model.items() if weights and not np.isfinite(array).all()]
    if broken:
        raise CheckpointError(
            f"{source} ({weights}) must hold finite numbers, but in {', '.join(broken)} some are not: "
            "take another checkpoint"
        )

    # Each variable is assigned once, through its first role; then the weights are read back through every role, so that
    # a tie that was lost on the way shows as a role with other values.
    for held, arrays, _ in parts:
        assign(held, arrays)
    values = {id(variables[path]): array for path, array in contents.model.items()}
    roles = {path: variable for path, variable in variable_roles(model).items() if id(variable) in values}
    proofs = [(roles, {path: values[id(variable)] for path, variable in roles.items()})]
    for held, arrays in [*proofs, *((held, arrays) for held, arrays, _ in parts[1:])]:
        wrong = [name for name, variable in held.items() if not _equal(array_view(variable), arrays[name])]
        if wrong:
            raise CheckpointError(f"restored, but of other values than in the checkpoint: {', '.join(wrong)}")

    # Equal values prove no tie: last, each group must still be one variable with one slot.
    verify_ties(model, groups, optimizer)
    return tie_change


def assign(variables: Mapping[str, keras.Variable], arrays: Mapping[str, np.ndarray]) -> None:
    """Give variables the values of a checkpoint, in their own types."""
    for name, variable in variables.items():
        assign_array(variable, arrays[name])


def _misfits(
    variables: Mapping[str, keras.Variable],
    arrays: Mapping[str, np.ndarray],
    described: Mapping[str, Mapping[str, Any]],
) -> Iterator[str]:
    """Yield everything that is missing, unexpected, of another shape, or of another kind of number.

    Rounding float32 to a shorter floating-point type is no loss of this sort. Files hold float32 or int64: what the
    manifest says of types counts, if it does.
    """
    yield from (f"{name} is missing" for name in variables if name not in arrays)
    yield from (f"{name} is unexpected" for name in arrays if name not in variables)
    for name, variable in variables.items():
        if name not in arrays:
            continue
        array, wanted = arrays[name], str(variable.dtype)
        found = str(described.get(name, {}).get("dtype", array.dtype))
        if array.shape != tuple(variable.shape):
            yield f"{name} must be of shape {tuple(variable.shape)}, but is of {array.shape}"
        elif _kind(found) != _kind(wanted):
            yield f"{name} must be of type {wanted}, but is of {found}"


def _kind(dtype: str) -> str:
    """Return what sort of numbers a type holds: `float`, `int` or `bool`."""
    return "float" if "float" in dtype else "bool" if dtype == "bool" else "int"


def _equal(value: np.ndarray, stored: np.ndarray) -> bool:
    """Compare bits, so that NaN equals NaN and -0.0 is not 0.0."""
    expected = np.asarray(stored).astype(value.dtype, copy=False)
    bits = f"u{value.dtype.itemsize}"
    return value.shape == expected.shape and np.array_equal(value.view(bits), expected.view(bits))


_NOT_SLOTS = ("_variables", "_trainable_variables")


def named_slots(model: keras.Layer, optimizer: keras.optimizers.Optimizer) -> dict[str, keras.Variable]:
    """Return what must survive of an optimizer, by name; it is built if it is not yet.

    Keras stores optimizer variables by position and skips them all, with a warning, if their number differs. Here a
    slot is called `momentums/<role path of its variable>`, so that it belongs to its variable whatever the order is.
    Lists of variables that are aligned with the trainable ones are slots, single variables (`iterations`) keep the
    name of their attribute, and optimizers within optimizers become prefixes.

    Raises:
        CheckpointError: it has variables that belong to no variable of the model.
    """
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    paths = {id(variable): path for path, variable in named_variables(model).items()}
    found = list(_slots(optimizer, "", paths))
    known = {id(variable) for _, variable in found}
    strangers = [v.path for v in optimizer.variables if id(v) not in known]
    if strangers:
        raise CheckpointError(
            f"{type(optimizer).__name__} holds variables of no variable of the model: {', '.join(strangers)}"
        )
    return {name: slot for name, slot in found if name}


def optimizer_class(optimizer: keras.optimizers.Optimizer) -> str:
    """Return the class of an optimizer, with that of the optimizer within it: `LossScaleOptimizer(SGD)`."""
    inner = [each for each in vars(optimizer).values() if isinstance(each, keras.optimizers.Optimizer)]
    return type(optimizer).__name__ + (f"({optimizer_class(inner[0])})" if inner else "")


def _slots(
    optimizer: keras.optimizers.Optimizer, prefix: str, paths: dict[int, str]
) -> Iterator[tuple[str, keras.Variable]]:
    """Yield all variables of an optimizer by name; the learning rate, which is the schedule's, has none."""
    trained = optimizer._trainable_variables
    for attribute, value in vars(optimizer).items():
        name = prefix + attribute.lstrip("_")
        if attribute in _NOT_SLOTS or attribute.startswith("_self_"):
            continue
        if isinstance(value, keras.Variable):
            yield "" if attribute == "_learning_rate" else name, value
        elif isinstance(value, keras.optimizers.Optimizer):
            yield from _slots(value, f"{name}/", paths)
        elif isinstance(value, list) and len(value) == len(trained):
            for variable, slot in zip(trained, value, strict=True):
                if isinstance(slot, keras.Variable) and id(variable) in paths:
                    yield f"{name}/{paths[id(variable)]}", slot


def random_state(model: keras.Layer) -> dict[str, list[int]]:
    """Return the state of every seed generator of a model once, by the path of the first layer that owns it."""
    return {path: keras.ops.convert_to_numpy(g.state).tolist() for path, g in seed_generators(model).items()}


def restore_random_state(model: keras.Layer, states: Mapping[str, Sequence[int]]) -> None:
    """Put the seed generators of a model back into the states that `random_state` returned.

    Raises:
        CheckpointError: naming the generators that are missing on one of both sides, or have a state of another length;
            nothing was changed then.
    """
    generators = seed_generators(model)
    problems = [f"{path} is missing" for path in generators if path not in states]
    problems += [f"{path} is unexpected" for path in states if path not in generators]
    wrong = [path for path in states.keys() & generators if np.shape(states[path]) != generators[path].state.shape]
    problems += [f"{path} is of another length" for path in wrong]
    if problems:
        raise CheckpointError(f"the saved random state does not fit the model: {'; '.join(problems)}")
    for path, generator in generators.items():
        generator.state.assign(np.array(states[path], dtype=generator.state.dtype))


def seed_generators(model: keras.Layer) -> dict[str, keras.random.SeedGenerator]:
    """Return the seed generators of a model, each once, by the path of the first layer that owns it."""
    generators: dict[str, keras.random.SeedGenerator] = {}
    seen: set[int] = set()
    for path, layer in named_layers(model).items():
        for index, generator in enumerate(layer._seed_generators):
            if id(generator) not in seen:
                seen.add(id(generator))
                generators["/".join(filter(None, (path, "seed_generators", str(index))))] = generator
    return generators
