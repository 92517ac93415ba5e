"""Two replicas make the update of one: `two_devices.py` on two logical CPU devices, in a process of its own."""

import json
import subprocess
from pathlib import Path

import pytest

from nmt.backend.replicas import open_replicas, replica_number
from nmt.errors import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def report(warm_python):
    command = [warm_python, "-m", "tests.training.two_devices"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("case", ["transformer", "three batches", "resumed", "rnn"])
def test_two_replicas_make_the_update_of_one(report, case):
    """Batches of different shapes and token counts; the norm is cut, so that clipping each replica would show."""
    found, tokens = report[case], report["tokens"]
    for one, both in found["results"]:
        assert both == pytest.approx(one, rel=1e-5)
        assert one[2] == (sum(tokens) if case == "three batches" else sum(tokens[:2]))
        assert one[3] > 0.05  # clip_norm
        assert one[4] == 1.0
    assert found["weights"] < 1e-5 < 1e-3 < found["moved"]
    assert found["copies_differ"] is False


def test_checkpoints_do_not_know_how_many_replicas_there_were(report):
    assert report["resumed"]["at once"] == [0.0, 0.0]


def test_a_loss_that_is_no_number_on_any_replica_changes_nothing(report):
    assert report["not finite"] == {"applied": [False, False], "unchanged": True}


def test_each_replica_drops_something_else(report):
    """The first one what a single worker would; equal draws would give twice its loss."""
    one, both = report["dropout"]["losses"]
    assert both - one == pytest.approx(one, rel=0.3)
    assert both - one != pytest.approx(one, rel=1e-3)
    assert report["dropout"]["same_seeds"] is True
    (state,) = report["dropout"]["seeds"].values()
    assert state[0] == 3  # the seed of the model, on which the replicas agree again
    assert state[1] > 0


def test_each_replica_multiplies_as_precisely_as_one(report):
    """Replicas run in threads of their own, in which the precision has to hold too."""
    float32, one, both = report["bfloat16"]
    assert both == pytest.approx(one, rel=1e-6)
    assert both != pytest.approx(float32, rel=1e-5)


def test_without_devices_it_says_so():
    with pytest.raises(
        ConfigError, match=r"training.distribution mirrored must have a GPU, and this machine shows none"
    ):
        open_replicas("mirrored")


def test_without_distribution_there_is_one_replica():
    assert replica_number() == 0
    assert (open_replicas("none").count, open_replicas("none").is_chief) == (1, True)
