"""Each verb on a tiny model, from its arguments to what it prints."""

import gzip
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nmt.errors import DataError
from nmt.recipes.train import TrainedModel
from nmt.terminal.streams import line_counter
from nmt.training.lockstep import Interrupted

pytestmark = pytest.mark.usefixtures("eagerly")

ROOT = Path(__file__).parents[2]

OF_RECURRENT = "engine: keras, as CTranslate2 cannot have model.type rnn\n"


def test_translate_is_a_filter(run_nmt, trained_run):
    outcome = run_nmt("translate", trained_run.directory, stdin="uno dos\n\ntres\u2028\r\n\rcuatro\n  \nsiete".encode())
    assert (outcome.code, outcome.err) == (0, OF_RECURRENT)
    assert len(outcome.lines) == 6
    assert outcome.lines[1] == outcome.lines[4] == ""
    assert outcome.lines[0]
    assert outcome.lines[5]


def test_a_checkpoint_is_translated_and_scored_with_by_its_path(run_nmt, trained_run):
    path = trained_run.directory / "checkpoints" / "update-00000020"
    named = run_nmt("translate", trained_run.directory, "--checkpoint", "update-20", stdin=b"uno dos\n")
    assert run_nmt("translate", path, stdin=b"uno dos\n") == named
    assert named.code == 0
    assert json.loads(run_nmt("evaluate", path, "--json").out)["checkpoint"] == "update-00000020"
    refused = run_nmt("evaluate", path, "--checkpoint", "best")
    assert refused.err.endswith(f"is a checkpoint already, got best: leave that out, or give {trained_run.directory}\n")


def test_translate_reads_and_writes_files_with_all_hypotheses(run_nmt, trained_run, tmp_path):
    output = tmp_path / "out.jsonl.gz"
    outcome = run_nmt(
        "translate", trained_run.directory, "-i", trained_run.source, "-o", output,
        "--n-best", 2, "--beam-size", 3, "--length-penalty", 0.5, "--batch-size", 2, "--format", "jsonl",
        "--checkpoint", "latest", "--set", "search.max_length=4",
    )  # fmt: skip
    assert (outcome.code, outcome.out) == (0, "")
    assert re.fullmatch(
        f"{OF_RECURRENT}"
        r"(nmt: warning: .*\n)*"
        r"5 lines in \d:\d\d: [\d.]+ lines/s, \d+ target tokens/s\n"
        r"flagged lines: .*[45] unknown.*; 0\.00% of 13 source tokens unknown\n",
        outcome.err,
    )
    rows = [json.loads(line) for line in gzip.decompress(output.read_bytes()).decode().split("\n")[:-1]]
    assert [row["source"] for row in rows] == trained_run.source.read_text().splitlines()
    for row in rows:
        first, second = row["translations"]
        assert first["score"] >= second["score"]
        assert max(first["num_tokens"], second["num_tokens"]) <= 4
        assert first["score"] == pytest.approx(first["log_prob"] / first["num_tokens"] ** 0.5, rel=1e-5)


def test_translate_refuses_before_it_opens_anything(run_nmt, trained_run, tmp_path, monkeypatch):
    monkeypatch.setattr("nmt.backend.session.start", lambda **settings: pytest.fail("TensorFlow was started"))
    run = trained_run.directory
    for arguments, message in (
        (("--n-best", 2), "must be 1 to beam_size (1), got 2: set the beam size (--beam-size) to 2"),
        (("-i", tmp_path / "nowhere"), "nowhere: cannot be read: No such file"),
        (("--glossary", tmp_path / "nowhere"), "nowhere: cannot be read: No such file"),
        (("-o", tmp_path / "no" / "where"), "where: cannot be written: No such file"),
        (("--set", "search.beam=3"), "search.beam is unknown: did you mean search.beam_size?"),
        (("--set", "model.cell=lstm"), "keeps the settings it was trained with: model.cell: gru before, lstm now"),
    ):
        outcome = run_nmt("translate", run, *arguments, stdin=b"uno\n")
        assert outcome.code == 1
        assert outcome.err.startswith("nmt: error: ")
        assert message in outcome.err
        assert outcome.err.count("\n") == 1


