"""A directory that version 0.1.0 wrote opens, translates the same and goes on.

`directory_0_1_0.tar.xz` was made by commit a37789e: a config and its corpora (with `？`, `…`, `½`, which that version
folded), the run of 400 updates, what `nmt translate --format tsv` printed with beams of 1 and 4, and the figures of 20
more updates (`nmt train config.yaml --set training.max_updates=420 --set training.log_every_updates=10 --threads 1`).
"""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

ARCHIVE = Path(__file__).parent / "directory_0_1_0.tar.xz"


@pytest.fixture
def folder(tmp_path):
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def nmt(folder, *arguments):
    command = [sys.executable, "-m", "nmt", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("beam_size", [1, 4])
def test_it_translates_the_same(folder, beam_size):
    done = nmt(folder, "translate", "run", "-i", "sources.es", "--beam-size", str(beam_size), "--format", "tsv")
    before = (folder / f"translations.beam{beam_size}.tsv").read_text(encoding="utf-8")
    now, then = ([line.split("\t") for line in text.splitlines()] for text in (done.stdout, before))
    assert len(now) == 13
    assert [row[3] for row in now] == [row[3] for row in then]
    assert [float(row[2]) for row in now] == pytest.approx([float(row[2]) for row in then], abs=1e-3)


def test_it_goes_on_as_it_would_have(folder):
    more = ("--set", "training.max_updates=420", "--set", "training.log_every_updates=10")
    nmt(folder, "train", "config.yaml", *more, "--threads", "1")
    now, then = (
        [each for each in map(json.loads, path.read_text(encoding="utf-8").splitlines()) if each["update"] > 400]
        for path in (folder / "run" / "metrics.jsonl", folder / "goes_on.jsonl")
    )
    assert now.pop()["kind"] == "end"  # which 0.1.0 did not write
    assert [(each["kind"], each["update"]) for each in now] == [(each["kind"], each["update"]) for each in then]
    assert [each["loss"] for each in now] == pytest.approx([each["loss"] for each in then], rel=1e-3)
    settings = yaml.safe_load((folder / "run" / "config.yaml").read_text(encoding="utf-8"))
    assert settings["data"]["normalization"] is None
