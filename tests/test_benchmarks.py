"""Every benchmark runs, in its smallest size; what it measures there means nothing."""

import os
import subprocess
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


STEP_BY_STEP = {"adaptation.py", "attention.py", "memory.py", "training.py", "tying.py"}
"""Those that train more than they search: most of their time would be that of tracing."""


@pytest.fixture(scope="module")
def run(warm_python):
    """Run a benchmark; returns what it printed, and what it told meanwhile."""

    def run(name, *words):
        command = [warm_python, f"benchmarks/{name}", *words, "--smoke"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
        environment |= {"EAGERLY": "yes"} if name in STEP_BY_STEP else {}
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout, done.stderr

    return run


@pytest.fixture(scope="module")
def run_directory(run, tmp_path_factory):
    directory = str(tmp_path_factory.mktemp("benchmarks") / "run")
    assert "300 tokens" in run("large_model.py", directory)[0]
    return directory


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_it_runs_and_shows_how_far_it_is(run, run_directory, call):
    output, progress = run(*(run_directory if word == "RUN" else word for word in call))
    assert CALLS[call] in output
    assert " s] " in progress
    if call[0] == "training.py":  # the peak is that of the precision in use, which every processor has
        assert "bfloat16" not in output


def test_every_benchmark_is_run():
    found = {path.name for path in (ROOT / "benchmarks").glob("*.py")}
    assert found == {call[0] for call in CALLS} | PARTS | {"large_model.py"}
