from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmt.errors import ConfigError
from nmt.streams.shares import EndlessOrder, Stage


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=6), st.lists(st.integers(100, 5000), min_size=1, max_size=9))
def test_shares_are_exact_within_a_pair_over_any_rounds(weights, rounds):
    stage = Stage("1", tuple(weights))
    exact = [Fraction(weight) / sum(map(Fraction, weights)) for weight in weights]
    ends = np.cumsum(rounds).tolist()
    before = np.zeros(len(weights), int)
    for end in ends:
        upto = stage.upto(end)
        assert upto.sum() == end
        assert all(abs(count - share * end) <= 1 for count, share in zip(upto.tolist(), exact, strict=True))
        if min(exact) * min(rounds) >= 1:
            assert (upto >= before).all()
        before = upto


def test_a_corpus_without_a_weight_gives_nothing():
    assert Stage("1", (0.0, 3.0, 1.0)).upto(8).tolist() == [0, 6, 2]


def test_a_round_of_corpora_mixed_by_size_is_an_epoch():
    stage = Stage("1", (97.0, 230.0, 7.0))
    assert stage.round_pairs((97, 230, 7)) == 334
    assert stage.upto(3 * 334).tolist() == [3 * 97, 3 * 230, 3 * 7]
    assert stage.round_pairs((97, 230, 7), at_most=50) == 50
    assert Stage("1", (1.0, 0.0, 0.001)).round_pairs((5, 9, 5)) == 1001  # a pair of each at least


@pytest.mark.parametrize(
    ("weights", "sizes", "pairs"),
    [
        ((3.0, 1.0), (2000, 200_000), 3077),  # 2,307 of the first corpus, of which 307 are copies
        ((1.0, 3.0), (2000, 200_000), 13_335),
        ((1.0, 9.0), (1000, 200_000), 201_000),  # a tenth of it at most, whatever the round
        ((1.0, 1.0), (20, 200_000), 500),  # copies in any case
        ((3.0, 1.0), (20, 30), 50),
    ],
)
def test_a_round_has_few_copies(weights, sizes, pairs):
    stage = Stage("1", weights)
    assert stage.round_pairs(sizes, at_least=500) == pairs


def test_a_weight_that_gives_no_pair_a_round_is_refused():
    with pytest.raises(ConfigError, match="stage fine: the least weight must be a pair in 1,000 at least"):
        Stage("fine", (1.0, 1e-4)).round_pairs((9, 9), at_most=1000)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (3.0, 0.37), (0.02, 1.0)])
@pytest.mark.parametrize("epochs", [0.5, 1, 2, 2.5])
def test_the_last_pair_of_a_stage_fulfils_its_epochs(weights, epochs):
    stage = Stage("1", weights, epochs=epochs, of=0)
    last, wanted = stage.last_pair((31, 8)), int(np.ceil(epochs * 31))
    assert stage.upto(last)[0] == wanted
    assert abs(last * weights[0] / sum(weights) - wanted) <= 1


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 65, 1000])
def test_each_epoch_has_every_pair_once_in_its_own_order(size):
    order = EndlessOrder(size, seed=4, name="clean")
    pairs, epochs = order.pairs_at(np.arange(5 * size))
    assert epochs.tolist() == np.repeat(np.arange(5), size).tolist()
    rows = [tuple(row) for row in pairs.reshape(5, size).tolist()]
    assert all(sorted(row) == list(range(size)) for row in rows)
    if size >= 7:
        others = [EndlessOrder(size, seed=4, name="mined"), EndlessOrder(size, seed=5, name="clean")]
        rows += [tuple(each.pairs_at(np.arange(size))[0].tolist()) for each in others]
        assert len({*rows}) == 7
    asked = np.array([3 * size, size // 2, 4 * size - 1])
    assert np.array_equal(order.pairs_at(asked)[0], pairs[asked])


def test_the_order_is_like_one_by_chance():
    """Places and pairs do not correlate, nor do neighbours; each eighth of an epoch has of each eighth an eighth."""
    size = 8000
    pairs = EndlessOrder(size, seed=1, name="x").pairs_at(np.arange(size))[0]
    assert abs(np.corrcoef(pairs, np.arange(size))[0, 1]) < 0.05
    assert abs(np.corrcoef(pairs[1:], pairs[:-1])[0, 1]) < 0.05
    cells = Counter(zip((np.arange(size) // 1000).tolist(), (pairs // 1000).tolist(), strict=True))
    chi_square = sum((cells[i, j] - 125) ** 2 / 125 for i in range(8) for j in range(8))
    assert 20 < chi_square < 90  # 49 degrees of freedom: 49 by chance, 90 in one of 3,000
