"""Another vocabulary through the recipe: trained a little, changed, gone on from the same update; all of it eager."""

import json
import logging
import shutil
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from nmt.adaptation.derived import average
from nmt.adaptation.update_vocabulary import (
    SideFiles,
    adopted_text,
    extended_text,
    files_by_vocabulary,
    learned_text,
    plan_update,
    update_vocabulary,
)
from nmt.checkpoint.folder import DirectoryLock
from nmt.checkpoint.index import has_checkpoint
from nmt.checkpoint.weights import read_contents
from nmt.config import load
from nmt.directory.model_directory import REPORT_NAME, sibling_directory
from nmt.errors import CheckpointError, ConfigError, DataError
from nmt.inference.translator import Translator
from nmt.recipes.build_vocabulary import build_text
from nmt.recipes.train import train
from nmt.text import TextPair
from tests import tiny

JOINT = "data.tokenizer={type: whitespace, joint: true}"
SMALL = ["training.batch_tokens=101", "training.ema_decay=0.5", "training.tensorboard=false", "training.max_updates=3",
         "training.validate_every_updates=3", "training.sample_translations=0", "training.save_every_updates=3",
         "training.schedule={type: plateau, metric: bleu}", "search.max_length=3"]  # fmt: skip
SOURCE = "source_embedding/embeddings"


pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture(scope="module")
def trained(trained_run, tmp_path_factory):
    """A run of three updates with a joint vocabulary, and text with other words; tests must not change it."""
    folder = tmp_path_factory.mktemp("updated")
    with tiny.run_eagerly():
        train(load(trained_run.config, [f"model_directory={folder}/run", JOINT, *SMALL]))
    (folder / "new.es").write_text("uno once doce\nonce veinte\n", encoding="utf-8")
    (folder / "new.en").write_text("one eleven twelve\neleven twenty\n", encoding="utf-8")
    corpora = SideFiles(both=(folder / "new.es", folder / "new.en"))
    return SimpleNamespace(folder=folder, run=folder / "run", corpora=corpora)


@pytest.fixture
def extend(trained, tmp_path):
    """A function that plans and writes an extension of the run in `tmp_path / "new"`."""

    def extend(*overrides, **settings):
        choose = partial(extended_text, corpora=trained.corpora)
        planned = plan_update(
            trained.run, choose, corpora=trained.corpora, output=tmp_path / "new", overrides=overrides, **settings
        )
        return update_vocabulary(planned), planned

    return extend


