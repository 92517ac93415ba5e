"""How TensorFlow starts: silently, on so many threads, and taking only the GPU memory it needs; its event files."""

import gc
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import Any

from nmt.backend.machine import processors_for, ram_limit, refuse_to_start
from nmt.errors import ConfigError, NMTError
from nmt.kinds import import_file
from nmt.types import PathLike


def has_gpu() -> bool:
    """Return whether TensorFlow sees a GPU."""
    return bool(_devices().list_physical_devices("GPU"))


def _devices() -> ModuleType:
    """`tf.config`, by the name of the part that it is of, for which not all of TensorFlow has to be there."""
    from tensorflow.python.framework import config

    return config


KERNEL_BYTES = 88 * 2**10
"""What a kept kernel takes, in the mean, and a little more: in a run of 27,000 batches of many shapes some 24,000 of
them, and those that TensorFlow's threads keep, came to take 2.7 GiB, 83 KiB each, and grew no more."""

THREAD_KERNEL_BYTES = 10240 * KERNEL_BYTES
"""What TensorFlow's threads keep beside the library, each for itself and whatever its bound: with one of 1,024, runs
through many shapes grew by 0.65 and 0.83 GB before they grew no more. Runs through few shapes keep few."""

_VARIABLE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
_DEFAULT = 1024  # the library's own
_MOST = 32768
_SHARE = 16


def keep_kernels() -> None:
    """Let oneDNN keep as many kernels as a sixteenth of the memory holds, unless the environment says how many.

    To be called before TensorFlow is imported.
    """
    kept = ram_limit().size / _SHARE / KERNEL_BYTES
    os.environ.setdefault(_VARIABLE, str(int(min(max(kept, _DEFAULT), _MOST))))


def library_kernel_bytes() -> int:
    """Return how much memory the kernels take that the library keeps, at most."""
    kept = os.environ.get(_VARIABLE, "")
    return (int(kept) if kept.isdigit() else _DEFAULT) * KERNEL_BYTES


_LOGGER = logging.getLogger(__name__)

_LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"

_REMARK = re.compile(rb"^(?:[IWE][0-9]{4} |WARNING: All log messages before|To enable the following instr).*\n", re.M)
"""A line that TensorFlow writes while it starts."""

_only_imported = False
"""Whether TensorFlow was imported by a user's file alone, so that `start` may still say how it runs."""

_cores_asked_for: int | None = None
"""By `start`. Workers that train together have more threads than cores, since some only wait for other workers."""


def start(
    *, threads: int | None = None, list_devices: bool = True, a_core_each: bool = False, whole: bool = True
) -> None:
    """Import TensorFlow for a program; to be called before anything else imports it.

    What TensorFlow says about itself while it starts goes to the log, at level DEBUG. A library that is used by
    somebody else's program leaves all but that (`starting_quietly`) to that program.

    Args:
        threads: processor cores that one operation, and operations side by side, may use; None is all of them. Threads
            beyond the cores that are there serve operations that take all cores, and no others.
        list_devices: whether TensorFlow may look at its devices now; several workers have to find each other first.
        a_core_each: whether an operation takes one core, and several work side by side: searches of several batches, or
            the gradients of parts of one. Not heeded if a GPU does the work.
        whole: whether all of it is imported, and Keras with it. What runs a stored function takes a third of the time;
            the rest is imported when anybody asks for it.

    Raises:
        ConfigError: the environment asks Keras for another backend, or a limit of the shell is too small.
        RuntimeError: TensorFlow runs already, on another number of threads.
        ValueError: the number of threads is below 1.
    """
    global _cores_asked_for, _only_imported
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be 1 or more, got {threads}")
    _prepare_environment()
    if not is_running():
        refuse_to_start(processors_for(threads))
    _cores_asked_for, _only_imported = threads, False
    with _held_stderr(), _collector_at_rest():
        if whole:
            with _without_plots():
                import tensorflow as tf

                tf.config  # noqa: B018, if only parts of it were there
        elif "tensorflow" not in sys.modules:
            _import_parts()
        _optimize_less()
        logging.getLogger("tensorflow").addFilter(_says_more_than_retracing)
        cores = _devices()
        for device in cores.list_physical_devices("GPU"):
            with suppress(RuntimeError):  # it has started, so this was decided before
                cores.set_memory_growth(device, True)  # else it takes all of it at its first operation
        if a_core_each and not has_gpu():
            with suppress(RuntimeError):  # it runs already, and threads stay as they are
                cores.set_intra_op_parallelism_threads(1)
                cores.set_inter_op_parallelism_threads(processors_for(threads))
        elif threads is not None and cores.get_intra_op_parallelism_threads() != threads:
            cores.set_intra_op_parallelism_threads(threads)
            cores.set_inter_op_parallelism_threads(threads)
        if list_devices:
            cores.list_logical_devices()  # whatever is said about devices is said here


