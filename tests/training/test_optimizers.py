import keras
import numpy as np
import pytest

from nmt.training.optimization import build_adam, build_adamw

SETTINGS = {"learning_rate": 0.03, "beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-6}


def after_three_updates(optimizer):
    generator = np.random.default_rng(6)
    variables = [
        keras.Variable(generator.standard_normal(shape), dtype="float32", name=name)
        for name, shape in (("kernel", (3, 4)), ("bias", (5,)))
    ]
    optimizer.build(variables)
    for _ in range(3):
        optimizer.apply([generator.standard_normal(v.shape).astype("float32") for v in variables], variables)
    return [keras.ops.convert_to_numpy(variable) for variable in (*variables, *optimizer.variables[2:])]


@pytest.mark.parametrize("decay", [None, 0.1])
def test_the_fused_kernel_makes_the_updates_of_keras(decay):
    if decay is None:
        fused, plain = build_adam(**SETTINGS), keras.optimizers.Adam(**SETTINGS)
    else:
        fused = build_adamw(**SETTINGS, weight_decay=decay)
        plain = keras.optimizers.AdamW(**SETTINGS, weight_decay=decay)
        plain.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    for one, other in zip(after_three_updates(fused), after_three_updates(plain), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-7)


def test_adam_is_the_formula():
    variable = keras.Variable(np.array([1.0, -2.0]), dtype="float32")
    optimizer = build_adam(**SETTINGS)
    optimizer.build([variable])
    value, mean, variance = np.array([1.0, -2.0]), np.zeros(2), np.zeros(2)
    for step, gradient in enumerate(([0.5, -1.0], [0.1, 3.0]), start=1):
        optimizer.apply([np.array(gradient, "float32")], [variable])
        mean = 0.8 * mean + 0.2 * np.array(gradient)
        variance = 0.95 * variance + 0.05 * np.square(gradient)
        rate = 0.03 * np.sqrt(1 - 0.95**step) / (1 - 0.8**step)
        value -= rate * mean / (np.sqrt(variance) + 1e-6)
    np.testing.assert_allclose(variable, value, rtol=1e-5)


def test_biases_and_norms_do_not_decay():
    optimizer = build_adamw(**SETTINGS, weight_decay=0.5)
    variables = [keras.Variable(np.ones(3), dtype="float32", name=name) for name in ("kernel", "bias", "gamma")]
    optimizer.build(variables)
    optimizer.apply([np.zeros(3, "float32")] * 3, variables)
    kernel, bias, gamma = (keras.ops.convert_to_numpy(variable) for variable in variables)
    np.testing.assert_allclose(kernel, 1.0 - 0.03 * 0.5, rtol=1e-5)
    np.testing.assert_array_equal(bias, 1.0)
    np.testing.assert_array_equal(gamma, 1.0)
