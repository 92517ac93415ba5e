import json
import logging
import os

import numpy as np
import pytest

from nmt.errors import TrainingError
from nmt.training.events import UpdateEvent, Validation, ValidationEvent
from nmt.training.log import LogReporter
from nmt.training.metrics_file import MetricsFile
from nmt.training.validation import TokenScorer


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
