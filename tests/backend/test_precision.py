"""Products in bfloat16: inside the functions that ask for it, and nowhere else."""

import contextlib

import numpy as np
import pytest
import tensorflow as tf

from nmt.backend import precision
from nmt.backend.functions import Spec, compile_function
from nmt.errors import ConfigError


@pytest.fixture
def factors():
    generator = np.random.default_rng(3)
    return generator.normal(size=(64, 96)).astype("float32"), generator.normal(size=(96, 48)).astype("float32")


def compiled(kind):
    """A product and a sum: only the first may lose digits."""
    specs = [Spec((None, 96), "float32"), Spec((96, 48), "float32")]
    return compile_function(lambda a, b: (tf.matmul(a, b), a + 1e-4), specs, precision=kind)


@pytest.mark.skipif(not precision.has_bfloat16_products(), reason="this processor has no products of bfloat16")
def test_products_round_and_nothing_else_does(factors):
    exact = factors[0].astype("float64") @ factors[1].astype("float64")
    coarse, fine = compiled("bfloat16"), compiled("float32")
    for _ in range(2):  # in turn: one function leaves the other alone
        product, total = coarse(*factors)
        assert product.dtype == "float32"
        assert 1e-4 < np.abs(product - exact).max() / np.abs(exact).max() < 2e-2
        np.testing.assert_array_equal(total, factors[0] + np.float32(1e-4))
        np.testing.assert_allclose(fine(*factors)[0], exact, rtol=1e-4, atol=1e-4)


def test_the_option_is_set_inside_and_reset_outside_also_after_an_error():
    def options():
        return tf.config.optimizer.get_experimental_options().get("auto_mixed_precision_onednn_bfloat16", False)

    assert not options()
    with precision.products_in("float32"):
        assert not options()
    seen = []
    with contextlib.suppress(ZeroDivisionError), precision.products_in("bfloat16"):
        seen.append(options())
        seen.append(1 / 0)
    assert seen == [True]
    assert not options()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags : fpu avx512f avx512_bf16 sse", True),
        ("flags : amx_bf16", True),
        ("flags : avx512f sse", False),
        ("", False),
    ],
)
def test_the_processor_is_asked(monkeypatch, tmp_path, flags, expected):
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{flags}\n")
    monkeypatch.setattr(precision, "_PROCESSOR_FILE", tmp_path / "cpuinfo")
    monkeypatch.setattr(precision.platform, "machine", lambda: "x86_64")
    assert precision.has_bfloat16_products() == expected
    precision.check_precision("float32")
    if not expected:
        with pytest.raises(ConfigError, match=r"bfloat16 needs a processor with AVX512_BF16 .* set training.precision"):
            precision.check_precision("bfloat16")
