"""Loss weights from the column of a file to the weights of the model, and over a kill."""

import json
import random

import pytest

from nmt.cli.main import main
from nmt.config import load
from nmt.recipes.train import train
from tests import tiny
from tests.system.test_mixture import Kill, Killed
from tests.system.test_resume import hashes, read_state

pytestmark = pytest.mark.usefixtures("step_by_step")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder, generator = tmp_path_factory.mktemp("weights"), random.Random(5)
    pairs = tiny.copied_lines(generator, 30)
    records = [
        {"source": source, "target": target, "w": number % 3 / 2} for number, (source, target) in enumerate(pairs)
    ]
    (folder / "train.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in records))
    data = {"max_length": 30, "train": {"pairs": f"{folder}/train.jsonl", "loss_weight_column": "w"}}
    training = {
        "batch_tokens": 40, "effective_batch_tokens": 80, "max_updates": 4, "validate_every_updates": 4,
        "save_every_updates": 1, "log_every_updates": 1, "keep_last": 9, "tensorboard": False,
    }  # fmt: skip
    search = {"beam_size": 2, "max_length": 4, "engine": "keras"}
    model = tiny.with_dropout(tiny.TRANSFORMER, 0.2)
    return tiny.write_config(
        folder, {"validation": pairs[:2]}, data=data, model=model, training=training, search=search
    )


def test_a_run_with_weights_says_so_and_goes_on_to_the_bit(config, capsys):
    assert main(["train", str(config)]) == 0
    whole, killed = config.parent / "run", config.parent / "killed"
    log = (whole / "train.log").read_text() if (whole / "train.log").exists() else capsys.readouterr().err
    assert "30 pairs read, 20 kept, 10 dropped: 10 with loss weight 0" in log
    assert "the loss of its pairs is weighted, by 0.75 in the mean (0.5 to 1); 33.3% of those read have 0" in log
    settings = [f"model_directory={killed}"]
    with pytest.raises(Killed):
        train(load(config, settings), reporters=[Kill(3)])
    assert main(["train", str(config), "--set", settings[0]]) == 0
    one, other = (run / "checkpoints/update-00000004" for run in (whole, killed))
    assert hashes(one) == hashes(other)
    assert read_state(one) == read_state(other)
    # Weights are part of the text: others are another corpus.
    path = config.parent / "train.jsonl"
    path.write_text(path.read_text().replace('"w": 1.0', '"w": 0.9'))
    assert main(["train", str(config), "--set", "training.max_updates=5"]) != 0
    assert "the text in data.train has changed" in capsys.readouterr().err
