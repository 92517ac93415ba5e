"""2N updates = N updates, a stop, N updates, bit for bit: weights, moments, average, figures, data, dropout.

Both models, stopped at the end of an epoch, in the middle of one, and between the micro-batches of an update.
"""

import json
import random
import shutil
import signal

import pytest
from tensorflow.python.framework.config import is_op_determinism_enabled

from nmt.backend import session
from nmt.cli.main import main
from nmt.recipes import train as train_recipe
from nmt.training.update import Updater
from tests import tiny

pytestmark = pytest.mark.usefixtures("step_by_step")

SIZES = {"transformer": {"hidden_size": 16, "ffn_size": 24}, "rnn": {"embedding_size": 12, "hidden_size": 16}}
UPDATES = 5  # of two micro-batches; the corpus gives 4 batches an epoch
END = "checkpoints/update-{:08}"
TIMES = {
    "seconds", "tokens_per_second", "trained_seconds", "remaining_seconds", "validation_seconds", "closing_seconds"
}  # fmt: skip


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder, generator = tmp_path_factory.mktemp("corpus"), random.Random(3)
    corpora = {name: tiny.copied_lines(generator, count) for name, count in (("train", 60), ("validation", 4))}
    training = {
        "batch_tokens": 90, "effective_batch_tokens": 180, "max_updates": UPDATES, "validate_every_updates": 2,
        "save_every_updates": 2, "log_every_updates": 2, "keep_last": 9, "ema_decay": 0.9, "tensorboard": False,
    }  # fmt: skip
    search = {"beam_size": 2, "max_length": 5, "engine": "keras"}
    return tiny.write_config(folder, corpora, data={"max_length": 30}, training=training, search=search)


@pytest.fixture(scope="module")
def corpus(config):
    return config.parent


@pytest.fixture(scope="module")
def train(config):
    """Train in a directory of this name with this kind of model; return the exit status."""

    def train(name, kind, *settings):
        model = {**tiny.with_dropout(tiny.MODELS[kind], 0.2), **SIZES[kind]}
        settings = (f"model_directory={config.parent}/{name}", f"model={json.dumps(model)}", *settings)
        return main(["train", str(config), *(word for setting in settings for word in ("--set", setting))])

    return train


@pytest.fixture(scope="module", params=list(SIZES))
def whole(request, corpus, train):
    """A run that nothing interrupts."""
    assert train(f"whole-{request.param}", request.param) == 0
    return corpus / f"whole-{request.param}", request.param


def hashes(checkpoint):
    """SHA-256 of weights, moving average and moments."""
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    return {name: entry["sha256"] for name, entry in manifest["files"].items() if name.endswith(".safetensors")}


def read_state(checkpoint):
    """Cursor, random states, schedule and scores, without times."""
    state = json.loads((checkpoint / "state.json").read_text())
    del state["pending"]["seconds"]
    return {key: value for key, value in state.items() if key not in TIMES}


def figures(directory):
    records = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key not in TIMES} for record in records]


def assert_same(directory, whole, updates=UPDATES):
    one, other = (each / END.format(updates) for each in (directory, whole))
    assert len(hashes(other)) == 3
    assert hashes(one) == hashes(other)
    assert read_state(one) == read_state(other)
    assert figures(directory) == figures(whole)
    assert len(figures(directory)) >= 6


@pytest.fixture
def terminate_after(monkeypatch):
    """Send this process SIGTERM once the gradients of so many micro-batches were computed."""

    def terminate_after(number):
        done, accumulate = [], Updater._accumulate

        def accumulating(updater, *batch):
            sums = accumulate(updater, *batch)
            done.append(sums)
            if len(done) == number:
                signal.raise_signal(signal.SIGTERM)
            return sums

        monkeypatch.setattr(Updater, "_accumulate", accumulating)

    return terminate_after


def test_stopped_twice_and_continued(whole, train, corpus, terminate_after):
    """At the end of an epoch; then by SIGTERM within the next, with one of the two micro-batches of update 4 summed."""
    directory, kind = whole
    name = f"cut-{kind}"
    assert train(name, kind, "training.max_updates=2") == 0
    terminate_after(3)
    assert train(name, kind) == 128 + signal.SIGTERM
    places = [(state["epoch"], state["batch"]) for state in map(read_state, sorted((corpus / name).glob("*/update-*")))]
    assert places == [(1, 0), (1, 2)]  # after updates 2 and 3
    assert train(name, kind) == 0
    assert_same(corpus / name, directory)


def test_batches_in_parts_are_stopped_and_continued_too(train, corpus, terminate_after, monkeypatch):
    """By SIGTERM within an epoch, with one of the two micro-batches of update 2 summed; then on into the next epoch."""
    fewer = "training.max_updates=3", "training.log_every_updates=1"
    monkeypatch.setattr(session, "has_a_core_each", lambda: True)
    monkeypatch.setattr(session, "searches_at_once", lambda: 2)
    monkeypatch.setattr(train_recipe, "LEAST_PART_TOKENS", 40)
    assert train("whole-parts", "transformer", *fewer) == 0
    terminate_after(3)
    assert train("cut-parts", "transformer", *fewer) == 128 + signal.SIGTERM
    assert train("cut-parts", "transformer", *fewer) == 0
    assert_same(corpus / "cut-parts", corpus / "whole-parts", updates=3)
    assert "in 2 parts side by side" in (corpus / "cut-parts/train.log").read_text(encoding="utf-8")


def test_a_damaged_checkpoint_costs_updates_but_not_a_bit(whole, train, corpus, capsys):
    """Readers pass over it, the trainer sets it aside and makes its updates again; both say so and exit with 0."""
    directory, kind = whole
    copy = corpus / f"damaged-{kind}"
    shutil.copytree(directory, copy)
    damaged = copy / END.format(UPDATES) / "model.safetensors"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    (copy / END.format(UPDATES) / "average.safetensors").unlink()
    assert main(["translate", str(copy), "--checkpoint", "latest", "-i", str(corpus / "validation.es")]) == 0
    output = capsys.readouterr()
    assert len(output.out.splitlines()) == 4
    assert f"update-{UPDATES:08}: skipped, it is damaged" in output.err
    assert train(copy.name, kind) == 0
    assert f"was set aside as update-{UPDATES:08}.damaged" in capsys.readouterr().err
    assert_same(copy, directory)
    (copy / END.format(UPDATES) / "manifest.json").write_text("{")
    assert train(copy.name, kind) == 0
    assert f"was set aside as update-{UPDATES:08}.damaged-2" in capsys.readouterr().err
    assert_same(copy, directory)
    for checkpoint in (copy / "checkpoints").glob("update-*"):
        (checkpoint / "manifest.json").unlink()
    assert train(copy.name, kind) == 1
    assert "no whole checkpoint is left to go on with" in capsys.readouterr().err


def test_deterministic_operations_are_on_while_it_trains(train, monkeypatch):
    seen, update = [], Updater.update

    def updating(*arguments, **settings):
        seen.append(is_op_determinism_enabled())
        return update(*arguments, **settings)

    monkeypatch.setattr(Updater, "update", updating)
    assert train("deterministic", "rnn", "training.deterministic=true", "training.max_updates=1") == 0
    assert seen == [True]
    assert not is_op_determinism_enabled()
