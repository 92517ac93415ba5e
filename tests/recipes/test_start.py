"""Beginning with the weights of another directory, through the recipe; all of it eager, one update at a time."""

import dataclasses
import os
import shutil

import numpy as np
import pytest

from nmt.checkpoint.manager import CheckpointManager
from nmt.checkpoint.manifest import read_manifest
from nmt.checkpoint.weights import read_contents
from nmt.config import load
from nmt.directory.model_directory import parse_run_reference, read_settings
from nmt.errors import CheckpointError, ConfigError
from nmt.recipes.start import start_from_other, start_own
from nmt.recipes.train import check_config, train
from nmt.text import SPECIAL_TOKENS, TextPair, Vocabulary, WhitespaceTokenizer
from nmt.tying import variable_roles

SOURCE, TARGET, OUTPUT = (
    f"{owner}/embeddings" for owner in ("source_embedding", "target_embedding", "output_projection")
)
STILL = "training.optimizer.learning_rate=1e-300"
"""A rate that is 0 as a float32, so that the first weights are seen in the checkpoints."""


pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture
def old(trained_run, tmp_path):
    """A copy of a directory whose best checkpoint has an average, and whose last has none; target and output tied."""
    shutil.copytree(trained_run.directory, tmp_path / "old")
    return tmp_path / "old"


@pytest.fixture
def settings(trained_run, tmp_path, old):
    """Load settings that begin with the weights of `old`, in a directory that does not exist yet."""
    for path in trained_run.config.parent.glob("*.e?"):
        shutil.copy(path, tmp_path / path.name)

    def settings(*overrides, initial="", max_updates=1):
        corpora = [
            f"data.{name}={{source: {tmp_path}/{name}.es, target: {tmp_path}/{name}.en}}"
            for name in ("train", "validation", "test")
        ]
        plain = [
            f"model_directory={tmp_path}/new",
            f"training.initialize_from={old}{initial}",
            "training.tensorboard=false",
        ]
        return load([trained_run.config], [*corpora, *plain, f"training.max_updates={max_updates}", *overrides])

    return settings


def contents_of(directory):
    return {path: path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file() and path.name != ".lock"}


def assert_equal(found, wanted):
    assert found.keys() == wanted.keys()
    for path, value in wanted.items():
        np.testing.assert_array_equal(found[path], value, err_msg=path)


def test_a_run_begins_with_other_weights_and_goes_on_without_them(settings, old, tmp_path, caplog):
    caplog.set_level("INFO")
    config = settings("training.ema_decay=0.9", STILL, initial="@update-20")
    assert train(config).update == 1
    first, last = read_contents(old, "latest"), read_contents(tmp_path / "new", "latest")
    assert_equal(last.contents.model, first.contents.model)
    assert_equal(last.contents.ema, {path: first.contents.model[path] for path in last.contents.ema})
    assert last.contents.optimizer["iterations"] == 1
    assert last.contents.state["update"] == 1
    origin = {
        "directory": str(old),
        "checkpoint": "update-00000020",
        "weights": "raw",
        "sha256": read_manifest(first.path).files["model.safetensors"].sha256,
        "tie_change": None,
    }
    assert last.contents.facts["initialized_from"] == origin
    assert TextPair.load(tmp_path / "new").source.fingerprint == TextPair.load(old).source.fingerprint
    log = (tmp_path / "new" / "train.log").read_text()
    assert f"initial weights (raw) and tokenizers: {old}, update-00000020" in log
    assert "data.tokenizer is not used" not in caplog.text

    shutil.rmtree(old)
    assert train(settings("training.ema_decay=0.9", STILL, initial="@update-20", max_updates=2)).update == 2
    assert read_contents(tmp_path / "new", "latest").contents.facts["initialized_from"] == origin


def test_the_weights_are_those_that_translate_would_use(settings, old):
    """The best checkpoint, and its average."""
    start = start_from_other(settings())
    path, contents = read_contents(old, "update-10")
    assert np.abs(contents.ema[SOURCE] - read_contents(old, "latest").contents.model[SOURCE]).max() > 0.1
    assert_equal({path: np.asarray(variable_roles(start.model)[path]) for path in contents.ema}, contents.ema)
    origin = start.facts["initialized_from"]
    assert (origin["checkpoint"], origin["weights"]) == ("update-00000010", "ema")
    assert origin["sha256"] == read_manifest(path).files["average.safetensors"].sha256


