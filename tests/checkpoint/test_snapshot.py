import keras
import numpy as np

from nmt.checkpoint.snapshot import Snapshot
from nmt.tying import named_variables


def test_a_snapshot_is_reused_and_keeps_types(build):
    model = build("transformer", "all")
    variables = {**named_variables(model), "count": keras.Variable(3, dtype="int64")}
    snapshot = Snapshot()
    first = snapshot.copy([variables, {"twice": next(iter(variables.values()))}])
    assert first[0].keys() == variables.keys()
    for path, variable in variables.items():
        np.testing.assert_array_equal(first[0][path], np.asarray(variable.value))
        assert first[0][path].dtype.name == variable.dtype
    second = snapshot.copy([variables])
    assert all(np.shares_memory(first[0][path], second[0][path]) for path in variables)
    arrays = list(first[0].values())
    assert not any(np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i])
