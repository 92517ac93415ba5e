"""Weights of features: the line search finds the best there are, and its BLEU is sacreBLEU's."""

import numpy as np
import pytest
from sacrebleu.metrics import BLEU

from nmt.errors import ConfigError, DataError
from nmt.scoring import rerank
from nmt.scoring.rerank import Candidate

WORDS = "a man in the red hat sits on his old wooden chair near that big lake"


@pytest.fixture(scope="module")
def problem():
    """References, and noisy translations of L=25 lines, 1 to 6 each, with two features that say a little of each."""
    generator = np.random.default_rng(3)
    references, candidates = [], []
    for _ in range(25):
        reference = list(generator.choice(WORDS.split(), generator.integers(5, 9)))
        references.append(" ".join(reference))
        of_line = []
        for _ in range(generator.integers(1, 7)):
            wrong = generator.random(len(reference)) < generator.random() * 0.5
            words = [
                str(generator.choice(WORDS.split())) if bad else word
                for bad, word in zip(wrong, reference, strict=True)
            ]
            good = float(-wrong.sum() + generator.normal(0, 1.5))
            features = {"good": good, "bad": 10 * float(wrong.sum() + generator.normal(0, 1.5))}
            of_line.append(Candidate(" ".join(words), features, None))
        candidates.append(of_line)
    matrix = rerank.matrix_of(candidates, ["good", "bad"])
    statistics = rerank.bleu_statistics(candidates, [references], tokenization="13a")
    return references, candidates, matrix, statistics


def test_bleu_of_chosen_translations_is_that_of_sacrebleu(problem):
    references, candidates, matrix, statistics = problem
    for weights in ([1.0, 0.0], [0.3, -0.1], [-1.0, 2.0]):
        texts = [each[ranks[0]].text for each, ranks in zip(candidates, rerank.order(matrix, weights), strict=True)]
        expected = BLEU().corpus_score(texts, [references]).score
        assert rerank.bleu_by(matrix, statistics, np.array(weights)) == pytest.approx(expected, abs=1e-9)
    # Smoothing where an order has no match, and nothing where it has no n-gram at all.
    for text, reference in (("a red b c d", "a red e f g"), ("a red", "a red hat"), ("x", "a b c d")):
        (found,) = rerank.bleu_statistics([[Candidate(text, {}, None)]], [[reference]], tokenization="13a")
        expected = BLEU().corpus_score([text], [[reference]]).score
        assert rerank.bleu_of(found[0]) == pytest.approx(expected, abs=1e-9)


def test_a_line_search_misses_nothing_that_a_fine_grid_finds(problem):
    _, _, matrix, statistics = problem
    start, direction = np.array([0.4, 0.1]), np.array([-0.3, 1.0])
    best = rerank.line_search(matrix, statistics, start, direction)
    grid = [rerank.bleu_by(matrix, statistics, start + x * direction) for x in np.linspace(-4, 4, 8001)]
    assert best.bleu >= max(grid) - 1e-9
    assert rerank.bleu_by(matrix, statistics, start + best.place * direction) == pytest.approx(best.bleu, abs=1e-9)


def test_tuning_finds_the_optimum_of_two_features(problem):
    """All weights of two features are the points of a circle: a grid of angles is every one of them."""
    _, _, matrix, statistics = problem
    tuned = rerank.tune(matrix, statistics, ["good", "bad"])
    angles = np.linspace(0, 2 * np.pi, 8000, endpoint=False)
    # The second feature is ten times as large.
    grid = [rerank.bleu_by(matrix, statistics, np.array([np.cos(x), np.sin(x) / 10])) for x in angles]
    assert tuned.bleu_after >= max(grid) - 1e-9 > tuned.bleu_before
    found = rerank.bleu_by(matrix, statistics, np.array(list(tuned.weights.values())))
    assert found == pytest.approx(tuned.bleu_after, abs=1e-9)
    assert tuned == rerank.tune(matrix, statistics, ["good", "bad"])
    assert tuned.weights["bad"] < 0 < tuned.weights["good"]


def test_a_list_of_moses_is_read():
    number, candidate = rerank.read_moses("3 ||| a hat ||| lm= -1.5 tm= 2 -3e-1 ||| -4.25 ||| 0-0\n", "x, line 1")
    assert (number, candidate.text) == (3, "a hat")
    assert candidate.features == {"lm": -1.5, "tm.1": 2.0, "tm.2": -0.3, "score": -4.25}
    for line in ("3 ||| a hat ||| -4", "x ||| a ||| lm= 1 ||| 2", "1 ||| a ||| lm= x ||| 2"):
        with pytest.raises(DataError, match="x, line 1 must be as in n-best lists of Moses"):
            rerank.read_moses(line, "x, line 1")


def test_what_cannot_be_summed_is_refused(problem):
    _, candidates, matrix, statistics = problem
    with pytest.raises(DataError, match="translation 1 of line 1 has no number as feature lm: there are good, bad"):
        rerank.matrix_of(candidates, ["good", "lm"])
    with pytest.raises(ConfigError, match="may have 1 to 8 features, got 9"):
        rerank.matrix_of(candidates, list("abcdefghi"))
    with pytest.raises(DataError, match="only if translations of a line differ"):
        rerank.tune(np.ones_like(matrix), statistics, ["good", "bad"])
    with pytest.raises(ConfigError, match=r"of the form score=0\.7,length=0\.3, got score:1"):
        rerank.parse_weights("score:1")
