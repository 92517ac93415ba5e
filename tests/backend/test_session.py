"""TensorFlow starts silently, on the threads it is given; each case in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nmt.backend import session
from nmt.backend.machine import available_processors
from nmt.errors import ConfigError

ROOT = Path(__file__).parents[2]


def run_python(program, python=sys.executable, **variables):
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"} | variables
    return subprocess.run(
        [python, "-c", program], capture_output=True, text=True, cwd=ROOT, env=environment, check=False
    )


def test_it_starts_silently_on_so_many_threads():
    done = run_python(
        "from nmt.backend import session; session.start(threads=1); import tensorflow as tf; tf.constant(1) + 1; "
        "print(tf.config.threading.get_intra_op_parallelism_threads()); session.start(threads=1)"
    )
    assert (done.stdout, done.stderr, done.returncode) == ("1\n", "", 0)


def test_operations_on_a_core_each_leave_the_cores_to_searches_and_threads_that_wait_for_workers_are_no_cores(
    warm_python,
):
    done = run_python(
        "from nmt.backend import session; session.start(threads=1, a_core_each=True, list_devices=False)\n"
        "import tensorflow as tf\n"
        "print(tf.config.threading.get_intra_op_parallelism_threads(), session.searches_at_once())\n"
        "tf.config.threading.set_inter_op_parallelism_threads(8)\n"
        "print(session.searches_at_once())",
        warm_python,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("1 1\n1\n", "", 0)


def test_a_core_each_has_to_be_wanted_and_there_are_no_more_searches_than_cores(warm_python):
    done = run_python(
        "from nmt.backend import session; session.start(list_devices=False); import tensorflow as tf\n"
        "print(tf.config.threading.get_intra_op_parallelism_threads() == 1)\n"
        "tf.config.threading.set_inter_op_parallelism_threads(1000); print(session.searches_at_once())",
        warm_python,
    )
    assert (done.stdout, done.stderr, done.returncode) == (f"False\n{available_processors()}\n", "", 0)


def test_operations_take_a_core_each_where_there_is_no_gpu_and_the_garbage_collector_passes_tensorflow_by():
    """That it has to be wanted is seen above; what is collected later is freed as ever."""
    done = run_python(
        "import gc; from nmt.backend import session\n"
        "session.start(a_core_each=True); count = gc.get_freeze_count()\n"
        "print(session.has_a_core_each() or session.has_gpu())\n"
        "import tensorflow, weakref\n"
        "class Node: pass\n"
        "node = Node(); node.itself = node; gone = weakref.ref(node); session.start(); del node; gc.collect()\n"
        "print(gc.isenabled(), count > 100_000, gc.get_freeze_count() <= count, gone())"
    )
    assert (done.stdout, done.stderr, done.returncode) == ("True\nTrue True True None\n", "", 0)


def test_what_was_held_back_is_shown_after_a_failure():
    done = run_python(
        "import os; from nmt.backend.session import _held_stderr\n"
        "with _held_stderr():\n os.write(2, b'the cause\\n'); raise ValueError('the effect')"
    )
    assert done.stderr.startswith("the cause\n")
    assert done.stderr.rstrip().endswith("ValueError: the effect")


def test_a_file_with_a_mistake_is_reported_without_remarks_of_tensorflow_about_itself(tmp_path):
    path = tmp_path / "own.py"
    path.write_text("import os; os.write(2, b'I0000 5 a.cc:7] on\\nits own words\\n'); 1 / 0")
    done = run_python(
        "from nmt.backend.session import import_files; from nmt.errors import ConfigError\n"
        f"try: import_files([{str(path)!r}])\n"
        "except ConfigError as error: print(error)"
    )
    assert (done.stderr, done.returncode) == ("its own words\n", 0)
    assert done.stdout == f"--import {path} fails: ZeroDivisionError: division by zero (--debug shows where)\n"


def test_a_public_name_starts_it_silently_and_others_decide_nothing():
    done = run_python(
        "import os, nmt; nmt.load_config; print(os.environ.get('TF_CPP_MIN_LOG_LEVEL')); nmt.Translator\n"
        "import tensorflow as tf; tf.constant(1) + 1"
    )
    assert (done.stdout, done.stderr, done.returncode) == ("None\n", "", 0)


@pytest.mark.parametrize(("variables", "shown"), [({}, ""), ({"TF_CPP_MIN_LOG_LEVEL": "0"}, "I0000 5 a.cc:7] on\n")])
def test_a_program_sees_what_others_write_meanwhile_and_what_it_asks_of_tensorflow(variables, shown):
    done = run_python(
        "import os; from nmt.backend import session\n"
        "with session.starting_quietly(): os.write(2, b'I0000 5 a.cc:7] on\\nof a thread\\n')",
        **variables,
    )
    assert (done.stderr, done.returncode) == (f"{shown}of a thread\n", 0)


def test_another_backend_of_keras_is_refused(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(ConfigError, match="KERAS_BACKEND must be tensorflow, got jax: unset it"):
        session.start()
    monkeypatch.setenv("KERAS_BACKEND", "")  # Keras would look into its own settings
    session.start()
    assert os.environ["KERAS_BACKEND"] == "tensorflow"
