"""Minimum Bayes risk decoding, against sentence scores of sacreBLEU and sums written out."""

import random
import sys
from collections import Counter

import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF

from nmt.errors import ConfigError, DataError
from nmt.scoring.mbr import aggregate_chrf, choose, chrf, expected_utility_of, sentence_bleu

SCORERS = {"chrf": CHRF(), "chrf++": CHRF(word_order=2), "bleu": BLEU(effective_order=True)}
ODD = [
    "",
    " ",
    "a",
    "aa",
    "aaaaaaaaa aaaa aa a a a a",
    "(hi)",
    "!",
    "?! ?!",
    "naïve — “Übergrößen” 你好,世界。",
    "a\u00a0b\tc ",
    "end-\n",
    "end-",
]
SENTENCE = "Two men, one (in a red hat), look at the other men's 1,000 hats; the hats are red."


def score(name, hypothesis, reference):
    return SCORERS[name].sentence_score(hypothesis, [reference]).score


def sentences(seed, number=9):
    """Variants of one sentence, which share much and repeat words."""
    generator = random.Random(seed)
    words = SENTENCE.split()
    variants = []
    for _ in range(number):
        variant = [word for word in words if generator.random() < 0.8]
        if generator.random() < 0.5:
            generator.shuffle(variant)
        variants.append(" ".join(variant))
    return variants


def noise(seed, number=9):
    """Strings over few characters, so that n-grams repeat, some of them short or empty."""
    generator = random.Random(seed)
    return ["".join(generator.choices("ab.  ", k=generator.randrange(12))) for _ in range(number)]


@pytest.mark.parametrize("name", SCORERS)
@pytest.mark.parametrize(
    ("hypotheses", "references"),
    [
        *((make(seed), make(seed + 100, 5)) for make in (sentences, noise) for seed in range(6)),
        (ODD, ODD),
        ([""], [""]),
    ],
)
def test_utilities_are_the_sentence_scores_of_sacrebleu(name, hypotheses, references):
    utility = {"chrf": chrf, "chrf++": lambda *sides: chrf(*sides, word_order=2), "bleu": sentence_bleu}[name]
    expected = [[score(name, hypothesis, reference) for reference in references] for hypothesis in hypotheses]
    np.testing.assert_allclose(utility(hypotheses, references), expected, atol=1e-9)


@pytest.mark.parametrize("tokenization", ["char", "none", "intl", "zh"])
def test_bleu_cuts_text_as_it_is_told(tokenization):
    metric, lines = BLEU(tokenize=tokenization, effective_order=True), [*sentences(3, 4), *ODD]
    expected = [[metric.sentence_score(one, [other]).score for other in lines] for one in lines]
    np.testing.assert_allclose(sentence_bleu(lines, lines, tokenization=tokenization), expected, atol=1e-9)


@pytest.mark.parametrize("name", SCORERS)
@pytest.mark.parametrize("seed", range(3))
def test_the_choice_has_the_highest_weighted_mean(name, seed):
    candidates = sentences(seed, 7)
    candidates += random.Random(seed).choices(candidates, k=6)  # samples repeat
    references = [*sentences(seed + 50, 4), *candidates[3:9]]
    weights = np.random.default_rng(seed).random(len(references))
    for given, weight in (
        ({}, np.ones(len(candidates))),
        ({"references": references}, np.ones(len(references))),
        ({"references": references, "weights": weights}, weights),
    ):
        means = [
            sum(
                w * score(name, one, other)
                for w, other in zip(weight, given.get("references", candidates), strict=True)
            )
            / sum(weight)
            for one in candidates
        ]
        decision = choose(candidates, utility=name, **given)
        np.testing.assert_allclose(decision.expected_utilities, means, atol=1e-9)
        assert means[decision.chosen] == pytest.approx(max(means))
        assert candidates.index(candidates[decision.chosen]) == decision.chosen  # of equal strings the first
        assert decision.expected_utility == decision.expected_utilities[decision.chosen]


def test_what_was_drawn_often_counts_more():
    candidates, weights = ["a dog barks", "the cat sat here", "a dog bit"], [1, 5, 2]
    repeated = [text for text, weight in zip(candidates, weights, strict=True) for _ in range(weight)]
    often = choose(repeated)
    assert repeated[often.chosen] == "the cat sat here"
    weighted = choose(candidates, weights=weights)
    assert weighted.expected_utility == pytest.approx(often.expected_utility)
    assert choose(candidates).chosen != weighted.chosen


def test_of_equal_ones_the_first_is_chosen():
    # No two have anything in common; and spaces do not count for chrF.
    for candidates in (["ab", "cd", "ef"], ["ab c", "a bc", "abc"]):
        for utility in ("chrf", expected_utility_of("chrf", aggregate=True)):
            assert choose(candidates, utility=utility).chosen == 0

    def rounded(hypotheses, references, weights):
        return np.array([0.1 + 0.2, 0.3, 0.3 + 1e-12, 0.2])  # equal but for the order of sums

    assert choose(list("abcd"), utility=rounded).chosen == 0
    assert choose(list("abcd"), utility=lambda *_: np.array([0.1, 0.3, 0.3 + 1e-6, 0.2])).chosen == 2


