"""The example of a tied language model runs, learns, keeps its tie in a new process, and says so."""

import re
import runpy
import sys
from pathlib import Path

import keras

EXAMPLE = Path(__file__).parents[2] / "examples" / "tied_embeddings.py"
LINE = r"(.+): loss (\d\.\d{6}), embedding=output/tied_to is one variable"


def test_it_learns_and_goes_on_in_a_new_process(monkeypatch, capfd, warm_python):
    monkeypatch.setattr(sys, "executable", warm_python)
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE)])
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLE.parents[1]))
    keras.utils.set_random_seed(1)  # whatever tests ran before
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    lines = [re.fullmatch(LINE, line) for line in capfd.readouterr().out.splitlines()]
    assert {match and match[1] for match in lines} == {"after 14 updates", "in a new process", "after 28 updates"}
    losses = {match[1]: float(match[2]) for match in lines}
    assert abs(losses["in a new process"] - losses["after 14 updates"]) < 1e-5
    assert losses["after 28 updates"] < 0.9 * losses["after 14 updates"]
