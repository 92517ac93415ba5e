"""`nmt average`: a model directory like any other, and what is refused."""

import json
import shutil

import numpy as np
import pytest

from nmt.checkpoint.folder import read_weights
from tests import tiny


def test_an_average_is_a_model_like_any_other(run_nmt, trained_run, tmp_path):
    output = tmp_path / "mean"
    outcome = run_nmt("average", trained_run.directory, "--last", 2, "-o", output)
    assert outcome.code == 0
    assert outcome.out == (
        f"{output}: update-00000020, the mean of the raw weights of update-00000010, update-00000020\n"
    )
    run = trained_run.directory / "checkpoints"
    weights = [read_weights(run / name, "raw").model for name in ("update-00000010", "update-00000020")]
    mean = read_weights(output / "checkpoints/update-00000020", "raw").model
    for path, array in mean.items():
        np.testing.assert_array_equal(array, (weights[0][path] + weights[1][path]) / 2)
    assert f"model_directory: {output}\n" in (output / "config.yaml").read_text()

    values = json.loads(run_nmt("inspect", output, "--json").out)
    assert (values["average"], values["optimizer"], values["score"]) == (False, None, None)
    origin = values["facts"]["average_of"]
    assert (origin["directory"], origin["weights"]) == (str(trained_run.directory), "raw")
    of_run = json.loads(run_nmt("inspect", trained_run.directory, "--json").out)
    assert origin["checkpoints"][0] == {
        "checkpoint": "update-00000010",
        "sha256": {"model.safetensors": of_run["files"]["model.safetensors"]["sha256"]},
    }
    assert (
        f"directory {trained_run.directory}, weights raw, checkpoints update-00000010; update-00000020"
        in run_nmt("inspect", output).out
    )
    assert run_nmt("inspect", output, "--verify").code == 0
    with tiny.run_eagerly():
        translated = run_nmt("translate", output, stdin=b"uno dos\ntres\n")
    assert (translated.code, len(translated.lines)) == (0, 2)


@pytest.mark.parametrize(
    ("arguments", "names", "kind"),
    [
        (("--best", 1), ["10"], "moving averages"),
        (("--best", 2), ["10", "20"], "raw weights"),
        (("--last", 1), ["20"], "raw weights"),
        (("--updates", 20, 10), ["10", "20"], "raw weights"),
        (("--updates", "update-00000010,20"), ["10", "20"], "raw weights"),
        (("--updates", 10, "--updates", 20), ["10", "20"], "raw weights"),
        (("--updates", 10, "--weights", "raw"), ["10"], "raw weights"),
    ],
)
def test_checkpoints_are_chosen(run_nmt, trained_run, tmp_path, arguments, names, kind):
    outcome = run_nmt("average", trained_run.directory, *arguments, "-o", tmp_path / "mean")
    named = ", ".join(f"update-000000{name}" for name in names)
    assert (outcome.code, outcome.lines[0].split(", the mean of the ")[1]) == (0, f"{kind} of {named}")
    if kind == "moving averages":
        expected = read_weights(trained_run.directory / "checkpoints/update-00000010", "ema").model
        found = read_weights(tmp_path / "mean/checkpoints/update-00000010", "raw").model
        assert all(np.array_equal(found[path], expected[path]) for path in expected)


def test_wrong_usage(run_nmt, trained_run):
    run = trained_run.directory
    for arguments, message in (
        ((run,), "give exactly one of --last, --best and --updates"),
        ((run, "--last", 1, "--best", 1), "give exactly one of --last, --best and --updates"),
        ((run, "--last", 0), "--last"),
        ((run, "--best", -1), "--best"),
        ((run, "--last", 1, 20), "got the unexpected argument 20: numbers of updates need --updates"),
        ((run, "--updates", "ten"), "--updates takes numbers, got ten: give RUN first"),
        ((run, "--updates", "٢٠"), "--updates takes numbers, got ٢٠: give RUN first"),
        (("--updates", 10, 20, run), f"--updates takes numbers, got {run}: give RUN first"),
    ):
        outcome = run_nmt("average", *arguments)
        assert (outcome.code, outcome.out) == (2, "")
        assert message in outcome.err


def test_what_cannot_be_averaged_is_refused_before_anything_starts(run_nmt, trained_run, tmp_path, monkeypatch):
    monkeypatch.setattr("nmt.backend.session.start", lambda **settings: pytest.fail("TensorFlow was started"))
    run = shutil.copytree(trained_run.directory, tmp_path / "run")
    damaged = shutil.copytree(run, tmp_path / "damaged")
    (damaged / "checkpoints/update-00000020/model.safetensors").write_bytes(b"x")
    both = "update-00000010, update-00000020"
    for arguments, message in (
        ((run, "--last", 3), f"run has 2 checkpoints, not 3 ({both}): ask for 1 to 2"),
        ((run, "--best", 3), f"run has 2 checkpoints with a score, not 3 ({both}): ask for 1 to 2"),
        ((run, "--updates", 10, 30), f"run has no update-00000030, it has {both}"),
        ((run, "--updates", 10, 10), "each checkpoint counts once in an average, got update-00000010, update-00000010"),
        ((run, "--last", 2, "--weights", "ema"), "update-00000020: no moving average was kept: ask for raw weights"),
        ((damaged, "--last", 2), "update-00000020/model.safetensors: must have"),
        ((run, "--last", 2, "-o", run), "run: the model must stay as it is"),
        ((run, "--last", 2, "-o", run / "config.yaml"), "must be a directory to write a model to, got a file"),
        ((run, "--last", 2, "-o", damaged), f"exists, and is no earlier average of {run}: choose another -o"),
        ((tmp_path / "nowhere", "--last", 2), "nowhere: there is no such model directory"),
    ):
        outcome = run_nmt("average", *arguments)
        assert (outcome.code, outcome.out, outcome.err.count("\n")) == (1, "", 1)
        assert message in outcome.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged", "run"]
