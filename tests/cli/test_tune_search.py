"""`nmt tune-search`: every penalty is judged by what it puts first, and what is written is searched by."""

import json
import shutil

import pytest
from sacrebleu.metrics import BLEU

from nmt.tasks.tune_search import GRID, points_of
from nmt.translation.lengths import length_penalty
from nmt.translation.line_translator import Translation

pytestmark = pytest.mark.usefixtures("eagerly")

LISTS = [
    [Translation("a dog", 0.0, -2.0, 3), Translation("a dog runs over the wet grass", 0.0, -3.5, 8)],
    [Translation("the man", 0.0, -1.0, 3), Translation("the man who sits there reads a book", 0.0, -3.0, 9)],
    [],
    [Translation("one two three four five", 0.0, -1.5, 6)],
]
REFERENCE = ["a dog runs over wet grass", "the man reads a book", "nothing", "one two three four six"]


def test_each_penalty_is_worth_what_sacrebleu_says_of_its_choice():
    grid = [*GRID, (2.5, 0.35)]
    points = points_of(LISTS, [REFERENCE], grid, tokenization="13a")
    bleu = set()
    for (offset, exponent), point in zip(grid, points, strict=True):

        def score(each, offset=offset, exponent=exponent):
            return each.log_prob / length_penalty(each.num_tokens, exponent, offset)

        chosen = [max(each, key=score).text if each else "" for each in LISTS]
        expected = BLEU(force=True).corpus_score(chosen, [REFERENCE])
        assert point[:3] == (offset, exponent, pytest.approx(expected.score))
        assert point.ratio == pytest.approx(expected.sys_len / expected.ref_len)
        bleu.add(round(point.bleu, 6))
    assert len(bleu) > 2


def test_what_is_better_in_a_search_is_written_and_nothing_else(run_nmt, transformer_run, tmp_path, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(transformer_run.directory, run)
    monkeypatch.setattr("nmt.tasks.tune_search.CLEAR_GAIN", 0.0)
    before = (run / "config.yaml").read_text("utf-8")
    given = ("--source", transformer_run.source, "--reference", transformer_run.reference, "--json")
    outcome = run_nmt("tune-search", run, "--set", "search.length_penalty=0", *given, "--write")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert found["present"]["exponent"] == 0.0
    assert {"offset": 0.0, "exponent": 1.0} in [
        {name: each[name] for name in ("offset", "exponent")} for each in found["others"]
    ]
    best = max(found["others"], key=lambda each: each["searched"])
    assert found["written"] is (best["searched"] >= found["present"]["searched"])
    assert found["best"] == (best if found["written"] else found["present"])
    after = (run / "config.yaml").read_text("utf-8")
    changed = {line for line in after.splitlines() if line not in before.splitlines() and "directory" not in line}
    wanted = {f"  length_penalty: {found['best']['exponent']}", f"  length_penalty_offset: {found['best']['offset']}"}
    assert changed <= wanted
    assert bool(changed) is found["written"]
    table = run_nmt("tune-search", run, *given[:4])
    assert table.code == 0, table.err
    assert table.lines[1] == "length_penalty  offset 5      offset 0"
    assert [line.split()[0] for line in table.lines[2:23]] == [f"{step / 10:.1f}" for step in range(21)]
    assert table.lines[23].startswith("now:  search.length_penalty=")


def test_several_models_have_no_settings_to_write(run_nmt, transformer_run):
    run = transformer_run.directory
    outcome = run_nmt("tune-search", run, run, "--write")
    assert outcome.code == 2
    assert "--write is for one RUN, got several" in outcome.err
