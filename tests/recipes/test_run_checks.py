"""Going on with a run: whether its corpora hold what they held, wherever they lie now."""

import gzip
import json
import shutil

import pytest

from nmt.checkpoint.index import newest_manifest
from nmt.config import load
from nmt.data import Corpus
from nmt.directory.inspection import find_checkpoints
from nmt.errors import ConfigError, DataError
from nmt.recipes.train import check_corpora, train

pytestmark = pytest.mark.usefixtures("eagerly")

STEPS = [
    "training.validate_every_updates=1", "training.save_every_updates=1", "training.batch_tokens=101",
    "training.precision=float32", "training.tensorboard=false", "training.sample_translations=0",
    "training.early_stopping={metric: loss, patience: 9}",
    "training.schedule={type: plateau, warmup_updates: 0, patience: 9}",
]  # fmt: skip
NEW_SCORES = "training.on_validation_change=new_scores"


@pytest.fixture
def go_on(untrained_config):
    """Trains up to so many updates with these settings."""

    def go_on(updates, *overrides):
        return train(load([untrained_config], [*STEPS, f"training.max_updates={updates}", *overrides]))

    return go_on


def scores(folder):
    index = json.loads((folder / "run/checkpoints/index.json").read_text())
    return {name: entry["score"] for name, entry in index["scores"].items()}, index["best"]


def state_of(folder, update):
    return json.loads((folder / f"run/checkpoints/update-{update:08}/state.json").read_bytes())


def forget(folder, *facts):
    """Leaves out of all manifests what version 0.1.0 did not write."""
    from nmt.checkpoint.manifest import MANIFEST, read_manifest

    for checkpoint in (folder / "run/checkpoints").glob("update-*"):
        manifest = read_manifest(checkpoint)
        for fact in facts:
            manifest.facts.pop(fact, None)
        (checkpoint / MANIFEST).write_bytes(manifest.to_bytes())


def test_another_validation_text_under_the_same_name_is_refused(go_on, tmp_path):
    go_on(1)
    (tmp_path / "validation.en").write_text("four\nfive six\n", encoding="utf-8")
    message = "data.validation has changed since update-00000001.*--set training.on_validation_change=new_scores"
    with pytest.raises(ConfigError, match=message):
        go_on(2)
    assert newest_manifest(tmp_path / "run")[0] == "update-00000001"


def test_with_another_validation_text_the_scores_begin_anew(go_on, tmp_path, caplog):
    go_on(2)
    before = state_of(tmp_path, 2)["best_score"]
    (tmp_path / "validation.en").write_text("nine nine nine nine\nnine nine nine\n", encoding="utf-8")
    go_on(3, NEW_SCORES)
    assert "the validation corpus is another one since update-00000002" in caplog.text
    found, best = scores(tmp_path)
    assert found["update-00000001"] is None
    assert found["update-00000002"] not in (None, before)  # judged again, before anything was learned
    assert state_of(tmp_path, 3)["best_score"] == max(found["update-00000002"], found["update-00000003"]) == found[best]
    assert state_of(tmp_path, 3)["schedule"]["best"] == state_of(tmp_path, 3)["best_score"]
    assert newest_manifest(tmp_path / "run")[1].facts["validation_changes"] == 1
    shown = {one.name: one.score for one in find_checkpoints(tmp_path / "run")}
    assert shown == found
    assert load(tmp_path / "run/config.yaml").training.on_validation_change == "error"  # asked for once
    caplog.clear()
    go_on(4)  # nothing changed since
    assert "another one" not in caplog.text
    assert scores(tmp_path)[0]["update-00000003"] == found["update-00000003"]


