"""What is assembled from settings and from the machine together."""

import pytest

from nmt.backend import session
from nmt.config import load
from nmt.recipes.assembly import batch_parts


@pytest.mark.parametrize(("compiled", "replicas", "parts"), [("graph", 1, 4), ("graph", 3, 1), ("xla", 1, 1)])
def test_cores_are_shared_by_replicas_and_left_to_xla(untrained_config, monkeypatch, compiled, replicas, parts):
    monkeypatch.setattr(session, "batch_parts", lambda: 4)
    config = load([untrained_config], [f"training.compile={compiled}"])
    assert batch_parts(config, replicas=replicas) == parts
