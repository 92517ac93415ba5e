"""Live lines: on a terminal only, and in place of the log's own lines of figures."""

import io
import logging
import sys

from rich.console import Console

from nmt.terminal.progress import LiveProgress
from nmt.terminal.streams import line_counter, log_to_stderr
from nmt.training.events import EncodingEvent, LogReporter, UpdateEvent, Validation, ValidationEvent, describe_update

UPDATE = UpdateEvent(
    update=1500, epoch=3, epoch_share=0.25, loss=2.3456, learning_rate=0.001, gradient_norm=0.5,
    tokens_per_second=5230.4, padded_share=0.05, skipped=0, trained_seconds=90.0, remaining_seconds=3725.0,
)  # fmt: skip
VALIDATED = ValidationEvent(1500, Validation(2.0, 7.39, 0.61, 23.456), is_best=True, seconds=3.0)


def terminal():
    return Console(file=io.StringIO(), force_terminal=True, width=120)


def test_the_live_line_says_what_matters():
    brief = describe_update(UPDATE, brief=True)
    assert brief == "update 1,500  epoch 3 (25%)  loss 2.3456  5,230 target tokens/s  1:02:05 left"
    assert "left" not in describe_update(UpdateEvent(**{**vars(UPDATE), "remaining_seconds": None}), brief=True)


def test_training_is_shown_live_and_its_log_lines_of_figures_are_not(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    console, log = terminal(), LogReporter()
    with log_to_stderr(), LiveProgress(console) as live:
        for reporter in (log, live):
            reporter.on_update(UPDATE)
            reporter.on_validation(VALIDATED)
    shown = console.file.getvalue()
    assert "update 1,500" in shown
    assert "best BLEU 23.46" in shown
    assert "validation after update 1,500" in shown + sys.stderr.getvalue()
    assert "learning rate" not in shown + sys.stderr.getvalue()


def test_elsewhere_the_log_says_it(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with log_to_stderr():
        LogReporter().on_update(UPDATE)
    assert sys.stderr.getvalue().startswith("update 1,500  ")
    assert "learning rate" in sys.stderr.getvalue()
    assert not logging.getLogger("nmt").handlers


def test_lines_are_counted_on_a_terminal():
    console = terminal()
    with line_counter(total=5000, console=console) as count:
        count(1200)
        count(34)
    assert "1,234 of 5,000 lines" in console.file.getvalue()


def test_nothing_is_counted_elsewhere():
    for console, hidden in ((Console(file=io.StringIO()), False), (terminal(), True)):
        with line_counter(console=console, hidden=hidden) as count:
            count(3)
        assert console.file.getvalue() == ""


def test_the_encoding_of_a_large_corpus_is_shown(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    console, log = terminal(), LogReporter()
    with log_to_stderr(), LiveProgress(console) as live:
        for reporter in (log, live):
            reporter.on_encoding(EncodingEvent(pairs=300_000, total=1_200_000, seconds=20.0))
    assert "300,000 of 1,200,000 pairs (25%)  15,000 pairs/s  1:00 left" in console.file.getvalue()
    assert "encoding" not in sys.stderr.getvalue()


def test_elsewhere_the_log_says_it_a_few_times_a_minute(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    log = LogReporter()
    with log_to_stderr():
        for second in range(1, 50):
            log.on_encoding(EncodingEvent(pairs=8192 * second, total=None, seconds=float(second)))
    lines = sys.stderr.getvalue().splitlines()
    assert lines == [f"encoding the training corpus: {8192 * second:,} pairs  8,192 pairs/s" for second in (15, 30, 45)]
