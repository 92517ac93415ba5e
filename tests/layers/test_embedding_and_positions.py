import keras
import numpy as np

from nmt.layers.core import Dropout, TokenEmbedding, sinusoidal_positions


def test_one_matrix_looks_up_and_projects():
    layer = TokenEmbedding(7, 4, name="embedding")
    matrix = np.array(layer.embeddings)
    np.testing.assert_array_equal(layer(np.array([[1, 5, 1]])), matrix[[[1, 5, 1]]])
    hidden = np.arange(24.0, dtype="float32").reshape(2, 3, 4)
    np.testing.assert_allclose(layer.project(hidden), hidden @ matrix.T, atol=1e-5)
    assert len(layer.trainable_variables) == 1


def test_rows_have_length_near_one():
    keras.utils.set_random_seed(1)
    matrix = np.array(TokenEmbedding(3000, 25, name="embedding").embeddings)
    assert abs(matrix.std() - 0.2) < 0.01


def test_positions_are_the_papers_up_to_the_order_of_dimensions():
    size = 6
    actual = np.array(sinusoidal_positions(2, 3, size))
    for row, position in enumerate((2, 3, 4)):
        for pair in range(size // 2):
            angle = position / 10000 ** (2 * pair / size)
            np.testing.assert_allclose(actual[row, pair], np.sin(angle), atol=1e-6)
            np.testing.assert_allclose(actual[row, size // 2 + pair], np.cos(angle), atol=1e-6)


def test_dropout_zeroes_its_share_and_keeps_the_mean():
    layer = Dropout(0.3, keras.random.SeedGenerator(4), name="dropout")
    inputs = np.ones((300, 101), dtype="float32")
    outputs = np.array(layer(inputs, training=True))
    assert abs((outputs == 0.0).mean() - 0.3) < 0.01
    np.testing.assert_allclose(np.unique(outputs), [0.0, 1.0 / 0.7], rtol=1e-4)
    np.testing.assert_array_equal(layer(inputs, training=False), inputs)


def test_dropout_masks_differ_from_call_to_call_and_are_not_repeated_within():
    layer = Dropout(0.5, keras.random.SeedGenerator(4), name="dropout")
    inputs = np.ones((64, 65), dtype="float32")
    first, second = (np.array(layer(inputs, training=True)) > 0 for _ in range(2))
    assert 0.4 < (first == second).mean() < 0.6
    rows = first.reshape(-1)[:4096].reshape(64, 64)
    assert abs(np.corrcoef(rows[::2].reshape(-1), rows[1::2].reshape(-1))[0, 1]) < 0.1
