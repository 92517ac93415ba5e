"""Training on several devices or machines: which replicas a run has, by what the machine and its environment offer."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import tensorflow as tf

from nmt.backend.cluster import read_cluster
from nmt.backend.rendezvous import meet
from nmt.backend.replicas import OneReplica, Replicas
from nmt.backend.strategy_replicas import StrategyReplicas
from nmt.errors import ConfigError

logger = logging.getLogger(__name__)

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
        return OneReplica()
    if distribution == "mirrored":
        return StrategyReplicas(tf.distribute.MirroredStrategy(_mirrored_devices()))
    cluster = read_cluster(os.environ)
    logger.info("worker %d of %d: waiting for the others", cluster.number, len(cluster.addresses))
    meet(cluster, minutes=join_minutes)
    try:
        wanted = max(tf.config.threading.get_inter_op_parallelism_threads(), _LEAST_INTER_OP_THREADS)
        tf.config.threading.set_inter_op_parallelism_threads(wanted)
        with _signals_kept():
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise ConfigError(
            f"training.distribution multi_worker must be set up before TensorFlow's first operation, got: {error}: "
            "call nmt.train first in the process, or use the command line"
        ) from error
    return StrategyReplicas(strategy, worker=cluster.number, workers=len(cluster.addresses))


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Undo what TensorFlow does to SIGTERM: it notes that the machine will be taken away, and tells nobody here."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def _mirrored_devices() -> list[str]:
    """Return all GPUs of the machine; without one the logical CPU devices that somebody has set up to try things."""
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) < 2 and devices[0].device_type == "CPU":
        raise ConfigError(
            "training.distribution mirrored must have a GPU, and this machine shows none: set it to none, or see "
            "docs/scaling.md on how to try it with logical CPU devices"
        )
    return [device.name for device in devices]
