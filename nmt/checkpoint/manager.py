"""The trainer's side of the model directory: the only one that writes."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import keras
import numpy as np

from nmt.checkpoint.disk import DamagedCheckpointError, is_number
from nmt.checkpoint.folder import (
    DirectoryLock,
    checkpoint_name,
    checkpoint_names,
    checkpoints_folder,
    clean,
    damaged_names,
    read_checkpoint,
    remove_checkpoint,
    set_aside,
    write_checkpoint,
)
from nmt.checkpoint.index import read_index, scan_index, write_index
from nmt.checkpoint.manifest import AVERAGE, MODEL, OPTIMIZER, Contents, check_contents
from nmt.checkpoint.retie import TieChange, check_rule, retie
from nmt.checkpoint.slots import named_slots, optimizer_class
from nmt.checkpoint.snapshot import Snapshot
from nmt.checkpoint.weights import (
    assign,
    check_shapes,
    check_values,
    describe_ties,
    describe_variables,
    role_arrays,
    verify_values,
)
from nmt.errors import CheckpointError
from nmt.tying import named_variables, tie_groups, verify_ties
from nmt.types import PathLike

logger = logging.getLogger(__name__)


class Restored(NamedTuple):
    """What a model was restored from.

    state: what was saved with it.
    name: of the checkpoint.
    tie_change: what had to be merged or split; None where the ties were the model's.
    facts: what its manifest records besides.
    """

    state: dict[str, Any]
    name: str
    tie_change: TieChange | None
    facts: Mapping[str, Any]


class CheckpointManager:
    """Writes, prunes and restores the checkpoints of one model directory, under an exclusive lock.

    Use it as a context manager, or call `acquire` and `release`.

    Args:
        directory: the model directory; it is created with the lock.
        keep_last: newest checkpoints to keep, the newest always.
        keep_best: best checkpoints to keep, the best always.
    """

    def __init__(self, directory: PathLike, *, keep_last: int = 3, keep_best: int = 1) -> None:
        self.directory = Path(directory)
        self.folder = checkpoints_folder(directory)
        self.keep_last = keep_last
        self.keep_best = keep_best
        self._lock = DirectoryLock(self.directory)
        self._writer: ThreadPoolExecutor | None = None
        self._writing: Future[Path] | None = None
        self._snapshot = Snapshot()
        self._reserving: Future[None] | None = None
        self.write_seconds = 0.0
        """What the last checkpoint took from the copy of its values to the disk."""

    def acquire(self) -> None:
        """Take the lock and clean up after a process that was killed.

        Raises:
            CheckpointError: another process trains in this directory, or it cannot be written.
        """
        self._lock.acquire()
        try:
            clean(self.folder)
            if checkpoint_names(self.folder):
                read_index(self.folder)  # warns of what is lost, before it is forgotten
                write_index(self.folder, scan_index(self.folder))
        except OSError as error:
            self._lock.release()
            raise CheckpointError(f"{self.folder}: cannot be written: {error.strerror}") from error
        except CheckpointError:
            self._lock.release()
            raise

    def release(self) -> None:
        """Wait for a checkpoint that is still being written, and give the lock back.

        Raises:
            CheckpointError: that checkpoint could not be written.
        """
        try:
            self.wait()
        finally:
            if self._writer is not None:
                self._writer.shutdown()
                self._writer = None
            self._lock.release()

    def __enter__(self) -> CheckpointManager:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def save(
        self,
        update: int,
        *,
        model: keras.Layer,
        optimizer: keras.optimizers.Optimizer | None = None,
        average: Mapping[str, keras.Variable] | None = None,
        state: Mapping[str, Any] | None = None,
        facts: Mapping[str, Any] | None = None,
        score: float | None = None,
    ) -> Path:
        """Write a checkpoint, and return once it is on the disk; then prune.

        One of the same update is replaced.

        Args:
            update: updates made.
            model: its weights are stored by role path, each variable once.
            optimizer: its slots are stored by the role path of their variable.
            average: moving average of the weights, by role path.
            state: what else the run needs to go on, as JSON values.
            facts: what the manifest records besides, as JSON values.
            score: of the validation after this update, higher is better; one that is not finite is kept as none.

        Returns:
            The folder of the checkpoint.

        Raises:
            CheckpointError: it could not be written, or would not be read again: an update below 0, a score that is no
                number, names that are no texts, averages of other variables. The checkpoints before are intact.
        """
        return self._write(self._contents(update, model, optimizer, average, state, facts, score))

    def write(self, contents: Contents) -> Path:
        """Write a checkpoint that was read or computed elsewhere, as `save` does.

        Raises:
            CheckpointError: it could not be written, or would not be read again; the checkpoints before are intact.
        """
        self._require_lock()
        self.wait()
        check_contents(contents)
        return self._write(contents)

    def save_in_background(
        self,
        update: int,
        *,
        model: keras.Layer,
        optimizer: keras.optimizers.Optimizer | None = None,
        average: Mapping[str, keras.Variable] | None = None,
        state: Mapping[str, Any] | None = None,
        facts: Mapping[str, Any] | None = None,
        score: float | None = None,
    ) -> Path:
        """Copy the values as they are now and return where they will be; a thread writes them as `save` does.

        At most one checkpoint is being written: the next call of any other method here waits for it first, and
        raises what went wrong.
        """
        contents = self._contents(update, model, optimizer, average, state, facts, score)
        self._writing = self._background().submit(self._write, contents)
        return self.folder / checkpoint_name(update)

    def wait(self) -> Path | None:
        """Wait until the checkpoint given to `save_in_background` is on the disk, and return its folder.

        Raises:
            CheckpointError: it could not be written; the checkpoints before are intact.
        """
        reserving, self._reserving = self._reserving, None
        if reserving is not None:
            reserving.result()
        writing, self._writing = self._writing, None
        return None if writing is None else writing.result()

    def restore(
        self,
        model: keras.Layer,
        optimizer: keras.optimizers.Optimizer | None = None,
        average: Mapping[str, keras.Variable] | None = None,
        *,
        on_tie_change: str = "error",
    ) -> Restored | None:
        """Go back to the newest checkpoint that is whole.

        A damaged one is named in a warning and set aside under another name. Nothing is changed unless everything
        fits: ties, names, shapes and types. Afterwards every variable is read back through each of its roles.

        Args:
            model: must have the variables of the checkpoint.
            optimizer: must have its slots; None leaves those in the checkpoint alone.
            average: must have its variables, by role path; None where the checkpoint keeps none.
            on_tie_change: what to do where the ties of the checkpoint are not the model's; see `retie`.

        Returns:
            The state that was saved and what became of the ties, or None where there is no checkpoint yet.

        Raises:
            CheckpointError: all checkpoints are damaged, or the newest whole one does not fit; the message names
                everything that does not.
        """
        check_rule(on_tie_change)
        self._require_lock()
        self.wait()
        restored = self._restore_newest(model, optimizer, average, on_tie_change)
        variables = [variable for part in _parts(model, optimizer, average).values() for variable in part.values()]
        self._reserving = self._background().submit(self._snapshot.reserve, variables)
        return restored

    def _restore_newest(
        self,
        model: keras.Layer,
        optimizer: keras.optimizers.Optimizer | None,
        average: Mapping[str, keras.Variable] | None,
        on_tie_change: str,
    ) -> Restored | None:
        for name in reversed(checkpoint_names(self.folder)):
            try:
                contents = read_checkpoint(self.folder / name)
            except DamagedCheckpointError as error:
                aside = set_aside(self.folder / name)
                logger.warning("%s is damaged and was set aside as %s: %s", name, aside.name, error)
                continue
            tie_change = _restore(contents, model, optimizer, average, on_tie_change)
            write_index(self.folder, scan_index(self.folder))
            return Restored(dict(contents.state), name, tie_change, contents.facts)
        damaged = damaged_names(self.folder)
        if damaged:
            raise CheckpointError(
                f"{self.folder}: no whole checkpoint is left to go on with, only {', '.join(damaged)}: "
                "bring one back from a copy, or start anew with another model_directory"
            )
        return None

    def _contents(
        self,
        update: int,
        model: keras.Layer,
        optimizer: keras.optimizers.Optimizer | None,
        average: Mapping[str, keras.Variable] | None,
        state: Mapping[str, Any] | None,
        facts: Mapping[str, Any] | None,
        score: float | None,
    ) -> Contents:
        self._require_lock()
        self.wait()
        parts = _parts(model, optimizer, average)
        arrays = dict(zip(parts, self._snapshot.copy(parts.values()), strict=True))
        contents = Contents(
            update=update,
            score=_kept_score(score),
            model=arrays[MODEL],
            average=arrays.get(AVERAGE),
            optimizer=arrays.get(OPTIMIZER),
            state=dict(state or {}),
            tie_groups=describe_ties(model),
            variables=describe_variables(parts[MODEL]),
            optimizer_class=None if optimizer is None else optimizer_class(optimizer),
            facts=dict(facts or {}),
        )
        check_contents(contents)
        return contents

    def _write(self, contents: Contents) -> Path:
        started = time.monotonic()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = write_checkpoint(self.folder, contents)
            index = scan_index(self.folder)
            kept = {path.name, *index.kept(keep_last=self.keep_last, keep_best=self.keep_best)}
            write_index(self.folder, index.only(kept))
            for name in set(index.scores) - kept:
                remove_checkpoint(self.folder / name)
        except OSError as error:
            name = checkpoint_name(contents.update)
            others = set(checkpoint_names(self.folder)) - {name}
            there = "the checkpoints before it are intact" if others else "there is no checkpoint before it"
            raise CheckpointError(f"{self.folder}: {name} could not be written: {error.strerror}; {there}") from error
        self.write_seconds = time.monotonic() - started
        return path

    def _background(self) -> ThreadPoolExecutor:
        self._writer = self._writer or ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        return self._writer

    def _require_lock(self) -> None:
        if not self._lock.held:
            raise RuntimeError("the CheckpointManager must hold its lock: call acquire() or use it in a with statement")
        self._lock.verify()


def _kept_score(score: float | None) -> float | None:
    """Return a score as it is kept: one that is not finite as none, and what is no number at all as it is."""
    value: Any = score.item() if isinstance(score, np.generic) else score
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return float(value) if is_number(value) else value


def _parts(
    model: keras.Layer,
    optimizer: keras.optimizers.Optimizer | None,
    average: Mapping[str, keras.Variable] | None,
) -> dict[str, Mapping[str, keras.Variable]]:
    """Return what each file keeps of a run."""
    parts: dict[str, Mapping[str, keras.Variable]] = {MODEL: named_variables(model)}
    if average is not None:
        parts[AVERAGE] = average
    if optimizer is not None:
        parts[OPTIMIZER] = named_slots(model, optimizer)
    return parts


def _restore(
    contents: Contents,
    model: keras.Layer,
    optimizer: keras.optimizers.Optimizer | None,
    average: Mapping[str, keras.Variable] | None,
    rule: str,
) -> TieChange | None:
    """Check everything, then assign everything, then prove it."""
    name = checkpoint_name(contents.update)
    if optimizer is None:  # what it keeps of one is not needed, and need not follow the ties
        contents = replace(contents, optimizer=None)
    contents, tie_change = retie(contents, describe_ties(model), rule)
    variables, groups = named_variables(model), tie_groups(model)
    parts = [(variables, contents.model, f"the model in {name}")]
    if optimizer is not None:
        slots = _fitting_slots(contents, model, optimizer, name)
        parts.append((slots, contents.optimizer or {}, f"the optimizer in {name}"))
    parts.append((dict(average or {}), contents.average or {}, f"the moving average in {name}"))
    for wanted, arrays, source in parts:
        check_shapes(wanted, {path: array.shape for path, array in arrays.items()}, source=source)
        check_values(wanted, arrays, source=source, described=contents.variables)
    for wanted, arrays, _ in parts:
        assign(wanted, arrays)
    verify_values(*role_arrays(model, contents.model))
    for wanted, arrays, _ in parts[1:]:
        verify_values(wanted, arrays)
    verify_ties(model, groups, optimizer)
    return tie_change


def _fitting_slots(
    contents: Contents, model: keras.Layer, optimizer: keras.optimizers.Optimizer, name: str
) -> dict[str, keras.Variable]:
    found, wanted = contents.optimizer_class, optimizer_class(optimizer)
    if found != wanted:
        raise CheckpointError(f"{name} keeps {f'the slots of {found}' if found else 'no optimizer'}, not of {wanted}")
    return named_slots(model, optimizer)
