"""Taking other beams, against NumPy and the twin."""

import numpy as np
import pytest

from nmt.backend.functions import gather_beams, gather_beams_twin


@pytest.mark.parametrize("gather", [gather_beams, gather_beams_twin])
@pytest.mark.parametrize("rest", [(), (5,), (0,), (5, 7)])
def test_rows_are_taken_within_each_sentence(gather, rest):
    values = np.random.default_rng(0).normal(size=(2, 3, *rest))
    beams = np.array([[2, 0, 0, 1], [1, 1, 2, 0]], "int32")
    taken = np.asarray(gather(values, beams))
    assert taken.shape == (2, 4, *rest)
    for sentence in range(2):
        np.testing.assert_array_equal(taken[sentence], values[sentence][beams[sentence]])
