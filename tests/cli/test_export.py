"""`nmt export` and `nmt translate --engine ctranslate2`, from their arguments to what they print."""

import json
import sys

import pytest

from nmt.adaptation.derived import export_for_ctranslate2
from nmt.config import load


def test_export_writes_what_translate_reads(run_nmt, transformer_run, tmp_path, monkeypatch):
    out = tmp_path / "exports" / "out"
    outcome = run_nmt("export", transformer_run.directory, out, "--format", "ctranslate2", "--quantization", "float16")
    assert outcome.code == 0
    assert outcome.lines[0].startswith(f"{out}: update-00000030, raw weights, stored in float16")
    sizes = dict(line.removesuffix(" bytes").rsplit(None, 1) for line in outcome.lines[1:-2])
    assert {name.strip(): int(size.replace(",", "")) for name, size in sizes.items()} == {
        path.name: path.stat().st_size for path in out.iterdir()
    }
    assert outcome.lines[-2].startswith("scores of 2 given translations: differ by ")
    assert outcome.lines[-1].startswith("greedy translations of 2 lines: 2 identical")
    monkeypatch.setattr("nmt.backend.session.start", lambda **settings: pytest.fail("TensorFlow was started"))
    outcome = run_nmt(
        "translate", out, "--engine", "ctranslate2", "--n-best", 2, "--beam-size", 3, "--format", "jsonl",
        "--length-penalty", 0.5, "--batch-size", 1, "--threads", 1, "--set", "search.max_length=5",
        stdin=b"uno dos\n\ntres\n",
    )  # fmt: skip
    assert outcome.code == 0
    assert "engine: ctranslate2, as this is an export for it" in outcome.err
    rows = [json.loads(line) for line in outcome.lines]
    assert [row["source"] for row in rows] == ["uno dos", "", "tres"]
    assert [len(row["translations"]) for row in rows] == [2, 1, 2]
    for translation in (*rows[0]["translations"], *rows[2]["translations"]):
        assert 2 <= translation["num_tokens"] <= 5
        expected = translation["log_prob"] / translation["num_tokens"] ** 0.5
        assert translation["score"] == pytest.approx(expected)


def test_export_refuses_before_it_opens_anything(
    run_nmt, trained_run, transformer_run, exported_run, tmp_path, monkeypatch
):
    monkeypatch.setattr("nmt.backend.session.start", lambda **settings: pytest.fail("TensorFlow was started"))
    run = transformer_run.directory
    for arguments, message in (
        (
            (trained_run.directory, tmp_path / "out"),
            "CTranslate2 knows no model but a transformer with attention, and cannot have model.type rnn",
        ),
        ((run, exported_run), "out: holds an export already: give --overwrite to replace it, or another directory"),
        ((run, run), "run: must be an empty place or an earlier export, but holds something else"),
        ((tmp_path / "nowhere", tmp_path / "out"), "nowhere: there is no such model directory"),
        ((exported_run, tmp_path / "out"), "out: is an export for another engine"),
    ):
        outcome = run_nmt("export", *arguments)
        assert outcome.code == 1
        assert outcome.err.startswith("nmt: error: ")
        assert message in outcome.err
        assert outcome.err.count("\n") == 1
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    outcome = run_nmt("export", run, tmp_path / "out")
    assert (outcome.code, "pip install ctranslate2" in outcome.err) == (1, True)
    outcome = run_nmt("translate", exported_run, "--engine", "ctranslate2", stdin=b"uno\n")
    assert (outcome.code, "pip install ctranslate2" in outcome.err) == (1, True)
    assert not (tmp_path / "out").exists()


def test_an_export_has_one_engine_and_one_checkpoint(run_nmt, exported_run):
    outcome = run_nmt("translate", exported_run, "--format", "jsonl", stdin=b"uno\n")
    assert json.loads(outcome.lines[0])["engine"] == "ctranslate2"
    assert "engine: ctranslate2, as this is an export for it" in outcome.err
    outcome = run_nmt("translate", exported_run, "--engine", "keras", stdin=b"uno\n")
    assert outcome.code == 1
    assert "is an export for another engine, with which nmt translate and nmt evaluate alone work" in outcome.err
    outcome = run_nmt("translate", exported_run, "--weights", "raw", stdin=b"uno\n")
    assert outcome.code == 1
    assert "an export holds one checkpoint: give --checkpoint and --weights to nmt export" in outcome.err


def test_a_model_without_its_corpora_is_compared_on_drawn_text(transformer_run, tmp_path, monkeypatch):
    config = load(transformer_run.config)
    nowhere = {"source": str(tmp_path / "s"), "target": str(tmp_path / "t")}
    corpora = {name: config.data.test.model_copy(update=nowhere) for name in ("validation", "test")}
    moved = config.model_copy(update={"data": config.data.model_copy(update=corpora)})
    monkeypatch.setattr("nmt.directory.model_directory.read_settings", lambda directory, overrides=(): moved)
    done = export_for_ctranslate2(transformer_run.directory, tmp_path / "out")
    assert done.agreement.num_pairs == 200
    assert done.agreement.identical_lines >= 198
