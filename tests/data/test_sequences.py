import numpy as np
import pytest

from nmt.data.sequences import TokenSequences

LISTS = [[5, 6, 7, 3], [3], [8, 3], [4, 9, 3]]


def test_sequences_come_back():
    sequences = TokenSequences.from_lists(LISTS)
    assert [sequences[i].tolist() for i in range(len(sequences))] == LISTS
    assert sequences.lengths.tolist() == [4, 1, 2, 3]
    assert sequences.lengths.dtype == np.int32


def test_rows_are_padded_behind_in_the_order_asked_for():
    token_ids, mask = TokenSequences.from_lists(LISTS).padded(np.array([3, 1, 2]))
    assert token_ids.tolist() == [[4, 9, 3], [3, 0, 0], [8, 3, 0]]
    assert mask.tolist() == [[True, True, True], [True, False, False], [True, True, False]]
    assert token_ids.dtype == np.int32


def test_a_sequence_that_is_not_there_is_refused():
    with pytest.raises(IndexError):
        TokenSequences.from_lists(LISTS)[4]
