"""What people build models of their own from: layers that say what makes an equal one, and the loss of the training."""

import numpy as np
import pytest
from keras import ops

import nmt

INPUTS = np.random.default_rng(3).normal(size=(2, 5, 8)).astype("float32")  # (B, S, D)
MASK = np.array([[True] * 5, [True] * 3 + [False] * 2])


def attended(layer):
    """What a layer makes of the inputs."""
    if isinstance(layer, nmt.SelfAttention):
        return layer(INPUTS, nmt.padding_mask(MASK))
    if isinstance(layer, nmt.CrossAttention):
        return layer(INPUTS[:, :2], layer.keys_values(INPUTS), nmt.padding_mask(MASK))
    return layer(INPUTS[:, :2], layer.memory(INPUTS, MASK))[0]


@pytest.mark.parametrize(
    "layer",
    [
        nmt.SelfAttention(8, 2, dropout=0.3),
        nmt.CrossAttention(8, num_heads=4),
        nmt.AdditiveAlignment(8),
        nmt.MultiplicativeAlignment(8, name="general"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_layer_is_made_again_from_its_config(layer):
    config = layer.get_config()
    again = type(layer).from_config(config)
    assert again.get_config() == config
    assert [each.shape for each in again.trainable_variables] == [each.shape for each in layer.trainable_variables]
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(attended(again), attended(layer))


def test_a_mask_hides_what_it_says():
    layer = nmt.SelfAttention(8, 2)
    hidden = np.where(MASK[:, :, None], INPUTS, 7.0)
    seen = [np.asarray(layer(each, nmt.padding_mask(MASK)))[MASK] for each in (INPUTS, hidden)]
    np.testing.assert_allclose(*seen, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_the_mean_over_real_tokens(smoothing):
    logits = np.random.default_rng(4).normal(size=(2, 3, 11)).astype("float32")  # (B, T, V)
    targets = np.array([[4, 7, 3], [9, 3, 0]])
    wanted = np.full((2, 3, 11), smoothing / 11)
    np.put_along_axis(wanted, targets[:, :, None], 1 - smoothing + smoothing / 11, axis=2)
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -(wanted * log_probs).sum(-1)[targets != 0].mean()
    found = nmt.label_smoothed_cross_entropy(targets, ops.convert_to_tensor(logits), label_smoothing=smoothing)
    assert float(found) == pytest.approx(expected, rel=1e-5)
    rounded = ops.cast(logits, "bfloat16")
    half = nmt.label_smoothed_cross_entropy(targets, rounded, label_smoothing=smoothing)
    exact = nmt.label_smoothed_cross_entropy(targets, ops.cast(rounded, "float32"), label_smoothing=smoothing)
    assert float(half) == float(exact)
    assert float(nmt.label_smoothed_cross_entropy(0 * targets, ops.convert_to_tensor(logits))) == 0.0
