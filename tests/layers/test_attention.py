import keras
import numpy as np
import pytest

from nmt.layers.attention import CrossAttention, SelfAttention, causal_mask, padding_mask

HIDDEN_SIZE, NUM_HEADS = 6, 2


@pytest.fixture
def seeds():
    return keras.random.SeedGenerator(1)


def softmax(scores):
    exponents = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponents / exponents.sum(axis=-1, keepdims=True)


def reference(queries, keys, values, allowed):
    """Vaswani et al. 2017, section 3.2, head by head; allowed (B, T, S)."""
    size = HIDDEN_SIZE // NUM_HEADS
    contexts = []
    for head in range(NUM_HEADS):
        part = slice(head * size, (head + 1) * size)
        scores = queries[..., part] @ keys[..., part].transpose(0, 2, 1) / size**0.5
        contexts.append(softmax(np.where(allowed, scores, -np.inf)) @ values[..., part])
    return np.concatenate(contexts, axis=-1)


def product(layer, inputs):
    return inputs @ np.array(layer.kernel) + np.array(layer.bias)


def test_self_attention_is_the_formula(seeds):
    layer = SelfAttention(HIDDEN_SIZE, NUM_HEADS, dropout=0.0, seed_generator=seeds, name="attention")
    inputs = np.random.default_rng(1).standard_normal((2, 5, HIDDEN_SIZE)).astype("float32")
    queries, keys, values = np.split(product(layer.query_key_value, inputs), 3, axis=-1)
    allowed = np.broadcast_to(np.tril(np.ones((5, 5), bool)), (2, 5, 5))
    expected = product(layer.output_product, reference(queries, keys, values, allowed))
    np.testing.assert_allclose(layer(inputs, causal_mask(5)), expected, atol=1e-5)


def test_cross_attention_is_the_formula(seeds):
    layer = CrossAttention(HIDDEN_SIZE, NUM_HEADS, dropout=0.0, seed_generator=seeds, name="attention")
    generator = np.random.default_rng(2)
    inputs = generator.standard_normal((2, 4, HIDDEN_SIZE)).astype("float32")
    encoded = generator.standard_normal((2, 5, HIDDEN_SIZE)).astype("float32")
    mask = np.array([[True] * 5, [True, True, True, False, False]])
    keys, values = np.split(product(layer.key_value, encoded), 2, axis=-1)
    allowed = np.broadcast_to(mask[:, None, :], (2, 4, 5))
    expected = product(layer.output_product, reference(product(layer.query, inputs), keys, values, allowed))
    actual = layer(inputs, layer.keys_values(encoded), padding_mask(mask))
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_heads_must_divide_the_hidden_size(seeds):
    with pytest.raises(ValueError, match="hidden_size must be divisible by num_heads, got 7 and 2"):
        SelfAttention(7, 2, dropout=0.0, seed_generator=seeds, name="attention")
