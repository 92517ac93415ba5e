"""`nmt inspect`: what it prints, what it refuses, and that it stays light."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nmt.checkpoint.folder import read_weights
from nmt.checkpoint.manager import CheckpointManager
from nmt.checkpoint.weights import read_contents
from nmt.directory.inspection import VariableUse
from nmt.inference.translator import open_model
from nmt.verbs.inspect_model import Table, as_text, describe_bytes, variable_rows

ROOT = Path(__file__).parents[2]


@pytest.fixture
def copy(trained_run, tmp_path):
    """A copy of the trained run that a test may change."""
    return Path(shutil.copytree(trained_run.directory, tmp_path / "run"))


def test_a_table_says_what_a_checkpoint_holds(run_nmt, trained_run):
    outcome = run_nmt("inspect", trained_run.directory)
    assert (outcome.code, outcome.err) == (0, "")
    assert "\t" not in outcome.out
    assert "\x1b" not in outcome.out
    text = outcome.out
    assert "rnn, es to en, tie_embeddings auto" in text
    assert "update-00000010, score 0.5000, best" in text
    assert "= output_projection/embeddings" in text
    rows = {line.split("  ")[0]: line.split() for line in outcome.lines}
    assert rows["update-00000020"][-1] == "latest"
    weights = read_weights(trained_run.directory / "checkpoints/update-00000010", "raw").model
    assert rows["total"][1:] == [str(len(weights)), f"{sum(array.size for array in weights.values()):,}"]
    size = weights["target_embedding/embeddings"].size
    assert ["target_embedding/embeddings", str(size), str(8 * size), "bytes"] in [
        line.split() for line in outcome.lines
    ]


def test_json_has_every_variable_and_whole_hashes(run_nmt, trained_run):
    outcome = run_nmt("inspect", trained_run.directory, "--checkpoint", "latest", "--json")
    values = json.loads(outcome.out)
    assert outcome.out.count("\n") == 1
    assert list(values) == [
        "model_directory", "checkpoint", "update", "score", "settings", "parameters", "parts", "variables",
        "tie_groups", "saved_parameters", "saved_bytes", "average", "optimizer", "files", "versions", "facts",
        "latest", "best", "checkpoints", "set_aside",
    ]  # fmt: skip
    assert (values["checkpoint"], values["update"], values["score"]) == ("update-00000020", 20, 0.25)
    assert (values["average"], values["optimizer"], values["latest"]) == (False, None, "update-00000020")
    weights = read_weights(trained_run.directory / "checkpoints/update-00000020", "raw").model
    shapes = {variable["name"]: tuple(variable["shape"]) for variable in values["variables"]}
    assert shapes == {path: array.shape for path, array in weights.items()}
    (tie,) = values["tie_groups"]
    assert tie["roles"] == ["target_embedding/embeddings", "output_projection/embeddings"]
    assert tie["saved_parameters"] == weights["target_embedding/embeddings"].size == values["saved_parameters"]
    assert tie["saved_bytes"] == 4 * tie["saved_parameters"]
    assert len(values["files"]["model.safetensors"]["sha256"]) == 64
    assert [one["name"] for one in values["checkpoints"]] == ["update-00000010", "update-00000020"]


@pytest.mark.slow
def test_nothing_heavy_is_loaded(trained_run):
    run = str(trained_run.directory)
    calls = [[run], [run, "--json"], [run, "--diff", f"{run}@latest"], [run, "--verify"]]
    program = (
        "import sys; from nmt.cli.main import main; "
        f"codes = [main(['inspect', *call]) for call in {calls!r}]; "
        "print(codes, sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "[0, 0, 0, 0] []"


def test_two_checkpoints_are_compared(run_nmt, trained_run):
    run = trained_run.directory
    outcome = run_nmt("inspect", f"{run}@update-10", "--diff", f"{run}@latest", "--json")
    values = json.loads(outcome.out)
    assert (outcome.code, outcome.err) == (0, "")
    assert list(values) == [
        "before", "after", "added", "removed", "shapes_changed", "changed", "num_equal", "ties_added", "ties_removed",
        "same_tokenizers",
    ]  # fmt: skip
    assert values["after"] == {"model_directory": str(run), "checkpoint": "update-00000020"}
    first, second = (read_weights(run / f"checkpoints/update-000000{update}0", "raw").model for update in (1, 2))
    changed = {path for path in first if not np.array_equal(first[path], second[path])}
    assert {change["name"] for change in values["changed"]} == changed
    assert values["num_equal"] == len(first) - len(changed) > 0
    assert {round(change["relative_norm"], 6) for change in values["changed"]} == {2.0}  # x became -x
    text = run_nmt("inspect", run, "--diff", f"{run}@latest")
    assert f"equal variables   {values['num_equal']}" in text.out
    assert "target_embedding/embeddings" in text.out
    same = run_nmt("inspect", run, "--diff", run)
    assert (same.code, "changed           0" in same.out) == (0, True)


def test_verify_says_what_was_checked(run_nmt, trained_run):
    outcome = run_nmt("inspect", trained_run.directory, "--verify")
    assert (outcome.code, outcome.err) == (0, "")
    (line,) = outcome.lines
    assert "all is as it was written: 2 checkpoints, 5 files, " in line
    assert line.endswith("; index, settings and tokenizers fit")
    one = run_nmt("inspect", trained_run.directory, "--verify", "--checkpoint", "latest", "--json")
    values = json.loads(one.out)
    assert (values["checkpoints"], values["files"], values["problems"]) == (["update-00000020"], 2, [])


def test_verify_names_everything_that_is_wrong(run_nmt, copy):
    content = bytearray((copy / "checkpoints/update-00000010/average.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "checkpoints/update-00000010/average.safetensors").write_bytes(bytes(content))
    (copy / "checkpoints/index.json").write_text("{}")
    with (copy / "vocabulary.target.txt").open("a") as file:
        file.write("neu\n")
    (copy / "config.yaml").write_text("model_directory: run\n")
    (copy / "checkpoints/update-00000005.damaged").mkdir()
    outcome = run_nmt("inspect", copy, "--verify")
    assert outcome.code == 1
    for line, part in zip(
        outcome.lines,
        (
            "average.safetensors: its content does not fit",
            "index.json: ",
            "data is missing",
            "vocabulary.target.txt: has",
        ),
        strict=True,
    ):
        assert part in line
    assert outcome.err == "nmt: remark: update-00000005.damaged was set aside as damaged and is not read\n"
    assert run_nmt("inspect", copy, "--verify", "--json").code == 1


def test_verify_compares_tokenizers_with_the_embeddings(run_nmt, copy, trained_run):
    other = copy.parent / "other"
    shutil.copytree(copy, other)
    for name in ("source", "target"):
        lines = (copy / f"vocabulary.{name}.txt").read_text().splitlines(keepends=True)
        (other / f"vocabulary.{name}.txt").write_text("".join(lines[:-1]))
    from nmt.text import TextPair, Vocabulary, WhitespaceTokenizer

    sides = [WhitespaceTokenizer(Vocabulary.load(other / f"vocabulary.{name}.txt")) for name in ("source", "target")]
    TextPair(*sides, joint=False).save(copy)
    outcome = run_nmt("inspect", copy, "--verify")
    assert outcome.code == 1
    assert len(outcome.lines) == 4
    assert "source_embedding/embeddings must have a row for each of 12 tokens, but has 13" in outcome.lines[0]


def test_a_damaged_checkpoint_is_said_in_one_line(run_nmt, copy):
    (copy / "checkpoints/update-00000010/model.safetensors").unlink()
    outcome = run_nmt("inspect", copy)
    assert (outcome.code, outcome.err) == (0, "")
    assert "DAMAGED: " in outcome.out
    assert "checkpoint       update-00000020" in outcome.out
    asked = run_nmt("inspect", f"{copy}@update-10")
    assert (asked.code, asked.out, asked.err.count("\n")) == (1, "", 1)
    assert asked.err.startswith("nmt: error: update-00000010 cannot be used: ")
    (copy / "checkpoints/update-00000020/manifest.json").write_text("")
    none = run_nmt("inspect", copy)
    assert (none.code, none.err.count("\n")) == (1, 1)
    assert "no checkpoint can be used" in none.err
    nowhere = run_nmt("inspect", copy / "nowhere", "--verify")
    assert (nowhere.code, nowhere.err.endswith("nowhere: there is no such model directory\n")) == (1, True)


def test_options_that_exclude_each_other(run_nmt, trained_run):
    run = trained_run.directory
    for arguments, message in (
        ((f"{run}@latest", "--checkpoint", "best"), "RUN@latest names a checkpoint already: leave out --checkpoint"),
        ((run, "--verify", "--diff", run), "--verify and --diff are two commands: give one of them"),
    ):
        outcome = run_nmt("inspect", *arguments)
        assert (outcome.code, outcome.out) == (2, "")
        assert message in outcome.err


def test_on_a_terminal_the_same_is_drawn(run_nmt, trained_run, monkeypatch):
    plain = run_nmt("inspect", trained_run.directory)
    monkeypatch.setattr("nmt.verbs.inspect_model.is_terminal", lambda stream: True)
    monkeypatch.setenv("COLUMNS", "300")
    drawn = run_nmt("inspect", trained_run.directory)
    assert [line.split() for line in drawn.lines if line.strip()] == [
        line.split() for line in plain.lines if line.strip()
    ]


def test_layers_of_a_stack_share_a_row():
    def use(name, shape=(3, 5)):
        return VariableUse(name, (name,), "encoder", shape, "float32", int(np.prod(shape)))

    names = ["encoder/0/cell/bias", "encoder/0/cell/kernel", "encoder/1/cell/bias", "encoder/2/cell/bias", "norm/0"]
    uses = [use(name) for name in names] + [use("encoder/4/cell/kernel"), use("encoder/3/cell/bias", (2,))]
    assert variable_rows(uses) == [
        ("encoder/0-2/cell/bias", "(3, 5)", "3", "45"),
        ("encoder/0,4/cell/kernel", "(3, 5)", "2", "30"),
        ("norm/0", "(3, 5)", "1", "15"),
        ("encoder/3/cell/bias", "(2)", "1", "2"),
    ]


def test_tables_are_aligned():
    assert as_text(Table("things", ("name", ">count", ""), [("a", "1,000", "x"), ("long", "2", "")])) == (
        "things\nname  count\na     1,000  x\nlong      2\n"
    )
    assert as_text(Table("", ("", ""), [("a", "b")])) == "a  b\n"


def test_bytes_have_a_unit():
    assert [describe_bytes(size) for size in (0, 1023, 1536, 10 * 2**20, 3000 * 2**30)] == [
        "0 bytes", "1,023 bytes", "1.5 KiB", "10.0 MiB", "3,000.0 GiB",
    ]  # fmt: skip


def test_raw_weights_that_were_better_and_a_run_that_diverged_are_shown(run_nmt, copy):
    with CheckpointManager(copy, keep_last=9) as checkpoints:
        contents = read_contents(copy, "update-10").contents
        judged = {"loss": 2.5, "weights": "raw"}
        checkpoints.write(replace(contents, update=30, score=9.0, facts={**contents.facts, "validation": judged}))
        checkpoints.write(replace(contents, update=40, score=None, facts={"validation": {"loss": None}}))
    shown = run_nmt("inspect", copy).out
    assert "keeps            weights (used unless the moving average is asked for" in shown
    assert "best, raw weights" in shown
    assert "latest, diverged: its loss is not finite" in shown
    values = json.loads(run_nmt("inspect", copy, "--json").out)
    assert values["checkpoint"] == values["best"] == "update-00000030"
    assert [one["weights"] for one in values["checkpoints"]] == ["ema", "raw", "raw", "ema"]
    assert run_nmt("inspect", copy, "--verify").code == 0
    index = copy / "checkpoints" / "index.json"
    index.write_text(index.read_text().replace('"raw"', '"ema"'))
    assert "loss and weights of update-00000030 must be" in run_nmt("inspect", copy, "--verify").out
    assert [open_model(copy, weights=weights).weights for weights in (None, "ema")] == ["raw", "ema"]
