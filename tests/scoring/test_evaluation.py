"""BLEU and chrF2, against scores worked out by hand."""

import gzip
import math

import pytest

from nmt.errors import ConfigError, DataError
from nmt.scoring.evaluation import bleu, bleu_metric, compare_files, evaluate_files, evaluate_lines, paired_p_value

REFERENCES = ["the cat sat on the mat", "a dog barks"]


def test_equal_text_scores_100_and_foreign_text_nothing():
    same = evaluate_lines(REFERENCES, REFERENCES)
    assert same.bleu.score == pytest.approx(100)
    assert same.chrf2.score == pytest.approx(100)
    assert same.num_lines == 2
    assert evaluate_lines(["xyz uvw", "q"], REFERENCES).chrf2.score == 0


def test_bleu_by_hand():
    # one reference of 6 words; the hypothesis lacks the last one: precisions 5/5, 4/4, 3/3, 2/2, brevity exp(1 - 6/5)
    score = bleu(["the cat sat on the"], ["the cat sat on the mat"])
    assert score.score == pytest.approx(100 * math.exp(1 - 6 / 5))


def test_several_references_count_together(tmp_path):
    # All its n-grams are in the first reference, and the second one has its length: no brevity penalty.
    hypothesis, first, second = ["a cat sat on"], ["a cat sat on mats today"], ["the cats sleep here"]
    scores = evaluate_lines(hypothesis, first, second)
    assert scores.bleu.score == pytest.approx(100)
    assert scores == evaluate_lines(hypothesis, second, first)
    assert evaluate_lines(hypothesis, first).bleu.score == pytest.approx(100 * math.exp(1 - 6 / 4))
    assert all("nrefs:2" in score.signature for score in scores[:2])
    paths = [tmp_path / name for name in ("out.en", "a.en", "b.en")]
    for path, lines in zip(paths, (hypothesis, first, second), strict=True):
        path.write_text(f"{lines[0]}\n")
    assert evaluate_files(*paths) == scores


CUT = ["wir kom@@ men fr@@ üh nach hau@@ se", "ein hund bel@@ lt s@@ ehr laut heute"]
WHOLE = ["wir kommen früh nach hause", "ein hund bellt sehr laut heute"]
OTHER = ["wir kommen spät nach hause", "ein hund bellt sehr laut morgen"]


def test_pieces_are_scored_as_words_where_that_is_asked_for(caplog):
    words = evaluate_lines(WHOLE, OTHER)
    assert not caplog.records
    assert evaluate_lines(CUT, OTHER, join="bpe") == words
    assert not caplog.records
    assert evaluate_lines(CUT, CUT, CUT, join="bpe") == evaluate_lines(WHOLE, WHOLE, WHOLE)
    assert evaluate_lines(CUT, OTHER).bleu.score < words.bleu.score
    assert caplog.messages == [
        "100 % of the lines of the hypotheses look cut into pieces by bpe (`wir kom@@ men fr@@`): scores are of "
        "pieces, not of words, unless they are joined: --join bpe"
    ]
    with pytest.raises(ConfigError, match=r"joined by one of none, bpe, .*, got subword"):
        evaluate_lines(CUT, CUT, join="subword")


@pytest.mark.parametrize(("tokenization", "said"), [("13a", 1), ("none", 0), ("char", 0)])
def test_a_side_that_looks_tokenised_is_named(caplog, tokenization, said):
    evaluate_lines(["to the very end."], ["to the very end ."], tokenization=tokenization)
    expected = "100 % of the lines of the references look tokenised (`very end .`)"
    assert [message.split(":")[0] for message in caplog.messages] == [expected] * said


def test_lines_that_are_too_short_for_bleu_are_said(caplog):
    short = ["Guten Tag", "Danke sehr", "Ja"]
    found = evaluate_lines(short, short)
    assert (found.bleu.score, found.chrf2.score) == (0.0, 100.0)
    assert caplog.messages == [
        "BLEU is 0 whatever the hypotheses are, since no line of the references has four tokens, as it cuts them: "
        "chrF2 says more"
    ]
    caplog.clear()
    assert evaluate_lines(["x"] * 3, [*short[:2], "Ja, das ist so"]).bleu.score == 0.0
    assert evaluate_lines(short, short, tokenization="char").bleu.score == pytest.approx(100.0)
    assert caplog.messages == []


def test_lines_that_are_empty_on_one_side_are_counted(caplog):
    lines = ["this is a line", "and one more line", "", "the last of them"]
    evaluate_lines(lines, ["", *lines[1:]], [*lines[:3], ""])
    assert caplog.messages == ["1 of 4 lines of reference 1 are empty", "1 of 4 lines of reference 2 are empty"]
    caplog.clear()
    evaluate_lines(["", *lines[1:3], ""], lines)
    assert caplog.messages == ["2 of 4 lines of the hypotheses are empty"]


@pytest.mark.parametrize("line", ["fr om</w> here</w>", "fr om Ġhere", "fr @@om here"])
def test_pieces_that_cannot_be_joined_here_are_said(caplog, line):
    evaluate_lines([f"{line} and now"], ["from here and now"])
    assert len(caplog.messages) == 1
    assert "of the hypotheses look cut into pieces by another program" in caplog.messages[0]
    assert "scores are of pieces, not of words: join them with the program that cut them" in caplog.messages[0]


