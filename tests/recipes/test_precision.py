"""What `training.precision: auto` becomes, in a new run and in one that goes on."""

import pytest

from nmt.backend.products import settle_precision
from nmt.config import Config, load, with_kept_settings, write
from nmt.errors import ConfigError


@pytest.fixture
def settings(untrained_config):
    return lambda *overrides: load([untrained_config], list(overrides))


@pytest.fixture
def has_bfloat16(monkeypatch):
    def pretend(value):
        monkeypatch.setattr("nmt.backend.products.has_bfloat16_products", lambda: value)

    return pretend


def settled(settings, *overrides, earlier=None):
    config = settings(*overrides)
    config = config if earlier is None else with_kept_settings(config, load(earlier / "config.yaml"))
    training = config.training
    return settle_precision(training.precision, compile=training.compile, resumed=earlier is not None)


@pytest.mark.parametrize("value", [True, False])
def test_auto_is_the_faster_one_that_the_machine_has(settings, has_bfloat16, value):
    has_bfloat16(value)
    assert settled(settings) == ("bfloat16" if value else "float32")
    assert settled(settings, "training.compile=xla") == "float32"
    assert settled(settings, "training.precision=float32") == "float32"


def test_what_is_asked_for_is_refused_where_it_is_missing(settings, has_bfloat16):
    has_bfloat16(False)
    with pytest.raises(ConfigError, match=r"bfloat16 needs a processor.*: set training.precision to float32"):
        settled(settings, "training.precision=bfloat16")


def test_a_run_goes_on_as_it_began(settings, has_bfloat16, tmp_path):
    has_bfloat16(True)
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    begun: Config = settings("training.precision=float32")
    write(begun, earlier / "config.yaml")
    assert settled(settings, earlier=earlier) == "float32"
    write(settings("training.precision=bfloat16"), earlier / "config.yaml")
    assert settled(settings, earlier=earlier) == "bfloat16"
    with pytest.raises(ConfigError, match=r"training.compile must be graph in a run that was begun in bfloat16"):
        settled(settings, "training.compile=xla", earlier=earlier)
    has_bfloat16(False)
    with pytest.raises(ConfigError, match=r"bfloat16 needs a processor.*go on with this run where there is one"):
        settled(settings, earlier=earlier)
