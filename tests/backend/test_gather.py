"""Taking other beams, against NumPy."""

import numpy as np
import pytest

from nmt.backend.functions import gather_beams


@pytest.mark.parametrize("rest", [(), (5,), (0,), (5, 7)])
def test_rows_are_taken_within_each_sentence(rest):
    values = np.random.default_rng(0).normal(size=(2, 3, *rest))
    beams = np.array([[2, 0, 0, 1], [1, 1, 2, 0]], "int32")
    taken = np.asarray(gather_beams(values, beams))
    assert taken.shape == (2, 4, *rest)
    for sentence in range(2):
        np.testing.assert_array_equal(taken[sentence], values[sentence][beams[sentence]])