def files_of(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_training_goes_on_from_the_same_update(trained, extend, tmp_path):
    before_files = files_of(trained.run)
    done, planned = extend("training.max_updates=4", "training.validate_every_updates=2")
    assert (done.checkpoint, done.update, done.ended_by, done.can_go_on) == ("update-00000003", 3, None, True)
    before, after = read_contents(trained.run, "latest").contents, read_contents(tmp_path / "new").contents
    old, new = planned.old.source.vocabulary, planned.new.source.vocabulary
    assert new.tokens[: len(old)] == old.tokens
    assert new.tokens[len(old) :] == ("eleven", "once", "doce", "twelve", "twenty", "veinte")
    for part in ("model", "ema"):
        rows = getattr(after, part)[SOURCE]
        np.testing.assert_array_equal(rows[: len(old)], getattr(before, part)[SOURCE])
        np.testing.assert_array_equal(rows[len(old) :], np.repeat(rows[1:2], 6, axis=0))
    assert after.optimizer["iterations"] == before.optimizer["iterations"] == 3
    assert before.state["batch"] > 0
    assert before.state["best_score"] is not None
    assert before.state["schedule"]["best"] is not None
    reset = {
        "batch": 0, "best_score": None, "best_loss": None, "validations_without_best": 0, "validated_update": 0
    }  # fmt: skip
    for key, value in before.state.items():
        if key not in ("pending", "schedule"):
            assert after.state[key] == reset.get(key, value)
    reset = {"best": None, "best_loss": None, "validations_without_best": 0}
    assert after.state["schedule"] == {**before.state["schedule"], **reset}
    assert after.score is None
    assert "validation" in before.facts
    assert "validation" not in after.facts
    assert after.facts["data_hash"] == before.facts["data_hash"]

    result = train(load(tmp_path / "new" / "config.yaml"))
    assert (result.update, result.directory) == (4, tmp_path / "new")
    trained_on = read_contents(tmp_path / "new", "latest").contents
    assert trained_on.optimizer["iterations"] == 4
    assert trained_on.model[SOURCE].shape == (len(new), 6)
    assert trained_on.score is not None
    assert trained_on.facts["tokenizers"] == after.facts["tokenizers"]
    assert files_of(trained.run) == before_files
    assert Translator.load(tmp_path / "new").translate(["uno once"])


def test_limits_of_length_are_found_anew(trained, tmp_path, caplog):
    """The run allows 1.5 * source length, which `auto` may have chosen, and 3 tokens, which only a person can have."""
    caplog.set_level(logging.INFO)
    (tmp_path / "new.es").write_text("ocho\n" * 3, encoding="utf-8")
    (tmp_path / "new.en").write_text("one two three one two three eight eight\n" * 3, encoding="utf-8")
    corpus = [f"data.train={{source: {tmp_path}/new.es, target: {tmp_path}/new.en}}", "search.max_length_offset=1"]
    choose = partial(extended_text, corpora=trained.corpora)

    def limits(*overrides):
        caplog.clear()
        planned = plan_update(trained.run, choose, output=tmp_path / "new", overrides=[*corpus, *overrides])
        return planned.settings.search.max_length_ratio, planned.settings.search.max_length

    assert limits() == (4.0, 3)
    assert caplog.messages == ["search.max_length_ratio: 1.5 before, 4.0 now"]
    assert limits("search.max_length_ratio=1.5") == (1.5, 3)
    assert limits("search.max_length=auto") == (4.0, 405)
    (trained.run / "config.yaml").write_text(
        (trained.run / "config.yaml").read_text().replace("max_length_ratio: 1.5", "max_length_ratio: 9.0")
    )
    assert limits() == (4.0, 3)
    assert caplog.messages == [
        "search.max_length_ratio: 9.0 before, 4.0 now, as the new tokens need it: --set search.max_length_ratio=9.0 "
        "keeps it"
    ]
    (tmp_path / "new.es").unlink()
    assert limits() == (9.0, 3)
    assert "limits of translations are kept, since the training corpus cannot be read here" in caplog.text


def test_another_corpus_may_follow(trained, extend, tmp_path):
    source, target = trained.corpora.both
    done, _ = extend(f"data.train={{source: {source}, target: {target}}}", "training.max_updates=4")
    config = load(tmp_path / "new" / "config.yaml")
    assert config.data.train.paths[0] == (str(source),)
    assert config.model_directory == str(tmp_path / "new")
    assert "data_hash" not in read_contents(done.directory).contents.facts
    assert train(config).update == 4


def test_a_mixture_may_follow_and_be_followed(trained, extend, tmp_path):
    source, target = trained.corpora.both
    mixture = f"data.train=[{{name: one, source: {source}, target: {target}}}]"
    stages = "data.stages=[{until: {updates: 2}}, {name: fine}]"
    extend(mixture, stages, "training.max_updates=6")
    assert train(load(tmp_path / "new" / "config.yaml")).update == 6
    again = tmp_path / "again"
    (tmp_path / "more").write_text("treinta thirty\n", encoding="utf-8")
    other = ["data.stages=[{name: one, until: {updates: 1}}, {until: {updates: 1}}, {name: last}]"]
    for overrides, ended in (
        ([], 1),
        (other, 0),
        ([f"data.train={{source: {source}, target: {target}}}", "data.stages=null"], None),
    ):
        planned = plan_update(
            tmp_path / "new", partial(extended_text, corpora=SideFiles(both=(tmp_path / "more",))), output=again,
            overrides=["training.max_updates=8", *overrides], overwrite=True,
        )  # fmt: skip
        update_vocabulary(planned)
        ends = read_contents(again).contents.state.get("stage_ends")
        assert (None if ends is None else len(ends)) == ended
        assert train(load(again / "config.yaml")).update == 8
        shutil.rmtree(again)


def test_tokens_that_would_learn_nothing_are_said(trained, tmp_path, caplog):
    """A run goes on with what it freezes; another one may begin here."""
    path = trained.run / "config.yaml"
    kept = path.read_text(encoding="utf-8")
    path.write_text(kept.replace("freeze: []", "freeze: [embeddings]"), encoding="utf-8")
    try:
        plan_update(trained.run, partial(extended_text, corpora=trained.corpora), output=tmp_path / "new")
    finally:
        path.write_text(kept, encoding="utf-8")
    assert "training.freeze has embeddings, where new tokens learn nothing" in caplog.text


def test_a_run_that_is_pulled_to_old_weights_does_not_go_on(trained, tmp_path, caplog):
    with tiny.run_eagerly():
        pulled = [f"model_directory={tmp_path}/pulled", f"training.initialize_from={trained.run}", "training.pull=0.1"]
        train(load(trained.run / "config.yaml", pulled))
    choose = partial(extended_text, corpora=trained.corpora)
    done = update_vocabulary(plan_update(tmp_path / "pulled", choose, output=tmp_path / "new"))
    assert not done.can_go_on
    assert "training.pull draws to weights of the old vocabulary" in caplog.text
    assert read_contents(done.directory).contents.optimizer is None
    with (
        tiny.run_eagerly(),
        pytest.raises(CheckpointError, match=r"new: no training with training\.pull goes on with wei"),
    ):
        train(load(done.directory / "config.yaml"))


def test_a_limit_that_was_reached_is_told(extend):
    done, _ = extend()
    assert done.ended_by == "max_updates: 3"


def test_what_changed_is_told_and_kept(trained, extend, tmp_path):
    _, planned = extend("data.tokenizer.vocabulary_size=25")
    report = json.loads((tmp_path / "new" / REPORT_NAME).read_text("utf-8"))
    joint = report["vocabularies"]["joint"]
    assert (joint["size_now"] - joint["size_before"], joint["added"], joint["dropped"], joint["moved"]) == (6, 6, 0, 0)
    assert joint["added_tokens"]["once"] == ["<unk>"]
    assert joint["text"] == {
        "lines": 4, "tokens_before": 10, "tokens_now": 10, "unknown_before": 8, "unknown_now": 0
    }  # fmt: skip
    settings = load(tmp_path / "new" / "config.yaml").data.tokenizer
    assert settings.vocabulary_size == max(25, len(planned.new.source.vocabulary))


def test_a_vocabulary_is_learned_anew(trained, tmp_path):
    planned = plan_update(trained.run, partial(learned_text, corpora=trained.corpora), output=tmp_path / "new")
    update_vocabulary(planned, checkpoint="update-3")
    text = TextPair.load(tmp_path / "new")
    assert text.joint
    assert text.source.vocabulary.tokens[4:] == ("eleven", "once", "doce", "one", "twelve", "twenty", "uno", "veinte")
    before, after = read_contents(trained.run).contents.model[SOURCE], read_contents(tmp_path / "new").contents.model
    for word in ("one", "uno"):
        new_id, old_id = text.source.vocabulary.id(word), planned.old.source.vocabulary.id(word)
        assert new_id != old_id
        np.testing.assert_array_equal(after[SOURCE][new_id], before[old_id])
    difference = planned.differences["joint"]
    assert (difference.kept, len(difference.added), difference.moved) == (6, 6, 2)
    assert len(difference.dropped) == difference.old_size - 6


def test_a_finished_list_is_taken(trained, tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("two\nonce\n")
    planned = plan_update(trained.run, partial(adopted_text, files=SideFiles(both=(path,))), output=tmp_path / "new")
    done = update_vocabulary(planned)
    assert TextPair.load(done.directory).target.vocabulary.tokens[4:] == ("two", "once")
    assert planned.differences["joint"].text is None


def test_nothing_new_changes_nothing(trained, trained_run):
    covered = SideFiles(both=(trained_run.source,))
    assert plan_update(trained.run, partial(extended_text, corpora=covered)).changes_nothing
    assert not has_checkpoint(sibling_directory(trained.run, "vocabulary"))


def test_each_side_changes_alone(trained_run, trained, tmp_path):
    """An untrained directory without a state or an optimizer: what it has is carried over, and it translates."""
    corpora = SideFiles(target=(trained.folder / "new.en",))
    choose = partial(extended_text, corpora=corpora, max_new_tokens=2)
    planned = plan_update(trained_run.directory, choose, corpora=corpora, output=tmp_path / "new")
    assert {name: len(each.added) for name, each in planned.differences.items()} == {"source": 0, "target": 2}
    assert {name: each.text is not None for name, each in planned.differences.items()} == {
        "source": False,
        "target": True,
    }
    done = update_vocabulary(planned, checkpoint="best")
    assert (done.checkpoint, done.can_go_on) == ("update-00000010", False)
    before, after = read_contents(trained_run.directory).contents, read_contents(tmp_path / "new").contents
    for path, array in after.ema.items():
        if path.startswith("target_embedding") or path == "output_bias":
            np.testing.assert_array_equal(array[:-2], before.ema[path])
        else:
            np.testing.assert_array_equal(array, before.ema[path])
    assert Translator.load(done.directory).translate(["uno dos"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.hidden_size=16", "keeps the settings it was trained with: model.hidden_size: 8 before, 16 now"),
        ("seed=1", "seed: 42 before, 1 now"),
        ("training.ema_decay=0.9", "training.ema_decay: 0.5 before, 0.9 now"),
        ("data.tokenizer.joint=false", "data.tokenizer.joint: true before, false now"),
        ("data.tokenizer={type: character, joint: true}", "data.tokenizer.type: whitespace before, character now"),
        ("data.normalization.target=nfkc", "data.normalization.target: nfc before, nfkc now"),
        ("model_directory=x", "the new model directory is set with -o, got model_directory=x"),
    ],
)
def test_settings_of_the_model_stay(trained, override, message):
    with pytest.raises(ConfigError, match=message):
        plan_update(trained.run, partial(extended_text, corpora=trained.corpora), overrides=[override])


def test_only_an_earlier_update_is_replaced(trained, extend, tmp_path):
    choose = partial(extended_text, corpora=trained.corpora)
    with pytest.raises(CheckpointError, match="run: the model must stay as it is"):
        plan_update(trained.run, choose, output=trained.folder / "." / "run", overwrite=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("mine")
    with pytest.raises(CheckpointError, match="other: exists, and was not written by update-vocab"):
        plan_update(trained.run, choose, output=tmp_path / "other", overwrite=True)
    for place, message in ((trained.folder, "must not hold"), (trained.run / "sub", "must not lie in")):
        with pytest.raises(CheckpointError, match=f"{message} the model directory .*run: choose another -o"):
            plan_update(trained.run, choose, output=place, overwrite=True)
    extend("training.max_updates=7")
    with pytest.raises(CheckpointError, match="new: exists already: choose another directory with -o, or replace it"):
        extend()
    lock = DirectoryLock(tmp_path / "new")
    lock.acquire()
    with pytest.raises(CheckpointError, match="another training writes here"):
        extend(overwrite=True)
    lock.release()
    assert load(tmp_path / "new" / "config.yaml").training.max_updates == 7
    (tmp_path / "new" / "notes.txt").write_text("mine")
    extend("training.max_updates=8", overwrite=True)
    assert load(tmp_path / "new" / "config.yaml").training.max_updates == 8
    assert (tmp_path / "new" / "notes.txt").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "other"]


def test_an_average_with_another_vocabulary_is_no_average(trained, tmp_path):
    averaged = average(trained.run, updates=[3], output=tmp_path / "average").directory
    planned = plan_update(averaged, partial(extended_text, corpora=trained.corpora), output=tmp_path / "new")
    facts = read_contents(update_vocabulary(planned).directory).contents.facts
    assert "average_of" not in facts
    assert facts["vocabulary_update_of"]["average_of"]["directory"] == str(trained.run)
    shutil.copytree(tmp_path / "new", tmp_path / "without-report")
    (tmp_path / "without-report" / REPORT_NAME).unlink()
    for name in ("new", "without-report"):
        with pytest.raises(CheckpointError, match=f"{name}: exists, and is no earlier average"):
            average(trained.run, updates=[3], output=tmp_path / name)


def test_a_directory_that_does_not_open_never_appears(trained, extend, tmp_path, monkeypatch):
    def fail(*arguments, **settings):
        raise CheckpointError("weight ties do not hold")

    monkeypatch.setattr("nmt.inference.translator.open_model", fail)
    with pytest.raises(CheckpointError, match="weight ties do not hold"):
        extend()
    assert list(tmp_path.iterdir()) == []


def test_text_that_cannot_be_used_is_named(trained, tmp_path):
    empty, broken = tmp_path / "empty.es", tmp_path / "broken.es"
    empty.write_text("\n \n")
    broken.write_bytes(b"uno\n\xff\n")
    for path, message in (
        (empty, r"empty\.es: must have text to learn tokens from, got only empty lines"),
        (broken, r"broken\.es, line 2: must be valid UTF-8"),
        (tmp_path / "nowhere", "nowhere: cannot be read: No such file"),
    ):
        for learn in (extended_text, learned_text):
            with pytest.raises(DataError, match=message):
                plan_update(trained.run, partial(learn, corpora=SideFiles(both=(path,))), output=tmp_path / "new")


def test_files_must_say_whose_they_are(trained, trained_run):
    joint, apart = TextPair.load(trained.run), TextPair.load(trained_run.directory)
    assert files_by_vocabulary(apart, SideFiles(source=("a", "b"))) == {"source": ("a", "b")}
    for text, files, message in (
        (joint, SideFiles(source=("a",)), "this model has one vocabulary for both languages"),
        (apart, SideFiles(both=("a",)), "this model has a vocabulary for each language: say whose files these are"),
    ):
        with pytest.raises(ConfigError, match=message):
            files_by_vocabulary(text, files)


KINDS = {
    "{type: whitespace}": "vocabulary",
    "{type: character, joint: true}": "vocabulary",
    "{type: sentencepiece, vocabulary_size: 30}": "tokenizer",
    "{type: sentencepiece, model_type: bpe, vocabulary_size: 30, joint: false}": "tokenizer",
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_extended_learned_and_adopted(untrained_config, trained, tmp_path, kind):
    config = load(untrained_config, [f"data.tokenizer={kind}"])
    old = build_text(config)
    source, target = trained.corpora.both
    corpora = trained.corpora if old.joint else SideFiles(source=(source,), target=(target,))
    extended, learned = extended_text(config, old, corpora), learned_text(config, old, corpora)
    learned.save(tmp_path / "learned")
    ending = {"vocabulary": "txt", "tokenizer": "model"}[KINDS[kind]]
    names = [f"{KINDS[kind]}{side}.{ending}" for side in ([".target"] if old.joint else [".source", ".target"])]
    paths = [(tmp_path / "learned" / name,) for name in names]
    adopted = adopted_text(config, old, SideFiles(both=paths[0]) if old.joint else SideFiles((), *paths))
    for new in (extended, learned, adopted):
        assert new.joint is old.joint
        for path, side in ((source, "source"), (target, "target")):
            tokenizer = getattr(new, side)
            assert tokenizer.type == config.data.tokenizer.type
            for line in path.read_text("utf-8").splitlines():
                assert tokenizer.decode(tokenizer.encode(line)) == line
    assert extended.target.vocabulary.tokens[: len(old.target.vocabulary)] == old.target.vocabulary.tokens
    assert adopted.fingerprints == learned.fingerprints
    for new in (extended, learned, adopted):
        assert [side.normalization for side in (new.source, new.target)] == ["nfkc", "nfc"]


def test_damage_is_refused(trained, trained_run, tmp_path):
    shutil.copytree(trained.run, tmp_path / "run")
    (tmp_path / "run" / "vocabulary.target.txt").write_text("<pad>\n")
    choose = partial(extended_text, corpora=trained.corpora)
    with pytest.raises(DataError, match=r"vocabulary\.target\.txt"):
        plan_update(tmp_path / "run", choose)
    TextPair.load(trained_run.directory).save(tmp_path / "other")
    other = SideFiles(target=trained.corpora.both)
    shutil.copytree(trained.run / "checkpoints", tmp_path / "other" / "checkpoints")
    shutil.copy(trained_run.directory / "config.yaml", tmp_path / "other")
    planned = plan_update(tmp_path / "other", partial(extended_text, corpora=other), output=tmp_path / "new")
    with pytest.raises(CheckpointError, match="was trained with other tokenizers than those in the model directory"):
        update_vocabulary(planned)
    assert not (tmp_path / "new").exists()
