"""IBM Model 1 and the HMM: against what is computed by hand, and against the sum over all alignments."""

import itertools
import math
import tempfile

import numpy as np
import pytest

from nmt.alignment import bitext as bitexts
from nmt.alignment.bitext import Cooccurrences, encode
from nmt.alignment.corpus_alignment import align
from nmt.alignment.models import (
    EMPTY_PROBABILITY,
    FLOOR,
    NO_LINK,
    PRIOR,
    Aligner,
    digamma,
    hmm_posteriors,
    model1_posteriors,
    transitions,
)
from nmt.errors import DataError

B, I, J = 2, 3, 4  # noqa: E741


@pytest.fixture
def tables():
    """t(generated j | given i), (B, I, J), t(generated j | empty word), (B, J), and transitions (I + 1, I)."""
    generator = np.random.default_rng(3)
    transition = generator.random((I + 1, I))
    return (
        generator.random((B, I, J)).astype(np.float32),
        generator.random((B, J)).astype(np.float32),
        (transition / transition.sum(axis=1, keepdims=True)).astype(np.float32),
    )


def made_corpus(num_pairs=60, seed=5):
    """Sentences whose words are translated one by one, the first three rotated, with a particle of no meaning."""
    generator = np.random.default_rng(seed)
    for _ in range(num_pairs):
        numbers = generator.integers(0, 12, generator.integers(2, 7)).tolist()
        rotated = [*numbers[1:3], numbers[0], *numbers[3:]]
        yield [f"s{number}" for number in numbers], [*(f"t{number}" for number in rotated), "ha"]


def derivative_of_lgamma(value, step=1e-4):
    return (math.lgamma(value + step) - math.lgamma(value - step)) / (2 * step)


def test_digamma():
    values = [0.1, 1.0, 3.5, 40.0]
    assert digamma(np.array(values)) == pytest.approx([derivative_of_lgamma(value) for value in values], rel=1e-5)
    assert digamma(np.array([1.0]))[0] == pytest.approx(-0.5772156649, abs=1e-8)


def test_one_iteration_of_model_1_is_what_is_computed_by_hand():
    bitext = encode([(["a", "b"], ["x", "y"]), (["a"], ["x"])], max_length=9)
    with tempfile.TemporaryFile() as file:
        aligner = Aligner(Cooccurrences(bitext, file))
        perplexity = aligner.train(model1_iterations=1, hmm_iterations=0)
    # All probabilities are 1/2 at first, so a word comes from the empty word by 1/5, else from each given word alike.
    assert perplexity == pytest.approx(2.0)
    counts = {("a", "x"): 0.4 + 0.8, ("a", "y"): 0.4, ("b", "x"): 0.4, ("b", "y"): 0.4}
    totals = {"a": 1.6, "b": 0.8}
    words = [(source, target) for source in "ab" for target in "xy"]  # the order of the table
    expected = [
        derivative_of_lgamma(counts[pair] + PRIOR) - derivative_of_lgamma(totals[pair[0]] + 2 * PRIOR) for pair in words
    ]
    assert EMPTY_PROBABILITY == 0.2
    assert aligner.parameters.translation.tolist() == pytest.approx([*np.exp(expected), FLOOR], rel=1e-4)


def test_posteriors_of_model_1(tables):
    translation, empty, _ = tables
    found = model1_posteriors(translation, empty)
    for b, j in itertools.product(range(B), range(J)):
        by_word = [(1 - EMPTY_PROBABILITY) / I * translation[b, i, j] for i in range(I)]
        by_empty = EMPTY_PROBABILITY * empty[b, j]
        assert found.links[b, :, j].tolist() == pytest.approx([p / (sum(by_word) + by_empty) for p in by_word])
        assert found.empty[b, j] == pytest.approx(by_empty / (sum(by_word) + by_empty))


