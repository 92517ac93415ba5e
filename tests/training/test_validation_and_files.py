import json
import logging
import os

import numpy as np
import pytest

from nmt.errors import TrainingError
from nmt.models.forced import TokenScorer
from nmt.training.events import (
    EndEvent,
    LogReporter,
    MetricsFile,
    UpdateEvent,
    Validation,
    ValidationEvent,
    describe_validation_time,
)


@pytest.mark.usefixtures("eagerly")
def test_token_scores_are_means_over_all_real_tokens(build, settings, make_batch):
    model = build(settings)
    batches = [make_batch((3, 5), (4, 6)), make_batch((2,), (3,), seed=5)]
    nll = correct = tokens = 0
    for batch in batches:
        logits = np.array(model((batch.source_ids, batch.target_input_ids)), "float64")
        log_probs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        for row, position in zip(*np.nonzero(batch.target_output_ids), strict=True):
            right = batch.target_output_ids[row, position]
            nll -= log_probs[row, position, right]
            correct += logits[row, position].argmax() == right
            tokens += 1
    scores = TokenScorer(model).score(batches)
    assert scores == TokenScorer(model).score(batches, at_once=2)
    assert tokens == 13
    assert scores.loss == pytest.approx(nll / tokens, rel=1e-5)
    assert scores.accuracy == pytest.approx(correct / tokens)


def update_event(update):
    return UpdateEvent(update, 1, 0.5, 2.0, 0.1, 0.3, 99.0, 0.1, 0, 5.0, None)


def test_lines_of_updates_that_will_be_made_again_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    first = MetricsFile(path)
    first.on_start(0)
    for update in (1, 2, 3):
        first.on_update(update_event(update))
    first.on_validation(ValidationEvent(3, Validation(1.0, 2.7, 0.5, 30.0), True, 1.0))
    first.on_end(EndEvent(2, "max_updates: 2", 9.0, 1.0, 2, ()))  # and then that limit was raised
    first.close()
    path.write_text(path.read_text() + '{"kind": "upd')  # torn by a kill
    second = MetricsFile(path)
    second.on_start(2)
    second.on_update(update_event(3))
    second.close()
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(record["kind"], record["update"]) for record in records] == [("update", 1), ("update", 2), ("update", 3)]


def test_lines_that_were_cut_are_counted_in_log_and_figures(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    reporters = [MetricsFile(tmp_path / "metrics.jsonl"), LogReporter()]
    for update, cut_lines in ((1, 0), (2, 1234)):
        for reporter in reporters:
            reporter.on_start(0)
            reporter.on_validation(ValidationEvent(update, Validation(1.0, 2.7, 0.5, 30.0, cut_lines), True, 1.0))
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert records[-1]["cut_lines"] == 1234
    told = [record.getMessage() for record in caplog.records if "as long as" in record.getMessage()]
    assert len(told) == 1
    assert told[0].startswith("    1,234 translations are as long as")


def test_perplexity_of_unknown_words_is_said_to_be_that(caplog):
    caplog.set_level(logging.INFO)
    for share in (0.02, 0.481):
        LogReporter().on_validation(ValidationEvent(1, Validation(1.0, 2.7, 0.5, 30.0, unknown_share=share), True, 1.0))
    (told,) = (message for message in caplog.messages if "<unk>" in message)
    assert "perplexity and accuracy count <unk>, 48.1% of the reference tokens" in told


@pytest.mark.parametrize(
    ("seconds", "validation_seconds", "made", "said"),
    [
        (100.0, 20.0, 900, "validation took 20% of the time (20.0 s of 1:40)"),
        (100.0, 50.0, 900, ": set training.validate_every_updates to 80 or more, or give data.validation fewer lines"),
        (240.0, 194.0, 900, "81% of the time (3:14 of 4:00): set training.validate_every_updates to 338 or more"),
        (100.0, 50.0, 79, "): train longer, or give data.validation fewer lines"),
        (0.0, 0.0, 0, "validation took 0% of the time (0.0 s of 0.0 s)"),
    ],
)
def test_the_end_says_how_much_of_the_time_validation_took(seconds, validation_seconds, made, said, caplog):
    """With 20 updates between validations; 80 in place of 20 are a fifth of the time where they were the half of it."""
    caplog.set_level(logging.INFO)
    event = EndEvent(made, "max_minutes: 4", seconds, validation_seconds, 20, ())
    assert said in describe_validation_time(event)
    LogReporter().on_end(event)
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (
        logging.WARNING if validation_seconds > 20.0 else logging.INFO, describe_validation_time(event)
    )  # fmt: skip


def test_the_end_says_what_was_cut_short_and_by_what(caplog):
    LogReporter().on_end(EndEvent(4, "max_updates: 4", 9.0, 1.0, 2, ("the warm-up was over", "the sea was dry")))
    said = "the run was ended by max_updates: 4 before the warm-up was over and the sea was dry: a longer run"
    assert caplog.records[0].getMessage().startswith(said)


def test_the_log_names_both_weights_that_were_judged(caplog):
    caplog.set_level(logging.INFO)
    validation = Validation(1.0, 2.7, 0.5, 30.0, weights="raw", other_loss=1.5, other_bleu=20.0)
    LogReporter().on_validation(ValidationEvent(3, validation, True, 1.0))
    assert caplog.records[-1].getMessage() == "    of the raw weights; moving average: loss 1.5000, BLEU 20.00"


@pytest.mark.needs("/dev/full")
def test_figures_that_cannot_be_written_end_the_run_with_advice(tmp_path):
    path = tmp_path / "metrics.jsonl"
    reporter = MetricsFile(path)
    reporter.on_start(0)
    reporter.on_update(update_event(1))
    with open("/dev/full", "w") as full:  # every write to it fails as on a full disk
        os.dup2(full.fileno(), reporter._file.fileno())
    with pytest.raises(
        TrainingError, match=r"metrics\.jsonl: cannot be written: No space left .* goes on with the run"
    ):
        reporter.on_update(update_event(2))
    reporter.close()
    assert len(path.read_text().splitlines()) == 1
