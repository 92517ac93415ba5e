"""The trainer's side of the model directory: the only one that writes."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np

from nmt.atomic_files import recover_all
from nmt.backend.kernels import array_view
from nmt.checkpoint import folder
from nmt.checkpoint.derived import TieChange
from nmt.checkpoint.disk import DamagedCheckpointError
from nmt.checkpoint.index import read_index, scan_index, write_index
from nmt.checkpoint.manifest import EMA, MODEL, OPTIMIZER, Contents, check_contents
from nmt.checkpoint.weights import describe_ties, named_slots, optimizer_class, restore_contents
from nmt.errors import CheckpointError
from nmt.tying import named_variables
from nmt.types import PathLike

_THREADS = 2  # that copy values

logger = logging.getLogger(__name__)


Parts: TypeAlias = Mapping[str, Mapping[str, keras.Variable]]
"""Variables by the name of their file, and by their name in it."""


class Restored(NamedTuple):
    """What a model was restored from.

    state: what was saved with it.
    name: of the checkpoint.
    tie_change: what had to be merged or split; None if the ties were the model's.
    facts: what its manifest records besides.
    """

    state: dict[str, Any]
    name: str
    tie_change: TieChange | None
    facts: Mapping[str, Any]


class Snapshot:
    """One copy of everything that a checkpoint keeps, in memory that is taken once and used again by every save.

    Training waits while its values are copied. A system that hands out fresh memory page by page makes that several
    times as long as the copying itself, so the memory is asked for early, by a thread, and kept: what a save needs, a
    run needs anyway.
    """

    def __init__(self) -> None:
        self._copies: dict[str, dict[str, np.ndarray]] = {}

    def reserve(self, parts: Parts) -> dict[str, dict[str, np.ndarray]]:
        """Take the memory that a copy of these variables needs, unless the last one needed the same; return it."""
        for name, part in parts.items():
            copies = self._copies.setdefault(name, {})
            for path, variable in part.items():
                view = array_view(variable)
                if path not in copies or (copies[path].shape, copies[path].dtype) != (view.shape, view.dtype):
                    copies[path] = np.full_like(view, 0)  # only what is written to takes memory
        return {name: {path: self._copies[name][path] for path in part} for name, part in parts.items()}

    def copy(self, parts: Parts) -> dict[str, dict[str, np.ndarray]]:
        """Copy the values of variables as they are now.

        Returns:
            Arrays in the variables' own types, valid until the next copy.
        """
        copies = self.reserve(parts)
        pairs = [(copies[name][path], variable) for name, part in parts.items() for path, variable in part.items()]
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(lambda pair: np.copyto(pair[0], array_view(pair[1])), pairs))
        return copies


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
        self.folder = folder.checkpoints_folder(directory)
        self.keep_last = keep_last
        self.keep_best = keep_best
        self._lock = folder.DirectoryLock(self.directory)
        self._snapshot = Snapshot()
        self._running: Future[Any] | None = None
        self.write_seconds = 0.0
        """What the last checkpoint took from the copy of its values to the disk."""

    def acquire(self) -> None:
        """Take the lock and clean up after a process that was killed.

        Raises:
            CheckpointError: another process trains in this directory, or it cannot be written.
        """
        self._lock.acquire()
        self._background = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        try:
            recover_all(self.folder)
            if folder.checkpoint_names(self.folder):
                read_index(self.folder)  # warns of what is lost, before it is forgotten
                write_index(self.folder, scan_index(self.folder))
        except (OSError, CheckpointError) as error:
            self._lock.release()
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"{self.folder}: cannot be written: {error.strerror}") from error

    def release(self) -> None:
        """Wait for a checkpoint that is still being written, and give the lock back.

        Raises:
            CheckpointError: that checkpoint could not be written.
        """
        try:
            self.wait()
        finally:
            self._background.shutdown()
            self._lock.release()

    def __enter__(self) -> CheckpointManager:
        self.acquire()
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def write(self, contents: Contents) -> Path:
        """Write a checkpoint that was read or computed elsewhere, as `save` does.

        Raises:
            CheckpointError: it could not be written, or would not be read again; the checkpoints before are intact.
        """
        self._begin()
        check_contents(contents)
        return self._write(contents)

    def save(
        self,
        update: int,
        *,
        model: keras.Layer,
        optimizer: keras.optimizers.Optimizer | None = None,
        ema: Mapping[str, keras.Variable] | None = None,
        state: Mapping[str, Any] | None = None,
        facts: Mapping[str, Any] | None = None,
        score: float | None = None,
        background: bool = False,
    ) -> Path:
        """Copy the values as they are now; a thread writes them and then prunes. Return the folder.

        At most one checkpoint is being written: the next call of any other method here waits for it first, and
        raises what went wrong. One of the same update is replaced.

        Args:
            update: updates made.
            model: its weights are stored by role path, each variable once.
            optimizer: its slots are stored by the role path of their variable.
            ema: moving average of the weights, by role path.
            state: what else the run needs to go on, as JSON values.
            facts: what the manifest records besides, as JSON values.
            score: of the validation after this update, higher is better; one that is not finite is kept as none.
            background: whether to return before it is on the disk.

        Raises:
            CheckpointError: as in `wait`, or it would not be read again: an update below 0, a score that is no number,
                averages of other variables. The checkpoints before are intact.
        """
        self._begin()
        if isinstance(score, float | np.floating):
            score = float(score) if math.isfinite(score) else None
        parts = _parts(model, optimizer, ema)
        arrays = self._snapshot.copy(parts)
        contents = Contents(
            update=update,
            score=score,
            model=arrays[MODEL],
            ema=arrays.get(EMA),
            optimizer=arrays.get(OPTIMIZER),
            state=dict(state or {}),
            tie_groups=describe_ties(model),
            variables={path: {"shape": list(v.shape), "dtype": str(v.dtype)} for path, v in parts[MODEL].items()},
            optimizer_class=None if optimizer is None else optimizer_class(optimizer),
            facts=dict(facts or {}),
        )
        check_contents(contents)
        self._running = self._background.submit(self._write, contents)
        if not background:
            self.wait()
        return self.folder / folder.checkpoint_name(update)

    def wait(self) -> None:
        """Wait until the checkpoint that is saved in the background is on the disk.

        Raises:
            CheckpointError: it could not be written; the checkpoints before are intact.
        """
        running, self._running = self._running, None
        if running is not None:
            running.result()

    def restore(
        self,
        model: keras.Layer,
        optimizer: keras.optimizers.Optimizer | None = None,
        ema: Mapping[str, keras.Variable] | None = None,
        *,
        on_tie_change: str = "error",
    ) -> Restored | None:
        """Go back to the newest checkpoint that is whole.

        A damaged one is named in a warning and set aside under another name. Nothing is changed unless everything
        fits: ties, names, shapes and types. Afterwards every variable is read back through each of its roles.

        Args:
            model: must have the variables of the checkpoint.
            optimizer: must have its slots; None leaves those in the checkpoint alone.
            ema: must have its variables, by role path; None if the checkpoint keeps none.
            on_tie_change: what to do if the ties of the checkpoint are not the model's; see `retie`.

        Returns:
            The state that was saved and what became of the ties, or None if there is no checkpoint yet.

        Raises:
            CheckpointError: all checkpoints are damaged, or the newest whole one does not fit; the message names
                everything that does not.
        """
        self._begin()
        restored = None
        for name in reversed(folder.checkpoint_names(self.folder)):
            try:
                contents = folder.read_checkpoint(self.folder / name)
            except DamagedCheckpointError as error:
                aside = folder.set_aside(self.folder / name)
                logger.warning("%s is damaged and was set aside as %s: %s", name, aside.name, error)
                continue
            tie_change = restore_contents(contents, model, optimizer, ema, rule=on_tie_change)
            write_index(self.folder, scan_index(self.folder))
            restored = Restored(dict(contents.state), name, tie_change, contents.facts)
            break
        damaged = folder.damaged_names(self.folder)
        if restored is None and damaged:
            raise CheckpointError(
                f"{self.folder}: no whole checkpoint is left to go on with, only {', '.join(damaged)}: "
                "bring one back from a copy, or start anew with another model_directory"
            )
        self._running = self._background.submit(self._snapshot.reserve, _parts(model, optimizer, ema))
        return restored

    def _write(self, contents: Contents) -> Path:
        started = time.monotonic()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = folder.write_checkpoint(self.folder, contents)
            index = scan_index(self.folder)
            kept = {path.name, *index.kept(keep_last=self.keep_last, keep_best=self.keep_best)}
            write_index(self.folder, index.only(name for name in index.scores if name in kept))
            for name in set(index.scores) - kept:
                folder.remove_checkpoint(self.folder / name)
            folder.remove_engines(self.folder.parent, kept=kept - {path.name})  # what it replaced may have had one
        except OSError as error:
            name = folder.checkpoint_name(contents.update)
            others = set(folder.checkpoint_names(self.folder)) - {name}
            there = "the checkpoints before it are intact" if others else "there is no checkpoint before it"
            raise CheckpointError(f"{self.folder}: {name} could not be written: {error.strerror}; {there}") from error
        self.write_seconds = time.monotonic() - started
        return path

    def _begin(self) -> None:
        if not self._lock.held:
            raise RuntimeError("the CheckpointManager must hold its lock: call acquire() or use it in a with statement")
        self._lock.verify()
        self.wait()


def _parts(
    model: keras.Layer, optimizer: keras.optimizers.Optimizer | None, ema: Mapping[str, keras.Variable] | None
) -> Parts:
    """Return what each file keeps of a run."""
    slots = None if optimizer is None else named_slots(model, optimizer)
    parts = {MODEL: named_variables(model), EMA: ema, OPTIMIZER: slots}
    return {name: part for name, part in parts.items() if part is not None}
