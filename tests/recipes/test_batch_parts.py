"""Into how many parts batches are cut, by the settings, the machine and what TensorFlow was told."""

import pytest

from nmt.backend import session
from nmt.config import load
from nmt.recipes.train import batch_parts, start_session


@pytest.fixture
def config(untrained_config):
    return lambda *overrides: load([untrained_config], list(overrides))


@pytest.fixture
def machine(monkeypatch):
    """A machine of so many cores, whose operations take a core each or all of them."""

    def machine(cores, *, a_core_each=True):
        monkeypatch.setattr("nmt.backend.machine.available_processors", lambda: cores)
        monkeypatch.setattr(session, "searches_at_once", lambda: cores)
        monkeypatch.setattr(session, "has_a_core_each", lambda: a_core_each)

    return machine


@pytest.mark.parametrize(
    ("cores", "batch_tokens", "replicas", "parts"),
    [
        (2, 1024, 1, 2), (2, 1023, 1, 1), (4, 4096, 1, 4), (4, 1024, 1, 2), (64, 10**6, 1, 4), (1, 4096, 1, 1),
        (4, 4096, 2, 2), (4, 4096, 3, 1), (2, 4096, 3, 1),
    ],
)  # fmt: skip
def test_a_part_has_a_core_and_is_of_some_size(config, machine, cores, batch_tokens, replicas, parts):
    machine(cores)
    assert batch_parts(config(), batch_tokens, replicas=replicas) == parts
    assert batch_parts(config("training.compile=xla"), batch_tokens, replicas=replicas) == 1
    machine(cores, a_core_each=False)
    assert batch_parts(config(), batch_tokens, replicas=replicas) == 1


@pytest.mark.parametrize(
    ("cores", "threads", "settings", "a_core_each"),
    [
        (2, None, ["training.batch_tokens=1024"], True),
        (2, None, ["training.batch_tokens=1023"], False),
        (2, None, ["training.batch_tokens=1024", "training.compile=xla"], False),
        (2, None, ["training.batch_tokens=auto"], True),
        (2, None, ["training.batch_tokens=auto", "training.effective_batch_tokens=1023"], False),
        (2, 1, ["training.batch_tokens=4096"], False),
        (2, 16, ["training.batch_tokens=1024"], True),
        (8, None, ["training.batch_tokens=8192"], False),
        (8, 4, ["training.batch_tokens=2048"], True),
        (8, 4, ["training.batch_tokens=2047"], False),
    ],
)
def test_operations_take_a_core_each_only_where_every_core_has_a_part(
    config, machine, monkeypatch, cores, threads, settings, a_core_each
):
    started = {}
    monkeypatch.setattr(session, "start", lambda **options: started.update(options))
    machine(cores)
    start_session(config(*settings), threads=threads)
    assert started == {"threads": threads, "list_devices": True, "a_core_each": a_core_each}


def test_several_workers_find_each_other_before_devices_are_listed(config, monkeypatch):
    started = {}
    monkeypatch.setattr(session, "start", lambda **options: started.update(options))
    start_session(config("training.distribution=multi_worker"))
    assert started["list_devices"] is False