def test_scores_are_cased_and_say_how_they_were_computed():
    assert bleu(["The Cat Sat On The Mat"], ["the cat sat on the mat"]).score < 50
    assert "case:mixed" in bleu(REFERENCES, REFERENCES).signature
    assert "tok:13a" in bleu(REFERENCES, REFERENCES).signature
    assert "tok:char" in bleu(REFERENCES, REFERENCES, tokenization="char").signature
    chrf2 = evaluate_lines(REFERENCES, REFERENCES).chrf2
    assert chrf2.name == "chrF2"
    assert "case:mixed" in chrf2.signature
    assert "nw:0" in chrf2.signature


def test_case_is_ignored_where_that_is_asked_for(tmp_path):
    capitals = [line.upper() for line in REFERENCES]
    both = [tmp_path / name for name in ("out.en", "ref.en")]
    for path, lines in zip(both, (capitals, REFERENCES), strict=True):
        path.write_text("".join(f"{line}\n" for line in lines))
    assert evaluate_lines(capitals, REFERENCES).bleu.score < 1
    for evaluation in (evaluate_lines(capitals, REFERENCES, lowercase=True), evaluate_files(*both, lowercase=True)):
        for score in evaluation[:2]:
            assert score.score == pytest.approx(100)
            assert "case:lc" in score.signature


def test_files_are_scored_line_by_line(tmp_path):
    hypotheses, references = tmp_path / "out.en", tmp_path / "ref.en.gz"
    hypotheses.write_bytes("a\u2028b c d e\r\nthe cat\rsat".encode())
    references.write_bytes(gzip.compress("a\u2028b c d e\nthe cat\rsat\n".encode()))
    evaluation = evaluate_files(hypotheses, references)
    assert evaluation.num_lines == 2
    assert evaluation.bleu.score == pytest.approx(100)


def test_different_numbers_of_lines_are_refused_by_name(tmp_path):
    hypotheses, references = tmp_path / "out.en", tmp_path / "ref.en"
    hypotheses.write_text("a\nb\nc\n")
    references.write_text("a\nb\n")
    for given in ((references,), (hypotheses, references)):
        with pytest.raises(DataError, match=r"same number of lines, got 3 in .*out\.en and 2 in .*ref\.en"):
            evaluate_files(hypotheses, *given)
    with pytest.raises(DataError, match="got 1 in the hypotheses and 2 in reference 2"):
        evaluate_lines(["a"], ["a"], ["a", "b"])
    for score in (evaluate_lines, bleu):
        with pytest.raises(DataError, match="got 1 in the hypotheses and 2 in the references"):
            score(["a"], ["a", "b"])


def test_nothing_is_not_scored(tmp_path):
    empty = tmp_path / "empty"
    empty.write_text("")
    with pytest.raises(DataError, match=r"at least one line to score, got none in .*empty"):
        evaluate_files(empty, empty)


def test_an_unknown_tokenisation_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"must be one of .*13a.*, got 14a"):
        bleu(["a"], ["a"], tokenization="14a")


@pytest.mark.parametrize(("tokenization", "extra"), [("ja-mecab", "ja"), ("ko-mecab", "ko")])
def test_a_tokenisation_names_the_package_that_it_misses(monkeypatch, tokenization, extra):
    monkeypatch.setattr(f"sacrebleu.tokenizers.tokenizer_{extra}_mecab.MeCab", None)
    with pytest.raises(ConfigError, match=rf'{tokenization} of BLEU needs .*: pip install "sacrebleu\[{extra}\]"$'):
        bleu_metric(tokenization)


def test_a_model_that_cannot_be_had_is_one_line(monkeypatch, tmp_path):
    def fail(*arguments):
        raise OSError("no\nnetwork")

    monkeypatch.setattr("sacrebleu.tokenizers.tokenizer_spm.SACREBLEU_DIR", str(tmp_path))
    monkeypatch.setattr("sacrebleu.tokenizers.tokenizer_spm.download_file", fail)
    with pytest.raises(ConfigError, match=r"flores200 of BLEU needs a model .* \(no network\): choose another"):
        evaluate_lines(["a"], ["a"], tokenization="flores200")


def test_systems_are_compared_with_the_first_on_all_references(tmp_path):
    sentences = [f"the {a} {b} sat on the {c}" for a in ("old", "new") for b in ("cat", "dog") for c in "abcdefgh"]
    worse = [line.replace("sat", "lay") if number % 4 else line for number, line in enumerate(sentences)]
    files = {"worse": worse, "same": worse, "right": sentences, "one": sentences, "other": sentences[::-1]}
    paths = {name: tmp_path / name for name in files}
    for name, lines in files.items():
        paths[name].write_text("".join(f"{line}\n" for line in lines))
    references = [paths["one"], paths["other"]]
    compared = compare_files([paths["worse"], paths["same"], paths["right"]], *references)
    assert [each for each, _ in compared] == [evaluate_files(paths[name], *references) for name in list(files)[:3]]
    assert [compared[0][1], compared[1][1]] == [None, 1.0]
    assert compared[2][1] == paired_p_value(worse, sentences, sentences, sentences[::-1], tokenization="13a") < 0.01
    # The second reference alone decides if the first one fits neither system.
    unlike = ["x y z u v w"] * len(sentences)
    assert paired_p_value(worse, sentences, unlike, tokenization="13a") > 0.05
    assert paired_p_value(worse, sentences, unlike, sentences, tokenization="13a") < 0.01
    upper = [line.upper() for line in sentences]
    assert paired_p_value(upper, sentences, sentences, tokenization="13a", lowercase=True) == 1.0
    with pytest.raises(DataError, match="same number of lines"):
        paired_p_value(worse[1:], sentences, sentences, tokenization="13a")