@pytest.mark.parametrize("name", ["chrf", "chrf++"])
@pytest.mark.parametrize("make", [sentences, noise])
def test_aggregation_scores_by_mean_counts(make, name):
    """The definition of Vamvas and Sennrich (2024), written out: the reference has fractional counts."""
    hypotheses, references, weights = make(1, 7), make(2, 5), np.array([0.1, 0.3, 0.2, 0.15, 0.25])

    def counts_of(texts):
        """The n-grams of texts, of each order, counted by sacreBLEU."""
        return zip(*SCORERS[name]._extract_reference_info(texts)["ref_ngrams"], strict=True)

    scores = []
    for hypothesis in hypotheses:
        precisions, recalls = [], []
        for (counts,), counts_of_all in zip(counts_of([hypothesis]), counts_of(references), strict=True):
            means = Counter()
            for weight, others in zip(weights, counts_of_all, strict=True):
                means.update({ngram: weight * count for ngram, count in others.items()})
            if counts and means:
                matches = sum(min(count, means[ngram]) for ngram, count in counts.items())
                precisions.append(matches / counts.total())
                recalls.append(matches / means.total())
        precision, recall = (sum(each) / max(len(each), 1) for each in (precisions, recalls))
        scores.append(500 * precision * recall / (4 * precision + recall) if precision + recall else 0)
    utility = expected_utility_of(name, aggregate=True)
    np.testing.assert_allclose(utility(hypotheses, references, weights), scores, atol=1e-9)


def test_one_reference_is_its_own_aggregate():
    hypotheses, reference = [*sentences(4), *ODD], sentences(5, 1)
    aggregate = aggregate_chrf(hypotheses, reference, np.ones(1), word_order=2)
    np.testing.assert_allclose(aggregate, chrf(hypotheses, reference, word_order=2)[:, 0], atol=1e-9)


def test_aggregation_is_as_published():
    """The example in the README of fastChrF, by the authors of the paper; it shows eight digits."""
    references = ["The cat sat on the mat.", "The fat cat sat on the mat.", "A cat sat on a mat."]
    scores = aggregate_chrf(["The cat sat on the mat.", "The cat sat on the hat."], references, np.full(3, 1 / 3))
    np.testing.assert_allclose(scores, [78.56389618, 63.3719368], atol=1e-5)


OWN = """
def shared_words(hypotheses, references):
    return [len(set(one.split()) & set(other.split())) for one, other in zip(hypotheses, references, strict=True)]

def too_few(hypotheses, references):
    return [1.0]

def infinite(hypotheses, references):
    return [float("inf")] * len(hypotheses)

def broken(hypotheses, references):
    raise KeyError("no model")
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module of a user's own in the current folder; its name."""
    (tmp_path / "own_utilities_of_a_test.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    return "own_utilities_of_a_test"


def test_a_utility_of_ones_own(own):
    utility = expected_utility_of(f"{own}:shared_words")
    decision = choose(["a", "b c d", "c d", "b c d"], ["b", "c d", "c", "x"], weights=[1, 2, 1, 4], utility=utility)
    assert decision.expected_utilities == pytest.approx([0, 6 / 8, 5 / 8, 6 / 8])
    assert decision.chosen == 1


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("missing", r"own_utilities_of_a_test:missing cannot be loaded: AttributeError.*has no attribute 'missing'"),
        ("too_few", r"too_few must return a finite score for each of 4 pairs, got an array of shape \(1,\)"),
        ("infinite", r"infinite must return a finite score for each of 4 pairs.* with 0 finite numbers"),
        ("broken", r"broken fails: KeyError: 'no model'"),
    ],
)
def test_what_is_wrong_with_a_utility_of_ones_own_is_said(own, function, words):
    with pytest.raises(ConfigError, match=words):
        choose(["a", "b"], utility=f"{own}:{function}")


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match=r"must be chrf, chrf\+\+, bleu or module:function, got comet"):
        choose(["a"], utility="comet")
    with pytest.raises(ConfigError, match=r"nowhere:f cannot be loaded: ModuleNotFoundError"):
        expected_utility_of("nowhere:f")
    with pytest.raises(ConfigError, match=r"aggregated for chrf and chrf\+\+, not for bleu"):
        expected_utility_of("bleu", aggregate=True)
    with pytest.raises(ConfigError, match=r"tokenisation of BLEU must be one of .*, got 13b"):
        expected_utility_of("bleu", tokenization="13b")
    for arguments in (([],), (["a"], []), (["a"], ["b", "c"], [1]), (["a"], ["b"], [0]), (["a"], ["b", "c"], [2, -1])):
        with pytest.raises(DataError, match=r"a line must have candidates, references and a weight for each"):
            choose(*arguments[:2], weights=arguments[2] if len(arguments) == 3 else None)
