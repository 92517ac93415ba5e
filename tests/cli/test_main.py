"""What every command has in common: help, exit codes, and one line for an error."""

import logging
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nmt.backend.machine import GIBIBYTE, RamLimit
from nmt.errors import NOT_ON_WINDOWS, ConfigError
from nmt.version import __version__

VERBS = (
    "train", "translate", "evaluate", "average", "inspect", "update-vocab", "build-vocab", "check-config", "export",
    "score", "rerank",
)  # fmt: skip


def raising(error):
    """A verb's first step that fails."""

    def fail(*arguments, **settings):
        raise error

    return fail


@pytest.mark.parametrize("verb", [(), *((verb,) for verb in VERBS)], ids=" ".join)
def test_help_ends_with_an_example(run_nmt, verb):
    outcome = run_nmt(*verb, "--help")
    assert outcome.code == 0
    assert outcome.err == ""
    example = outcome.out[outcome.out.index("  Example") :].splitlines()[1:]
    commands = [line for line in example if line]
    assert 1 <= len(commands) <= 3
    assert all("nmt " in line and line.startswith("    ") for line in commands)
    assert outcome.out.rstrip().endswith(commands[-1].strip())


def test_all_verbs_are_listed(run_nmt):
    listing = run_nmt("-h").out
    assert [verb for verb in VERBS if f"  {verb} " in listing] == list(VERBS)


