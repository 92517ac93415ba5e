"""Tags before the target from raw text to scores: trained, validated, evaluated, translated, scored and aligned."""

import json
import math
import random

import numpy as np
import pytest
from keras import ops

from nmt.cli.main import main
from nmt.config import load
from nmt.errors import ConfigError
from nmt.inference.translator import load_translator, open_model
from nmt.recipes.train import refuse_unknown_tags
from nmt.tasks.score import add_model, read_list
from nmt.text import BOS_ID, EOS_ID, SPECIAL_TOKENS, TextPair, Vocabulary, WhitespaceTokenizer
from tests import tiny

pytestmark = pytest.mark.usefixtures("step_by_step")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder, generator = tmp_path_factory.mktemp("tags"), random.Random(3)
    corpora = {name: tiny.copied_lines(generator, count) for name, count in {"train": 30, "validation": 3}.items()}
    corpora["validation"][0] = ("", "")
    files = {name: f"{folder}/{name}.{{es,en}}" for name in corpora}
    train, validation = (
        [{"name": name, "pairs": files[role], "tag": tag} for name, tag in (("up", "<up>"), ("down", "<down>"))]
        for role in ("train", "validation")
    )
    test = [{"name": "first", "pairs": files["validation"], "tag": "<up>"}]
    data = {"tag_side": "target", "train": train, "validation": validation, "test": test, "max_length": 30}
    training = {
        "batch_tokens": 60, "max_updates": 2, "validate_every_updates": 2, "save_every_updates": 2,
        "tensorboard": False, "deciding_validation": "down",
    }  # fmt: skip
    search = {"beam_size": 2, "max_length": 4, "engine": "keras", "allow_unknown": False}
    return tiny.write_config(folder, corpora, data=data, model=tiny.TRANSFORMER, training=training, search=search)


@pytest.fixture(scope="module")
def run(config):
    assert main(["train", str(config)]) == 0
    return config.parent / "run"


def by_hand(run, source, target, tag):
    """The log probability of each token of a target, text or ids, that of the tag before it first."""
    opened = open_model(run)
    text = opened.text
    source_ids = [*text.source.encode(source), EOS_ID]
    ids = [*text.target.encode(target), EOS_ID] if isinstance(target, str) else target
    target_ids = [text.target.tags[tag], *ids]
    log_probs = ops.log_softmax(opened.model((np.array([source_ids]), np.array([[BOS_ID, *target_ids[:-1]]]))))[0]
    return [float(log_probs[place, token_id]) for place, token_id in enumerate(target_ids)]


