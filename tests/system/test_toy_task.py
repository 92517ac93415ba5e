"""From raw text through the command line to a model that has learned its task; interrupted = uninterrupted."""

import json
import random
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from nmt.cli.main import main
from tests import tiny


def sentence_pairs(count, seed):
    """Word for word in reverse order: alignment and vocabulary have to be learned, both at once."""
    generator = random.Random(seed)
    for _ in range(count):
        words = generator.choices(list(tiny.WORDS), k=generator.randint(1, 4))
        yield " ".join(words), " ".join(tiny.WORDS[word] for word in reversed(words))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return tmp_path_factory.mktemp("corpus")


@pytest.fixture(scope="module")
def config(corpus):
    sizes = (("train", 1500, 1), ("validation", 40, 2), ("test", 60, 3))
    return tiny.write_config(
        corpus,
        {name: list(sentence_pairs(count, seed)) for name, count, seed in sizes},
        model={**tiny.with_dropout(tiny.TRANSFORMER, 0.1), "hidden_size": 32, "ffn_size": 64},
        data={"tokenizer": {"type": "sentencepiece", "joint": True, "vocabulary_size": 60}, "max_length": 30},
        seed=7,
        training={
            "batch_tokens": 400,
            "max_updates": 450,
            "validate_every_updates": 150,
            "save_every_updates": 150,
            "log_every_updates": 50,
            "ema_decay": 0.98,
            "optimizer": {"learning_rate": 0.01},
            "schedule": {"warmup_updates": 50},
        },
    )


@pytest.fixture(scope="module")
def run(corpus, config):
    assert main(["train", str(config)]) == 0
    return corpus / "run"


