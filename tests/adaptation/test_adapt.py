"""`nmt adapt`: what is chosen, what is written, and what it calls better."""

import json
import random
import re
import shutil
from pathlib import Path

import pytest
import yaml

from nmt.adaptation.adapt import Comparison, chosen_sizes, judged, plan_adaptation
from nmt.adaptation.corpora import corpus_of
from nmt.cli.main import main
from nmt.config import load
from nmt.data.lines import read_lines
from nmt.errors import CheckpointError, ConfigError, DataError
from nmt.scoring.evaluation import paired_p_value

pytestmark = pytest.mark.usefixtures("eagerly")

WORDS = ["uno", "dos", "tres", "cuatro", "cinco", "seis"]


@pytest.fixture
def run(trained_run, tmp_path):
    """A copy of a run whose corpora are found, and that was trained with Adam at 0.002."""
    for path in trained_run.config.parent.glob("*.e?"):
        shutil.copy(path, tmp_path / path.name)
    shutil.copytree(trained_run.directory, tmp_path / "run")
    path = tmp_path / "run/config.yaml"
    path.write_text(path.read_text().replace(str(trained_run.config.parent), str(tmp_path)))
    return str(tmp_path / "run")


@pytest.fixture
def corpus(tmp_path):
    """Forty pairs of new text; some words of it are unknown to the model."""
    generator = random.Random(5)
    lines = [" ".join(generator.choices([*WORDS, "nuevo"], k=generator.randint(3, 6))) for _ in range(40)]
    for side in ("es", "en"):
        (tmp_path / f"new.{side}").write_text("".join(f"{number} {line}\n" for number, line in enumerate(lines)))
    return f"{tmp_path}/new.es,{tmp_path}/new.en"


def lines_of(run, name):
    return [list(read_lines(f"{run}-adapted/adaptation/{name}.{side}")) for side in ("es", "en")]


