import numpy as np
import pytest

from nmt.errors import ConfigError, DataError
from nmt.streams import BatchStream, Cursor
from nmt.text import EOS_ID


def take(stream, count):
    return [next(stream) for _ in range(count)]


def equal(batches, others):
    return len(batches) == len(others) and all(
        np.array_equal(array, other)
        for batch, another in zip(batches, others, strict=True)
        for array, other in zip(batch, another, strict=True)
    )


def numbers(batch):
    """The number of each pair, which the targets of `caption_store` begin with."""
    return batch.target_output_ids[:, 0] - 1000


def test_each_epoch_holds_every_pair_once(caption_store):
    stream = BatchStream(caption_store, batch_tokens=700, seed=5)
    for epoch in range(2):
        batches = take(stream, stream.batches_in_epoch(epoch))
        assert sorted(np.concatenate([numbers(batch) for batch in batches])) == list(range(len(caption_store)))
        assert stream.cursor == Cursor(epoch + 1, 0)
        assert max(max(array.size for array in batch[:3]) for batch in batches) <= 700


def test_padding_masks_count_every_token(caption_store):
    stream = BatchStream(caption_store, batch_tokens=300, seed=5)
    batches = take(stream, stream.batches_in_epoch(0))
    for side, lengths in ((0, caption_store.source_lengths), (1, caption_store.target_lengths)):
        assert sum((batch[side] != 0).sum() for batch in batches) == lengths.sum()
    assert sum((batch.target_output_ids == EOS_ID).sum() for batch in batches) == len(caption_store)
    assert not any((batch.target_input_ids == EOS_ID).any() for batch in batches)


def test_seed_and_epoch_decide_the_order(store):
    def order(seed, start):
        stream = BatchStream(store, batch_tokens=40, seed=seed)
        stream.seek(Cursor(start, 0))
        return take(stream, stream.batches_in_epoch(start))

    assert equal(order(1, 0), order(1, 0))
    assert not equal(order(1, 0), order(1, 1))
    assert not equal(order(1, 0), order(2, 0))


@pytest.mark.parametrize("drawn", [0, 1, 7, "to the end of an epoch", "into the next epoch"])
def test_a_stream_sent_to_a_cursor_goes_on_as_the_first(store, drawn):
    stream = BatchStream(store, batch_tokens=40, seed=8)
    size = stream.batches_in_epoch(0)
    take(stream, {"to the end of an epoch": size, "into the next epoch": size + 2}.get(drawn, drawn))
    other = BatchStream(store, batch_tokens=40, seed=8)
    other.seek(stream.cursor)
    assert other.cursor == stream.cursor
    assert equal(take(stream, 2 * size), take(other, 2 * size))
    assert other.cursor == stream.cursor


def test_a_cursor_may_come_back_from_a_file_as_a_list(store):
    stream = BatchStream(store, batch_tokens=40, seed=8)
    stream.seek([1, 2])
    assert stream.cursor == Cursor(epoch=1, batch=2)


@pytest.mark.parametrize("cursor", [Cursor(0, 10**6), Cursor(-1, 0), Cursor(0, -1)])
def test_a_cursor_that_does_not_fit_is_refused(store, cursor):
    stream = BatchStream(store, batch_tokens=40, seed=8)
    with pytest.raises(DataError, match="the stored place in the training data must be one of"):
        stream.seek(cursor)
    assert stream.cursor == Cursor(0, 0)


def test_the_size_of_other_epochs_can_be_asked_without_moving(store):
    stream, asked = BatchStream(store, batch_tokens=40, seed=8), BatchStream(store, batch_tokens=40, seed=8)
    for _ in range(30):
        asked.batches_in_epoch(asked.cursor.epoch + 3)
        assert equal(take(stream, 1), take(asked, 1))


def test_a_batch_size_that_cannot_hold_a_pair_is_refused_at_once(store):
    longest = int(max(store.source_lengths.max(), store.target_lengths.max()))
    with pytest.raises(ConfigError, match=f"batch_tokens must hold the longest pair, {longest} tokens"):
        BatchStream(store, batch_tokens=longest - 1, seed=0)
    next(BatchStream(store, batch_tokens=longest, seed=0))
