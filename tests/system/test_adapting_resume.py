"""Frozen parts, factors, a pull and held vectors: N updates = some, a stop and the rest, bit for bit; and refusals."""

import json
import random
import re

import numpy as np
import pytest

from nmt.checkpoint.folder import read_checkpoint
from nmt.checkpoint.manifest import read_manifest
from nmt.cli.main import main
from tests import tiny

pytestmark = pytest.mark.usefixtures("step_by_step")

SIZES = {"hidden_size": 16, "ffn_size": 24}
MATRIX = "source_embedding/embeddings"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A corpus, its config, and a run `old` of two updates."""
    folder, generator = tmp_path_factory.mktemp("adapting"), random.Random(3)
    corpora = {name: tiny.copied_lines(generator, count) for name, count in (("train", 60), ("validation", 4))}
    training = {
        "batch_tokens": 90, "max_updates": 2, "validate_every_updates": 9, "save_every_updates": 2,
        "keep_last": 9, "ema_decay": 0.9, "tensorboard": False,
    }  # fmt: skip
    model = {**tiny.with_dropout(tiny.TRANSFORMER, 0.2), **SIZES}
    data = {"max_length": 30, "tokenizer": {"type": "whitespace", "joint": True}}
    search = {"beam_size": 1, "max_length": 5, "engine": "keras"}
    tiny.write_config(folder, corpora, model=model, data=data, training=training, search=search)
    assert train(folder, "old") == 0
    return folder


def train(folder, name, *settings):
    given = [f"model_directory={folder}/{name}", *settings]
    return main(["train", f"{folder}/config.yaml", *(word for each in given for word in ("--set", each))])


def contents(folder, name, update):
    return read_checkpoint(folder / name / f"checkpoints/update-{update:08}")


def assert_resumed_alike(folder, name, *settings):
    """Train four updates at once, and two and then two more; compare all that the last checkpoint keeps."""
    assert train(folder, f"{name}-whole", *settings, "training.max_updates=4") == 0
    assert train(folder, f"{name}-cut", *settings, "training.max_updates=2") == 0
    assert train(folder, f"{name}-cut", *settings, "training.max_updates=4") == 0
    whole, cut = (contents(folder, f"{name}-{end}", 4) for end in ("whole", "cut"))
    for part in ("model", "ema", "optimizer"):
        one, other = getattr(whole, part), getattr(cut, part)
        assert one.keys() == other.keys()
        for path, value in one.items():
            np.testing.assert_array_equal(other[path], value, err_msg=f"{part} {path}")
    return whole


def test_frozen_parts_factors_and_a_pull_go_on_exactly(folder, capsys):
    initial = f"training.initialize_from={folder}/old@update-2"
    settings = ["training.freeze=[embeddings]", "training.learning_rate_factors={encoder: 0.1}", "training.pull=0.01"]
    whole = assert_resumed_alike(folder, "frozen", initial, *settings)
    old = contents(folder, "old", 2)
    began = old.ema if whole.facts["initialized_from"]["weights"] == "ema" else old.model
    np.testing.assert_array_equal(whole.model[MATRIX], began[MATRIX])
    assert not [name for part in (whole.ema, whole.optimizer) for name in part if "embeddings" in name]
    facts = read_manifest(folder / "frozen-whole/checkpoints/update-00000004").facts
    assert facts["frozen"] == [MATRIX]
    log = (folder / "frozen-whole/train.log").read_text()
    assert "source_embedding=target_embedding=output_projection is one variable, frozen in all 3 roles" in log
    capsys.readouterr()
    # Another freeze is another run, and the weights pulled to must be those of the beginning.
    longer = "training.max_updates=5"
    assert train(folder, "frozen-cut", initial, *settings[1:], longer) == 1
    assert "training.freeze" in capsys.readouterr().err
    anchor = folder / "frozen-cut/anchor.safetensors"
    content = bytearray(anchor.read_bytes())
    content[-1] ^= 1
    anchor.write_bytes(bytes(content))
    assert train(folder, "frozen-cut", initial, *settings, longer) == 1
    assert "training.pull needs the weights that the run began with" in capsys.readouterr().err
    anchor.unlink()
    assert train(folder, "frozen-cut", initial, *settings, longer) == 1
    assert "anchor.safetensors: is missing" in capsys.readouterr().err


def test_vectors_that_are_held_go_on_exactly_in_the_middle(folder):
    generator = np.random.default_rng(2)
    rows = (f"{word} {' '.join(f'{number:.3f}' for number in generator.normal(size=16))}" for word in tiny.WORDS)
    (folder / "words.vec").write_text("\n".join(rows))
    vectors = json.dumps({"source": f"{folder}/words.vec", "freeze_updates": 3})
    whole = assert_resumed_alike(folder, "held", f"training.pretrained_embeddings={vectors}")
    first, second = (contents(folder, "held-whole", update).model[MATRIX] for update in (2, 4))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(contents(folder, "held-cut", 2).model[MATRIX], first)
    slots = contents(folder, "held-whole", 2).optimizer[f"momentums/{MATRIX}"]
    assert not np.any(slots)
    assert np.any(whole.optimizer[f"momentums/{MATRIX}"])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.freeze=[encodr]", "training.freeze must name parts of the model, embeddings, output, encoder or"),
        ("training.freeze=[encoder.5]", "training.freeze must name layers that there are, encoder.0-0, got encoder.5"),
        ("training.freeze=[Encoder]", "must name parts as in decoder.0-1, got Encoder"),
        ("training.learning_rate_factors={encoder: 0}", "learning_rate_factors"),
        ("training.pull=0.1", "needs initialize_from, whose weights it pulls to"),
        ("training.pretrained_embeddings={}", "and target must not both be null"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_a_directory_is_written(folder, capsys, setting, message):
    assert train(folder, "refused", setting) == 1
    found = " ".join(capsys.readouterr().err.split())
    assert re.search(message, found), found
    assert not (folder / "refused/checkpoints").exists()
