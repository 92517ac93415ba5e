import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nmt.data import batches
from nmt.data.batches import cut, plan_epoch, plan_in_length_order

LENGTHS = st.lists(st.tuples(st.integers(1, 23), st.integers(1, 29)), min_size=1, max_size=80)


def sides(lengths):
    source_lengths, target_lengths = np.array(lengths, dtype=np.int32).T
    return source_lengths, target_lengths


def padded_tokens(plan, source_lengths, target_lengths):
    """Cells of each batch: (source, target) columns times pairs."""
    return np.array(
        [
            [len(plan[i]) * source_lengths[plan[i]].max(), len(plan[i]) * target_lengths[plan[i]].max()]
            for i in range(len(plan))
        ]
    )


@given(lengths=LENGTHS, batch_tokens=st.integers(29, 200), seed=st.integers(0, 9), epoch=st.integers(0, 9))
def test_each_pair_stands_in_one_batch_and_no_batch_is_too_large(lengths, batch_tokens, seed, epoch):
    source_lengths, target_lengths = sides(lengths)
    plan = plan_epoch(source_lengths, target_lengths, batch_tokens=batch_tokens, seed=seed, epoch=epoch)
    assert sorted(np.concatenate([plan[i] for i in range(len(plan))])) == list(range(len(lengths)))
    assert padded_tokens(plan, source_lengths, target_lengths).max() <= batch_tokens


@given(lengths=LENGTHS, batch_tokens=st.integers(3, 60))
def test_in_length_order_only_a_pair_that_is_alone_may_be_too_long(lengths, batch_tokens):
    source_lengths, target_lengths = sides(lengths)
    plan = plan_in_length_order(source_lengths, target_lengths, batch_tokens=batch_tokens)
    assert sorted(np.concatenate([plan[i] for i in range(len(plan))])) == list(range(len(lengths)))
    for i, cells in enumerate(padded_tokens(plan, source_lengths, target_lengths).max(axis=1)):
        assert cells <= batch_tokens or len(plan[i]) == 1
    longest = np.maximum(source_lengths, target_lengths)[plan.pairs]
    assert (np.diff(longest) >= 0).all()


def brute_force_cut(longest, batch_tokens, first_share):
    bounds, start, limit = [], 0, int(batch_tokens * first_share)
    for end in range(1, len(longest) + 1):
        if end == len(longest) or max(longest[start : end + 1]) * (end + 1 - start) > limit:
            bounds.append([start, end])
            start, limit = end, batch_tokens
    return bounds


@given(
    longest=st.lists(st.integers(1, 31), min_size=1, max_size=60),
    batch_tokens=st.integers(1, 120),
    first_share=st.floats(0.0, 1.0),
)
@example(longest=[3, 3, 3, 3, 5], batch_tokens=6, first_share=1.0)  # batches that reach the limit exactly
def test_batches_are_as_large_as_the_limit_allows(longest, batch_tokens, first_share):
    bounds = cut(np.array(longest), batch_tokens=batch_tokens, first_share=first_share)
    assert bounds.tolist() == brute_force_cut(longest, batch_tokens, first_share)


def companions(plan):
    """All (i, j) of pairs that stand in one batch."""
    return {(i, j) for b in range(len(plan)) for i in plan[b] for j in plan[b] if i < j}


def test_epochs_and_seeds_differ_and_repeat(caption_store):
    lengths = caption_store.source_lengths[:1000], caption_store.target_lengths[:1000]

    def plan(seed, epoch):
        return plan_epoch(*lengths, batch_tokens=500, seed=seed, epoch=epoch)

    first = plan(3, 0)
    assert np.array_equal(first.pairs, plan(3, 0).pairs)
    assert np.array_equal(first.bounds, plan(3, 0).bounds)
    for other in (plan(3, 1), plan(4, 0)):
        shared = len(companions(first) & companions(other)) / len(companions(first))
        assert shared < 0.5


def test_pairs_of_equal_lengths_are_mixed_anew_in_each_epoch():
    lengths = np.full(1000, 7), np.full(1000, 5)
    first, second = (plan_epoch(*lengths, batch_tokens=350, seed=0, epoch=epoch) for epoch in range(2))
    shared = len(companions(first) & companions(second)) / len(companions(first))
    assert shared < 0.1  # by chance, 50 of 1,000 stand together: 0.05


def test_batches_do_not_come_in_order_of_length(caption_store):
    plan = plan_epoch(caption_store.source_lengths, caption_store.target_lengths, batch_tokens=512, seed=1, epoch=0)
    mean_lengths = [caption_store.source_lengths[plan[i]].mean() for i in range(len(plan))]
    assert abs(np.corrcoef(mean_lengths, np.arange(len(plan)))[0, 1]) < 0.3


@pytest.mark.parametrize(("batch_tokens", "most"), [(128, 0.02), (1024, 0.08)])
def test_little_is_padding(caption_store, batch_tokens, most):
    # 4,000 pairs in batches of 128 and 1,024 tokens stand for 29,000 pairs in batches of about 1,024 and 8,192
    source_lengths, target_lengths = caption_store.source_lengths, caption_store.target_lengths
    for epoch in range(3):
        plan = plan_epoch(source_lengths, target_lengths, batch_tokens=batch_tokens, seed=2, epoch=epoch)
        cells = padded_tokens(plan, source_lengths, target_lengths)
        real = source_lengths.sum() + target_lengths.sum()
        assert 1.0 - real / cells.sum() < most
        assert cells.max(axis=1).mean() > 0.9 * batch_tokens  # batches are full, too


def test_a_plan_does_not_depend_on_the_pieces_it_is_made_in(caption_store, monkeypatch):
    lengths = caption_store.source_lengths, caption_store.target_lengths
    whole = plan_epoch(*lengths, batch_tokens=500, seed=3, epoch=2)
    monkeypatch.setattr(batches, "_PIECE_PAIRS", 37)
    pieced = plan_epoch(*(side.astype(np.uint16) for side in lengths), batch_tokens=500, seed=3, epoch=2)
    assert np.array_equal(whole.pairs, pieced.pairs)
    assert np.array_equal(whole.bounds, pieced.bounds)
