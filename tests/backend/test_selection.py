"""Batches cut into parts of one size."""

import numpy as np
import pytest

from nmt.backend.functions import cut_rows
from nmt.types import PAD_ID


@pytest.mark.parametrize(("rows", "parts", "filled"), [(4, 1, 0), (4, 2, 0), (5, 2, 1), (5, 3, 1), (1, 4, 3)])
def test_rows_stay_in_order_and_parts_are_filled_up(rows, parts, filled):
    ids = np.arange(7, 7 + 3 * rows, dtype="int32").reshape(rows, 3)
    cut = [np.array(part) for part in cut_rows(ids, parts)]
    assert len(cut) == parts
    assert len({part.shape for part in cut}) == 1
    together = np.concatenate(cut)
    np.testing.assert_array_equal(together[:rows], ids)
    np.testing.assert_array_equal(together[rows:], np.full((filled, 3), PAD_ID))
