"""`nmt adapt` of runs with tags, and old corpora in the mixture: what is read, with what share, tag and weight."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from nmt.adaptation.adapt import adapt, plan_adaptation
from nmt.adaptation.corpora import HeldOut, describe, replayed_corpora
from nmt.checkpoint.manager import CheckpointManager
from nmt.cli.main import main
from nmt.config import load, write
from nmt.data import Corpus
from nmt.data.lines import read_lines
from nmt.errors import ConfigError, DataError
from nmt.inference.translator import load_translator
from nmt.recipes.training_run import open_training_stores
from nmt.settings.data import DataSettings
from nmt.streams.corpora import mixture_of
from nmt.text import TextPair
from tests import tiny
from tests.conftest import untrained_model

pytestmark = pytest.mark.usefixtures("eagerly")

SETTINGS = ["training.max_updates=2", "training.validate_every_updates=2", "training.tensorboard=false"]


def make_run(folder, side="source", plain=False, scores=(0.5,), **of_data):
    """A run of two corpora with tags, one of them with loss weights, and of one without if it is asked for."""
    generator = random.Random(3)
    pairs = {name: tiny.copied_lines(generator, count) for name, count in (("up", 12), ("down", 6), ("plain", 9))}
    rows = "".join(f"{source}\t{target}\t{place % 3}\n" for place, (source, target) in enumerate(pairs["down"]))
    (folder / "down.tsv").write_text(rows, encoding="utf-8")
    train = [
        {"name": "up", "source": f"{folder}/up.es", "target": f"{folder}/up.en", "tag": "<up>",
         "filters": {"max_length": 5}},
        {"name": "down", "pairs": f"{folder}/down.tsv", "tag": "<down>", "loss_weight_column": 3},
    ]  # fmt: skip
    train += [{"name": "plain", "source": f"{folder}/plain.es", "target": f"{folder}/plain.en"}] if plain else []
    corpora = {"validation": pairs["up"][:2], "test": pairs["down"][:3], **pairs}
    path = tiny.write_config(folder, corpora, model=tiny.TRANSFORMER, search={"beam_size": 1, "max_length": 9})
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    test = config["data"]["test"]
    config["data"] = {name: value for name, value in config["data"].items() if name not in pairs} | {
        "train": train, "tag_side": side, "max_length": 20, **of_data,
        "test": [{"name": "a", "tag": "<down>", **test}, {"name": "b", "tag": "<up>", **test}],
    }  # fmt: skip
    config["data"]["validation"] = [{"name": "only", "tag": "<up>", **config["data"]["validation"]}]
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    model, _ = untrained_model(path)
    with CheckpointManager(folder / "run") as checkpoints:
        for number, score in enumerate(scores, start=1):
            checkpoints.save(10 * number, model=model, score=score)
    return str(folder / "run")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    (folder / "source").mkdir()
    (folder / "target").mkdir()
    make_run(folder / "source", plain=True)
    make_run(folder / "target", "target")
    return folder


@pytest.fixture
def run(made, tmp_path, request):
    """A copy of a run, its corpora and its config beside it; of tags before the target if that is asked for."""
    side = getattr(request, "param", "source")
    shutil.copytree(made / side, tmp_path / side)
    for path in (tmp_path / side).glob("**/config.yaml"):
        path.write_text(path.read_text().replace(str(made), str(tmp_path)))
    return str(tmp_path / side / "run")


@pytest.fixture
def corpus(tmp_path):
    lines = [" ".join(random.Random(place).choices([*tiny.WORDS, "nuevo"], k=7)) for place in range(40)]
    (tmp_path / "new.tsv").write_text("".join(f"{line}\t{line}\n" for line in lines), encoding="utf-8")
    return str(tmp_path / "new.tsv")


def planned_with(run, corpus, **how):
    return plan_adaptation(run, corpus, extend_vocabulary=False, overrides=SETTINGS, **how)


def summary(config):
    return [(each.name, each.tag, each.weight) for each in config.data.train]


def test_old_corpora_keep_their_settings_and_share_what_is_replayed(run, corpus):
    data = planned_with(run, corpus, tag="<down>", replay=0.6).config.data
    assert summary(load(f"{run}/config.yaml")) == [
        ("up", "<up>", None),
        ("down", "<down>", None),
        ("plain", None, None),
    ]
    of_27 = [float(f"{0.6 * size / 27:.6g}") for size in (12, 6, 9)]  # by size, as they were mixed
    expected = [("new", "<down>", 0.4), *zip(("up", "down", "plain"), ("<up>", "<down>", None), of_27, strict=True)]
    assert [(each.name, each.tag, each.weight) for each in data.train] == expected
    new, up, down, plain = data.train
    assert (up.filters.max_length, down.loss_weight_column, plain.filters) == (5, 3, None)
    for part in (data.validation, data.test):
        assert [(each.name, each.tag) for each in part] == [("new", "<down>")]
    assert new.paths[0][0].endswith("new-train.source")  # whose language the tag says


def test_old_corpora_share_by_what_their_filters_kept(run, corpus):
    old = load(f"{run}/config.yaml")
    kept = {name: len(store) for name, store in open_training_stores(old, TextPair.load(run)).items()}
    assert kept["train.up"] < 12
    data = planned_with(run, corpus, tag="<down>", replay=0.6).config.data
    expected = [float(f"{0.6 * size / sum(kept.values()):.6g}") for size in kept.values()]
    assert [each.weight for each in data.train[1:]] == expected


def test_files_of_two_languages_are_read_in_the_direction_of_the_run_and_said(run, corpus, tmp_path):
    units = "".join(
        f'<tu><tuv xml:lang="es"><seg>{source}</seg></tuv><tuv xml:lang="en"><seg>{target}</seg></tuv></tu>'
        for source, target in Corpus(corpus, corpus).pairs()
    )
    (tmp_path / "new.tmx").write_text(f'<tmx version="1.4"><header/><body>{units}</body></tmx>', encoding="utf-8")
    said = "new.tmx: read from es into en, as the run names them"
    for given, tag, is_said in ((f"{tmp_path}/new.tmx", "<down>", True), (f"{tmp_path}/new.tmx", None, False),
                                (corpus, "<down>", False)):  # fmt: skip
        remarks = planned_with(run, given, tag=tag).remarks
        assert any(said in remark for remark in remarks) == is_said


def test_no_tag_is_one_where_text_without_was_learned(run, corpus):
    for tag in (None, "none"):
        data = planned_with(run, corpus, tag=tag).config.data
        assert data.train[0].tag is None
        assert data.tags == ("<up>", "<down>")
    data = planned_with(run, corpus, replay=0.0).config.data
    assert (data.tags, data.train.paths[0][0][-12:]) == ((), "new-train.es")


@pytest.mark.parametrize("run", ["target"], indirect=True)
def test_a_tag_that_is_needed_or_unknown_is_refused(run, corpus, capsys):
    for tag in (None, "none"):
        with pytest.raises(ConfigError, match=r"--tag must say with which tag .* learned none without: give <up> or"):
            planned_with(run, corpus, tag=tag)
    with pytest.raises(ConfigError, match="must be one that the model was trained with, got <z>: it knows <up> or"):
        planned_with(run, corpus, tag="<z>")
    assert main(["adapt", run, "--with", corpus]) == 1
    assert "give <up> or <down>" in capsys.readouterr().err
    assert not Path(f"{run}-adapted").exists()


@pytest.mark.parametrize("run", ["source", "target"], indirect=True)
def test_training_reads_each_pair_with_its_tag_and_weight(run, corpus):
    """The batches hold the new text and all old corpora in their shares, each sequence with its symbol in front."""
    config = planned_with(run, corpus, tag="<down>", replay=0.5).config
    text = TextPair.load(run)
    stores = open_training_stores(config, text, processes=1)
    corpora, (stage,) = mixture_of(config.data, text, stores)
    tag_ids = {each.name: each.tag_id for each in corpora}
    assert tag_ids.items() >= {"new": text.tags["<down>"], "up": text.tags["<up>"], "down": text.tags["<down>"]}.items()
    assert {each.tag_side for each in corpora if each.tag_id} == {int(config.data.tag_side == "target")}
    shares = stage.upto(3_000)
    assert shares[0] == 1_500
    assert shares[1] == pytest.approx(2 * shares[2], abs=2)
    np.testing.assert_array_equal(stores["train.down"].weights, [1, 2, 1, 2])  # of 0, 1, 2, 0, 1, 2
    assert stores["train.up"].weights is None


@pytest.mark.parametrize("run", ["target"], indirect=True)
def test_both_models_translate_the_test_sets_with_their_tags(run, corpus):
    """Also if the vocabulary is extended, in which the symbols stay where they are."""
    planned = plan_adaptation(
        run, corpus, tag="<down>", replay=0.5, extend_vocabulary=True, overrides=[*SETTINGS, "search.engine=keras"]
    )
    before, now = (TextPair.load(each) for each in (run, planned.config.training.initialize_from))
    assert len(now.target.vocabulary) == len(before.target.vocabulary) + 1
    assert (now.tags, now.tag_side) == (before.tags, "target")
    assert {name: [each["tag"] for each in sets] for name, sets in planned.tests.items()} == {
        "new": ["<down>"], "old": ["<down>", "<up>"]}  # fmt: skip
    done = adapt(planned)
    assert [(each.name, each.lines) for each in done.comparisons] == [("new", 2), ("old", 6)]
    new = load(f"{done.directory}/config.yaml").data.test[0]
    sources, targets = (list(read_lines(paths[0])) for paths in new.paths)
    from nmt.control.controls import Control
    from nmt.scoring.evaluation import bleu

    translator = load_translator(run)
    found = translator.translate(sources, controls=[Control(tag="<down>")] * 2)
    assert done.comparisons[0].before[0] == pytest.approx(bleu(found, targets, tokenization="13a").score)
    seen = [json.loads(line)["seen"] for line in (done.directory / "metrics.jsonl").read_text().splitlines()
            if '"seen"' in line][-1]  # fmt: skip
    assert {*seen} >= {"new", "up", "down"}
    assert main(["train", f"{done.directory}/config.yaml"]) == 0  # which has nothing to do


def test_translations_are_replayed_with_the_tag_of_the_new_text(run, corpus, tmp_path):
    held = next(line.split("\t")[0] for line in read_lines(corpus))
    near = held.upper() + "!"
    (tmp_path / "more.es").write_text(f"gato rojo\n{near}\nuno dos\n\n", encoding="utf-8")
    given = tmp_path / "held.tsv"
    given.write_text(f"{held}\t{held}\n", encoding="utf-8")
    planned = planned_with(
        run, corpus, tag="<up>", validation=str(given), test=str(given), replay_source=tmp_path / "more.es"
    )
    assert summary(planned.config) == [("new", "<up>", 0.75), ("replay", "<up>", 0.25)]
    lines, targets = (list(read_lines(paths[0])) for paths in planned.config.data.train[1].paths)
    assert {*lines} <= {"gato rojo", "uno dos"}
    from nmt.control.controls import Control

    assert targets == load_translator(run).translate(lines, controls=[Control(tag="<up>")] * len(lines))
    assert any("1 left out because" in remark or "2 left out because" in remark for remark in planned.remarks[2:])


def test_what_is_near_to_held_out_lines_is_not_replayed(run, corpus, tmp_path):
    """The corpus that has such a line is read from a copy without it, its other lines with their weights."""
    down = [line.split("\t") for line in read_lines(f"{run}/../down.tsv")]
    held = tmp_path / "held.tsv"
    held.write_text(f"{down[1][0].upper()}!\tnothing like it\n", encoding="utf-8")
    how = {"validation": str(held), "test": str(held), "tag": "<up>"}
    planned = planned_with(run, corpus, **how)
    _, up, copy, plain = planned.config.data.train
    left = [row for row in down if row[0].casefold() != down[1][0].casefold()]
    near = len(down) - len(left)
    assert f"; {near} left out because a side of them is near to a held-out line" in planned.remarks[1]
    assert copy.pairs == f"{run}-adapted/adaptation/replay-down.jsonl"
    assert (copy.tag, copy.loss_weight_column, up.pairs, plain.pairs) == ("<down>", "weight", None, None)
    rows = list(Corpus.of(planned.config.data, "train.down").rows())
    assert rows == [(source, target, repr(float(weight))) for source, target, weight in left]
    share = 0.25 * len(left) / (len(left) + 12 + 9)
    assert copy.weight == pytest.approx(share, rel=1e-4)


def test_shares_are_those_of_the_last_stage(tmp_path):
    lines = [f"{'a' * (place + 2)}b\t{'c' * (place + 2)}d\n" for place in range(8)]
    for name, count in (("one", 8), ("two", 2)):
        (tmp_path / f"{name}.tsv").write_text("".join(lines[:count]), encoding="utf-8")

    def data(weights=(None, None), **more):
        train = [{"name": name, "pairs": f"{tmp_path}/{name}.tsv", "weight": weight}
                 for name, weight in zip(("one", "two"), weights, strict=True)]  # fmt: skip
        base = {"source_language": "es", "target_language": "en", "validation": {"pairs": "v.tsv"}}
        return DataSettings.model_validate({**base, "train": train, **more})

    def shares(settings, held=(), kept=None):
        return {each.name: round(each.share, 4) for each in replayed_corpora(settings, HeldOut(held), kept or {})}

    assert shares(data()) == {"one": 0.8, "two": 0.2}
    assert shares(data(temperature=2.0)) == {"one": round(8**0.5 / (8**0.5 + 2**0.5), 4), "two": 0.3333}
    assert shares(data(), kept={"train.one": 6}) == {"one": 0.75, "two": 0.25}  # filters left 6 of 8
    assert shares(data(), [("aab", "x")], {"train.two": 1}) == {"one": 0.9333, "two": 0.0667}  # a near one in both
    assert shares(data((1.0, 3.0))) == {"one": 0.25, "two": 0.75}
    assert shares(data((0.0, 3.0))) == {"two": 1.0}
    stages = [{"weights": {"one": 1.0}, "until": {"updates": 5}}, {"weights": {"one": 1.0, "two": 9.0}}]
    assert shares(data(stages=stages)) == {"one": 0.1, "two": 0.9}
    late = data(stages=[stages[0], {"weights": {"two": 2.0}}])
    assert shares(late) == {"two": 1.0}
    said = describe(replayed_corpora(late, HeldOut([])), 0.25, late.names("train"))
    assert said.endswith("; nothing of train.one: no part of the old run's end, or near to held-out lines as a whole")
    assert shares(data(), [("Aab!", "x"), ("aaab", "x")]) == {"one": 1.0}
    with pytest.raises(DataError, match="no pair of the old corpus is left that is not near to"):
        shares(data((0.0, 1.0)), [("aab", "x"), ("aaab", "x")])


def test_relative_paths_are_found_from_where_the_new_run_lies(run, corpus, tmp_path, monkeypatch):
    """Within the current folder they stay, as in any config; a run elsewhere has absolute ones."""
    path = Path(run) / "config.yaml"
    path.write_text(path.read_text().replace(f"{tmp_path}/source/", ""))
    monkeypatch.chdir(tmp_path / "source")
    data = planned_with("run", corpus, tag="<up>", output="beside").config.data
    assert (data.train[1].source, data.train[2].pairs) == ("up.es", "down.tsv")
    elsewhere = tmp_path / "elsewhere"
    data = planned_with("run", corpus, tag="<up>", output=elsewhere).config.data
    assert (data.train[1].source, data.train[2].pairs) == (f"{tmp_path}/source/up.es", f"{tmp_path}/source/down.tsv")
    monkeypatch.chdir(tmp_path)  # where the old run is found by its own place
    data = planned_with("source/run", corpus, tag="<up>", output="third").config.data
    assert Path(data.train[1].source).resolve() == tmp_path / "source/up.es"


@pytest.mark.parametrize(("scores", "update"), [((None, None), 20), ((0.5, 0.4), 10)])
def test_a_vocabulary_is_extended_from_the_best_checkpoint_or_without_scores_the_latest(
    corpus, tmp_path, scores, update
):
    run = make_run(tmp_path, plain=True, scores=scores)
    plan_adaptation(run, corpus, extend_vocabulary=True, overrides=SETTINGS)
    assert [path.name for path in Path(f"{run}-adapted-vocabulary").glob("checkpoints/update-*")] == [
        f"update-{update:08}"
    ]


def test_names_that_are_taken_are_left_to_those_who_have_them(run, corpus):
    write(planned_with(run, corpus, tag="<up>", replay=0.5).config, f"{run}/config.yaml")
    again = planned_with(run, corpus, tag="<up>", replay=0.5).config
    assert [each.name for each in again.data.train] == ["new-2", "new", "up", "down", "plain"]
    assert again.data.train[1].weight == pytest.approx(0.25)


def test_nothing_is_written_before_the_settings_have_passed(run, corpus):
    for wrong in (["training.freeze=[decoder.7]"], ["data.train.medical.weight=2"], ["training.batch_tokens=3"]):
        with pytest.raises(ConfigError, match=r"decoder\.7|medical is unknown|must be above data\.max_length"):
            plan_adaptation(run, corpus, tag="<up>", overrides=wrong, extend_vocabulary=False)
        assert not Path(f"{run}-adapted").exists()
