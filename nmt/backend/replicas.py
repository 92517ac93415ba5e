"""The copies of a model that are trained together, as the training step sees them.

A replica is a copy of the model on one device; a worker is a process with one replica a device. What is wanted of all
replicas is run by `run`; inside, `own` gives each its share, and `sum` adds tensors up over all replicas of all
workers. Between updates workers agree by `exchange` and `send_text`, which every worker has to call in the same order.
"""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import keras
import numpy as np
import tensorflow as tf

from nmt.backend.cluster import meet, read_cluster
from nmt.errors import ConfigError, TrainingError
from nmt.types import Tensor

logger = logging.getLogger(__name__)

Share = TypeVar("Share")


_SEED_STEP = 0x9E3779B1
"""Odd, so that no two replicas meet: 2**32 over the golden ratio."""

_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
)
"""What TensorFlow raises when a peer is gone."""


class Replicas:
    """The copies of a model that are trained together: one alone, here and now, unless there is a strategy.

    count: replicas of all workers.
    own_numbers: which of them live in this process.
    workers: processes.
    is_chief: whether this process is the one that writes.
    mirrors: whether variables have to be created in `scope`, in the same order on all workers.

    Args:
        strategy: keeps a copy of each variable on each of its devices: `MirroredStrategy`, or that of several workers,
            with the same number of devices in each of them.
        worker: which of the workers this process is.
        workers: how many there are.
    """

    def __init__(self, strategy: tf.distribute.Strategy | None = None, *, worker: int = 0, workers: int = 1) -> None:
        self._strategy = strategy
        self.mirrors = strategy is not None
        self.count: int = 1 if strategy is None else strategy.num_replicas_in_sync
        local = self.count // workers
        self.own_numbers = range(worker * local, (worker + 1) * local)
        self.workers = workers
        self.is_chief = worker == 0
        self._add_up = tf.function(self._sum_over_workers, autograph=False, reduce_retracing=True)

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Within it variables are created, one copy per replica; those of a seed are moved on by each replica alone."""
        if self._strategy is None:
            yield
            return
        with self._strategy.scope(), tf.variable_creator_scope(_seeds_stay_local):
            yield

    def run(self, function: Callable[..., Any], *values: Any) -> Any:
        """Call a function in each replica of this process; values that `run` returned are each replica's own."""
        return function(*values) if self._strategy is None else self._strategy.run(function, args=values)

    def own(self, shares: Sequence[Share]) -> Share:
        """Return the share of the replica that asks, of those for the replicas of this process."""
        return shares[replica_number() - self.own_numbers.start]

    def sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Add tensors up over all replicas of all workers; to be called in `run`."""
        if self._strategy is None:
            return list(tensors)
        here = [tf.identity(tensor) for tensor in tensors]  # what was passed in or read has no device, and needs one
        return list(tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, here))

    @contextmanager
    def own_draws(self, seeds: Sequence[keras.Variable]) -> Iterator[None]:
        """Within it a replica draws its own random numbers from states (2,) that all began with.

        The first number of each state is moved by the replica, and back at the end; the second one counts the draws.
        The first replica draws what one worker would draw that cuts its batches into as many parts.
        """
        shift = replica_number() * _SEED_STEP % 2**32
        moved = seeds if self.mirrors else ()
        for seed in moved:
            seed.assign(seed + tf.constant([shift, 0], tf.uint32))
        yield
        for seed in moved:
            seed.assign(seed + tf.constant([-shift % 2**32, 0], tf.uint32))

    def leave_sums_alone(self, optimizer: keras.optimizers.Optimizer) -> None:
        """Let an optimizer apply gradients as they come: they are summed over the replicas already.

        Keras's own all-reduce would send all gradients round again, and multiply them.
        """
        if not self.mirrors:
            return
        if not hasattr(optimizer, "_all_reduce_sum_gradients"):
            raise RuntimeError(
                f"{type(optimizer).__name__} must sum gradients where it is known to, got an optimizer without "
                "_all_reduce_sum_gradients: this version of Keras is too new for training.distribution"
            )
        optimizer._all_reduce_sum_gradients = lambda pairs: pairs

    def first(self, values: Any) -> Any:
        """Return of what `run` returned that of the first replica of this process."""
        if self._strategy is None:
            return values
        local = self._strategy.experimental_local_results
        return tf.nest.map_structure(lambda value: local(value)[0], values)

    def exchange(self, values: Sequence[float]) -> list[float]:
        """Return the sums of some numbers over all workers."""
        if self.workers == 1:
            return list(values)
        return [float(value) for value in self._add_up(tf.constant(values, tf.float64)).numpy()]

    def send_text(self, text: str) -> str:
        """Return the chief's text on every worker."""
        if self.workers == 1:
            return text
        content = np.frombuffer(text.encode("utf-8"), np.uint8)
        size = int(self.exchange([float(len(content) if self.is_chief else 0)])[0])
        sent = content if self.is_chief else np.zeros(size, np.uint8)
        return self._add_up(tf.constant(sent, tf.int32)).numpy().astype(np.uint8).tobytes().decode("utf-8")

    def send_variables(self, variables: Sequence[keras.Variable]) -> None:
        """Give variables the values that they have on the chief."""
        for variable in variables if self.workers > 1 else ():
            value = keras.ops.convert_to_numpy(variable)
            sent = value if self.is_chief else np.zeros_like(value)
            kind = np.int64 if np.issubdtype(value.dtype, np.integer) else value.dtype
            received = self._add_up(tf.constant(sent.astype(kind))).numpy()
            variable.assign(received.astype(value.dtype))

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Within it the loss of another worker is an error that says so."""
        try:
            yield
        except _LOST as error:
            if self.workers == 1:
                raise
            logger.debug("TensorFlow says: %s", error)
            raise TrainingError(
                "another worker was lost, or ended by an error that its own output shows, so this run is stopped: "
                "start all workers again, and it goes on from its last checkpoint, if it has one"
            ) from error

    def _sum_over_workers(self, values: Tensor) -> Tensor:
        """Add a tensor up over the workers: the first replica of each hands it in, the others zeros."""

        def hand_in() -> Tensor:
            is_first = replica_number() == self.own_numbers.start
            value = tf.identity(values) if is_first else tf.zeros_like(values)  # an argument has no device
            return self.sum([value])[0]

        return self.first(self.run(hand_in))


def replica_number() -> int:
    """Return which of all replicas is asking, from 0; 0 if nothing is distributed."""
    if not tf.distribute.has_strategy():
        return 0
    context = tf.distribute.get_replica_context()
    return 0 if context is None else int(tf.get_static_value(context.replica_id_in_sync_group))


def _seeds_stay_local(create: Callable[..., Any], **settings: Any) -> Any:
    """Create a variable; one of a seed is assigned to within a replica, which is not allowed to mirrored ones."""
    if settings.get("dtype") == "uint32":
        settings["synchronization"] = tf.VariableSynchronization.ON_READ
        settings["aggregation"] = tf.VariableAggregation.ONLY_FIRST_REPLICA
    return create(**settings)


_LEAST_INTER_OP_THREADS = 8
"""Workers serve each other's collectives from the threads that also wait for them: with one, two workers were seen to
wait for each other without end."""

JOIN_MINUTES = 15.0
"""How long a worker waits for the others to be there; a scheduler may start them one after another."""


def open_replicas(
    distribution: Literal["none", "mirrored", "multi_worker"], *, join_minutes: float = JOIN_MINUTES
) -> Replicas:
    """Return the replicas of a run; under `multi_worker` this has to come before TensorFlow's first operation.

    Args:
        distribution: the setting `training.distribution`.
        join_minutes: how long to wait for the other workers.

    Raises:
        ConfigError: this machine has no devices for it, or TF_CONFIG does not say who the workers are.
        TrainingError: a worker did not come.
    """
    if distribution == "none":
        return Replicas()
    if distribution == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        if len(devices) < 2 and devices[0].device_type == "CPU":  # several have been set up to try things
            raise ConfigError(
                "training.distribution mirrored must have a GPU, and this machine shows none: set it to none, or see "
                "docs/scaling.md on how to try it with logical CPU devices"
            )
        return Replicas(tf.distribute.MirroredStrategy([device.name for device in devices]))
    cluster = read_cluster(os.environ)
    logger.info("worker %d of %d: waiting for the others", cluster.number, len(cluster.addresses))
    meet(cluster, minutes=join_minutes)
    try:
        wanted = max(tf.config.threading.get_inter_op_parallelism_threads(), _LEAST_INTER_OP_THREADS)
        tf.config.threading.set_inter_op_parallelism_threads(wanted)
        before = signal.getsignal(signal.SIGTERM)
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # TensorFlow noted it as a loss of the machine, and told nobody here
    except RuntimeError as error:
        raise ConfigError(
            f"training.distribution multi_worker must be set up before TensorFlow's first operation, got: {error}: "
            "call nmt.train first in the process, or use the command line"
        ) from error
    return Replicas(strategy, worker=cluster.number, workers=len(cluster.addresses))