def test_evaluate_scores_the_configured_test_set(run_nmt, trained_run, tmp_path):
    output = tmp_path / "out.en"
    outcome = run_nmt("evaluate", trained_run.directory, "--json", "-o", output)
    assert outcome.code == 0
    result = json.loads(outcome.out)
    assert result["num_lines"] == 5
    assert result["checkpoint"] == "update-00000010"
    assert result["weights"] == "ema"
    assert result["beam_size"] == 1
    assert result["source"] == [str(trained_run.source)]
    again = run_nmt("evaluate", "--hypotheses", output, "--reference", trained_run.reference, "--json")
    assert json.loads(again.out)["chrf2"] == result["chrf2"]
    assert json.loads(again.out)["bleu"] == result["bleu"]
    for arguments in ([trained_run.directory], ["--hypotheses", output, "--reference", trained_run.reference]):
        outcome = run_nmt("evaluate", *arguments, "--lowercase")
        assert [line.count("case:lc") for line in outcome.lines] == [1, 1]


def test_evaluate_scores_given_files(run_nmt, trained_run, tmp_path):
    source, reference = tmp_path / "a.es", tmp_path / "a.en"
    source.write_text("uno\n\n")
    reference.write_text("one\n\n")
    outcome = run_nmt("evaluate", trained_run.directory, "--source", source, "--reference", reference)
    assert outcome.code == 0
    assert [line.split()[0] for line in outcome.lines] == ["BLEU", "chrF2"]
    assert all("version:" in line for line in outcome.lines)
    reference.write_text("one\n")
    outcome = run_nmt("evaluate", trained_run.directory, "--source", source, "--reference", reference)
    assert outcome.code == 1
    assert f"must have the same number of lines, got 2 in {source} and 1 in {reference}" in outcome.err


def test_evaluate_joins_words_that_were_cut(run_nmt, trained_run, tmp_path):
    cut, whole = tmp_path / "cut.en", tmp_path / "whole.en"
    cut.write_text("one t@@ wo three fo@@ ur\n")
    whole.write_text("one two three four\n")
    plain = run_nmt("evaluate", "--hypotheses", cut, "--reference", whole)
    assert "nmt: warning: 100 % of the lines of the hypotheses look cut into pieces by bpe" in plain.err
    outcome = run_nmt("evaluate", "--hypotheses", cut, "--reference", whole, "--join", "bpe")
    assert (outcome.lines[0].split()[1], outcome.err) == ("100.00", "")
    for given in ([trained_run.directory], ["--hypotheses", cut, "--reference", whole]):
        outcome = run_nmt("evaluate", *given, "--join", "subword")
        assert outcome.code == 1
        assert "must be joined by one of none, bpe, sentencepiece, wordpiece, joiner, got subword" in outcome.err


def test_evaluate_takes_several_references(run_nmt, trained_run, tmp_path):
    other, output = tmp_path / "other.en", tmp_path / "out.en"
    both = ["--reference", trained_run.reference, "--reference", other]
    other.write_text(trained_run.source.read_text())
    of_model = run_nmt("evaluate", trained_run.directory, "--source", trained_run.source, *both, "--json", "-o", output)
    of_files = run_nmt("evaluate", "--hypotheses", output, *both, "--json")
    first, second = json.loads(of_model.out), json.loads(of_files.out)
    assert first["reference"] == second["reference"] == [str(trained_run.reference), str(other)]
    assert first["bleu"] == second["bleu"]
    assert "nrefs:2" in first["bleu"]["signature"]


def test_evaluate_compares_finished_translations(run_nmt, tmp_path):
    reference, first, second = (tmp_path / name for name in ("reference.en", "a.en", "with more.en"))
    words = ["one two three four", "five six seven eight nine", "ten eleven twelve one"] * 4
    for path, lines in ((reference, words), (first, [line.replace("two", "six") for line in words]), (second, words)):
        path.write_text("".join(f"{line}\n" for line in lines))
    given = ["--hypotheses", first, "--hypotheses", second, "--reference", reference]
    outcome = run_nmt("evaluate", *given)
    scores = [
        float(run_nmt("evaluate", "--hypotheses", path, *given[4:]).lines[0].split()[1]) for path in (first, second)
    ]
    header, *rows, bleu, chrf = outcome.lines
    assert header.split() == ["hypotheses", "BLEU", "change", "p", "chrF2"]
    found = [row.removeprefix(str(path)).split() for row, path in zip(rows, (first, second), strict=True)]
    assert [float(row[0]) for row in found] == scores
    assert [len(found[0]), found[1][0], found[1][1]] == [2, "100.00", f"+{100 - scores[0]:.2f}"]
    assert 0 < float(found[1][2]) <= 0.05
    assert [line.split()[0] for line in (bleu, chrf)] == ["BLEU", "chrF2"]
    result = json.loads(run_nmt("evaluate", *given, "--json").out)
    assert [each["hypotheses"] for each in result["systems"]] == [str(first), str(second)]
    assert [each["p_value"] for each in result["systems"]] == [None, pytest.approx(float(found[1][2]), abs=0.001)]
    assert (result["num_lines"], result["reference"]) == (12, [str(reference)])
    refused = run_nmt("evaluate", "somewhere", *given)
    assert refused.code == 2
    assert "leave out RUN" in refused.err


