"""Into how many parts the batches of a training are cut, whose gradients are computed side by side, a core each.

On a processor this is faster than all cores on one operation after another (docs/benchmarks.md). Each part brings
gradients of all weights, which have to be added up and held, so a part has to be of some size, and there are few.
"""

from nmt.backend import session
from nmt.backend.machine import processors_for
from nmt.config import Config

LEAST_PART_TOKENS = 512
"""Of `training.batch_tokens`, a part; measured with two parts."""

MOST_PARTS = 4
"""Two were measured, more are an estimate: the gradients of all parts together are added up by one core."""


def start_session(config: Config, *, threads: int | None = None) -> None:
    """Start TensorFlow for a training: an operation takes a core where batches have a part for each, else all of them.

    Args:
        config: the run; of `training.batch_tokens: auto` the most is taken that it may become.
        threads: processor cores to use; None is all of them.

    Raises:
        ConfigError: the environment asks Keras for another backend.
        RuntimeError: TensorFlow runs already, on another number of threads.
    """
    training, cores = config.training, processors_for(threads)
    batch_tokens = training.batch_tokens
    if batch_tokens == "auto":
        batch_tokens = training.effective_batch_tokens or MOST_PARTS * LEAST_PART_TOKENS
    session.start(
        threads=threads,
        list_devices=training.distribution != "multi_worker",
        a_core_each=1 < cores == _parts_for(config, batch_tokens, cores),
    )


def batch_parts(config: Config, *, batch_tokens: int, replicas: int = 1) -> int:
    """Return into how many parts to cut a batch: one where an operation takes all cores, as on a GPU.

    Args:
        config: the run.
        batch_tokens: of a batch.
        replicas: copies of the model in this process, which share its cores.
    """
    cores = session.searches_at_once() // replicas if session.has_a_core_each() else 1
    return _parts_for(config, batch_tokens, cores)


def _parts_for(config: Config, batch_tokens: int, cores: int) -> int:
    """Return as many parts as there are cores and as pay; XLA takes batches whole, and all cores for each."""
    if config.training.compile == "xla":
        return 1
    return max(1, min(cores, MOST_PARTS, batch_tokens // LEAST_PART_TOKENS))
