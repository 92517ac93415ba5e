"""The workers' shares together are the stream, whatever the number of replicas."""

import numpy as np
import pytest

from nmt.data import TokenStore
from nmt.data.batches import EMPTY_BATCH, Batch
from nmt.data.corpus import CorpusReport
from nmt.data.sequences import TokenSequences
from nmt.streams import BatchStream


class Numbers(BatchStream):
    """A stream of 5 batches an epoch that notes which of them were built."""

    def __init__(self, **share):
        one = TokenSequences.from_lists([[3]])
        store = TokenStore(None, one, one, CorpusReport(1, 1, 0, 0, 0, 9), "")
        super().__init__(store, batch_tokens=9, seed=1, **share)
        self.built = []

    def batch_at(self, place):
        self.built.append(5 * place.epoch + place.batch)
        return Batch(*(np.full((1, 1), self.built[-1], "int32"),) * 3)

    def batches_in_epoch(self, epoch):
        return 5


def place(cursor):
    return 5 * cursor.epoch + cursor.batch


@pytest.mark.parametrize(("replicas", "workers"), [(1, 1), (2, 1), (2, 2), (4, 2), (3, 3), (8, 2)])
@pytest.mark.parametrize("batches_per_update", [1, 3, 4, 7, 12])
def test_each_batch_goes_to_one_worker_and_none_builds_those_of_others(replicas, workers, batches_per_update):
    local = replicas // workers
    drawn = [[] for _ in range(3)]
    for worker in range(workers):
        share = Numbers(
            batches_per_update=batches_per_update,
            replicas=replicas,
            own_numbers=range(worker * local, (worker + 1) * local),
        )
        for update in range(3):
            own = [next(share) for _ in range(share.draws_per_update)]
            real = [int(batch.source_ids[0, 0]) for batch in own if batch is not EMPTY_BATCH]
            drawn[update] += real
            assert place(share.cursor) == batches_per_update * (update + 1)
            for turn, batch in enumerate(own):  # round after round, each in the order of the replicas
                number = turn // local * replicas + worker * local + turn % local
                assert (batch is EMPTY_BATCH) == (number >= batches_per_update)
                if batch is not EMPTY_BATCH:
                    assert int(batch.source_ids[0, 0]) == batches_per_update * update + number
        places = range(3 * batches_per_update)
        own_places = [n for n in places if n % batches_per_update % replicas // local == worker]
        assert share.built == own_places
    for update, numbers in enumerate(drawn):
        assert sorted(numbers) == list(range(batches_per_update * update, batches_per_update * (update + 1)))


def test_a_cursor_of_two_workers_is_one_of_three():
    two = Numbers(batches_per_update=6, replicas=2, own_numbers=range(1, 2))
    for _ in range(two.draws_per_update):
        next(two)
    three = Numbers(batches_per_update=6, replicas=3, own_numbers=range(2, 3))
    next(three)  # in the middle of an update, which is forgotten
    three.seek(two.cursor)
    assert [int(next(three).source_ids[0, 0]) for _ in range(2)] == [6 + 2, 6 + 5]


def test_an_empty_batch_has_nothing_that_counts():
    assert [ids.tolist() for ids in EMPTY_BATCH[:3]] == [[[3]], [[2]], [[0]]]