def test_evaluate_refuses_before_it_opens_anything(run_nmt, trained_run, tmp_path, monkeypatch):
    monkeypatch.setattr("nmt.backend.session.start", lambda **settings: pytest.fail("TensorFlow was started"))
    monkeypatch.setattr("sacrebleu.tokenizers.tokenizer_ja_mecab.MeCab", None)
    for arguments, message in (
        (("-o", tmp_path / "no" / "where"), "where: cannot be written: No such file"),
        (("--tokenize", "14a"), "the tokenisation of BLEU must be one of "),
        (("--tokenize", "ja-mecab"), 'missing or does not work: pip install "sacrebleu[ja]"'),
    ):
        outcome = run_nmt("evaluate", trained_run.directory, *arguments)
        assert (outcome.code, outcome.out) == (1, "")
        assert outcome.err.startswith("nmt: error: ")
        assert message in outcome.err
        assert outcome.err.count("\n") == 1


@pytest.mark.parametrize("verb", ["translate", "evaluate"])
def test_another_backend_of_keras_is_refused(run_nmt, trained_run, monkeypatch, verb):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    outcome = run_nmt(verb, trained_run.directory)
    assert outcome.code == 1
    refusal = "nmt: error: the environment variable KERAS_BACKEND must be tensorflow, got torch: unset it\n"
    assert outcome.err.removeprefix(OF_RECURRENT) == refusal


def test_nothing_is_counted_where_the_text_appears(run_nmt, trained_run, tmp_path, monkeypatch):
    hidden = []

    def counter(**settings):
        hidden.append(settings.get("hidden", False))
        return line_counter(**settings)

    for module in ("place", "jobs"):
        monkeypatch.setattr(f"nmt.terminal.{module}.line_counter", counter)
    monkeypatch.setattr("nmt.terminal.place.is_terminal", lambda stream: stream is sys.stdout)
    for arguments in ((), ("-o", tmp_path / "out")):
        run_nmt("translate", trained_run.directory, "-i", trained_run.source, *arguments)
    assert hidden == [True, False]


def test_build_vocab_builds_once(run_nmt, untrained_config):
    first = run_nmt("build-vocab", untrained_config)
    told = "unknown tokens in the training corpus: 0.00% of the source, 0.00% of the target\n"
    assert (first.code, first.err) == (0, told)
    assert first.lines[0].endswith("run: whitespace vocabularies of 13 source and 13 target tokens")
    assert (untrained_config.parent / "run" / "vocabulary.source.txt").is_file()
    second = run_nmt("build-vocab", untrained_config)
    assert (second.code, second.out) == (0, first.out)
    assert "it was there already; --overwrite builds it anew" in second.err
    other = run_nmt("build-vocab", untrained_config, "--set", "data.tokenizer={type: character, joint: true}")
    assert "character vocabulary of " in other.out
    assert "for both languages" in other.out


def test_check_config_lists_every_problem(run_nmt, untrained_config):
    valid = run_nmt("check-config", untrained_config)
    assert valid.code == 0
    assert valid.lines[0].startswith(f"{untrained_config}: valid, rnn for ")
    wrong = run_nmt("check-config", untrained_config, "--set", "model.num_heads=2", "--set", "sead=1")
    assert (wrong.code, wrong.out) == (1, "")
    assert wrong.err.startswith("nmt: error: 2 problems in the settings:\n")
    assert "did you mean seed?" in wrong.err
    absent = run_nmt("check-config", untrained_config, "--set", "data.test.source=nowhere")
    assert absent.code == 0
    assert "nmt: remark: data.test.source: there is no file nowhere here\n" in absent.err