def test_ties_may_change_by_a_rule(settings, old, tmp_path):
    config = settings("model.tie_embeddings=none", "training.on_tie_change=average", STILL, initial="@latest")
    train(config)
    before = read_contents(old, "latest").contents.model
    after = read_contents(tmp_path / "new").contents
    assert_equal(after.model, {**before, OUTPUT: before[TARGET]})
    assert after.tie_groups == ()
    split = "target_embedding=output_projection was split into copies"
    assert after.facts["initialized_from"]["tie_change"].startswith(split)
    assert split in (tmp_path / "new" / "train.log").read_text()

    back = start_from_other(
        settings("training.on_tie_change=output", f"training.initialize_from={tmp_path}/new", "model_directory=x")
    )
    assert_equal({path: np.asarray(variable_roles(back.model)[path]) for path in before}, before)
    assert "merged into target_embedding=output_projection, as the matrix of output" in back.remarks[1]


def forget(old):
    shutil.rmtree(old)


def exchange_tokenizers(old):
    """Other words, as many of them."""
    sides = []
    for name in ("source", "target"):
        count = len(getattr(TextPair.load(old), name).vocabulary) - len(SPECIAL_TOKENS)
        words = (f"{name}{place}" for place in range(count))
        sides.append(WhitespaceTokenizer(Vocabulary([*SPECIAL_TOKENS, *words])))
    TextPair(source=sides[0], target=sides[1], joint=False).save(old)


@pytest.mark.parametrize(
    ("overrides", "initial", "change", "error", "message"),
    [
        ([], "", forget, CheckpointError, "training.initialize_from: .*old: there is no such model directory$"),
        ([], "@newest", None, CheckpointError, "old@newest: there is no such .*: a checkpoint is named by @best, @lat"),
        ([], "@update-5", None, CheckpointError, "training.initialize_from: .* has no checkpoint update-5, it has upd"),
        (
            ["model.hidden_size=10"],
            "",
            None,
            ConfigError,
            r"that of .*old: model\.hidden_size must be 8, got 10; set th",
        ),
        (["model={type: transformer}"], "", None, ConfigError, r"old: model\.type must be rnn, got transformer; set"),
        (
            ["model.cell=lstm", "model.dropout=0.5"],
            "",
            None,
            ConfigError,
            r"old: model\.cell must be gru, got lstm; set",
        ),
        (
            ["model.tie_embeddings=none"],
            "",
            None,
            CheckpointError,
            "initialize_from: update-.* but the model ties nothing",
        ),
        ([], "", exchange_tokenizers, CheckpointError, "initialize_from: .*was trained with other tokenizers"),
        (
            ["training.initialize_from=NEW"],
            "",
            None,
            ConfigError,
            "must be another directory than model_directory, got",
        ),
    ],
)
def test_what_cannot_be_taken_over_is_refused_before_anything_is_written(
    settings, old, tmp_path, overrides, initial, change, error, message
):
    if change is exchange_tokenizers:
        train(settings(f"model_directory={tmp_path}/recorded", STILL))  # one that records its tokenizers
        shutil.rmtree(old)
        (tmp_path / "recorded").rename(old)
    if change is not None:
        change(old)
    with pytest.raises(error, match=message):
        train(settings(*(each.replace("NEW", f"{tmp_path}/./new") for each in overrides), initial=initial))
    assert not (tmp_path / "new").exists()


def test_other_settings_of_the_tokenizers_are_remarked(settings, tmp_path, caplog):
    start = start_from_other(settings("data.tokenizer.vocabulary_size=7"))
    assert len(start.text.source.vocabulary) > 7
    assert "data.tokenizer is not used: with the weights of" in caplog.text
    assert not (tmp_path / "new").exists()


def test_tokenizers_of_its_own_are_replaced(settings, tmp_path, old):
    """Built by `nmt build-vocab`, say."""
    config = settings("data.tokenizer.vocabulary_size=7", STILL)
    own = start_own(config)
    assert not TextPair.exists(tmp_path / "new")
    own.text.save(tmp_path / "new")
    train(config)
    assert len(own.text.source.vocabulary) == 7
    assert TextPair.load(tmp_path / "new").source.fingerprint == TextPair.load(old).source.fingerprint


