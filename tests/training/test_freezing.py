"""Frozen parts, learning rates of parts and the pull towards first weights, held against NumPy and runs without."""

import keras
import numpy as np
import pytest

from nmt.checkpoint.weights import named_slots
from nmt.data.batches import Batch
from nmt.errors import ConfigError
from nmt.models.parts import describe_frozen, factors_by_path, freeze, frozen_paths
from nmt.training.optimization import EmaWeights
from nmt.training.update import Updater, loss_sums, plain_loss_sums
from nmt.tying import named_variables, verify_ties
from tests import tiny

MATRIX = "source_embedding/embeddings"

pytestmark = pytest.mark.usefixtures("eagerly")


def weights_of(model):
    return {path: keras.ops.convert_to_numpy(variable).copy() for path, variable in named_variables(model).items()}


def updated(model, batch, *, updates=1, optimizer=None, rate=0.5, clip_norm=None, **settings):
    """The updater of a model after some updates."""
    updater = Updater(
        model, optimizer or keras.optimizers.SGD(1.0), label_smoothing=0.1, clip_norm=clip_norm, **settings
    )
    for _ in range(updates):
        assert updater.update([batch], rate).applied
    return updater


@pytest.mark.parametrize("kind", tiny.MODELS)
@pytest.mark.parametrize("names", [["encoder"], ["embeddings", "decoder.0"], ["output.projection"]])
def test_frozen_variables_stay_and_others_move_as_without(build, make_batch, kind, names):
    """With dropout, and with all three roles tied: the first update of the others is the same to the bit."""
    settings, batch = tiny.with_dropout(tiny.MODELS[kind], 0.2), make_batch((3, 5), (4, 6))
    free, model = build(settings), build(settings)
    freeze(model, names)
    frozen, first = frozen_paths(model), weights_of(model)
    assert frozen
    updated(free, batch)
    updater = updated(model, batch)
    for path, value in weights_of(model).items():
        wanted = first[path] if path in frozen else weights_of(free)[path]
        if path == "output_bias" and names != ["encoder"]:  # summed by another product, if the matrix is frozen
            np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-7)
        else:
            np.testing.assert_array_equal(value, wanted, err_msg=path)
    updater.update([batch], 0.5)
    for path in frozen:
        np.testing.assert_array_equal(weights_of(model)[path], first[path], err_msg=path)