def test_check_config_explains_every_setting(run_nmt):
    outcome = run_nmt("check-config", "--explain")
    assert (outcome.code, outcome.err) == (0, "")
    assert "  training.batch_tokens (" in outcome.out
    assert outcome.out.count("\n  ") > 60


@pytest.fixture
def train_with(monkeypatch):
    """Puts something else in the place of the training itself."""

    def use(train):
        monkeypatch.setattr("nmt.recipes.train.train", train)

    return use


def test_train_says_how_it_ended(run_nmt, untrained_config, train_with):
    calls = []

    def train(config, *, overwrite, reporters, processes, threads):
        calls.append((config.seed, config.training.max_updates, overwrite, list(reporters)))
        logging.getLogger("nmt.training.log").info("update 7")
        return TrainedModel(Path("runs/x"), 1234, "max_updates: 1234", 0.5)

    train_with(train)
    outcome = run_nmt("train", untrained_config, "--overwrite", "--set", "seed=7", "--set", "training.max_updates=1234")
    assert outcome == (0, "", "update 7\nruns/x: 1,234 updates, ended by max_updates: 1234\n")
    assert calls == [(7, 1234, True, [])]


@pytest.mark.parametrize(("number", "code"), [(2, 130), (15, 143)])
def test_an_interrupted_training_is_not_done(run_nmt, untrained_config, train_with, number, code):
    def train(*arguments, **settings):
        raise Interrupted(number)

    train_with(train)
    outcome = run_nmt("train", untrained_config)
    assert (outcome.code, outcome.out) == (code, "")
    assert outcome.err.endswith("; the same command goes on with the run\n")


def test_a_failed_training_is_one_line(run_nmt, untrained_config, train_with):
    def train(*arguments, **settings):
        raise DataError("train.es, line 3: broken")

    train_with(train)
    assert run_nmt("train", untrained_config) == (1, "", "nmt: error: train.es, line 3: broken\n")


def test_a_closed_pipe_ends_quietly(trained_run):
    """As a user runs it: on one thread, through `head -1`, with nothing of TensorFlow on standard error."""
    command = [sys.executable, "-m", "nmt", "translate", str(trained_run.directory), "--threads", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        process.stdin.write(b"uno dos\n")
        process.stdin.flush()
        assert process.stdout.readline().strip()  # while standard input is still open
        process.stdout.close()
        process.stdin.write(b"tres\n")
        process.stdin.close()
        assert process.stderr.read().decode() == OF_RECURRENT
        assert process.wait() == 141


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not heed a limit of address space")
@pytest.mark.parametrize("verb", ["train", "translate", "evaluate", "average", "export", "update-vocab"])
def test_too_small_a_limit_of_the_shell_is_named_before_tensorflow_starts(
    transformer_run, untrained_config, tmp_path, verb
):
    run = transformer_run.directory
    arguments = {
        "train": [untrained_config],
        "translate": [run, "-i", transformer_run.source],
        "evaluate": [run],
        "average": [run, "--last", 1, "-o", tmp_path / "average"],
        "export": [run, tmp_path / "export"],
        "update-vocab": [run, "--with-source", transformer_run.reference, "-o", tmp_path / "new"],
    }
    command = ["sh", "-c", 'ulimit -v 1048576; exec "$0" -m nmt "$@"', sys.executable, verb, *arguments[verb]]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    *before, error = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert all(line.startswith(("nmt: warning: ", "engine: ")) for line in before)  # of the corpora
    assert "the limit of this shell is 1.0 GiB of address space (ulimit -v): raise it" in error
    assert error.startswith("nmt: error: TensorFlow needs ")


def test_scoring_a_file_needs_no_tensorflow(trained_run):
    reference = str(trained_run.reference)
    program = (
        "import sys; from nmt.cli.main import main; "
        f"code = main(['evaluate', '--hypotheses', {reference!r}, '--reference', {reference!r}]); "
        "print(code, sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    bleu, chrf2, last = done.stdout.splitlines()
    assert bleu.startswith("BLEU  ")
    assert chrf2.startswith("chrF2 100.00  ")
    assert last == "0 []"
