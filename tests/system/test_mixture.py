"""A mixture from raw text to a translation: tags, filters, stages, named sets; and a kill changes nothing of it."""

import json
import random
import re
import shutil

import pytest

from nmt.cli.main import main
from nmt.config import load
from nmt.recipes.train import train
from nmt.training.events import Reporter
from tests import tiny
from tests.system.test_resume import hashes, read_state

pytestmark = pytest.mark.usefixtures("step_by_step")

UPDATES = 7


class Killed(Exception):
    """What ends a process without a word."""


class Kill(Reporter):
    """Ends the run once it has made an update."""

    def __init__(self, update):
        self.update = update

    def on_update(self, event):
        if event.update == self.update:
            raise Killed


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder, generator = tmp_path_factory.mktemp("mixture"), random.Random(3)
    sizes = {"clean": 20, "mined": 50, "validation": 2, "other": 1}
    corpora = {name: tiny.copied_lines(generator, count) for name, count in sizes.items()}
    corpora["mined"] += [("uno dos tres", "one"), ("gato", "gato <mined> gato")]
    listed = {name: {"name": name, "pairs": f"{folder}/{name}.{{es,en}}"} for name in sizes}
    listed["mined"] |= {"tag": "<mined>", "filters": {"max_ratio": 2}}
    data = {
        "max_length": 30,
        "train": [listed["clean"], listed["mined"]],
        "validation": [listed["validation"], listed["other"] | {"tag": "<mined>"}],
        "test": [listed["other"] | {"name": "first"}, listed["validation"] | {"name": "second"}],
        "stages": [
            {"weights": {"mined": 1}, "until": {"updates": 2}},
            {"weights": {"clean": 1, "mined": 1}, "until": {"epochs": 1, "of": "clean"}},
            {"name": "fine", "weights": {"clean": 4, "mined": 1}},
        ],
    }
    training = {
        "batch_tokens": 60, "effective_batch_tokens": 120, "max_updates": UPDATES, "validate_every_updates": 4,
        "save_every_updates": 2, "log_every_updates": 1, "keep_last": 9, "tensorboard": False,
        "deciding_validation": "other",
    }  # fmt: skip
    model = {**tiny.with_dropout(tiny.TRANSFORMER, 0.2)}
    search = {"beam_size": 2, "max_length": 4, "engine": "keras"}
    path = tiny.write_config(folder, corpora, data=data, model=model, training=training, search=search)
    text = re.sub(r"^  (clean|mined|other): .*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def whole(config):
    assert main(["train", str(config), "--set", f"model_directory={config.parent}/whole"]) == 0
    return config.parent / "whole"


def records(run, kind):
    found = map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [each for each in found if each["kind"] == kind]


def test_a_run_that_was_killed_twice_goes_on_as_if_nothing_had_happened(config, whole):
    place = config.parent / "killed"
    settings = [f"model_directory={place}", "training.save_every_updates=1"]
    for at in (3, 6):
        with pytest.raises(Killed):
            train(load(config, settings), reporters=[Kill(at)])
        assert len(list((place / "checkpoints").glob("update-*"))) == at - 1
    assert main(["train", str(config), *(word for each in settings for word in ("--set", each))]) == 0
    one, other = (run / f"checkpoints/update-{UPDATES:08}" for run in (whole, place))
    assert hashes(one) == hashes(other)
    assert read_state(one) == read_state(other)
    assert [each["seen"] for each in records(place, "update")] == [each["seen"] for each in records(whole, "update")]
    shutil.rmtree(place)


def test_stages_and_what_was_seen_are_recorded(whole):
    updates = records(whole, "update")
    stages = [each["stage"] for each in updates]
    assert stages[:2] == ["1", "1"] or stages[:2] == ["1", "2"]  # the second update ends the stage
    assert stages[-1] == "fine"
    assert updates[1]["seen"]["clean"]["pairs"] == 0
    last = updates[-1]["seen"]
    assert last["clean"]["pairs"] >= 20
    assert last["mined"]["epochs"] == last["mined"]["pairs"] / 50


def test_what_was_dropped_is_told_of_each_corpus(whole):
    log = (whole / "train.log").read_text(encoding="utf-8")
    assert "training corpus clean: 20 pairs read, 20 kept, 0 dropped" in log
    assert "training corpus mined: 52 pairs read, 50 kept, 2 dropped: 2 with more than 2 times the tokens" in log


def test_every_validation_set_is_scored_and_one_decides(whole):
    for record in records(whole, "validation"):
        assert [*record["sets"]] == ["other", "validation"]
        assert record["sets"]["other"] == {"loss": record["loss"], "bleu": record["bleu"]}
        assert record["sets"]["validation"]["loss"] != record["loss"]


def test_test_sets_are_scored_in_one_go(whole, capsys):
    assert main(["evaluate", str(whole), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {name: each["num_lines"] for name, each in found["sets"].items()} == {"first": 1, "second": 2}
    assert found["num_lines"] == 3
    assert main(["evaluate", str(whole)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [lines[at] for at in (0, 3, 6)] == ["all sets together, 3 lines:", "first, 1 lines:", "second, 2 lines:"]


def test_a_tag_is_asked_for_by_an_option_or_a_record(whole, tmp_path, capsys):
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"source": "gato rojo"}\n{"source": "gato rojo", "tag": "<mined>"}\n', encoding="utf-8")
    (tmp_path / "lines").write_text("gato rojo\n", encoding="utf-8")

    def scores(*arguments):
        assert main(["translate", str(whole), *arguments, "--format", "jsonl"]) == 0
        printed = capsys.readouterr().out.splitlines()
        return [json.loads(line)["translations"][0]["log_prob"] for line in printed]

    plain, tagged = scores("-i", str(lines), "--input-format", "jsonl")
    assert plain != tagged
    assert scores("-i", str(tmp_path / "lines"), "--tag", "<mined>") == pytest.approx([tagged], abs=1e-5)
    assert main(["translate", str(whole), "-i", str(lines), "--tag", "<2de>"]) == 1
    assert "the tag must be one that the model was trained with, got <2de>: it knows <mined>" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("data.train.clean.weight=2", "must give all corpora a weight or none"),
        ("data.train.mined.tag=<bt>", "data.train.mined.tag: <mined> before, <bt> now"),
        ("data.temperature=5", "data.temperature: 1.0 before, 5.0 now"),
    ],
)
def test_what_decides_the_order_may_not_change(config, whole, setting, message, capsys):
    arguments = ["--set", f"model_directory={whole}", "--set", "training.max_updates=20", "--set", setting]
    assert main(["train", str(config), *arguments]) == 1
    assert message in capsys.readouterr().err


def test_another_weight_encodes_nothing_anew(config, whole):
    stores = {path: path.stat().st_mtime_ns for path in (whole / "token_store").glob("train-*")}
    assert len(stores) == 2
    place = config.parent / "shared"
    for weight in (1, 2):
        how = [f"model_directory={place}-{weight}", f"data.store_directory={whole}/token_store", "data.stages=null"]
        how += [f"data.train.clean.weight={weight}", "data.train.mined.weight=1", "training.max_updates=1"]
        for name in ("tokenizer.json", "vocabulary.source.txt", "vocabulary.target.txt"):
            (config.parent / f"shared-{weight}").mkdir(exist_ok=True)
            shutil.copy(whole / name, config.parent / f"shared-{weight}" / name)
        assert main(["train", str(config), *(word for each in how for word in ("--set", each))]) == 0
    assert {path: path.stat().st_mtime_ns for path in (whole / "token_store").glob("train-*")} == stores
