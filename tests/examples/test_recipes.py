"""The recipes of augmentation: each runs on a part of the travel corpus, and what they ask of `nmt` is looked at."""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
import yaml

from nmt.config import load

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "examples" / "recipes"
LINES = {"train": (0, 200), "mono": (200, 240), "validation": (0, 8), "test": (0, 16)}
SETTINGS = {
    "data.tokenizer.vocabulary_size": 300,
    "model.hidden_size": 32,
    "model.ffn_size": 48,
    "model.num_heads": 2,
    "model.num_encoder_layers": 1,
    "model.num_decoder_layers": 1,
    "model.dropout": 0,
    "training.batch_tokens": 512,
    "training.max_updates": 60,
    "training.validate_every_updates": 60,
    "training.save_every_updates": 60,
    "training.early_stopping": "null",
    "training.optimizer.learning_rate": 0.02,
    "training.schedule.warmup_updates": 20,
    "search.beam_size": 2,
    "search.max_length_ratio": 1,
    "search.no_repeat_ngram": 2,
}


def write_corpus(folder):
    """Parts of the travel corpus as plain lines; return them by name."""
    folder.mkdir()
    written = {}
    for name, (first, last) in LINES.items():
        for language in ("es", "en"):
            source = "train" if name == "mono" else name
            with gzip.open(ROOT / f"examples/travel/{source}.{language}.gz", "rt", encoding="utf-8") as file:
                written[name, language] = list(islice(file, first, last))
            (folder / f"{name}.{language}").write_text("".join(written[name, language]), encoding="utf-8")
    return written