def test_a_run_on_other_data_or_settings_is_refused_before_anything_is_written(settings, tmp_path):
    train(settings(STILL))
    before = contents_of(tmp_path / "new")
    corpus = tmp_path / "train.en"
    lines = corpus.read_text()
    corpus.write_text(lines.replace("one", "won", 1))
    message = (
        "the text in data.train has changed since update-00000001; bring back what was there then, .* --overwrite, "
        ".* training.initialize_from"
    )
    with pytest.raises(ConfigError, match=message):
        train(settings(STILL, max_updates=2))
    with pytest.raises(ConfigError, match=r"(?s)other settings:.*seed: 42 before, 7 now.*--overwrite.*initialize_from"):
        train(settings(STILL, "seed=7"))
    with pytest.raises(ConfigError, match=r"metric: bleu before, loss now \(early_stopping null means bleu"):
        train(settings(STILL, "training.early_stopping={metric: loss}"))
    assert contents_of(tmp_path / "new") == before

    corpus.write_text(lines)
    os.utime(corpus, ns=(1, 1))  # the store has to be built anew, of the same text
    assert train(settings(STILL, max_updates=2)).update == 2

    text = TextPair.load(tmp_path / "new")
    TextPair(source=text.target, target=text.source, joint=False).save(tmp_path / "new")
    before = contents_of(tmp_path / "new")
    with pytest.raises(
        ConfigError, match="the tokenizers have changed since update-00000002; bring back what was there then"
    ):
        train(settings(STILL, max_updates=3))
    assert contents_of(tmp_path / "new") == before


def test_a_run_that_ended_meanwhile_is_not_taken_for_a_new_one(settings, tmp_path, monkeypatch):
    train(settings(STILL))
    monkeypatch.setattr("nmt.recipes.train.has_checkpoint", lambda _: False)
    before = contents_of(tmp_path / "new")
    with pytest.raises(CheckpointError, match="another training wrote here a moment ago: start again"):
        train(settings(STILL, "seed=7"))
    assert contents_of(tmp_path / "new") == before


@pytest.mark.parametrize(
    ("text", "directory", "checkpoint"),
    [
        ("runs/old", "runs/old", None),
        ("runs/old@best", "runs/old", "best"),
        ("runs/old@latest", "runs/old", "latest"),
        ("runs/old@update-2000", "runs/old", "update-2000"),
        ("runs/me@home", "runs/me@home", None),
        ("runs/me@home@best", "runs/me@home", "best"),
        ("runs/old@update-", "runs/old@update-", None),
        ("runs/old/checkpoints/update-2000", "runs/old", "update-00002000"),
        ("runs/old/checkpoints/update-00002000@update-2000", "runs/old", "update-00002000"),
        ("runs/old/checkpoints", "runs/old/checkpoints", None),
    ],
)
def test_a_run_is_named_with_or_without_its_checkpoint(text, directory, checkpoint):
    assert parse_run_reference(text) == (directory, checkpoint)


def test_a_tag_of_a_test_set_that_nothing_teaches_is_refused(untrained_config, trained_run, tmp_path):
    """But a run that is there, or begins with weights that may know it, goes on."""
    test = f"[{{name: a, source: {tmp_path}/train.es, target: {tmp_path}/train.en, tag: <2fr>}}]"
    wrong = [f"data.test={test}", f"model_directory={tmp_path}/tagged"]
    for check in (lambda: check_config([untrained_config], wrong), lambda: train(load([untrained_config], wrong))):
        with pytest.raises(
            ConfigError, match=r"data\.test\.a\.tag must be null, as data\.train has no tags, got <2fr>"
        ):
            check()
    check_config([untrained_config], [*wrong, f"training.initialize_from={trained_run.directory}"])
    check_config([trained_run.directory / "config.yaml"], wrong[:1])


def test_an_unknown_kind_of_variation_is_refused_where_it_would_vary(untrained_config, trained_run, tmp_path):
    """A model that was trained with one translates without it."""
    wrong = ["data.variation={typo: 0.1}"]
    for check in (lambda: check_config([untrained_config], wrong), lambda: train(load([untrained_config], wrong))):
        with pytest.raises(ConfigError, match=r"data\.variation must name merge, .*got typo: did you mean typos"):
            check()
    check_config([untrained_config], ["data.variation={typo: 0}"])
    shutil.copytree(trained_run.directory, tmp_path / "run")
    path = tmp_path / "run/config.yaml"
    path.write_text(path.read_text().replace("variation: null", "variation: {own_kind: 0.1}"))
    assert read_settings(tmp_path / "run").data.variation == {"own_kind": 0.1}


def test_check_config_remarks_on_a_directory_that_is_not_here(trained_run):
    _, remarks = check_config([trained_run.config], ["training.initialize_from=nowhere@best"])
    assert remarks[-1] == "training.initialize_from: there is no directory nowhere here"


def test_weights_without_an_optimizer_are_refused_before_anything_is_written(old):
    contents = read_contents(old, "latest").contents
    with CheckpointManager(old) as manager:
        manager.write(dataclasses.replace(contents, update=contents.update + 1, optimizer=None, optimizer_class=None))
    before = contents_of(old)
    with pytest.raises(CheckpointError, match=r"keeps weights and no optimizer.*training.initialize_from"):
        train(load([old / "config.yaml"], [f"model_directory={old}"]))
    assert contents_of(old) == before
