"""Directories that version 0.1.0 wrote open, translate the same and go on.

`directories_0_1_0.tar.xz` was made by commit a37789e, of both models. For each RUN, `run` or `run_rnn`: its config
(the corpora have `？`, `…`, `½`, which that version folded), the directory, what `nmt translate --format tsv` printed
with beams of 1 and 4, what `nmt inspect` and `nmt evaluate` printed with `--json`, and the figures of 20 more updates
(`--set training.log_every_updates=10 --threads 1`).
"""

import json
import tarfile
from pathlib import Path

import pytest
import yaml

from nmt.cli.main import main

ARCHIVE = Path(__file__).parent / "directories_0_1_0.tar.xz"

pytestmark = pytest.mark.parametrize("run", ["run", "run_rnn"])


@pytest.fixture
def folder(tmp_path):
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


@pytest.fixture
def nmt(folder, capfd, monkeypatch):
    """A function that runs a verb in that folder, in this process, and returns what it printed."""
    monkeypatch.chdir(folder)

    def nmt(*arguments):
        capfd.readouterr()
        code, (printed, told) = main(arguments), capfd.readouterr()
        assert code == 0, told
        return printed

    return nmt


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("beam_size", [1, 4])
def test_it_translates_the_same(nmt, folder, run, beam_size):
    printed = nmt("translate", run, "-i", "sources.es", "--beam-size", str(beam_size), "--format", "tsv")
    before = (folder / f"translations_{run}.beam{beam_size}.tsv").read_text(encoding="utf-8")
    now, then = ([line.split("\t") for line in text.splitlines()] for text in (printed, before))
    assert len(now) == 13
    assert [row[3] for row in now] == [row[3] for row in then]
    assert [float(row[2]) for row in now] == pytest.approx([float(row[2]) for row in then], abs=1e-4)


def test_it_is_inspected_and_scored_the_same(nmt, folder, run):
    now, then = json.loads(nmt("inspect", run, "--json")), read_json(folder / f"inspected_{run}.json")
    del now["versions"], then["versions"]
    assert now == then
    assert "all is as it was written" in nmt("inspect", run, "--verify")
    corpus = ("--source", "corpus/validation.es", "--reference", "corpus/validation.en")
    now = json.loads(nmt("evaluate", run, *corpus, "--json"))
    assert (now.pop("engine"), now.pop("shortlist")) == ("keras", False)  # neither was there to choose
    assert now == read_json(folder / f"evaluated_{run}.json")


def test_other_verbs_take_it(nmt, folder, run):
    nmt("average", run, "--last", "1", "-o", "mean")
    corpus = ("--source", "corpus/validation.es", "--reference", "corpus/validation.en")
    now, then = json.loads(nmt("evaluate", "mean", *corpus, "--json")), read_json(folder / f"evaluated_{run}.json")
    assert now["bleu"] == then["bleu"]
    nmt("update-vocab", run, "--with", "corpus/validation.es", "corpus/validation.en", "-o", "other")
    assert nmt("translate", "other", "-i", "sources.es", "--beam-size", "1").count("\n") == 13


def test_it_goes_on_as_it_would_have(nmt, folder, run):
    before = read_json(folder / f"inspected_{run}.json")["update"]
    more = ("--set", f"training.max_updates={before + 20}", "--set", "training.log_every_updates=10")
    nmt("train", f"config_{run}.yaml", *more)
    now, then = (
        [each for each in map(json.loads, path.read_text(encoding="utf-8").splitlines()) if each["update"] > before]
        for path in (folder / run / "metrics.jsonl", folder / f"goes_on_{run}.jsonl")
    )
    assert now.pop()["kind"] == "end"  # which 0.1.0 did not write
    assert [(each["kind"], each["update"]) for each in now] == [(each["kind"], each["update"]) for each in then]
    assert [each["loss"] for each in now] == pytest.approx([each["loss"] for each in then], rel=1e-3)
    settings = yaml.safe_load((folder / run / "config.yaml").read_text(encoding="utf-8"))
    assert settings["data"]["normalization"] is None