def start(name, folder, path, **parameters):
    """Run a recipe in the checkout, where `nmt` is a file in the folder `path`, on the corpus of `folder`."""
    corpora = {part.upper(): f"{folder}/{part}.{{es,en}}" for part in ("train", "validation", "test")}
    kept = {key: os.environ[key] for key in ("HOME", "TMPDIR") if key in os.environ}
    environment = {
        **kept, "PATH": f"{path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3",
        **corpora, **parameters,
    }  # fmt: skip
    return subprocess.run(
        [RECIPES / f"{name}.sh"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=600
    )


def write_program(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


# With the models


@pytest.fixture(scope="module")
def folder(tmp_path_factory, warm_python):
    """A folder with a corpus and the command `nmt`, where recipes make what they make; its name has a space."""
    folder = tmp_path_factory.mktemp("recipes") / "my work"
    write_corpus(folder)
    write_program(folder / "bin" / "nmt", f'#!/bin/sh\nexec "{warm_python}" -m nmt "$@"\n')
    return folder


@pytest.fixture(scope="module")
def run(folder):
    """A function that runs a recipe in its own place."""
    settings = " ".join(f"{key}={value}" for key, value in SETTINGS.items())

    def run(name, **parameters):
        return start(name, folder, folder / "bin", WORK=f"{folder}/{name}", SETTINGS=settings, **parameters)

    return run


@pytest.fixture(scope="module")
def back(run, folder):
    """What the recipe of back-translation said, on text of one language that is compressed."""
    lines = (folder / "mono.en").read_bytes()
    (folder / "news.en.gz").write_bytes(gzip.compress(lines + b"\n"))
    done = run("back_translation", MONOLINGUAL=f"{folder}/news.en.gz")
    assert done.returncode == 0, done.stderr
    return done


def lines_of(path):
    return path.read_text(encoding="utf-8").splitlines()


def check_table(done, work, *models):
    """Look at the table that a recipe ends with."""
    header, *rows = done.stdout.splitlines()[-len(models) - 3 : -2]
    assert header.split() == ["hypotheses", "BLEU", "change", "p", "chrF2"]
    assert [row.split("  ")[0] for row in rows] == [f"{work}/{model}.en" for model in models]
    assert all(len(lines_of(work / f"{model}.en")) == 16 for model in models)


def check_counts(done, work, name, made):
    """Look at what a recipe says of synthetic pairs; return them."""
    source, target = (lines_of(work / f"text/{name}.0.{language}") for language in ("es", "en"))
    assert len(source) == len(target) > made / 2
    dropped = made - len(source)
    assert f"{made} synthetic pairs made, {len(source)} kept, {dropped} dropped: " in done.stdout
    assert len(lines_of(work / f"text/{name}.0.good.dropped.tsv")) == dropped
    return source, target


def test_text_of_the_target_language_is_translated_back(back, folder):
    work = folder / "back_translation"
    records = [json.loads(line) for line in lines_of(work / "text/back.jsonl")]
    source, target = check_counts(back, work, "back", 41)
    made = {(record["translations"][0]["text"], record["source"]) for record in records if record["translations"]}
    assert set(zip(source, target, strict=True)) <= made
    assert set(target) <= set(lines_of(folder / "mono.en"))
    assert "1 EmptyFilter" in back.stderr
    reverse, mixed = (yaml.safe_load((work / name / "config.yaml").read_text()) for name in ("reverse", "with"))
    assert (reverse["data"]["source_language"], reverse["data"]["target_language"]) == ("en", "es")
    assert [(each["name"], each["weight"], each["tag"]) for each in mixed["data"]["train"]] == [
        ("real", 1.0, None),
        ("synthetic", 1.0, "<bt>"),
    ]
    check_table(back, work, "without", "with")


@pytest.mark.parametrize(
    ("name", "parameters", "synthetic", "models"),
    [
        ("forward_translation", {"TAG": "<ft>"}, "forward", ("without", "with")),
        ("self_training", {"ROUNDS": "1"}, "round1", ("without", "round1")),
    ],
)
def test_text_of_the_source_language_gets_translations(back, run, folder, name, parameters, synthetic, models):
    work = folder / name
    shutil.copytree(folder / "back_translation/without", work / "without")  # a model that is there is not trained again
    done = run(name, MONOLINGUAL=f"{folder}/mono.es", **parameters)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("nothing to do") == 1
    source, _ = check_counts(done, work, synthetic, 40)
    assert set(source) <= set(lines_of(folder / "mono.es"))
    check_table(done, work, *models)
    if name == "self_training":
        noised = [lines_of(work / f"text/noise1.0.{language}") for language in ("es", "en")]
        assert noised[1] == lines_of(work / "text/round1.0.en")
        assert all(one != other for one, other in zip(noised[0], source, strict=True) if len(source) > 3)
        tuned = yaml.safe_load((work / "round1/config.yaml").read_text())
        assert tuned["training"]["initialize_from"] == f"{work}/mixed1"


# With a stand-in for nmt, which says what it was asked for


STAND_IN = """\
#!{python} -SE
import json, os, re, sys
verb, *words = sys.argv[1:]
given = {{word: words[at + 1] for at, word in enumerate(words[:-1]) if word.startswith("-")}}
print("asked:", json.dumps(sys.argv[1:]), file=sys.stderr)
def sides(name):
    return [re.sub("{{(.*),(.*)}}", part, name) for part in (r"\\1", r"\\2")]
def write(path, lines):
    with open(path, "w") as file:
        file.writelines(lines)
if verb == "convert":
    for one, other in zip(sides(words[0]), sides(words[1])):
        write(other, open(one))
elif verb == "translate":
    write(given["--output"], open(given["--input"]))
elif verb in ("doctor", "vary"):
    out = given.get("--clean") or given["--output"]
    for path in sides(out):
        write(path, ["x\\n"] * 3)
    write(out.partition("{{")[0] + "dropped.tsv", [])
    sys.exit("BAD" in os.environ)
"""


@pytest.fixture
def ask(tmp_path):
    """A function that runs a recipe with a stand-in, and returns its status, its words and what was asked for."""
    write_corpus(tmp_path / "corpus")
    write_program(tmp_path / "bin" / "nmt", STAND_IN.format(python=sys.executable))

    def ask(name, **parameters):
        done = start(name, tmp_path / "corpus", tmp_path / "bin", WORK=f"{tmp_path}/made", **parameters)
        asked = [json.loads(line) for line in re.findall(r"^asked: (.*)$", done.stderr, re.MULTILINE)]
        return done, asked

    return ask


def options_of(asked, verb, option):
    return [words[words.index(option) + 1] for words in asked if words[0] == verb and option in words]


def test_an_experiment_takes_a_part_of_the_pairs(ask, tmp_path):
    done, asked = ask(
        "back_translation", PAIRS="120", METHOD="sampling", TRANSLATIONS="2", OPTIONS="--top-k 10", KEEP="0.8"
    )
    assert done.returncode == 0, done.stderr
    text = tmp_path / "made/text"
    for language in ("es", "en"):
        lines = lines_of(tmp_path / f"corpus/train.{language}")
        assert (lines_of(text / f"pairs.{language}"), lines_of(text / f"rest.{language}")) == (lines[:120], lines[120:])
    assert "of 200 pairs 120 are taken as pairs, the others as text of one language" in done.stderr
    trained = [(words[0], Path(words[2]).stem) for words in asked if words[0] in ("train", "check-config")]
    order = [("train", model) for model in ("reverse", "without", "with", "all")]
    assert trained == [("check-config", "with"), *order]
    (search,) = (words for words in asked if "--samples" in words)
    assert search[search.index("--input") + 1] == f"{text}/rest.en"
    assert search[-4:] == ["--samples", "2", "--top-k", "10"]
    columns = ["translations.0.text", "translations.1.text"]
    assert options_of(asked, "doctor", "--source-column") == columns
    assert options_of(asked, "doctor", "--target-column") == ["source", "source"]
    scored = [(Path(words[1]).name, Path(words[3]).suffix) for words in asked if words[0] == "score"]
    assert scored == [("without", ".es"), ("reverse", ".en")] * 2
    assert options_of(asked, "doctor", "--keep") == ["0.8", "0.8"]
    mixed = yaml.safe_load((tmp_path / "made/with.yaml").read_text())["data"]["train"]
    assert mixed[1]["target"] == [f"{text}/back.0.en", f"{text}/back.1.en"]
    assert "160 synthetic pairs made, 6 kept, 154 dropped: " in done.stdout
    assert "\n0 targets of the text stand in the test set too; " in done.stdout


def test_corpora_of_the_config_are_replaced_whatever_names_them(ask, tmp_path):
    corpus = {"pairs": "a.tsv", "source_column": 2, "target_column": "en", "format": "tsv"}
    data = {"train": {**corpus, "loss_weight_column": 3}, "validation": [{**corpus, "name": "news"}], "test": corpus}
    data["stages"] = [{"until": {"updates": 9}, "weights": {"clean": 1}}, {"weights": {"clean": 1}}]
    languages = {"source_language": "es", "target_language": "en"}
    training = {"deciding_validation": "news"}
    text = yaml.safe_dump({"model_directory": "run", "data": data | languages, "training": training})
    (tmp_path / "pairs.yaml").write_text(text, encoding="utf-8")
    files = {side: f"{tmp_path}/b.{side[0]}" for side in ("source", "target")}
    data["train"] = {**files, "alignment": f"{tmp_path}/b.links"}
    (tmp_path / "links.yaml").write_text(yaml.safe_dump({"model_directory": "run", "data": data | languages}))
    done, _ = ask("back_translation", PAIRS="120")
    assert done.returncode == 0, done.stderr
    for own in (tmp_path / "made").glob("*.yaml"):
        for name in ("pairs", "links"):
            config = load([tmp_path / f"{name}.yaml", own])
            assert all(corpus.pairs is corpus.alignment is None for corpus in config.data.corpora.values())
            assert {*config.data.names("validation", "test")} == {"validation", "test"}


def test_started_again_it_repeats_nothing(ask, tmp_path):
    first, asked = ask("self_training", PAIRS="120", ROUNDS="1", KEEP="0.5")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "made/text").iterdir() if path.suffix != ".jsonl"}
    again, asked_again = ask("self_training", PAIRS="120", ROUNDS="1", KEEP="0.5")
    assert (first.returncode, again.returncode) == (0, 0), again.stderr
    assert again.stdout == first.stdout
    # Finished files are not made again; a training and a translation see for themselves that they are finished.
    own = ("check-config", "train", "translate", "evaluate")
    assert asked_again == [words for words in asked if words[0] in own] != asked
    assert all("--resume" in words for words in asked if words[0] == "translate")
    assert before == {path: path.stat().st_mtime_ns for path in before}
    refused, asked_last = ask("self_training", PAIRS="120", ROUNDS="1", KEEP="0.6")
    assert (refused.returncode, asked_last) == (2, [])
    assert "< KEEP=0.5\n---\n> KEEP=0.6\n" in refused.stderr
    assert "was begun with other parameters, see above: choose another WORK" in refused.stderr