def test_sizes_follow_from_the_corpus(untrained_config):
    config = load(untrained_config, ["training.optimizer.learning_rate=0.002", "training.batch_tokens=4096"])
    few, more, many = (chosen_sizes(config, pairs, 20.0) for pairs in (1_000, 20_000, 200_000))
    assert [each.learning_rate for each in (few, more, many)] == [0.0002, 0.0005, 0.001]
    assert few.batch_tokens == 1_000  # of 20,000 tokens, 20 updates an epoch
    assert (few.max_updates, few.warmup_updates) == (400, 40)
    assert more.batch_tokens == many.batch_tokens == 4096
    assert many.max_updates == -(-5 * 200_000 * 20 // 4096)
    bounded = chosen_sizes(config.with_training(max_updates=30), 200_000, 20.0)
    assert (bounded.max_updates, bounded.warmup_updates) == (30, 3)


def test_what_is_planned_is_written(run, corpus):
    planned = plan_adaptation(run, corpus, replay=0.25, freeze=["decoder"], extend_vocabulary=False)
    data, training = planned.config.data, planned.config.training
    parts = {name: lines_of(run, name) for name in ("new-train", "new-validation", "new-test")}
    assert [len(parts[name][0]) for name in parts] == [36, 2, 2]
    assert not {*parts["new-train"][0]} & {*parts["new-validation"][0], *parts["new-test"][0]}
    new, old = data.train
    assert (new.name, new.weight, old.name, old.weight) == ("new", 0.75, "old", 0.25)
    assert old.paths == load(f"{run}/config.yaml").data.train.paths
    assert new.paths[0] == (f"{run}-adapted/adaptation/new-train.es",)
    assert not list((Path(run).parent / "run-adapted/adaptation").glob("replay*"))  # nothing is copied
    assert (training.initialize_from, training.freeze) == (run, ("decoder",))
    assert (training.max_updates, training.max_epochs) == (100, None)
    assert "new corpus: 40 pairs read, 36 kept for training, 4 left out" in planned.remarks[0]
    assert planned.remarks[1] == "replay: 0.25 of what is trained on, drawn from the old corpora, old 0.25 (15 pairs)"
    assert "chosen for 36 new and 12 old pairs" in planned.remarks[2]
    again = plan_adaptation(run, corpus, replay=0.25, extend_vocabulary=False)
    assert again.config.data == data


def test_columns_of_new_text_are_named(run, corpus, tmp_path):
    sides = [[*read_lines(path)] for path in corpus.split(",")]
    rows = "".join(
        f"{number}\t{target}\t{source}\n" for number, (source, target) in enumerate(zip(*sides, strict=True))
    )
    (tmp_path / "new.tsv").write_text("id\tenglish\tspanish\n" + rows, encoding="utf-8")
    plan_adaptation(run, corpus, extend_vocabulary=False)
    plain = lines_of(run, "new-train")
    plan_adaptation(run, f"{tmp_path}/new.tsv", columns=("spanish", 2), extend_vocabulary=False)
    assert lines_of(run, "new-train") == plain


def test_a_limit_of_ones_own_decides_what_follows_from_it(run, corpus):
    overrides = ["training.max_updates=30", "training.optimizer.learning_rate=0.001"]
    planned = plan_adaptation(run, corpus, extend_vocabulary=False, overrides=overrides)
    training = planned.config.training
    assert (training.max_updates, training.schedule.warmup_updates, training.validate_every_updates) == (30, 3, 3)
    assert any("learning rate 0.001, batches of 512 tokens, 30 updates" in remark for remark in planned.remarks)
    overrides += ["training.schedule.warmup_updates=7", "training.validate_every_updates=10"]
    training = plan_adaptation(run, corpus, extend_vocabulary=False, overrides=overrides).config.training
    assert (training.schedule.warmup_updates, training.validate_every_updates) == (7, 10)


def test_new_text_whose_sides_are_swapped_is_warned_of(run, tmp_path, caplog):
    old = [[*read_lines(f"{tmp_path}/train.{side}")] for side in ("en", "es")]
    for side, lines in zip(("es", "en"), old, strict=True):
        (tmp_path / f"swapped.{side}").write_text("".join(f"{line}\n" for line in lines * 8))
    given = f"{tmp_path}/swapped.es,{tmp_path}/swapped.en"
    (tmp_path / "far.tsv").write_text("ocho nueve diez\teight nine ten\n")
    judging = f"{tmp_path}/far.tsv"
    plan_adaptation(run, given, validation=judging, test=judging, replay=0.0, extend_vocabulary=False)
    assert "the new text: source and target look swapped beside the old data.train: " in caplog.text
    caplog.clear()
    right = given.replace("swapped", "train")
    plan_adaptation(run, right, validation=judging, test=judging, replay=0.0, extend_vocabulary=False)
    assert "swapped" not in caplog.text


def test_the_same_command_goes_on_and_another_is_refused(run, corpus, tmp_path):
    how = {"replay": 0.25, "extend_vocabulary": False, "overrides": ["training.max_updates=2"]}
    planned = plan_adaptation(run, corpus, **how)
    shutil.copytree(f"{run}/checkpoints", f"{run}-adapted/checkpoints")  # as if it had been stopped
    shutil.copy(f"{run}-adapted/adaptation/settings.yaml", f"{run}-adapted/config.yaml")
    again = plan_adaptation(f"{run}/", corpus, **how)
    assert again.config == planned.config
    assert again.tests == planned.tests
    assert again.remarks == (f"{run}-adapted goes on, which the same command began",)
    with pytest.raises(CheckpointError, match="holds a model already, adapted with another --replay or --set: go on"):
        plan_adaptation(run, corpus, replay=0.5, extend_vocabulary=False)
    text = (tmp_path / "new.es").read_text()
    (tmp_path / "new.es").write_text(text.replace("uno", "nueve"))
    with pytest.raises(CheckpointError, match="holds a model already, adapted with another text: go on"):
        plan_adaptation(run, corpus, **how)


def test_no_line_near_to_one_that_is_held_out_is_trained_on(run, corpus, tmp_path):
    (tmp_path / "near.es").write_text("UNO, nuevo: 7!\nocho\n")
    (tmp_path / "near.en").write_text("nueve\nÚno nuevo 8\n")
    for side in ("es", "en"):
        with (tmp_path / f"new.{side}").open("a") as file:
            file.write("1 uno nuevo\n")
    given = f"{tmp_path}/near.es,{tmp_path}/near.en"
    planned = plan_adaptation(run, corpus, validation=given, test=given, replay=0.0, extend_vocabulary=False)
    assert "41 pairs read, 40 kept for training, 1 left out" in planned.remarks[0]


def test_what_cannot_be_adapted_is_refused(run, corpus, tmp_path):
    with pytest.raises(ConfigError, match="--replay must be a share from 0 to below 1, got 1"):
        plan_adaptation(run, corpus, replay=1.0)
    with pytest.raises(ConfigError, match=r"--replay must be above 0 for old\.es to be replayed"):
        plan_adaptation(run, corpus, replay=0.0, replay_source="old.es")
    with pytest.raises(ConfigError, match="must be another directory than the old model's"):
        plan_adaptation(run, corpus, output=run, overwrite=True)
    shutil.copytree(run, tmp_path / "other")
    with pytest.raises(CheckpointError, match=r"go on with it by nmt train .*other/config\.yaml, choose another -o"):
        plan_adaptation(run, corpus, output=tmp_path / "other")
    with pytest.raises(ConfigError, match=r"new\.es/adaptation cannot be written: Not a directory: choose another -o"):
        plan_adaptation(run, corpus, output=tmp_path / "new.es")
    with pytest.raises(ConfigError, match=r"training\.freeze must name parts of the model, .*, got embedings"):
        plan_adaptation(run, corpus, freeze=["embedings"], extend_vocabulary=False)
    with pytest.raises(ConfigError, match=r"must have the source first, got en for .*: write \{es,en\}"):
        plan_adaptation(run, f"{tmp_path}/new.{{en,es}}")
    (tmp_path / "train.es").unlink()
    with pytest.raises(DataError, match=r"the old corpus must be there to be replayed: .*give other text in"):
        plan_adaptation(run, corpus)
    planned = plan_adaptation(run, corpus, replay_source=tmp_path / "test.es", extend_vocabulary=False)
    assert len(lines_of(run, "replay")[0]) == 5
    assert "replay: 5 of 12 wanted pairs" in planned.remarks[2]
    assert [(each.name, each.weight) for each in planned.config.data.train] == [("new", 0.75), ("replay", 0.25)]


def test_new_text_has_no_links_for_hints(run, corpus, tmp_path):
    path = tmp_path / "run/config.yaml"
    values = yaml.safe_load(path.read_text())
    values["data"]["train"]["alignment"], values["data"]["variation"] = "links", {"tags": 0.2, "typos": 0.1}
    path.write_text(yaml.safe_dump(values))
    planned = plan_adaptation(run, corpus, extend_vocabulary=False)
    assert planned.config.data.variation == {"typos": 0.1}
    assert [each.alignment for each in planned.config.data.train] == [None, None]
    assert "no tags of data.variation: the new text has no links between words" in planned.remarks


def set_in(run, **sections):
    path = Path(run) / "config.yaml"
    values = yaml.safe_load(path.read_text())
    for name, settings in sections.items():
        values[name] |= settings
    path.write_text(yaml.safe_dump(values))


def test_what_suits_the_old_text_alone_is_found_anew(run, corpus):
    set_in(run, search={"shortlist": True, "max_length_ratio": 2.5, "max_length": 40})
    planned = plan_adaptation(run, corpus, extend_vocabulary=False)
    search = planned.config.search
    assert (search.shortlist, search.max_length_ratio, search.max_length) == (False, "auto", 40)
    assert any(remark.startswith("search.shortlist is false") for remark in planned.remarks)


def test_an_update_of_several_batches_stays_one(run, corpus):
    set_in(run, training={"batch_tokens": 256, "effective_batch_tokens": 1024})
    training = plan_adaptation(run, corpus, extend_vocabulary=False).config.training
    assert (training.batch_tokens, training.effective_batch_tokens) == (256, 512)  # 512 is the least of an update


def test_what_was_forgotten_before_is_not_measured(run, corpus):
    (Path(run) / "adaptation").mkdir()
    planned = plan_adaptation(run, corpus, extend_vocabulary=False)
    assert "what was known before that is not measured" in planned.remarks[-1]


def test_tokens_are_not_added_where_they_would_learn_nothing_or_be_in_the_way(run, corpus):
    with pytest.raises(ConfigError, match=r"learn nothing where training\.freeze has embeddings: give --keep-vocab"):
        plan_adaptation(run, corpus, freeze=["embeddings"])
    trained = Path(f"{run}-adapted-vocabulary")
    trained.mkdir()
    (trained / "metrics.jsonl").touch()
    with pytest.raises(CheckpointError, match="holds a run that was trained, in the way of the extended vocabulary"):
        plan_adaptation(run, corpus)
    assert not Path(f"{run}-adapted").exists()


def test_a_test_set_that_is_gone_is_not_measured(run, corpus, tmp_path):
    (tmp_path / "test.en").unlink()
    planned = plan_adaptation(run, corpus, freeze=["decoder", "embeddings"], extend_vocabulary=False)
    assert [*planned.tests] == ["new"]
    assert re.search(r"what is forgotten is not measured: .*test\.en", planned.remarks[-1])
    assert planned.config.training.freeze == ("decoder", "embeddings")


def test_a_model_is_adapted_and_compared(run, corpus, capsys):
    """From the command line, with its vocabulary extended, since a seventh of the new words is unknown."""
    settings = ["--set", "training.max_updates=2", "--set", "training.tensorboard=false"]
    assert main(["adapt", run, "--with", corpus, "--json", *settings]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(each["name"], each["lines"]) for each in found["comparisons"]] == [("new", 2), ("old", 5)]
    assert not found["is_better"]
    config = load(f"{run}-adapted/config.yaml")
    assert config.training.initialize_from == f"{run}-adapted-vocabulary"
    assert main(["train", f"{run}-adapted/config.yaml"]) == 0  # which has nothing to do


@pytest.mark.parametrize(
    ("new", "old", "is_better", "words"),
    [
        (3.0, -0.4, True, r"^better: \+3\.00 BLEU on the new test set, -0\.40 on the old"),
        (3.0, -0.6, False, r"^not better: it gained .* and lost 0\.60 on the old one, above the 0\.5 allowed"),
        (-1.0, 0.0, False, r"^not better: the new test set changed by -1\.00"),
        (0.05, 0.0, False, r"^not better: the new test set changed by \+0\.05"),
    ],
)
def test_what_forgot_is_not_called_better(new, old, is_better, words):
    gains = {"new": new, "old": old}
    comparisons = [Comparison(name, 9, (30.0, 50.0), (30.0 + gain, 50.0), 0.01) for name, gain in gains.items()]
    verdict, found = judged(comparisons, most_lost=0.5)
    assert found is is_better
    assert re.search(words, verdict)


def test_a_corpus_is_given_in_three_ways(tmp_path):
    (tmp_path / "pairs.tsv").write_text("uno\tone\n")
    for side, word in (("es", "uno"), ("en", "one")):
        (tmp_path / f"c.{side}").write_text(f"{word}\n")
    for given in ("{0}/c.es,{0}/c.en", "{0}/pairs.tsv"):
        assert list(corpus_of(given.format(tmp_path), ("es", "en")).pairs()) == [("uno", "one")]
    assert list(corpus_of(f"{tmp_path}/c.{{es,en}}", ("es", "en")).pairs()) == [("uno", "one")]
    for given in ("{0}/c.es", "{0}/c.es,{0}/c.es"):  # which would be a corpus of copies
        with pytest.raises(
            ConfigError, match=r"another one for the other side, got .*c\.es for both: give SOURCE,TARGET"
        ):
            corpus_of(given.format(tmp_path), ("es", "en"))


def test_a_bootstrap_tells_a_difference_from_none():
    generator = random.Random(1)
    references = [" ".join(generator.choices(WORDS, k=8)) for _ in range(60)]
    worse = [" ".join(generator.sample(line.split(), 8)) for line in references]
    assert paired_p_value(worse, references, references, tokenization="13a") < 0.01
    assert paired_p_value(worse, worse, references, tokenization="13a") > 0.5