def test_version(run_nmt):
    assert run_nmt("--version") == (0, f"nmt {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("translat",), "No such command 'translat'"),
        (("translate",), "Missing argument 'RUN...' (see nmt translate --help)"),
        (("translate", "x", "--beem-size", "3"), "No such option: --beem-size"),
        (("translate", "x", "--beam-size", "0"), "Invalid value for '--beam-size'"),
        (("translate", "x", "--format", "xml"), "'xml' is not one of 'text', 'jsonl', 'tsv' (see nmt translate"),
        (("translate", "x", "--weights", "old"), "'old' is not one of 'ema', 'raw'"),
        (("translate", "x", "-o", "a", "--output=b"), "--output takes one value, and was given 2 times (see nmt tr"),
        (("evaluate", "x", "--checkpoint", "best", "--checkpoint", "best"), "--checkpoint takes one value"),
        (("train", "x", "--set", "seed=1", "--set", "seed = 2"), "--set seed takes one value, and was given 2 times"),
        (
            ("translate", "x", "--beam-size", "3", "--set", "search.beam_size=4"),
            "--beam-size and --set search.beam_size give one setting two values: leave one of them out (see nmt tr",
        ),
        (("translate", "x", "y", "--member-weights", "1,a"), "--member-weights takes a number for each RUN, as in"),
        (("train",), "Missing argument 'CONFIG...'"),
        (("train", "x", "--threads", "zero"), "Invalid value for '--threads'"),
        (("evaluate",), "give a model directory, or --hypotheses and --reference (see nmt evaluate --help)"),
        (("evaluate", "x", "--source", "y"), "--source and --reference go together"),
        (("evaluate", "--hypotheses", "x"), "--hypotheses needs a --reference"),
        (("evaluate", "x", "--hypotheses", "y", "--reference", "z"), "leave out RUN (see nmt evaluate"),
        (
            (
                *("evaluate", "--hypotheses", "y", "--reference", "z", "--beam-size", "3", "--length-penalty", "0"),
                *("--checkpoint", "best", "--weights", "ema", "--set", "seed=1", "--threads", "1", "-o", "x"),
                *("--member-weights", "1", "--log-linear"),
            ),
            "leave out --output, --beam-size, --length-penalty, --checkpoint, --weights, --member-weights, "
            "--log-linear, --set, --threads (see nmt",
        ),
        (("check-config",), "give a config file, or --explain"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_usage_is_one_line_and_exit_code_2(run_nmt, arguments, message):
    outcome = run_nmt(*arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.startswith("nmt: error: ")
    assert message in outcome.err
    assert outcome.err.count("\n") == 1


def test_no_arguments_show_the_help_as_wrong_usage(run_nmt):
    outcome = run_nmt()
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("Usage: nmt")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("translate", "nowhere"), "nmt: error: nowhere: there is no such model directory\n"),
        (("evaluate", "nowhere"), "nmt: error: nowhere: there is no such model directory\n"),
        (("train", "nowhere.yaml"), "nmt: error: nowhere.yaml does not exist\n"),
        (("build-vocab", "nowhere.yaml"), "nmt: error: nowhere.yaml does not exist\n"),
        (("check-config", "nowhere.yaml"), "nmt: error: nowhere.yaml does not exist\n"),
        (
            ("evaluate", "--hypotheses", "nowhere", "--reference", "there"),
            "nmt: error: nowhere: cannot be read: No such file or directory (looked for in HERE)\n",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_failure_is_one_line_and_exit_code_1(run_nmt, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert run_nmt(*arguments) == (1, "", message.replace("HERE", str(tmp_path)))


def test_debug_shows_where_an_error_came_from(run_nmt):
    outcome = run_nmt("check-config", "nowhere.yaml", "--debug")
    assert outcome.code == 1
    assert "Traceback (most recent call last)" in outcome.err
    assert outcome.err.endswith("nmt: error: nowhere.yaml does not exist\n")
    assert "Traceback" not in run_nmt("check-config", "nowhere.yaml").err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 141),
        (ConfigError("two\nlines"), 1),
    ],
    ids=["Ctrl-C", "closed pipe", "error"],
)
def test_exit_codes(run_nmt, monkeypatch, error, code):
    monkeypatch.setattr("nmt.config.reference.explain_text", raising(error))
    outcome = run_nmt("check-config", "--explain")
    assert outcome.code == code
    assert outcome.err == ("nmt: error: two\nlines\n" if code == 1 else "")


WINDOWS = """
import os, signal, sys
for name in ("fcntl", "resource", "termios"):
    sys.modules[name] = None
for owner, names in (
    (signal, ("SIGHUP", "SIGPIPE", "SIGKILL", "pthread_sigmask")),
    (os, ("sched_getaffinity", "O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK", "O_DIRECTORY", "fork", "pread")),
):
    for name in names:
        delattr(owner, name)
import nmt
from nmt.cli.main import main
sys.platform = "win32"
"""
"""What Windows lacks is taken away before anything of ours is imported."""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="takes away what Linux has")
def test_on_windows_every_verb_says_that_it_cannot_run_there():
    program = WINDOWS + (
        f"for verb in [[], ['--version'], *([verb, 'x'] for verb in {VERBS})]: print(main(verb))\n"
        "try: nmt.Translator\nexcept ImportError as error: print(error)\n"
        "print(sorted({'tensorflow', 'numpy', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    calls = len(VERBS) + 2
    assert done.stdout.splitlines() == [*(["1"] * calls), NOT_ON_WINDOWS, "[]"]
    assert done.stderr == f"nmt: error: {NOT_ON_WINDOWS}\n" * calls


def test_sigterm_unwinds(run_nmt, monkeypatch):
    unwound = []

    def terminate():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            unwound.append(True)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("nmt.config.reference.explain_text", terminate)
    assert run_nmt("check-config", "--explain").code == 143
    assert unwound == [True]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_defect_of_ours_keeps_its_traceback(run_nmt, monkeypatch):
    monkeypatch.setattr("nmt.config.reference.explain_text", raising(ZeroDivisionError("ours")))
    with pytest.raises(ZeroDivisionError, match="ours"):
        run_nmt("check-config", "--explain")


@pytest.mark.parametrize(
    ("limit", "there"),
    [(RamLimit(3 * GIBIBYTE, "the machine's"), ", there are 3.0 GiB (the machine's)"), (RamLimit(), "")],
    ids=["known", "unknown"],
)
def test_too_little_memory_is_said_with_what_there_is_if_that_is_known(run_nmt, monkeypatch, limit, there):
    monkeypatch.setattr("nmt.config.reference.explain_text", raising(MemoryError()))
    monkeypatch.setattr("nmt.backend.machine.ram_limit", lambda: limit)
    outcome = run_nmt("check-config", "--explain")
    assert outcome.code == 1
    assert outcome.err.startswith(f"nmt: error: memory is not enough for this command{there}: raise the limit")


def test_logs_go_to_standard_error_and_leave_no_trace(run_nmt, monkeypatch):
    logger = logging.getLogger("nmt.test")

    def log():
        logger.debug("for defects")
        logger.info("as it goes")
        logger.warning("take care")
        return "data\n"

    monkeypatch.setattr("nmt.config.reference.explain_text", log)
    before = logging.getLogger("nmt").handlers[:]
    assert run_nmt("check-config", "--explain") == (0, "data\n", "as it goes\nnmt: warning: take care\n")
    assert run_nmt("check-config", "--explain", "--debug").err.startswith("for defects\nas it goes\n")
    assert run_nmt("check-config", "--explain").err.startswith("as it goes\n")
    assert logging.getLogger("nmt").handlers == before
