"""What the whole suite shares: which tests fit this machine, and a tiny model directory that was never trained."""

import gc
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings

from nmt.backend.machine import GIBIBYTE, available_processors, ram_limit
from tests import tiny

WORKER_BYTES = 1.5 * GIBIBYTE

# No test asserts a time: another job may have the cores.
settings.register_profile("nmt", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("nmt")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in a job that a script began with `&`
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before anything imports TensorFlow
if "PYTEST_XDIST_WORKER" in os.environ:  # several processes share the cores
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """What `-n auto` means: a process more than cores, since tests wait for others, as far as they fit into memory."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:  # xdist reads it itself
        return None
    size = min(ram_limit().size, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return max(1, min(available_processors() + 1, int(size // WORKER_BYTES)))


TESTS = Path(__file__).parent


def pytest_configure(config):
    """Start what answers `warm_python`, for all workers; it imports nothing before it is asked."""
    if sys.platform == "linux" and not hasattr(config, "workerinput"):
        config.stash[SERVED] = folder = tempfile.TemporaryDirectory(prefix="warm")
        environment = {**os.environ, "PYTHONPATH": str(TESTS.parent)}
        command = [sys.executable, TESTS / "warm_python.py", folder.name]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        config.stash[SERVER] = server = subprocess.Popen(command, env=environment, **pipes)
        assert server.stdout.readline() == b"ready\n"
        os.environ["WARM_PYTHON"] = f"{folder.name}/python"


def pytest_unconfigure(config):
    if SERVER in config.stash:
        config.stash[SERVER].communicate()  # it ends with its standard input
        config.stash[SERVED].cleanup()


SERVER, SERVED = pytest.StashKey(), pytest.StashKey()


@pytest.fixture(scope="session")
def warm_python():
    """The path of a Python for which the import of TensorFlow takes no time: see warm_python.py."""
    return os.environ.get("WARM_PYTHON", sys.executable)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Let no test read or write the cache of the user."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


SLOW = (
    "backend/test_cluster.py", "backend/test_session.py", "checkpoint/test_every_way.py",
    "checkpoint/test_manager.py", "checkpoint/test_reader.py", "checkpoint/test_retie.py",
    "checkpoint/test_vocabulary_change.py", "cli/test_average.py", "cli/test_streams.py", "cli/test_update_vocab.py",
    "cli/test_verbs.py", "data/test_parallel_encoding.py", "examples/", "export/",
    "translation/test_ctranslate2_engine.py", "inference/test_stored_searches.py",
    "inference/test_translator.py", "layers/test_tied_output.py", "models/",
    "training/test_batch_size.py", "tasks/test_evaluate_and_translate.py", "recipes/test_run_checks.py",
    "recipes/test_start.py", "recipes/test_training_store.py", "adaptation/",
    "search/test_beam.py", "search/test_compiled_search.py", "search/test_greedy.py", "search/test_leaving.py",
    "system/", "test_benchmarks.py", "test_docs.py", "training/test_distribution.py", "training/test_update.py",
    "tying/test_groups.py",
)  # fmt: skip
"""Files and rooms that start processes, or that build, compile and train for seconds; `make test-fast` passes them by.

A single slow test of another file has the mark itself.
"""


def pytest_collection_finish():
    gc.freeze()  # what is imported stays; looking at it again and again takes a twentieth of the time


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark what is slow, and begin with it: nobody then waits for a long file at the end."""

    def is_listed(item):
        return item.path.relative_to(TESTS).as_posix().startswith(SLOW)

    for item in filter(is_listed, items):
        item.add_marker("slow")
    items.sort(key=is_listed, reverse=True)


fast_tests = []
"""The test that runs now, if it is one that must not start a process."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem):
    """Hold a test without the mark to what `make test-fast` promises, its fixtures included."""
    if item.get_closest_marker("slow") is None:
        fast_tests.append(item.nodeid)
    try:
        return (yield)
    finally:
        fast_tests.clear()


def refuse_processes(event, arguments):
    if event == "subprocess.Popen" and arguments[0] == "uname":  # TensorFlow asks for it when it is first imported
        return
    if fast_tests and event in ("subprocess.Popen", "os.fork", "os.posix_spawn", "os.system"):
        raise RuntimeError(f"{fast_tests[0]} starts a process: give it @pytest.mark.slow")


sys.addaudithook(refuse_processes)


def pytest_runtest_setup(item):
    """Skip what this machine lacks, with the reason."""
    for mark in item.iter_markers("needs"):
        for path in mark.args:
            if not os.path.exists(path):
                pytest.skip(f"this system has no {path}")
    if item.get_closest_marker("bfloat16") is not None:
        from nmt.backend.products import has_bfloat16_products

        if not has_bfloat16_products():
            pytest.skip("this processor has no instructions for bfloat16")


SENTENCES = [
    ("uno dos tres", "one two three"),
    ("dos tres", "two three"),
    ("cuatro", "four"),
    ("cinco seis uno dos", "five six one two"),
    ("siete ocho nueve", "seven eight nine"),
]


class Run(NamedTuple):
    """A directory with corpora, a config and, in `directory`, a model of two checkpoints.

    The first checkpoint is the best one and keeps an average, the second one is the latest and keeps none.
    """

    directory: Path
    config: Path
    source: Path
    reference: Path


CORPORA = {"train": SENTENCES * 3, "validation": SENTENCES[:2], "test": SENTENCES}


def write_small_run(folder, model=tiny.RNN):
    """Writes small corpora and the config of a small model; returns the path of the config."""
    search = {"beam_size": 1, "min_length": 2, "max_length": 9}
    return tiny.write_config(folder, CORPORA, model=model, search=search)


def untrained_model(path):
    """The model that a config describes, and its two texts, as training begins with them."""
    from nmt.config import load
    from nmt.inference.translator import vocabularies_of
    from nmt.recipes.build_vocabulary import build_vocabulary

    config = load(path)
    text = build_vocabulary(config).text
    model = tiny.build(config.model.model_dump(), vocabularies=vocabularies_of(text), seed=config.seed)
    return model, text


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory):
    """A `Run`; tests must not change it."""
    from nmt.checkpoint.manager import CheckpointManager
    from nmt.text import EOS_ID
    from nmt.tying import named_variables

    folder = tmp_path_factory.mktemp("trained")
    path = write_small_run(folder)
    model, text = untrained_model(path)
    variables = named_variables(model)
    ends_soon = [9.0 if token_id == EOS_ID else 0.0 for token_id in range(len(text.target.vocabulary))]
    with CheckpointManager(folder / "run") as checkpoints:
        for variable in variables.values():
            variable.assign(2.0 * variable)
        model.output_bias.assign(ends_soon)
        checkpoints.save(10, model=model, ema=variables, score=0.5)
        for variable in variables.values():
            variable.assign(-1.0 * variable)
        model.output_bias.assign(ends_soon)
        checkpoints.save(20, model=model, score=0.25)
    return Run(folder / "run", path, folder / "test.es", folder / "test.en")


@pytest.fixture
def untrained_config(tmp_path):
    """The path of a config whose model directory does not exist yet."""
    return write_small_run(tmp_path)


@pytest.fixture(scope="session")
def transformer_run(tmp_path_factory):
    """A `Run` of a Transformer with one checkpoint; tests must not change it."""
    import numpy as np

    from nmt.checkpoint.manager import CheckpointManager
    from nmt.text import BOS_ID, EOS_ID, PAD_ID

    folder = tmp_path_factory.mktemp("transformer")
    path = write_small_run(folder, {**tiny.TRANSFORMER, "num_encoder_layers": 2})
    model, _ = untrained_model(path)
    generator = np.random.default_rng(5)
    for variable in model.trainable_variables:  # no zeros and ones, so that every bias counts; and outputs that vary
        factor = 1.0 if "embedding" in variable.path else 4.0
        variable.assign(factor * variable + generator.normal(0.0, 0.3, variable.shape))
    bias = np.array(model.output_bias.value)
    bias[[PAD_ID, BOS_ID]] = -20.0  # as training leaves them
    bias[EOS_ID] += 1.0
    model.output_bias.assign(bias)
    with CheckpointManager(folder / "run") as checkpoints:
        checkpoints.save(30, model=model, score=0.5)
    return Run(folder / "run", path, folder / "test.es", folder / "test.en")


@pytest.fixture(scope="session")
def exported_run(transformer_run, tmp_path_factory):
    """An export of `transformer_run` for CTranslate2, in float32; tests must not change it."""
    from nmt.adaptation.derived import export_for_ctranslate2

    output = tmp_path_factory.mktemp("exported") / "out"
    export_for_ctranslate2(transformer_run.directory, output)
    return output


@pytest.fixture
def eagerly():
    """Run compiled functions step by step, in a test of something else."""
    with tiny.run_eagerly():
        yield


@pytest.fixture
def compiled():
    """Compile functions again in one test of a module that runs eagerly: as an argument, which comes last."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(False)


@pytest.fixture
def flip():
    """Change one bit in the middle of a file."""

    def change(path):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(bytes(content))

    return change


@pytest.fixture
def build():
    """Build a model with dropout, of one layer each, with V=11 on both sides unless told otherwise."""

    def build(kind="transformer", ties="all", *, seed=1, vocabularies=None):
        settings = tiny.with_dropout(tiny.MODELS[kind], 0.2)
        return tiny.build(settings, vocabularies=vocabularies, tie_embeddings=ties, seed=seed)

    return build


@pytest.fixture
def small_model():
    """A plain Keras model of three weights, for tests that are about files."""
    import keras

    def make():
        dense, norm = keras.layers.Dense(4, name="dense"), keras.layers.BatchNormalization(name="norm")
        return keras.Sequential([keras.Input((3,)), dense, norm])

    return make


# Configs

MINIMAL = """\
model_directory: runs/toy
data:
  source_language: de
  target_language: en
  train: {source: train.de, target: train.en}
  validation: {source: validation.de, target: validation.en}
"""


@pytest.fixture
def write_config(tmp_path):
    """Writes YAML texts to files, the first one behind a minimal config, and returns their paths."""

    def write(*texts: str, minimal: bool = True) -> list[Path]:
        paths = []
        for number, text in enumerate(texts or ("",)):
            path = tmp_path / f"config{number}.yaml"
            path.write_text((MINIMAL if minimal and number == 0 else "") + text, encoding="utf-8")
            paths.append(path)
        return paths

    return write


@pytest.fixture
def refused(write_config):
    """Returns the lines of the error for a minimal config with an addition and overrides."""
    from nmt.config import load
    from nmt.errors import ConfigError

    def lines(*texts: str, overrides=(), minimal: bool = True) -> list[str]:
        paths = write_config(*texts, minimal=minimal)
        with pytest.raises(ConfigError) as error:
            load(paths, overrides)
        found = str(error.value).replace(str(paths[0].parent) + "/", "").split("\n")
        return found if len(found) == 1 else [line.strip() for line in found[1:]]

    return lines
