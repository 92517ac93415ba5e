"""The example of a tied language model runs, learns, keeps its tie in a new process, and says so."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINE = r"(.+): loss (\d\.\d{6}), embedding=output/tied_to is one variable"


def test_it_learns_and_goes_on_in_a_new_process():
    done = subprocess.run(
        [sys.executable, "examples/tied_embeddings.py"], capture_output=True, text=True, check=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    lines = [re.fullmatch(LINE, line) for line in done.stdout.splitlines()]
    before, loaded, after = (match and float(match[2]) for match in lines)
    assert [match[1] for match in lines] == ["after 14 updates", "in a new process", "after 28 updates"]
    assert abs(loaded - before) < 1e-5
    assert after < 0.9 * before
