import keras
import numpy as np

from nmt.checkpoint.manager import Snapshot
from nmt.tying import named_variables


def test_a_snapshot_is_reused_and_keeps_types(build):
    model = build("transformer", "all")
    variables = {**named_variables(model), "count": keras.Variable(3, dtype="int64")}
    snapshot = Snapshot()
    first = snapshot.copy({"model": variables, "ema": {"twice": next(iter(variables.values()))}})
    assert first["model"].keys() == variables.keys()
    for path, variable in variables.items():
        np.testing.assert_array_equal(first["model"][path], np.asarray(variable.value))
        assert first["model"][path].dtype.name == variable.dtype
    arrays = [*first["model"].values(), *first["ema"].values()]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i])
    second = snapshot.copy({"model": variables})
    assert all(np.shares_memory(first["model"][path], second["model"][path]) for path in variables)
    wider = snapshot.copy({"model": {path: keras.Variable(np.ones((3, 2))) for path in variables}})
    assert all(array.shape == (3, 2) for array in wider["model"].values())