def test_the_task_is_learned_from_raw_text(run, corpus, capsys):
    assert main(["evaluate", str(run), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["bleu"]["score"] > 90
    assert "tok:13a" in result["bleu"]["signature"]


def test_translate_is_a_filter_that_keeps_lines_and_their_order(run, corpus, capsys):
    source = corpus / "odd.es"
    source.write_text("gato rojo\n\nperro azul dos\nuno\u2028dos\n", encoding="utf-8")
    assert main(["translate", str(run), "-i", str(source)]) == 0
    lines = capsys.readouterr().out.split("\n")
    assert lines[:3] == ["red cat", "", "two blue dog"]
    assert len(lines) == 5
    assert lines[4] == ""


def test_a_score_is_what_teacher_forcing_gives_the_same_tokens(run):
    import numpy as np

    import nmt

    translator = nmt.Translator.load(run, engine="keras")
    line = "perro azul dos gato"
    best = translator.n_best([line], 2, beam_size=4, length_penalty=0.7)[0]
    source_ids = np.array([[*translator.text.source.encode(line), 3]], "int32")
    compared = 0
    for translation in best:
        target = [*translator.text.target.encode(translation.text), 3]
        if len(target) != translation.num_tokens:
            continue  # another segmentation of the same text
        compared += 1
        logits = np.array(translator.model((source_ids, np.array([[2, *target[:-1]]], "int32"))))[0].astype("float64")
        shifted = logits - logits.max(axis=-1, keepdims=True)
        log_probs = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
        total = sum(log_probs[position, token] for position, token in enumerate(target))
        assert abs(total - translation.log_prob) < 1e-3
        assert abs(total / len(target) ** 0.7 - translation.score) < 1e-3
    assert compared
    assert best[0].text == "cat two blue dog"
    assert best[0].score >= best[1].score


def test_tokenizers_of_another_run_are_refused_even_if_their_size_fits(run, tmp_path, capsys):
    from nmt.text import SPECIAL_TOKENS, TextPair, Vocabulary, WhitespaceTokenizer

    moved = tmp_path / "moved"
    shutil.copytree(run, moved)
    size = len(TextPair.load(moved).source.vocabulary)
    other = WhitespaceTokenizer(Vocabulary([*SPECIAL_TOKENS, *(f"w{i}" for i in range(size - len(SPECIAL_TOKENS)))]))
    TextPair(source=other, target=other, joint=True).save(moved)
    assert main(["evaluate", str(moved)]) == 1
    assert "was trained with other tokenizers" in capsys.readouterr().err


def test_a_finished_run_says_so(run, config, capsys):
    before = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert main(["train", str(config)]) == 0
    assert "nothing to do: this run was ended by max_updates: 450" in capsys.readouterr().err
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == before


def test_other_settings_are_refused_by_name(run, config, capsys):
    changes = ["--set", "model.hidden_size=64", "--set", "training.batch_tokens=300", "--set", "search.beam_size=2"]
    assert main(["train", str(config), *changes]) == 1
    message = capsys.readouterr().err
    assert "model.hidden_size" in message
    assert "training.batch_tokens" in message
    assert "search.beam_size" not in message
    assert "--overwrite" in message


def test_a_changed_corpus_is_refused(run, corpus, config, capsys):
    path = corpus / "train.en"
    original = path.read_text(encoding="utf-8")
    path.write_text(original.replace("one", "won", 1), encoding="utf-8")
    try:
        assert main(["train", str(config), "--set", "training.max_updates=460"]) == 1
    finally:
        path.write_text(original, encoding="utf-8")
    assert "the text in data.train has changed since update-00000450" in capsys.readouterr().err


def test_figures_and_samples_are_kept(run):
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    updates = [record for record in records if record["kind"] == "update"]
    validations = [record for record in records if record["kind"] == "validation"]
    assert [record["update"] for record in updates] == list(range(50, 451, 50))
    assert [record["update"] for record in validations] == [150, 300, 450]
    assert updates[-1]["loss"] < updates[0]["loss"]
    assert validations[-1]["bleu"] > 50
    log = (run / "train.log").read_text(encoding="utf-8")
    assert re.search(r"hypothesis  \w+", log)
    assert list((run / "logs").glob("events.*"))


MICRO = ["--set", "training.effective_batch_tokens=800", "--set", "training.validate_every_updates=4"]
MICRO += ["--set", "training.save_every_updates=1000", "--set", "training.log_every_updates=1"]
MICRO += ["--set", "data.subword_sampling=0.3", "--set", "search.beam_size=1"]


def hashes(directory, update):
    manifest = json.loads((Path(directory) / f"checkpoints/update-{update:08}/manifest.json").read_text())
    return {name: entry["sha256"] for name, entry in manifest["files"].items() if name.endswith(".safetensors")}


def figures(directory):
    records = [json.loads(line) for line in (Path(directory) / "metrics.jsonl").read_text().splitlines()]
    timed = {"seconds", "tokens_per_second", "trained_seconds", "remaining_seconds", "validation_seconds"}
    return [{key: value for key, value in record.items() if key not in timed} for record in records]


def test_stopped_and_continued_equals_uninterrupted(corpus, config, warm_python):
    """SIGTERM amid micro-batches of sampled pieces: exit status 143, then the same weights, slots and average."""
    whole, cut = f"{corpus}/whole", f"{corpus}/cut"
    end = ["--set", "training.max_updates=10", *MICRO]
    assert main(["train", str(config), "--set", f"model_directory={whole}", *end]) == 0

    command = [warm_python, "-m", "nmt", "train", str(config), "--set", f"model_directory={cut}", *MICRO]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if line.startswith("update 5"):
            process.send_signal(signal.SIGTERM)
            break
    rest = process.stderr.read()
    assert process.wait() == 143, rest
    saved = sorted(path.name for path in Path(cut, "checkpoints").glob("update-*"))[-1]
    assert 5 <= int(saved.removeprefix("update-")) < 10, "stopped too late to prove anything"

    assert main(["train", str(config), "--set", f"model_directory={cut}", *end]) == 0
    assert len(hashes(whole, 10)) == 3
    assert hashes(cut, 10) == hashes(whole, 10)
    assert figures(cut) == figures(whole)
