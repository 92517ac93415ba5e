import keras
import numpy as np
import pytest
from keras import ops

from nmt.backend import products
from nmt.backend.functions import compile_function, value_and_gradients
from nmt.backend.products import products_in

ROWS, SIZE, VOCABULARY_SIZE = 7, 3, 11


@pytest.fixture
def variables():
    generator = np.random.default_rng(2)
    shapes = {"hidden": (ROWS, SIZE), "embeddings": (VOCABULARY_SIZE, SIZE), "bias": (VOCABULARY_SIZE,)}
    return [keras.Variable(generator.standard_normal(shape), name=name) for name, shape in shapes.items()]


@pytest.fixture
def targets():
    return np.array([4, 10, 4, 1, 0, 4, 9], dtype="int32")


def plain(hidden, embeddings, bias, targets, *, label_smoothing):
    """The same in `keras.ops`, with all logits at once, from the distribution that is smoothed."""
    logits = ops.matmul(hidden, ops.transpose(embeddings)) + bias
    right = ops.one_hot(targets, VOCABULARY_SIZE)
    smoothed = (1 - label_smoothing) * right + label_smoothing / VOCABULARY_SIZE
    losses = [ops.sum(ops.categorical_crossentropy(each, logits, from_logits=True)) for each in (smoothed, right)]
    return losses[0], losses[1]


def losses(variables, targets):
    return products.summed_losses(*variables, targets, label_smoothing=0.1)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.3])
@pytest.mark.parametrize(("block_rows", "step"), [(2, 1), (3, 1), (3, 2), (7, 3), (7, 7), (64, 32)])
def test_blocks_give_the_losses_and_gradients_of_the_plain_form(
    variables, targets, monkeypatch, block_rows, step, label_smoothing
):
    monkeypatch.setattr(products, "BLOCK_BYTES", 4 * block_rows * VOCABULARY_SIZE)
    monkeypatch.setattr(products, "LEAST_ROWS", step)
    monkeypatch.setattr(products, "_STEP_ROWS", step)

    def losses(function):
        def scaled():
            smoothed, cross_entropy = function(*variables, targets, label_smoothing=label_smoothing)
            return smoothed * 1.5, cross_entropy

        return value_and_gradients(scaled, variables)

    *values, gradients = compile_function(lambda: losses(products.summed_losses), [])()
    *expected, expected_gradients = losses(plain)
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    for actual, wanted in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(actual, wanted, atol=1e-5)


def test_no_rows_cost_nothing(variables):
    """So it is in a round of several replicas that has no batch for one of them."""
    variables = [keras.Variable(np.zeros((0, SIZE)), dtype=variables[0].dtype), *variables[1:]]
    targets = np.zeros(0, "int32")

    def loss():
        return value_and_gradients(lambda: losses(variables, targets), variables)

    value, _, gradients = compile_function(loss, [])()
    assert value == 0.0
    for gradient, variable in zip(gradients, variables, strict=True):
        np.testing.assert_array_equal(gradient, np.zeros(variable.shape))


def test_gradient_by_finite_differences(variables, targets):
    _, _, gradients = value_and_gradients(lambda: losses(variables, targets), variables)

    def loss(arrays):
        logits = arrays[0] @ arrays[1].T + arrays[2]
        rows = zip(logits, targets, strict=True)
        return sum(np.log(np.exp(row).sum()) - 0.9 * row[target] - 0.1 * row.mean() for row, target in rows)

    arrays = [np.array(variable, dtype="float64") for variable in variables]
    for which, index in ((0, (2, 1)), (1, (4, 2)), (1, (3, 0)), (2, (4,))):
        shifted = [[array.copy() for array in arrays] for _ in range(2)]
        shifted[0][which][index] += 1e-5
        shifted[1][which][index] -= 1e-5
        slope = (loss(shifted[0]) - loss(shifted[1])) / 2e-5
        np.testing.assert_allclose(np.array(gradients[which])[index], slope, rtol=1e-3)


@pytest.mark.bfloat16
@pytest.mark.parametrize("rows", [ROWS, 3000])
def test_rounded_factors_give_nearly_the_same(rows):
    """Also a bias's gradient over thousands of rows, which a running sum in bfloat16 would lose."""
    generator = np.random.default_rng(3)
    shapes = ((rows, SIZE), (VOCABULARY_SIZE, SIZE), (VOCABULARY_SIZE,))
    variables = [keras.Variable(generator.standard_normal(shape), dtype="float32") for shape in shapes]
    targets = generator.integers(0, VOCABULARY_SIZE, rows).astype("int32")

    def loss():
        return value_and_gradients(lambda: losses(variables, targets), variables)

    exact, _, exact_gradients = loss()
    with products_in("bfloat16"):
        rounded, _, gradients = loss()
    assert rounded.dtype == "float32"
    assert 0 < abs(rounded / exact - 1) < 3e-3
    for gradient, wanted in zip(gradients, exact_gradients, strict=True):
        assert gradient.dtype == "float32"
        np.testing.assert_allclose(gradient, wanted, atol=0.02 * np.abs(wanted).max())
