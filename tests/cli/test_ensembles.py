"""Several models on the command line, which translate as one."""

import json

import pytest

from nmt.inference.translator import Translator

pytestmark = pytest.mark.usefixtures("eagerly")

LINES = ["uno dos", "", "siete ocho nueve"]
TEXT = "".join(f"{line}\n" for line in LINES).encode()


def test_two_kinds_of_model_translate_together(run_nmt, trained_run, transformer_run):
    runs = trained_run.directory, transformer_run.directory
    outcome = run_nmt("translate", *runs, "--format", "jsonl", stdin=TEXT)
    says = "engine: keras, as CTranslate2 cannot have several models, model.type rnn\n"
    assert (outcome.code, outcome.err) == (0, says)
    records = [json.loads(line) for line in outcome.lines]
    assert {record["engine"] for record in records} == {"keras"}
    found = [record["translations"][0] for record in records]
    for record, (best,) in zip(found, Translator.load(*runs).n_best(LINES, 1, token_scores=True), strict=True):
        given = {
            name: value for name, value in best._asdict().items() if value not in (True, (), {}) and value is not False
        }
        assert given.pop("engine") == "keras"  # a record says it once for all its translations
        assert record == json.loads(json.dumps({**given, "flags": best.flags}))
    weighted = run_nmt("translate", *runs, "--member-weights", "1e-9,1", "--log-linear", stdin=TEXT)
    # The settings of the first say how to search.
    config = trained_run.directory / "config.yaml"
    assert "beam_size: 1" in config.read_text("utf-8")
    assert weighted.lines == run_nmt("translate", transformer_run.directory, stdin=TEXT).lines != []


def test_a_checkpoint_is_named_behind_its_run(run_nmt, trained_run):
    run = trained_run.directory
    named = run_nmt("translate", f"{run}@update-20", stdin=TEXT)
    assert named == run_nmt("translate", run, "--checkpoint", "update-20", stdin=TEXT)
    assert named.code == 0
    assert named.lines != run_nmt("translate", run, stdin=TEXT).lines


def test_evaluate_names_all_members(run_nmt, trained_run, transformer_run):
    runs = [str(run.directory) for run in (trained_run, transformer_run)]
    outcome = run_nmt("evaluate", f"{runs[0]}@latest", runs[1], "--member-weights", "3,1", "--json")
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    first = {"model_directory": runs[0], "checkpoint": "update-00000020", "weights": "raw", "share": 0.75}
    second = {"model_directory": runs[1], "checkpoint": "update-00000030", "weights": "raw", "share": 0.25}
    assert result["members"] == [first, second]
    assert result["log_linear"] is False
    assert "checkpoint" not in result
    alone = json.loads(run_nmt("evaluate", runs[0], "--json").out)
    assert (alone["model_directory"], alone["checkpoint"]) == (runs[0], "update-00000010")
    assert not {"members", "share", "log_linear"} & set(alone)


def test_ensembles_that_cannot_be_are_refused_before_anything_is_opened(
    run_nmt, trained_run, transformer_run, tmp_path, monkeypatch
):
    monkeypatch.setattr("nmt.inference.translator.open_found", None)
    runs = trained_run.directory, transformer_run.directory
    for arguments, message in (
        (("--member-weights", "0.5"), "must be one weight above 0 for each of the 2 models, got 0.5: leave them out"),
        (("--engine", "ctranslate2"), "CTranslate2 translates with one model, got 2: use --engine keras"),
        (("-o", runs[1] / "config.yaml"), f"must not be replaced, the model in {runs[1]} needs it"),
    ):
        outcome = run_nmt("translate", *runs, *arguments, stdin=TEXT)
        assert (outcome.code, outcome.out) == (1, "")
        assert message in outcome.err
