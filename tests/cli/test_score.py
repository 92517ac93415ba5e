"""`nmt score` and `nmt rerank`: what they read and write, and that they fit together."""

import gzip
import json

import pytest

from nmt.inference.translator import Translator

pytestmark = pytest.mark.usefixtures("eagerly")

LINES = ["uno dos tres", "", "siete ocho nueve"]
TEXT = "".join(f"{line}\n" for line in LINES).encode()


@pytest.fixture
def n_best(run_nmt, transformer_run, tmp_path):
    path = tmp_path / "list.jsonl"
    arguments = ("--beam-size", 4, "--n-best", 4, "--format", "jsonl", "-o", path)
    assert run_nmt("translate", transformer_run.directory, *arguments, stdin=TEXT).code == 0
    return path


def records(text):
    return [json.loads(line) for line in text.splitlines()]


def test_pairs_of_lines_and_of_ids_have_one_score(run_nmt, transformer_run, tmp_path):
    run, source, reference = transformer_run.directory, transformer_run.source, transformer_run.reference
    plain = run_nmt("score", run, "--source", source, "--target", reference)
    assert plain.code == 0
    assert plain.err.startswith("5 pairs, ")
    assert len(plain.lines) == 5
    output = tmp_path / "scores.jsonl.gz"
    given = ("--source", source, "--target", reference, "--normalize", "tokens", "--format", "jsonl", "-o", output)
    assert run_nmt("score", run, *given).code == 0
    full = records(gzip.decompress(output.read_bytes()).decode("utf-8"))
    for line, record in zip(plain.lines, full, strict=True):
        assert float(line) == pytest.approx(record["log_prob"], abs=1e-5)
        assert record["score"] == pytest.approx(record["log_prob"] / record["num_tokens"])
        assert len(record["tokens"]) == len(record["token_log_probs"]) == record["num_tokens"]
    vocabulary = (run / "vocabulary.target.txt").read_text("utf-8").split("\n")
    by_ids = [
        json.dumps({"source": each["source"], "id": 7, "target_ids": [vocabulary.index(t) for t in each["tokens"]]})
        for each in full
    ]
    outcome = run_nmt("score", run, "--pairs", "-", "--format", "jsonl", stdin="\n".join(by_ids).encode())
    found = records(outcome.out)
    assert [each["token_log_probs"] for each in found] == [each["token_log_probs"] for each in full]
    assert {each["id"] for each in found} == {7}


def test_an_n_best_list_gets_a_field_that_sorts_it(run_nmt, transformer_run, trained_run, n_best, tmp_path):
    scored = tmp_path / "scored.jsonl"
    outcome = run_nmt("score", trained_run.directory, "--n-best", n_best, "--name", "other", "-o", scored)
    assert outcome.code == 0, outcome.err
    again = run_nmt("score", trained_run.directory, "--n-best", scored, "--name", "other")
    assert (again.code, "line 1: translations have other already: give another --name" in again.err) == (1, True)
    before, after = records(n_best.read_text("utf-8")), records(scored.read_text("utf-8"))
    for old, new in zip(before, after, strict=True):
        extra = {"other", "other_tokens", "other_token_log_probs"}
        kept = [{name: each[name] for name in each.keys() - extra} for each in new["translations"]]
        assert kept == old["translations"]
        assert new | {"translations": 0} == old | {"translations": 0}
    expected = [max(line["translations"], key=lambda each: each["other"])["text"] for line in after]
    assert run_nmt("rerank", scored, "--weights", "other=1").lines == expected
    assert run_nmt("rerank", n_best, "--model", trained_run.directory).lines == expected
    sorted_list = run_nmt("rerank", scored, "--weights", "other=-1", "--format", "list")
    assert [line["translations"][-1]["text"] for line in records(sorted_list.out)] == expected


def test_a_reverse_model_reads_the_translation(run_nmt, transformer_run, n_best, monkeypatch):
    asked = []
    score = Translator.score
    monkeypatch.setattr(
        Translator, "score", lambda self, pairs, **how: asked.extend(pairs) or score(self, pairs, **how)
    )
    assert run_nmt("rerank", n_best, "--reverse", transformer_run.directory).code == 0
    texts = [each["text"] for line in records(n_best.read_text("utf-8")) for each in line["translations"]]
    assert [pair[0] for pair in asked] == texts
    assert {pair[1] for pair in asked} == set(LINES)


MOSES = """\
0 ||| a b c d f ||| lm= -3 ||| -2.5
0 ||| a b c d e ||| lm= -1 ||| -3.5
2 ||| a b ||| lm= -1 ||| -1
"""


def test_weights_are_found_and_applied_to_a_list_of_moses(run_nmt, tmp_path):
    path, weights, reference = tmp_path / "list", tmp_path / "weights.json", tmp_path / "reference"
    path.write_text(MOSES, "utf-8")
    reference.write_text("a b c d e\n\na b\n", "utf-8")
    outcome = run_nmt("rerank", path, "--weights", "score=1")
    assert outcome.lines == ["a b c d f", "", "a b"]
    assert "1 of 3 lines have no translations" in outcome.err
    found = run_nmt("rerank", path, "--tune", reference, "--features", "lm,score", "-o", weights)
    assert found.code == 0, found.err
    content = json.loads(weights.read_text("utf-8"))
    assert content["bleu_after"] == pytest.approx(100)
    assert content["bleu_before"] < 90
    assert run_nmt("rerank", path, "--weights", weights).lines == ["a b c d e", "", "a b"]
    by_length = run_nmt("rerank", path, "--weights", "lm=1", "--format", "list").lines
    assert by_length == [MOSES.split("\n")[place] for place in (1, 0, 2)]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("score", "run", "--source", "x"), 2, "give --source and --target, or --pairs, or --n-best"),
        (
            ("score", "run", "--pairs", "x", "--length-penalty", "1"),
            2,
            "--length-penalty is for --normalize",
        ),
        (("rerank", "list", "--weights", "lm=1", "--features", "lm"), 2, "--features decide how --tune finds weights"),
        (("rerank", "list", "--weights", "lm=1", "--tokenize", "x", "--seed", "2"), 2, "--tokenize and --seed decide"),
        (("rerank", "list", "--tune", "x", "--format", "list"), 2, "--tune writes weights: leave out --format list"),
        (("tune-search", "run", "--tag", "<x>"), 2, "--tag is for --source"),
        (("translate", "run", "--part-words"), 2, "--part-words says how --require and --avoid are looked for"),
        (("rerank", "list"), 2, "give --weights, or a model to sort by, or --tune"),
        (("rerank", "list", "--weights", "a=1", "--tune", "x"), 2, "--tune finds weights: leave out --weights"),
        (("rerank", "list", "--weights", "tm=1"), 1, "has no number as feature tm: there are lm, score, length"),
        (("rerank", "list", "--weights", "lm:1"), 1, "of the form score=0.7,length=0.3, got lm:1"),
        (
            ("rerank", "list", "--weights", "lm=1", "-o", "list"),
            1,
            "list must not be replaced, it is the file that N_BEST",
        ),
        (("rerank", "list", "--tune", "list"), 1, "list must have a line for each of 3, got"),
    ],
)
def test_what_does_not_fit_is_refused(run_nmt, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list").write_text(MOSES.replace("2 |||", "2 ||| ", 1) + "2 ||| a ||| lm= 1 ||| 1\n", "utf-8")
    outcome = run_nmt(*arguments)
    assert (outcome.code, message in outcome.err) == (code, True), outcome.err