def test_posteriors_of_the_hmm_are_the_sum_over_all_alignments(tables):
    translation, empty, transition = tables
    found = hmm_posteriors(translation, empty, transition)
    log_likelihood, jumps = 0.0, np.zeros((I + 1, I))
    for b in range(B):
        total, links, by_empty, moved = 0.0, np.zeros((I, J)), np.zeros(J), np.zeros((I + 1, I))
        for alignment in itertools.product([NO_LINK, *range(I)], repeat=J):
            probability, position, moves = 1.0, 0, []
            for j, i in enumerate(alignment):
                if i == NO_LINK:
                    probability *= EMPTY_PROBABILITY * empty[b, j]
                else:
                    probability *= (1 - EMPTY_PROBABILITY) * transition[position, i] * translation[b, i, j]
                    moves.append((position, i))
                    position = i + 1
            total += probability
            for j, i in enumerate(alignment):
                if i == NO_LINK:
                    by_empty[j] += probability
                else:
                    links[i, j] += probability
            for move in moves:
                moved[move] += probability
        np.testing.assert_allclose(found.links[b], links / total, rtol=1e-4)
        np.testing.assert_allclose(found.empty[b], by_empty / total, rtol=1e-4)
        log_likelihood += math.log(total)
        jumps += moved / total
    assert found.log_likelihood == pytest.approx(log_likelihood, rel=1e-5)
    np.testing.assert_allclose(found.jumps, jumps, rtol=1e-4)


def test_transitions_depend_on_the_distance_alone():
    jumps = np.array([0.0, 0.0, 1.0, 0.0, 3.0, 6.0, 0.0])  # -3 to 3
    matrix = transitions(jumps, starts=np.array([2.0, 1.0, 1.0]), length=3)
    shares = [[2 / 4, 1 / 4, 1 / 4], [0, 3 / 9, 6 / 9], [1 / 4, 0, 3 / 4], [0, 1, 0]]
    np.testing.assert_allclose(matrix, 0.1 / 3 + 0.9 * np.array(shares), rtol=1e-6)


def test_a_made_corpus_is_aligned_as_it_was_made():
    pairs = list(made_corpus())
    aligned = align(pairs)
    right = found = total = 0
    for (source, target), links in zip(pairs, aligned.links("intersection"), strict=True):
        right += sum(target[j] == source[i].replace("s", "t") for i, j in links)
        found += len(links)
        total += len(source)
        assert "ha" not in {target[j] for _, j in links}
    assert right > 0.95 * found
    assert right > 0.85 * total
    best = {}
    for entry in aligned.lexical_table():
        best[entry.source] = max(best.get(entry.source, (0.0, "")), (entry.target_given_source, entry.target))
    assert {source: target for source, (_, target) in best.items()} == {f"s{n}": f"t{n}" for n in range(12)}


def test_probabilities_add_up_to_one():
    aligned = align(made_corpus())
    for place, direction in enumerate((aligned.forward, aligned.backward)):
        assert np.bincount(aligned.word_pairs[place], direction.probabilities) == pytest.approx(1, rel=1e-5)


def test_em_makes_the_text_more_probable():
    reports = []
    align(made_corpus(), report=reports.append)
    perplexities = [float(line.split()[-1]) for line in reports[1:6]]
    assert len(set(perplexities)) == 5
    assert perplexities == sorted(perplexities, reverse=True)


def test_the_result_depends_neither_on_blocks_nor_on_threads(monkeypatch):
    whole = align(made_corpus())
    monkeypatch.setattr(bitexts, "BLOCK_CELLS", 70)
    in_blocks = [align(made_corpus(), threads=threads) for threads in (1, 3)]
    for one, other in zip(*in_blocks, strict=True):
        np.testing.assert_equal(one, other)
    assert list(whole.links()) == list(in_blocks[0].links())
    np.testing.assert_allclose(whole.forward.probabilities, in_blocks[0].forward.probabilities, rtol=1e-3, atol=1e-6)


def test_the_weakest_word_pairs_are_dropped(monkeypatch):
    monkeypatch.setattr(bitexts, "BLOCK_CELLS", 70)
    whole, bounded = align(made_corpus()), align(made_corpus(), max_word_pairs=60)
    assert whole.dropped == 0
    assert bounded.dropped > 0
    assert bounded.word_pairs.shape[1] <= 60 < whole.word_pairs.shape[1]
    kept = {(entry.source, entry.target) for entry in bounded.lexical_table()}
    assert {(f"s{n}", f"t{n}") for n in range(12)} <= kept


def test_what_cannot_be_aligned_gets_no_links_and_changes_nothing():
    pairs = list(made_corpus())
    with_more = [*pairs[:7], ([], ["t1"]), (["s1"], []), (["s1"] * 8, ["t1"]), *pairs[7:]]
    aligned, plain = align(with_more, max_length=7), align(pairs)
    assert (aligned.bitext.empty, aligned.bitext.too_long) == (2, 1)
    links = list(aligned.links())
    assert links[7:10] == [set(), set(), set()]
    assert links[:7] + links[10:] == list(plain.links())
    with pytest.raises(DataError, match="got 1 with an empty side and 1 with more than 7 words"):
        align(with_more[8:10], max_length=7)
