"""Which machines multiply in bfloat16."""

import pytest
import tensorflow as tf

from nmt.backend import products
from nmt.errors import ConfigError

WITH, WITHOUT = "flags : fpu avx512f avx512_bf16 sse", "flags : avx512f sse"


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Pretend a processor and GPUs of some compute capabilities."""

    def pretend(flags, gpus=(), system="x86_64"):
        (tmp_path / "cpuinfo").write_text(f"processor : 0\n{flags}\n")
        monkeypatch.setattr(products, "_PROCESSOR_FILE", tmp_path / "cpuinfo")
        monkeypatch.setattr(products.platform, "machine", lambda: system)
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: list(gpus) if kind == "GPU" else [])
        details = {gpu: {"compute_capability": gpu} if gpu else {} for gpu in gpus}
        monkeypatch.setattr(tf.config.experimental, "get_device_details", details.__getitem__)

    return pretend


@pytest.mark.parametrize(
    ("flags", "gpus", "expected"),
    [
        (WITH, (), True),
        ("flags : amx_bf16", (), True),
        (WITHOUT, (), False),
        ("", (), False),
        (WITHOUT, ((8, 0),), True),
        (WITHOUT, ((9, 0), (8, 6)), True),
        (WITH, ((7, 5),), False),
        (WITH, ((9, 0), (7, 0)), False),
        (WITH, ((),), False),
    ],
)
def test_what_training_runs_on_is_asked(machine, flags, gpus, expected):
    machine(flags, gpus)
    assert products.has_bfloat16_products() == expected
    products.settle_precision("float32")
    if expected:
        products.settle_precision("bfloat16")
    else:
        with pytest.raises(ConfigError, match=r"bfloat16 needs a processor with AVX512_BF16 .* set training.precision"):
            products.settle_precision("bfloat16")


def test_other_processors_and_systems_without_the_file_have_none(machine, tmp_path):
    machine(WITH, system="aarch64")
    assert not products.has_bfloat16_products()
    machine(WITH)
    (tmp_path / "cpuinfo").unlink()
    assert not products.has_bfloat16_products()
