"""Standard streams that are closed or full end in one line and the right exit status, not in a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nmt.cli.main import main
from nmt.errors import DataError
from nmt.recipes.train import TrainedModel
from nmt.terminal.streams import is_terminal

ROOT = Path(__file__).parents[2]
FULL = "nmt: error: standard output: cannot be written: No space left on device\n"
CLOSED = "nmt: error: standard output is closed, where the result goes: leave it open, or name a file\n"


def run_shell(command, **places):
    """Runs a command of the shell; `nmt` is ours. Returns exit status, output and errors."""
    environment = {**os.environ, **{name: str(place) for name, place in places.items()}}
    environment.pop("PYTHONUNBUFFERED", None)  # most users have none, and a full disk then shows at the flush
    command = command.replace("nmt ", f"'{sys.executable}' -m nmt ")
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.needs("/dev/full")
@pytest.mark.parametrize(
    ("command", "outcome"),
    [
        ("nmt check-config --explain > /dev/full", (1, "", FULL)),
        ("nmt check-config --help > /dev/full", (1, "", FULL)),
        ("nmt --version > /dev/full", (1, "", FULL)),
        ("nmt --version >&-", (1, "", CLOSED)),
        ("nmt check-config $CONFIG --set search.max_length=100 >&-", (1, "", CLOSED)),
        ("nmt check-config nowhere.yaml >&-", (1, "", "nmt: error: nowhere.yaml does not exist\n")),
        ("nmt check-config nowhere.yaml --debug 2>&-", (1, "", "")),
        ("nmt evaluate 2>&-", (2, "", "")),
        ("nmt evaluate --hypotheses $CONFIG --reference $CONFIG > /dev/full", (1, "", FULL)),
        ("nmt evaluate --hypotheses $CONFIG --reference $CONFIG >&-", (1, "", CLOSED)),
    ],
)
def test_a_stream_that_cannot_be_written(untrained_config, command, outcome):
    assert run_shell(command, CONFIG=untrained_config) == outcome


def test_without_standard_error_the_output_is_the_same(untrained_config):
    command = "nmt check-config $CONFIG"
    status, output, _ = run_shell(command, CONFIG=untrained_config)
    assert (status, output.count("\n")) == (0, 1)
    assert run_shell(f"{command} 2>&- <&-", CONFIG=untrained_config) == (0, output, "")


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path):
    program = (
        "import sys; from nmt.terminal.streams import hold_descriptors; hold_descriptors(); "
        "sys.exit(40 + open('/dev/null').fileno())"
    )
    for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        status, _, _ = run_shell(f"'{sys.executable}' -c \"{program}\" {closed}")
        assert status >= 43, closed


@pytest.mark.parametrize(
    ("stream", "message"),
    [("stdin", "nmt: error: standard input is closed: give a file\n"), ("stdout", CLOSED)],
)
def test_translate_refuses_a_closed_stream_before_it_opens_the_model(trained_run, monkeypatch, capsys, stream, message):
    monkeypatch.setattr("nmt.backend.session.start", lambda **settings: pytest.fail("TensorFlow was started"))
    monkeypatch.setattr(sys, stream, None)
    assert main(["translate", str(trained_run.directory)]) == 1
    assert capsys.readouterr().err == message


def test_evaluate_refuses_closed_output_before_it_opens_the_model(trained_run, monkeypatch, capsys):
    monkeypatch.setattr("nmt.backend.session.start", lambda **settings: pytest.fail("TensorFlow was started"))
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["evaluate", str(trained_run.directory)]) == 1
    assert capsys.readouterr().err == CLOSED


@pytest.mark.needs("/dev/full")
def test_translations_that_cannot_be_written(trained_run, monkeypatch, capsys):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["translate", str(trained_run.directory), "-i", str(trained_run.source)]) == 1
        assert capsys.readouterr().err == f"engine: keras, as CTranslate2 cannot have model.type rnn\n{FULL}"
        full.write("and nothing fails when it is closed")


def test_training_needs_no_standard_streams(untrained_config, monkeypatch):
    monkeypatch.setattr("nmt.recipes.train.train", lambda *_, **__: TrainedModel(Path("x"), 3, "max_updates: 3", None))
    for stream in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, stream, None)
    assert main(["train", str(untrained_config)]) == 0


def test_failed_training_without_standard_error_has_its_exit_status(untrained_config, monkeypatch):
    def fail(*arguments, **settings):
        raise DataError("broken")

    monkeypatch.setattr("nmt.recipes.train.train", fail)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["train", str(untrained_config)]) == 1


def test_what_is_not_there_is_no_terminal():
    assert not is_terminal(None)
    with open(os.devnull) as stream:
        assert not is_terminal(stream)
