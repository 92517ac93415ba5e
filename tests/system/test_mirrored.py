"""`nmt train` on two logical devices of one process goes on with a run of one device, and the other way round."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

ROOT = Path(__file__).parent.parent.parent
PROGRAM = """
import sys
import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

from nmt.cli.main import main

sys.exit(main(sys.argv[1:]))
"""


def read(checkpoint):
    """All weights and averages of a checkpoint as one vector."""
    arrays = {name: load_file(checkpoint / f"{name}.safetensors") for name in ("model", "average")}
    return np.concatenate([arrays[name][path].ravel() for name in arrays for path in sorted(arrays[name])])


def test_two_devices_make_the_run_of_one(config, train_alone, warm_python):
    """How far apart they end, as a share of how far they went: eager and compiled products round differently."""
    one, two = config.parent / "one", config.parent / "two"
    precision = "training.precision=float32"
    assert train_alone(f"model_directory={one}", precision, "training.max_updates=2") == 0
    shutil.copytree(one, two)
    settings = [f"model_directory={two}", precision, "training.max_updates=4", "training.distribution=mirrored"]
    command = ["train", str(config), *(word for setting in settings for word in ("--set", setting))]
    done = subprocess.run([warm_python, "-c", PROGRAM, *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "distribution: mirrored, replicas: 2, workers: 1, batches an update: 3" in done.stderr
    for directory in (one, two):
        assert train_alone(f"model_directory={directory}", precision, "training.max_updates=5") == 0
    first = read(one / "checkpoints/update-00000002")
    for name in ("update-00000004", "update-00000005"):
        ours, theirs = read(two / "checkpoints" / name), read(one / "checkpoints" / name)
        assert np.linalg.norm(ours - theirs) < 1e-5 * np.linalg.norm(theirs - first), name