def _import_parts() -> None:
    """Import what calls a function that was traced before, from a package `tensorflow` that is not imported itself.

    All that its own `__init__` imports follows when a name is asked for that is not there.
    """
    spec = util.find_spec("tensorflow")
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")
    module, loader = util.module_from_spec(spec), spec.loader

    def rest(name: str) -> Any:
        if name.startswith("__"):  # which the import system looks for
            raise AttributeError(name)
        with _collector_at_rest(), _without_plots():
            del module.__getattr__
            loader.exec_module(module)
        return getattr(module, name)

    module.__getattr__ = rest  # type: ignore[method-assign]
    sys.modules["tensorflow"] = module
    from tensorflow.python.framework import errors_impl, ops

    ops.enable_eager_execution()
    module.errors = errors_impl  # type: ignore[attr-defined]


@contextmanager
def _without_plots() -> Iterator[None]:
    """Let Keras, while it is imported, find no Matplotlib, which it imports at once if it is there and we plot without.

    That takes a seventh of the time of the import.
    """
    hidden = "keras" not in sys.modules and "matplotlib" not in sys.modules
    if hidden:
        sys.modules["matplotlib"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hidden:
            del sys.modules["matplotlib"]


def _optimize_less() -> None:
    """Leave out of the optimisation of graphs, on a processor, what costs time and brings nothing.

    What is to save memory takes a fourth of all of it. It lets sums of several tensors be added up in the order in
    which these are there, so that a recurrent model had other weights each time. All else is done once, not twice:
    the second time finds next to nothing, and the weights stay the same to the bit.
    """
    from tensorflow.core.protobuf.config_pb2 import ConfigProto
    from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig
    from tensorflow.python.eager import context  # what says so for functions has no public name

    if has_gpu() or context.context()._config is not None:
        return
    settings = ConfigProto()
    settings.graph_options.rewrite_options.memory_optimization = RewriterConfig.NO_MEM_OPT
    settings.graph_options.rewrite_options.meta_optimizer_iterations = RewriterConfig.ONE
    context.context()._config = settings


def _says_more_than_retracing(record: logging.LogRecord) -> bool:
    """Whether a remark of TensorFlow is another than that functions are traced often: each of ours is traced once."""
    return "tf.function retracing" not in str(record.msg)


def _prepare_environment() -> None:
    """Say what TensorFlow and Keras read when they are imported."""
    backend = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if backend != "tensorflow":
        raise ConfigError(f"the environment variable KERAS_BACKEND must be tensorflow, got {backend}: unset it")
    os.environ["KERAS_BACKEND"] = backend
    os.environ.setdefault(_LOG_LEVEL, "3")
    keep_kernels()


def is_running() -> bool:
    """Return whether TensorFlow was started, by `start` or by somebody else's program."""
    return "tensorflow" in sys.modules and not _only_imported


def _is_whole() -> bool:
    """Return whether all of TensorFlow is imported, or is being imported."""
    return "tensorflow" in sys.modules and "__getattr__" not in vars(sys.modules["tensorflow"])


def import_files(paths: Sequence[PathLike]) -> None:
    """Load a user's own files, which import TensorFlow as `start` would; that can still say then how it runs.

    Raises:
        ConfigError: a file cannot be loaded, or the environment asks Keras for another backend.
    """
    if paths:
        with importing():
            for path in paths:
                import_file(path)


@contextmanager
def importing() -> Iterator[None]:
    """Let the block import TensorFlow as `start` would, which can still say afterwards how it runs.

    Raises:
        ConfigError: the environment asks Keras for another backend.
    """
    global _only_imported
    runs = is_running()
    _prepare_environment()
    try:
        with _held_stderr(hidden=_REMARK), _collector_at_rest():
            yield
    finally:
        _only_imported = not runs and "tensorflow" in sys.modules


@contextmanager
def starting_quietly() -> Iterator[None]:
    """Keep remarks of TensorFlow out of sight when the block imports it for somebody else's program.

    Nothing is done if it runs already, or if the environment says what is to be seen of it.
    """
    if "tensorflow" in sys.modules or _LOG_LEVEL in os.environ:
        yield
        return
    os.environ[_LOG_LEVEL] = "3"
    try:
        with _held_stderr(hidden=_REMARK):
            yield
    finally:
        if "tensorflow" not in sys.modules:  # whoever imports it later decides
            del os.environ[_LOG_LEVEL]


def searches_at_once() -> int:
    """Return how many searches to run side by side: one a processor core that was asked for and is there.

    It is one if a GPU does the work.
    """
    asked_for = _cores_asked_for or _devices().get_inter_op_parallelism_threads()
    return 1 if has_gpu() else processors_for(asked_for)


def has_a_core_each() -> bool:
    """Return whether an operation takes one processor core, so that several have to work side by side to use more."""
    return not has_gpu() and _devices().get_intra_op_parallelism_threads() == 1


@contextmanager
def deterministic() -> Iterator[None]:
    """Make every operation give the same bits for the same inputs while the block runs.

    TensorFlow then sums in a fixed order, on one thread if it must, and refuses the few operations that cannot
    promise it. The mode is the whole process's.
    """
    import tensorflow as tf
    from tensorflow.python.framework import config  # what switches it off again has no public name

    before = config.is_op_determinism_enabled()
    tf.config.experimental.enable_op_determinism()
    try:
        yield
    finally:
        if not before:
            config.disable_op_determinism()


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Keep the garbage collector from looking at TensorFlow, while it is imported and ever after.

    Its 270,000 objects stay as long as the program. Looking at them took a fourth of the time of the import, and each
    later collection 0.1 s or more.
    """
    if _is_whole() or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


@contextmanager
def _held_stderr(hidden: re.Pattern[bytes] = re.compile(rb"(?s).+")) -> Iterator[None]:
    """Keep what C++ code writes to file descriptor 2 out of sight: some of it ignores every setting.

    It is shown after all if the block fails, unless its error says all in one sentence.

    Args:
        hidden: what of it; the rest is shown when the block ends. All unless given.
    """
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        visible = os.dup(2)
    except OSError:  # there is no standard error to keep clean
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except NMTError:
            raise
        except Exception:
            hidden = re.compile(rb"(?!)")
            raise
        finally:
            os.dup2(visible, 2)
            os.close(visible)
            held.seek(0)
            written = held.read()
            with suppress(OSError):  # it is closed, and the number may be that of a file that is read
                os.write(2, hidden.sub(b"", written))
        _LOGGER.debug("TensorFlow while it started:\n%s", written.decode("utf-8", "replace").rstrip())


def event_file(directory: Path) -> Any:
    """Return a writer of what TensorBoard shows, which itself is not needed for that; `close` flushes and closes it.

    Args:
        directory: where the event file goes.
    """
    import tensorflow as tf

    return tf.summary.create_file_writer(str(directory))


def write_event(writer: Any, name: str, value: float | str, update: int) -> None:
    """Write one figure, or a text in Markdown, by what `event_file` returned."""
    import tensorflow as tf
    from tensorflow.core.framework.summary_pb2 import SummaryMetadata

    plugin, dtype = ("text", tf.string) if isinstance(value, str) else ("scalars", tf.float32)
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=plugin))
    with writer.as_default():
        tf.summary.write(name, tf.constant(value, dtype), step=update, metadata=metadata)