def test_a_run_of_before_records_its_validation_text_when_it_goes_on(go_on, tmp_path):
    go_on(1)
    forget(tmp_path, "validation_hash")
    go_on(2)
    assert None not in scores(tmp_path)[0].values()  # what was there counts
    (tmp_path / "validation.es").write_text("uno\ndos\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"data\.validation has changed since update-00000002"):
        go_on(3)


def moved(folder):
    """Puts the corpora elsewhere, compressed or in pieces; returns the settings that say where."""
    place = folder / "elsewhere"
    place.mkdir()
    for side in ("es", "en"):
        lines = (folder / f"train.{side}").read_text(encoding="utf-8").splitlines(keepends=True)
        (place / f"first.{side}").write_text("".join(lines[:4]), encoding="utf-8")
        (place / f"second.{side}.gz").write_bytes(gzip.compress("".join(lines[4:]).encode()))
        shutil.move(folder / f"validation.{side}", place / f"dev.{side}")
        (folder / f"train.{side}").unlink()
    return [
        f"data.train.source=[{place}/first.es, {place}/second.es.gz]",
        f"data.train.target=[{place}/first.en, {place}/second.en.gz]",
        f"data.validation.source={place}/dev.es",
        f"data.validation.target={place}/dev.en",
    ]


@pytest.mark.parametrize("facts", [[], ["validation_hash"], ["validation_hash", "data_hash"]])
def test_a_corpus_may_move_as_long_as_its_text_stays(go_on, tmp_path, caplog, facts):
    """Hashes that no checkpoint records can be had from the old files alone."""
    caplog.set_level("INFO")
    go_on(1)
    forget(tmp_path, *facts)
    kept = {path.name: path.read_bytes() for path in tmp_path.glob("*.e?")}
    settings = moved(tmp_path)
    if facts:
        with pytest.raises(ConfigError, match=r"data\.(train|validation) has changed since update-00000001"):
            go_on(2, *settings)
        for name, content in kept.items():
            (tmp_path / name).write_bytes(content)
    assert go_on(2, *settings).update == 2
    assert f"data.train holds the same text as before, now in {tmp_path}/elsewhere/first.es" in caplog.text
    assert "data.validation holds the same text as before" in caplog.text


def test_a_corpus_that_moved_and_changed_is_refused(go_on, tmp_path):
    go_on(1)
    settings = moved(tmp_path)
    with (tmp_path / "elsewhere/first.en").open("a") as file:
        file.write("one\n")
    with (tmp_path / "elsewhere/first.es").open("a") as file:
        file.write("uno\n")
    with pytest.raises(ConfigError, match=r"text in data\.train has changed since update-00000001"):
        go_on(2, *settings)


def test_the_corpus_of_a_mixture_that_changed_is_named(go_on, tmp_path):
    paths = {side: tmp_path / f"train.{side}" for side in ("es", "en")}
    for side, path in paths.items():
        shutil.copy(path, tmp_path / f"more.{side}")
    named = [
        f"{{name: {name}, source: {tmp_path}/{name}.es, target: {tmp_path}/{name}.en}}" for name in ("train", "more")
    ]
    mixture = f"data.train=[{', '.join(named)}]"
    go_on(1, mixture)
    text = (tmp_path / "more.en").read_text()
    (tmp_path / "more.en").write_text(text.replace("one", "won", 1))
    with pytest.raises(ConfigError, match=r"the text in data\.train\.more has changed since update-00000001"):
        go_on(2, mixture)
    (tmp_path / "more.en").write_text(text)
    assert go_on(2, mixture).update == 2


def test_a_moved_directory_goes_on_where_it_is_and_from_another_folder(go_on, tmp_path, monkeypatch):
    """Corpora that nobody finds are asked for by name."""
    go_on(1)
    (tmp_path / "away").mkdir()
    moved = (tmp_path / "run").rename(tmp_path / "away/moved") / "config.yaml"
    moved.write_text(moved.read_text(encoding="utf-8").replace(f"{tmp_path}/", ""), encoding="utf-8")
    monkeypatch.chdir(tmp_path / "away")
    config = load("moved/config.yaml", ["training.max_updates=2"])
    assert train(config).directory.samefile(moved.parent)
    assert newest_manifest(moved.parent)[0] == "update-00000002"
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "away/run").exists()

    (tmp_path / "validation.en").rename(tmp_path / "dev.en")
    with pytest.raises(DataError, match=r"data\.validation\.target: there is no .*--set data\.validation\.target=PATH"):
        train(load("moved/config.yaml", ["training.max_updates=3"]))
    dev = f"data.validation.target={tmp_path}/dev.en"
    assert train(load("moved/config.yaml", ["training.max_updates=3", dev])).update == 3


@pytest.mark.parametrize(("count", "level"), [(15, "WARNING"), (8, "WARNING"), (7, "INFO"), (1, "INFO"), (0, None)])
@pytest.mark.parametrize("name", ["validation", "test"])
def test_text_that_is_also_trained_on_is_said_by_content(untrained_config, tmp_path, caplog, name, count, level):
    """A shuffled, compressed copy under another name, of which some pairs were changed on one side alone."""
    caplog.set_level("INFO")
    config = load([untrained_config])
    for other in ("validation", "test"):
        for side in ("es", "en"):
            (tmp_path / f"{other}.{side}").write_text(f"{other}\n", encoding="utf-8")
    pairs = list(Corpus(tmp_path / "train.es", tmp_path / "train.en").pairs())
    pairs = [(source, target if i < count else f"{target}!") for i, (source, target) in enumerate(pairs)][::-1]
    for place, side in enumerate(("es", "en")):
        content = "".join(f"{pair[place]}\r\n" for pair in pairs).encode()
        (tmp_path / f"{name}.{side}").write_bytes(gzip.compress(content))
    assert check_corpora(config, fresh=True).train_pairs == 15
    said = [(record.levelname, record.getMessage()) for record in caplog.records if "data.train too" in record.message]
    message = f"{count} of 15 pairs of data.{name} stand in data.train too, word for word"
    assert [(found, text.partition(":")[0]) for found, text in said] == ([(level, message)] if level else [])
