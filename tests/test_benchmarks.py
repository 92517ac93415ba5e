"""Every benchmark runs, in its smallest size; what it measures there means nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = {"flops.py", "machine.py", "smoke.py"}
"""What the others share."""

CALLS = {
    ("adaptation.py",): "| smoke | 0.25 |",
    ("alignment.py",): "backward             AER",
    ("attention.py", "RUN"): "mean of layers shifted AER",
    ("checkpoints.py", "--average"): "saving blocks",
    ("completion.py", "RUN"): "completions: median",
    ("corpus_size.py", "encoding"): "equal files",
    ("corpus_size.py", "start"): "the first batch",
    ("corpus_size.py", "epoch"): "every pair once",
    ("corpus_size.py", "training"): "2 updates, the last",
    ("decoding.py", "RUN"): "of the float32 peak",
    ("latency.py", "RUN"): "warm call, import nmt, greedy",
    ("markup.py", "RUN"): "without markup",
    ("noise.py", "--no-training", "--check", "WordAlignFilter=drop"): "| untranslated | 86 | 100.0% |",
    ("phrases.py", "RUN"): "bans broken",
    ("methods.py", "RUN"): "MBR, chrF, 64 samples",
    ("shortlist.py", "RUN"): "all tokens:",
    ("memory.py",): "| 300 | 256 |",
    ("mixtures.py",): "the same batch: True",
    ("training.py", "--set", "training.precision=float32"): "of the float32 peak",
    ("tying.py",): "| 300 | `all` |",
    ("variation.py", "--no-training"): "| upper_case | 20 lines | 20 sources changed |",
    ("workers.py",): "median of the ratios",
}
"""How each is called, and what it prints at last."""


TOGETHER = ("attention.py", "completion.py", "decoding.py", "markup.py", "methods.py", "phrases.py", "shortlist.py")
"""Those that start TensorFlow alike and in their own process, so that one process may run them all."""

PROGRAM = """
import contextlib, io, json, runpy, sys

sys.path.insert(0, "benchmarks")
_, directory, *names = sys.argv
for name in names:
    sys.argv = [name, directory, "--smoke"]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        runpy.run_path(f"benchmarks/{name}", run_name="__main__")
    print(json.dumps([out.getvalue(), err.getvalue()]))
"""


def run(*words):
    """Run Python; returns what it printed, and what it told meanwhile."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def run_directory(tmp_path_factory):
    directory = str(tmp_path_factory.mktemp("benchmarks") / "run")
    assert "300 tokens" in run("benchmarks/large_model.py", directory, "--smoke")[0]
    return directory


@pytest.fixture(scope="module")
def together(run_directory):
    """What those printed and told that run in one process, by their names."""
    printed, _ = run("-c", PROGRAM, run_directory, *TOGETHER)
    return dict(zip(TOGETHER, map(json.loads, printed.splitlines()), strict=True))


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_it_runs_and_shows_how_far_it_is(run_directory, together, call):
    if call[0] in TOGETHER:
        output, progress = together[call[0]]
    else:
        name, *words = (run_directory if word == "RUN" else word for word in call)
        output, progress = run(f"benchmarks/{name}", *words, "--smoke")
    assert CALLS[call] in output
    assert " s] " in progress
    if call[0] == "training.py":  # the peak is that of the precision in use, which every processor has
        assert "bfloat16" not in output


def test_every_benchmark_is_run():
    found = {path.name for path in (ROOT / "benchmarks").glob("*.py")}
    assert found == {call[0] for call in CALLS} | PARTS | {"large_model.py"}
