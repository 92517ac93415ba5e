import keras
import numpy as np
import pytest

from nmt.layers.attention import AdditiveAlignment, MultiplicativeAlignment
from nmt.layers.recurrent import BidirectionalLayer, GRUCell, LSTMCell

INPUT_SIZE, HIDDEN_SIZE = 4, 6


def sigmoid(values):
    return 1.0 / (1.0 + np.exp(-values))


def inputs_of(*shape):
    return np.random.default_rng(7).standard_normal(shape).astype("float32")


def randomise(layer):
    generator = np.random.default_rng(5)
    for variable in layer.weights:
        variable.assign(generator.standard_normal(variable.shape) * 0.5)


def run_cell(cell, inputs):
    state = cell.zero_state((len(inputs),))
    outputs = []
    for position in range(inputs.shape[1]):
        state = cell.step(cell.project(inputs[:, position]), state)
        outputs.append(np.array(state[0]))
    return np.stack(outputs, axis=1)


def test_gru_equals_keras_with_its_gates_in_the_same_order():
    cell = GRUCell(INPUT_SIZE, HIDDEN_SIZE, name="cell")
    randomise(cell)
    other = keras.layers.GRU(HIDDEN_SIZE, return_sequences=True, reset_after=True)
    inputs = inputs_of(2, 5, INPUT_SIZE)
    other.build(inputs.shape)
    recurrent_bias = np.concatenate([np.zeros(2 * HIDDEN_SIZE), np.array(cell.candidate_bias)])
    other.set_weights([cell.kernel, cell.recurrent_kernel, np.stack([np.array(cell.bias), recurrent_bias])])
    np.testing.assert_allclose(run_cell(cell, inputs), other(inputs), atol=1e-5)


def test_lstm_is_the_formula():
    cell = LSTMCell(INPUT_SIZE, HIDDEN_SIZE, name="cell")
    randomise(cell)
    inputs = inputs_of(2, 5, INPUT_SIZE)
    hidden = memory = np.zeros((2, HIDDEN_SIZE))
    for position in range(5):
        gates = inputs[:, position] @ np.array(cell.kernel) + hidden @ np.array(cell.recurrent_kernel) + cell.bias
        entry, forget, output, candidate = np.split(np.array(gates), 4, axis=-1)
        memory = sigmoid(forget) * memory + sigmoid(entry) * np.tanh(candidate)
        hidden = sigmoid(output) * np.tanh(memory)
    np.testing.assert_allclose(run_cell(cell, inputs)[:, -1], hidden, atol=1e-5)


def test_the_forget_gate_starts_open():
    bias = np.array(LSTMCell(INPUT_SIZE, HIDDEN_SIZE, name="cell").bias)
    np.testing.assert_array_equal(np.split(bias, 4)[1], 1.0)
    assert bias.sum() == HIDDEN_SIZE


@pytest.mark.parametrize("kind", [GRUCell, LSTMCell])
def test_bidirectional_reads_real_tokens_from_both_ends(kind):
    layer = BidirectionalLayer(kind, INPUT_SIZE, HIDDEN_SIZE, name="layer")
    inputs = inputs_of(2, 5, INPUT_SIZE)
    mask = np.array([[True] * 5, [True, True, True, False, False]])
    outputs, last = layer(inputs, mask)
    for row, length in enumerate((5, 3)):
        real = inputs[row : row + 1, :length]
        forward = run_cell(layer.forward_cell, real)[0]
        backward = run_cell(layer.backward_cell, real[:, ::-1])[0][::-1]
        expected = np.concatenate([forward, backward], axis=-1)
        np.testing.assert_allclose(np.array(outputs)[row, :length], expected, atol=1e-5)
        np.testing.assert_allclose(np.array(last)[row], np.concatenate([forward[-1], backward[0]]), atol=1e-5)
    np.testing.assert_array_equal(np.array(outputs)[1, 3:], 0.0)


def attended(encoded, mask, scores):
    exponents = np.exp(np.where(mask[:, None, :], scores, -np.inf))
    return (exponents / exponents.sum(axis=-1, keepdims=True)) @ encoded


@pytest.fixture
def alignment_inputs():
    mask = np.array([[True] * 5, [True, True, True, False, False]])
    return inputs_of(2, 3, HIDDEN_SIZE), inputs_of(2, 5, HIDDEN_SIZE) * 0.7, mask


def test_additive_alignment_is_bahdanaus(alignment_inputs):
    queries, encoded, mask = alignment_inputs
    layer = AdditiveAlignment(HIDDEN_SIZE, name="alignment")
    left = queries @ np.array(layer.query.kernel) + np.array(layer.query.bias)
    right = encoded @ np.array(layer.key.kernel) + np.array(layer.key.bias)
    scores = np.tanh(left[:, :, None] + right[:, None]) @ np.array(layer.score)
    actual, weights = layer(queries, layer.memory(encoded, mask))
    np.testing.assert_allclose(actual, attended(encoded, mask, scores), atol=1e-5)
    np.testing.assert_allclose(weights @ encoded, actual, atol=1e-5)


def test_multiplicative_alignment_is_luongs(alignment_inputs):
    queries, encoded, mask = alignment_inputs
    layer = MultiplicativeAlignment(HIDDEN_SIZE, name="alignment")
    scores = queries @ (encoded @ np.array(layer.key.kernel) + np.array(layer.key.bias)).transpose(0, 2, 1)
    actual, weights = layer(queries, layer.memory(encoded, mask))
    np.testing.assert_allclose(actual, attended(encoded, mask, scores), atol=1e-5)
    np.testing.assert_allclose(weights @ encoded, actual, atol=1e-5)


def test_an_odd_size_is_refused():
    with pytest.raises(ValueError, match="hidden_size must be even for a bidirectional encoder, got 7"):
        BidirectionalLayer(GRUCell, INPUT_SIZE, 7, name="layer")
