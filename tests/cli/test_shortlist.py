"""`nmt build-shortlist`, and what takes what it wrote."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from nmt.adaptation.derived import export_for_ctranslate2
from nmt.control.shortlist import Shortlist
from nmt.text import TextPair
from nmt.translation.ctranslate2_engine import CTranslate2Translator

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture
def run(transformer_run, tmp_path):
    shutil.copytree(transformer_run.directory, tmp_path / "run")
    return tmp_path / "run"


def test_it_is_built_and_searched_by(run_nmt, run):
    missing = run_nmt("translate", run, "--shortlist", stdin=b"dos tres\n")
    assert missing.code == 1
    assert f"there is no {run}/shortlist.npz: build it with nmt build-shortlist {run}" in missing.err
    built = run_nmt("build-shortlist", run, "--best", 1, "--frequent", 1)
    assert built.code == 0, built.err
    assert built.lines[0].startswith(
        f"{run}/shortlist.npz: the 1 best target tokens of 13 source tokens, and the 1 most"
    )
    facts = json.loads(run_nmt("build-shortlist", run, "--best", 1, "--frequent", 0, "--json").out)
    assert (facts["best"], facts["frequent"], facts["num_pairs"]) == (1, 0, 15)
    assert 0 < facts["covered"] <= 1
    assert facts["of_line"] <= facts["of_batch"] == 64

    lines = b"cuatro\nsiete ocho nueve\n"
    known = ("--set", "search.allow_unknown=false", "--format", "jsonl")
    with_list = run_nmt("translate", run, "--shortlist", *known, stdin=lines)
    assert with_list.code == 0, with_list.err
    records = [json.loads(line) for line in with_list.lines]
    assert all(each["shortlist"] is True for record in records for each in record["translations"])
    assert set(" ".join(each["text"] for each in records[0]["translations"]).split()) <= {"four"}
    plain = run_nmt("translate", run, *known, stdin=lines)
    assert "shortlist" not in plain.out
    assert set(json.loads(plain.lines[0])["translations"][0]["text"].split()) - {"four"}
    as_configured = run_nmt("evaluate", run, "--json", "--set", "search.shortlist=true")
    assert json.loads(as_configured.out)["shortlist"] is True
    twice = run_nmt("translate", run, "--no-shortlist", "--set", "search.shortlist=true", stdin=b"")
    assert twice.code == 2
    assert "--shortlist and --set search.shortlist give one setting two values" in twice.err


def test_it_is_learned_from_the_columns_that_the_settings_name(run_nmt, run, tmp_path):
    """Of a file with both sides, in the other order than one without columns is read in."""
    config = yaml.safe_load((run / "config.yaml").read_text("utf-8"))
    sides = [Path(config["data"]["train"][side]).read_text("utf-8").splitlines() for side in ("target", "source")]
    table = tmp_path / "train.tsv"
    table.write_text("".join(f"{target}\t{source}\n" for target, source in zip(*sides, strict=True)), "utf-8")
    run_nmt("build-shortlist", run, "--best", 2, "--frequent", 0)
    expected = Shortlist.load(run, TextPair.load(run)).best
    config["data"]["train"] = {"pairs": str(table), "source_column": 2, "target_column": 1}
    (run / "config.yaml").write_text(yaml.safe_dump(config), "utf-8")
    built = run_nmt("build-shortlist", run, "--best", 2, "--frequent", 0)
    assert built.code == 0, built.err
    np.testing.assert_array_equal(Shortlist.load(run, TextPair.load(run)).best, expected)


@pytest.mark.slow
def test_an_export_takes_it_along(run_nmt, run, tmp_path):
    export_for_ctranslate2(run, tmp_path / "without")
    refused = run_nmt("translate", tmp_path / "without", "--engine", "ctranslate2", "--shortlist", stdin=b"dos\n")
    assert refused.code == 1
    assert "the export has no shortlist: run nmt build-shortlist RUN, and export RUN again" in refused.err
    run_nmt("build-shortlist", run, "--best", 1, "--frequent", 0)
    export_for_ctranslate2(run, tmp_path / "with")
    assert (tmp_path / "with" / "vmap.txt").read_text("utf-8").startswith("\t\n")
    for is_on in (True, False):
        settings = ["search.min_length=0", f"search.shortlist={is_on}"]
        translator = CTranslate2Translator.load(tmp_path / "with", overrides=settings)
        (found,) = translator.n_best(["cuatro"], 4, beam_size=4)
        assert (set(" ".join(each.text for each in found).split()) <= {"four", "<unk>"}) is is_on
        assert any(each.shortlist for each in found) is is_on