def printed(capsys, *arguments):
    assert main([*map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_the_vocabulary_of_the_target_has_the_symbols_and_no_text_gives_them(run):
    text = open_model(run).text
    assert {*text.target.tags} == {"<up>", "<down>"}
    assert text.source.tags == {}
    assert not {*text.target.tags.values()} & {*text.target.encode("uno <up> dos")}


def test_the_loss_of_a_validation_set_is_that_of_its_tag(run):
    *_, record = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
                  if '"validation"' in line and '"sets"' in line]  # fmt: skip
    pairs = [path.read_text(encoding="utf-8").split("\n")[:-1] for path in
             (run.parent / "validation.es", run.parent / "validation.en")]  # fmt: skip
    for name in ("up", "down"):
        log_probs = [each for pair in zip(*pairs, strict=True) for each in by_hand(run, *pair, f"<{name}>")]
        assert record["sets"][name]["loss"] == pytest.approx(-math.fsum(log_probs) / len(log_probs), abs=1e-4)


def test_the_score_of_a_translation_is_that_behind_its_tag(run, tmp_path, capsys):
    lines = tmp_path / "lines.jsonl"
    records = [{"source": "gato rojo"}, {"source": "gato rojo", "tag": "<up>"}, {"source": "uno", "tag": None}]
    lines.write_text("".join(json.dumps(each) + "\n" for each in records), encoding="utf-8")
    how = ["translate", run, "-i", lines, "--input-format", "jsonl", "--tag", "<down>", "--format", "jsonl"]
    found = [json.loads(line) for line in printed(capsys, *how, "--n-best", 2).splitlines()]
    assert [each.get("tag") for each in found] == ["<down>", "<up>", None]
    vocabulary = open_model(run).text.target.vocabulary
    for record in found[:2]:
        for each in record["translations"]:
            each["token_ids"] = [vocabulary.id(token) for token in each["tokens"]]
            scores = by_hand(run, record["source"], each["token_ids"], record["tag"])[1:]
            assert each["num_tokens"] == len(scores) <= 4
            assert each["token_scores"] == pytest.approx(scores, abs=1e-4)
            assert each["log_prob"] == pytest.approx(math.fsum(scores), abs=1e-4)
    n_best = tmp_path / "n_best.jsonl"
    n_best.write_text("".join(json.dumps(each) + "\n" for each in found[:2]), encoding="utf-8")
    rescored = [json.loads(line) for line in printed(capsys, "score", run, "--n-best", n_best).splitlines()]
    for record in rescored:
        for each in record["translations"]:
            assert each["model_tokens"] == each["num_tokens"]
            assert each["model"] == pytest.approx(each["log_prob"], abs=1e-4)


def test_given_pairs_are_scored_and_aligned_behind_a_tag(run, tmp_path, capsys):
    for name, text in (("s", "gato rojo"), ("t", "rojo gato")):
        (tmp_path / name).write_text(f"{text}\n", encoding="utf-8")
    files = ["--source", tmp_path / "s", "--target", tmp_path / "t"]
    expected = math.fsum(by_hand(run, "gato rojo", "rojo gato", "<up>")[1:])
    assert float(printed(capsys, "score", run, *files, "--tag", "<up>")) == pytest.approx(expected, abs=1e-4)
    record = json.loads(printed(capsys, "align", run, *files, "--tag", "<up>", "--format", "jsonl", "--soft"))
    assert np.shape(record["word_weights"]) == (2, 2)
    assert record["target_tokens"] == ["rojo", "gato"]
    plain = float(printed(capsys, "score", run, *files))
    assert plain != pytest.approx(expected, abs=1e-3)
    assert main(["align", str(run), *map(str, files), "--tag", "<2de>"]) == 1
    assert "got <2de>: it knows <up> or <down>" in capsys.readouterr().err


def test_records_without_a_tag_are_counted_and_a_wrong_one_has_its_line(run, tmp_path, capsys):
    lines, records = tmp_path / "lines.jsonl", [{"source": "uno", "target": "uno"} for _ in range(4)]
    records[1] |= {"tag": "<up>"}
    for verb in (["translate", run, "--input-format", "jsonl", "-i"], ["score", run, "--pairs"]):
        for tag, status in ((None, 0), ("<z>", 1)):
            records[2] |= {"tag": tag}
            lines.write_text("".join(json.dumps(each) + "\n" for each in records), encoding="utf-8")
            assert main([*map(str, verb), str(lines)]) == status
            told = " ".join(capsys.readouterr().err.split())
            if tag is None:
                assert "3 of 4 records name no tag, and are read without: the model knows <up> or <down>" in told
            else:
                assert "line 3: the tag must be one that the model was trained with, got <z>" in told
    assert main(["translate", str(run), "--input-format", "jsonl", "-i", str(lines), "--tag", "<q>"]) == 1
    assert "line 1: the tag must be one that the model was trained with, got <q>" in capsys.readouterr().err


def test_a_reverse_model_reads_its_own_tag(run, tmp_path, capsys):
    n_best = {"source": "gato", "tag": "<up>", "translations": [{"text": "rojo"}, {"text": "uno dos"}]}
    (tmp_path / "list.jsonl").write_text(json.dumps(n_best) + "\n", encoding="utf-8")
    how = ["rerank", tmp_path / "list.jsonl", "--weights", "reverse=1", "--reverse", run]
    found = {each: math.fsum(by_hand(run, each, "gato", "<down>")[1:]) for each in ("rojo", "uno dos")}
    assert printed(capsys, *how, "--reverse-tag", "<down>") == max(found, key=found.get) + "\n"
    ours = add_model(read_list(tmp_path / "list.jsonl"), "reverse", load_translator(run), reverse=True, tag="<down>")
    assert [each.features["reverse"] for each in ours.candidates[0]] == pytest.approx([*found.values()], abs=1e-4)
    assert main([*map(str, how)]) == 0
    assert "none is given: --tag <up> or <down>" in capsys.readouterr().err
    assert main(["rerank", str(tmp_path / "list.jsonl"), "--weights", "score=1", "--reverse-tag", "<up>"]) == 2


def test_who_forgets_the_tag_hears_of_it(run, capsys):
    (run.parent / "lines").write_text("gato\n", encoding="utf-8")
    assert main(["translate", str(run), "-i", str(run.parent / "lines")]) == 0
    assert "learned with a tag before each target, and none is given: --tag <up> or <down>" in capsys.readouterr().err
    assert main(["evaluate", str(run), "--json"]) == 0  # the test set has its own
    assert "none is given" not in capsys.readouterr().err
    given = ["--source", f"{run.parent}/validation.es", "--reference", f"{run.parent}/validation.en"]
    output = run.parent / "translated"
    assert main(["evaluate", str(run), *given, "--tag", "<down>", "-o", str(output)]) == 0
    assert "none is given" not in capsys.readouterr().err
    how = ["translate", run, "-i", run.parent / "validation.es", "--tag", "<down>"]
    assert printed(capsys, *how) == output.read_text(encoding="utf-8")
    assert main(["evaluate", str(run), "--tag", "<down>"]) == 2
    assert "go together, and --tag is for them" in capsys.readouterr().err


def test_the_side_may_not_change(config, run, capsys):
    assert main(["train", str(config), "--set", "data.tag_side=source", "--set", "training.max_updates=3"]) == 1
    assert "data.tag_side: target before, source now" in capsys.readouterr().err
    assert load(run / "config.yaml").data.tag_side == "target"


def test_a_vocabulary_with_tags_of_the_other_side_is_refused(config):
    words = WhitespaceTokenizer(Vocabulary([*SPECIAL_TOKENS, "uno"]))
    text = TextPair(words, words, joint=True).with_tags(["<up>", "<down>"])
    with pytest.raises(ConfigError, match=r"data\.tag_side must be source, as when the vocabulary .* got target"):
        refuse_unknown_tags(load(config), text)
    refuse_unknown_tags(load(config), text.with_tags(["<up>"], "target"))
    with pytest.raises(ConfigError, match="has none for <down>"):
        refuse_unknown_tags(load(config), TextPair(words, words, joint=True).with_tags(["<up>"], "target"))
