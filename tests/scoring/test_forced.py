"""Scores of given translations: those of a search for the same ids, and what is said of odd pairs."""

import logging
import math

import pytest

from nmt.errors import ConfigError, DataError
from nmt.inference.translator import Translator
from nmt.scoring import forced
from nmt.scoring.forced import ScoreTally

pytestmark = pytest.mark.usefixtures("eagerly")

LINES = ["uno dos tres", "siete", "", "cinco seis uno dos nueve"]


@pytest.fixture(scope="module")
def translator(transformer_run):
    return Translator.load(transformer_run.directory)


@pytest.mark.parametrize("log_linear", [False, True])
@pytest.mark.parametrize("members", [["transformer_run"], ["trained_run"], ["transformer_run", "trained_run"]])
def test_the_same_ids_have_the_score_of_the_search(members, log_linear, request, monkeypatch):
    runs = [request.getfixturevalue(name).directory for name in members]
    translator = Translator.load(*runs, member_weights=[0.7, 1.9][: len(runs)], log_linear=log_linear)
    monkeypatch.setattr(translator, "text_of", lambda token_ids: " ".join(map(str, token_ids)))
    # Blocks of a few rows, of which the last is not full.
    monkeypatch.setattr("nmt.models.forced.BLOCK_BYTES", 4 * 5 * len(translator.text.target.vocabulary))
    found = translator.n_best(LINES, 3, beam_size=3)
    pairs = [
        (line, [int(word) for word in each.text.split()]) for line, of in zip(LINES, found, strict=True) for each in of
    ]
    scores = translator.score(pairs, batch_size=4)
    reported = [each for of in found for each in of]
    assert len(scores) == len(reported) == 10
    penalty = translator.search.length_penalty
    for score, each in zip(scores, reported, strict=True):
        assert score.num_tokens == each.num_tokens == len(score.tokens) == len(score.token_log_probs)
        assert score.log_prob == pytest.approx(each.log_prob, abs=1e-5)
        assert score.normalized("length-penalty", length_penalty=penalty) == pytest.approx(each.score, abs=1e-5)
        assert math.fsum(score.token_log_probs) == score.log_prob
        assert score.normalized("tokens", length_penalty=penalty) * max(score.num_tokens, 1) == pytest.approx(
            score.log_prob
        )


def test_text_is_cut_by_the_tokenizer_and_batches_change_nothing(translator):
    pairs = [("uno dos tres", "one two three"), ("dos", "two three five"), ("siete ocho", "")]
    together = translator.score(pairs)
    for pair, score in zip(pairs, together, strict=True):
        (alone,) = translator.score([(pair[0], translator.text.target.encode(pair[1]))])
        assert alone.tokens == score.tokens
        assert alone.token_log_probs == pytest.approx(score.token_log_probs, abs=1e-5)
        assert score.tokens[-1] == "</s>"
    assert together[2].num_tokens == 1  # EOS alone


def test_nothing_odd_is_silent(translator, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    whole = translator.score([("uno dos tres", "one two three")])[0]
    monkeypatch.setattr(forced, "MAX_SOURCE_LENGTH", 2)
    tally, told = ScoreTally(), []
    pairs = [("", ""), ("", "one"), ("uno", ""), ("dos tres cuatro cinco", "one two three"), ("uno", "qqq")]
    scores = translator.score(pairs, tally=tally, progress=told.append)
    assert sum(told) == len(pairs)
    assert scores[0] == (0.0, (), (), 0, False)
    assert [score.cut for score in scores] == [False, False, False, True, False]
    assert scores[3].tokens == whole.tokens[:2]  # no EOS
    assert (tally.pairs, tally.no_source, tally.no_target, tally.unread, tally.cut) == (5, 1, 1, 1, 1)
    assert tally.unknown_target > 0
    assert tally.perplexity == pytest.approx(math.exp(-sum(s.log_prob for s in scores) / tally.tokens))
    assert tally.words == 2 + 1 + 4 + 2
    caplog.clear()
    tally.report()
    said = [record.getMessage() for record in caplog.records]
    assert said[0].startswith("5 pairs, ")
    for words in (
        "source longer than 2",
        "target longer than 2",
        "empty source",
        "empty target",
        "target tokens are unkn",
    ):
        assert sum(words in line for line in said) == 1, words


def test_what_cannot_be_scored_is_refused(translator):
    size = len(translator.text.target.vocabulary)
    for ids, got in (([4, size], size), ([2, 4], 2), ([3, 4, 3], 3), ([True], True)):
        with pytest.raises(DataError, match=f"ids of target 1 must be 0 to {size - 1}, .* got {got}"):
            translator.score([("uno", ids)])
    score = translator.score([("uno", "one")])[0]
    with pytest.raises(ConfigError, match="normalised by one of none, tokens, length-penalty, got words"):
        score.normalized("words", length_penalty=1.0)
    with pytest.raises(ConfigError, match="scored by a Seq2Seq, or an Ensemble of such"):
        Translator(object(), translator.text).score([("uno", "one")])