def test_a_frozen_variable_has_no_slot_and_no_average(build, make_batch):
    model = build()
    freeze(model, ["embeddings.source"])
    ema = EmaWeights(model, 0.9)
    updater = updated(model, make_batch((3, 5), (4, 6)), optimizer=keras.optimizers.Adam(), ema=ema)
    verify_ties(model, model.declared_ties(), updater.optimizer)
    slots = named_slots(model, updater.optimizer)
    assert len(slots) == 1 + 2 * (len(named_variables(model)) - 1)
    assert not [name for name in slots if name.endswith(MATRIX)]
    assert MATRIX not in ema.variables
    assert describe_frozen(model, ["embeddings.source"]).startswith(
        "frozen: embeddings.source; source_embedding=target_embedding=output_projection is one variable, frozen in all "
        f"3 roles; {model.count_params() - 88:,} of {model.count_params():,}"
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_of_a_frozen_matrix_has_the_gradients_of_logits_all_at_once(build, make_batch, smoothing):
    """By the rest of the model, the bias among it; and nothing is computed for the matrix."""
    batch, moved = make_batch((3, 5), (4, 6)), []
    for loss in (loss_sums, plain_loss_sums):
        model = build()
        freeze(model, ["embeddings"])
        name = "blockwise" if loss is loss_sums else "plain"
        updater = Updater(model, keras.optimizers.SGD(1.0), label_smoothing=smoothing, clip_norm=None, loss=name)
        updater.update([batch], 0.5)
        moved.append(weights_of(model))
    for path, value in moved[0].items():
        np.testing.assert_allclose(value, moved[1][path], atol=1e-5, err_msg=path)
    assert np.any(moved[0]["output_bias"])


def test_a_compiled_update_freezes_too(build, make_batch, compiled):
    model, batch = build(tiny.RNN), make_batch((3, 5), (4, 6))
    freeze(model, ["encoder", "embeddings"])
    first, frozen = weights_of(model), frozen_paths(model)
    updated(model, batch, optimizer=keras.optimizers.Adam())
    same = [path for path, value in weights_of(model).items() if np.array_equal(value, first[path])]
    assert set(frozen) <= set(same)
    assert "output_bias" not in same


@pytest.mark.parametrize(
    ("names", "paths"),
    [
        (["encoder.0-1"], {"encoder_blocks/0", "encoder_blocks/1"}),
        (["encoder.2", "encoder.norm"], {"encoder_blocks/2", "encoder_norm"}),
        (["decoder.0.cross_attention"], {"decoder_blocks/0"}),
        (["embeddings.target"], {"target_embedding"}),
        (["output"], {"output_projection", "output_bias"}),
    ],
)
def test_parts_are_named_by_role_and_layer(build, names, paths):
    model = build(num_encoder_layers=3, tie_embeddings="none")
    freeze(model, names)
    found = frozen_paths(model)
    assert {"/".join(path.split("/")[: 2 if "blocks" in path else 1]) for path in found} == paths
    assert names != ["decoder.0.cross_attention"] or all("/cross_attention/" in path for path in found)


def test_an_unknown_part_is_refused_with_those_there_are(build):
    with pytest.raises(ConfigError, match=r"must name parts of the model, .*encoder\.0-0.*got encoder\.7"):
        freeze(build(), ["encoder.7"])
    with pytest.raises(ConfigError, match="must leave something to train, got embeddings, output, encoder, decoder"):
        freeze(build(), ["embeddings", "output", "encoder", "decoder"])


def test_factors_of_parts_scale_what_an_update_moves(build, make_batch):
    """A tied matrix that two parts name has the smaller factor."""
    batch, found = make_batch((3, 5), (4, 6)), []
    factors = {"embeddings": 0.5, "output": 0.25, "encoder": 0.1}
    for given in ({}, factors):
        model = build()
        first = weights_of(model)
        updated(model, batch, factors=factors_by_path(model, given))
        found.append({path: value - first[path] for path, value in weights_of(model).items()})
    assert factors_by_path(build(), factors)[MATRIX] == 0.25
    for path, plain in found[0].items():
        factor = {"source_embedding": 0.25, "output_bias": 0.25}.get(path.split("/")[0], 1.0)
        factor = 0.1 if path.startswith("encoder") else factor
        np.testing.assert_allclose(found[1][path], factor * plain, atol=1e-6, err_msg=path)


def test_a_pull_is_the_gradient_of_half_alpha_times_the_squared_distance(build, make_batch):
    """In the loss, so that momentum, clipping and the norm know of it: Li et al. (2018), equation 2."""
    batch, alpha, rate, clip = make_batch((3, 5), (4, 6)), 0.3, 0.5, 0.7
    generator, gradients = np.random.default_rng(1), build()
    first = weights_of(gradients)
    anchors = {path: generator.normal(size=value.shape).astype("float32") for path, value in first.items()}
    updated(gradients, batch, rate=1.0)
    wanted = {path: first[path] - value + alpha * (first[path] - anchors[path]) for path, value in
              weights_of(gradients).items()}  # fmt: skip
    norm = np.sqrt(sum(np.sum(value.astype("float64") ** 2) for value in wanted.values()))
    model = build()
    updater = Updater(
        model, keras.optimizers.SGD(1.0), label_smoothing=0.1, clip_norm=clip, pull=alpha, anchors=anchors
    )
    assert updater.update([batch], rate).gradient_norm == pytest.approx(norm, rel=1e-4)
    for path, value in weights_of(model).items():
        np.testing.assert_allclose(value, first[path] - rate * clip / norm * wanted[path], atol=1e-5, err_msg=path)


def test_what_is_held_moves_after_so_many_updates(build, make_batch):
    """And another updater, with the slots of then, goes on in the middle to the same bits."""
    batch, model = make_batch((3, 5), (4, 6)), build()
    first = weights_of(model)[MATRIX]
    updater = updated(model, batch, updates=2, held=[MATRIX], held_updates=2, optimizer=keras.optimizers.Adam())
    np.testing.assert_array_equal(weights_of(model)[MATRIX], first)
    other = build()
    resumed = Updater(
        other, keras.optimizers.Adam(), label_smoothing=0.1, clip_norm=None, held=[MATRIX], held_updates=2
    )
    for source, target in ((model, other), (updater.optimizer, resumed.optimizer)):
        for variable, value in zip(target.variables, source.variables, strict=True):
            variable.assign(value)
    parts = [Batch(*(ids[row : row + 1] for ids in batch[:3])) for row in (0, 1)]
    for each in (updater, resumed):
        each.update(parts, 0.5)
    assert not np.array_equal(weights_of(model)[MATRIX], first)
    for path, value in weights_of(model).items():
        np.testing.assert_array_equal(weights_of(other)[path], value, err_msg=path)