def test_help_says_what_it_does_and_its_parameters():
    recipe = RECIPES / "back_translation.sh"
    shown = subprocess.run([recipe, "--help"], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("Back-translation: text in the target language becomes training pairs")
    assert "\nTAG=${TAG-<bt>} " in shown.stdout
    refused = subprocess.run([recipe, "my.yaml"], capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "takes its parameters as NAME=VALUE before it, see --help; got my.yaml" in refused.stderr


def test_what_cannot_be_is_refused(ask):
    done, _ = ask("back_translation", METHOD="samples")
    assert (done.returncode, done.stderr.partition(": ")[2]) == (2, "METHOD must be beam or sampling, got samples\n")
    done, _ = ask("forward_translation", PAIRS="200")
    assert done.returncode == 2
    assert "PAIRS must leave some pairs of TRAIN to be taken as text of one language, got 200" in done.stderr


def test_pairs_that_are_mostly_bad_end_the_recipe_each_time(ask):
    for _ in range(2):
        done, asked = ask("self_training", PAIRS="120", BAD="1")
        assert done.returncode == 1
        assert asked[-1][0] == "doctor"
        assert "the doctor finds most pairs of " in done.stderr
    done, _ = ask("self_training", PAIRS="120")
    assert done.returncode == 0, done.stderr


def test_a_student_learns_from_another_teacher(ask, tmp_path):
    done, asked = ask(
        "forward_translation", PAIRS="120", STUDENT="configs/low_resource.yaml", WEIGHTS="0:1", SETTINGS="seed=7 a.b=c"
    )
    assert done.returncode == 0, done.stderr
    trained = [(Path(words[1]).stem, Path(words[2]).stem) for words in asked if words[0] == "train"]
    student, teacher = "low_resource", "quickstart"
    assert trained == [(student, "without"), (teacher, "teacher"), (student, "with"), (student, "all")]
    assert all(words[3:] == ["--set=seed=7", "--set=a.b=c"] for words in asked if words[0] == "train")
    assert next(words[1] for words in asked if "jsonl" in words) == f"{tmp_path}/made/teacher"
    mixed = yaml.safe_load((tmp_path / "made/with.yaml").read_text())["data"]["train"]
    assert [each["weight"] for each in mixed] == [0, 1]
    assert all("tag" not in each for each in mixed)


def test_rounds_begin_with_the_model_of_the_one_before(ask, tmp_path):
    done, asked = ask("self_training", PAIRS="120", NOISE="typos")
    assert done.returncode == 0, done.stderr
    assert [Path(words[1]).stem for words in asked if "jsonl" in words] == ["without", "round1"]
    assert options_of(asked, "vary", "--with") == ["typos", "typos"]
    assert options_of(asked, "vary", "--seed") == ["1", "2"]
    trained = [Path(words[2]).stem for words in asked if words[0] == "train"]
    assert trained == ["without", "mixed1", "round1", "mixed2", "round2", "all"]
    begun = options_of(asked, "train", "--set")
    assert begun == [f"training.initialize_from={tmp_path}/made/mixed{number}" for number in (1, 2)]
