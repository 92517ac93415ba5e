"""One update, held against NumPy and against itself cut into micro-batches."""

from contextlib import nullcontext
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest

from nmt.data.batches import Batch
from nmt.errors import ConfigError
from nmt.kinds import LOSSES
from nmt.layers.transformer import EncoderBlock
from nmt.training.optimization import EmaWeights
from nmt.training.update import Updater, loss_sums, plain_loss_sums
from nmt.tying import named_variables
from tests import tiny

DROPOUTS = {"dropout": 0.0, "attention_dropout": 0.0, "ffn_dropout": 0.0}
TIES = ("none", "source_target", "target_output", "all")


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def array_of(variable):
    return keras.ops.convert_to_numpy(variable).copy()


def weights_of(model):
    return {path: array_of(variable) for path, variable in named_variables(model).items()}


def part(batch, rows):
    return Batch(*(None if array is None else array[rows] for array in batch))


@pytest.mark.parametrize("function", [loss_sums, plain_loss_sums])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_label_smoothed_cross_entropy_over_real_tokens(build, settings, make_batch, smoothing, function):
    model, batch = build(settings), make_batch((3, 5), (4, 6))
    log_probs = log_softmax(np.array(model((batch.source_ids, batch.target_input_ids)), "float64"))
    nll = smoothed = 0.0
    for row, length in enumerate((4, 6)):
        for position in range(length):
            right = log_probs[row, position, batch.target_output_ids[row, position]]
            nll -= right
            smoothed -= (1 - smoothing) * right + smoothing * log_probs[row, position].mean()
    sums = function(model, batch, label_smoothing=smoothing)
    np.testing.assert_allclose([float(s) for s in sums[:3]], [smoothed, nll, 10], rtol=1e-5)


@pytest.mark.parametrize(("kind", "tie"), [*(("transformer", tie) for tie in TIES), ("rnn", "none"), ("rnn", "all")])
@pytest.mark.usefixtures("eagerly")
def test_one_sgd_update_is_the_summed_gradient_of_all_roles(build, make_batch, kind, tie):
    """Finite differences in each tied and untied embedding matrix, ids repeated; then clip and step in NumPy."""
    settings = tiny.MODELS[kind]
    batch, rate, clip = make_batch((4, 6), (5, 7)), 0.5, 0.05
    model = build(settings, tie)
    updater = Updater(model, keras.optimizers.SGD(1.0), label_smoothing=0.1, clip_norm=clip)
    before = weights_of(model)

    def mean_loss():
        sums = loss_sums(model, batch, label_smoothing=0.1)
        return float(sums.smoothed) / float(sums.tokens)

    gradients = {}
    roles = ("source_embedding", "target_embedding", "output_projection")
    matrices = {id(variable): variable for variable in (getattr(model, role).embeddings for role in roles)}
    for variable in matrices.values():
        for index in ((5, 1), (3, 2)):
            values = []
            for shift in (0.004, -0.004):
                moved = before_of(variable, before, model).copy()
                moved[index] += shift
                variable.assign(moved)
                values.append(mean_loss())
            variable.assign(before_of(variable, before, model))
            gradients[id(variable), index] = (values[0] - values[1]) / 0.008
    result = updater.update([batch], rate)
    scale = min(1.0, clip / result.gradient_norm)
    assert result.gradient_norm > clip
    for (matrix, index), gradient in gradients.items():
        variable = matrices[matrix]
        moved = before_of(variable, before, model)[index] - array_of(variable)[index]
        np.testing.assert_allclose(moved, rate * scale * gradient, atol=1e-4, rtol=1e-2)
    total = sum(np.sum((before[path] - value) ** 2) for path, value in weights_of(model).items())
    np.testing.assert_allclose(np.sqrt(total), rate * clip, rtol=1e-3)


def before_of(variable, before, model):
    (path,) = [path for path, other in named_variables(model).items() if other is variable]
    return before[path]


@pytest.mark.usefixtures("eagerly")
def test_micro_batches_of_unequal_size_equal_one_large_batch(build, settings, make_batch):
    """With a moving average; without one, micro-batches in parts do the same."""
    batch = make_batch((3, 5, 4), (4, 6, 2))
    results = []
    for parts in ([batch], [part(batch, slice(0, 2)), part(batch, slice(2, 3))]):
        model = build(settings)
        kept = EmaWeights(model, 0.9)
        updater = Updater(model, keras.optimizers.Adam(), label_smoothing=0.1, clip_norm=0.5, ema=kept)
        outcomes = [updater.update(parts, 0.01) for _ in range(2)]
        averages = {path: array_of(v) for path, v in kept.variables.items()}
        results.append((outcomes, weights_of(model), averages))
    (whole, whole_weights, whole_average), (cut, cut_weights, cut_average) = results
    for one, other in zip(whole, cut, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4)
    for path, value in whole_weights.items():
        np.testing.assert_allclose(cut_weights[path], value, atol=2e-5, err_msg=path)
    for path, value in whole_average.items():
        np.testing.assert_allclose(cut_average[path], value, atol=2e-5, err_msg=path)


@pytest.mark.parametrize(
    ("kind", "sentences", "parts"),
    [("transformer", 1, 3), ("transformer", 2, 2), ("transformer", 5, 3), ("rnn", 1, 3)],
)
@pytest.mark.usefixtures("eagerly")
def test_parts_of_a_batch_equal_the_whole_batch(build, make_batch, kind, sentences, parts):
    """Also where there are fewer sentences than parts, so that some parts have nothing but padding."""
    settings = tiny.MODELS[kind]
    batch = make_batch((3, 5, 4, 2, 6)[:sentences], (4, 6, 2, 3, 5)[:sentences])
    results = []
    for number in (1, parts):
        model = build(settings)
        updater = Updater(model, keras.optimizers.Adam(), label_smoothing=0.1, clip_norm=0.5, parts=number)
        results.append(([updater.update([batch], 0.01) for _ in range(2)], weights_of(model)))
    (whole, whole_weights), (cut, cut_weights) = results
    for one, other in zip(whole, cut, strict=True):
        assert one.applied
        np.testing.assert_allclose(one, other, rtol=1e-4)
    for path, value in whole_weights.items():
        np.testing.assert_allclose(cut_weights[path], value, atol=2e-5, err_msg=path)


@pytest.mark.usefixtures("eagerly")
def test_a_loss_is_chosen_by_its_name(build, make_batch, monkeypatch):
    batch, found = make_batch((3, 5), (4, 6)), {}

    def twice(model, batch, *, label_smoothing):
        sums = plain_loss_sums(model, batch, label_smoothing=label_smoothing)
        return sums._replace(smoothed=2.0 * sums.smoothed)

    monkeypatch.setitem(LOSSES.built, "twice", twice)
    for name in (None, *LOSSES.built):
        updater = Updater(build(), keras.optimizers.SGD(1.0), label_smoothing=0.1, clip_norm=None, loss=name)
        found[name] = updater.update([batch], 0.01)
    assert found[None] == found["blockwise"]
    for name, factor in (("plain", 1.0), ("twice", 2.0)):
        assert found[name].loss == pytest.approx(factor * found[None].loss, rel=1e-5)
        assert found[name].gradient_norm == pytest.approx(factor * found[None].gradient_norm, rel=1e-4)


@pytest.mark.usefixtures("eagerly")
def test_micro_batches_in_parts_equal_the_whole_batch(build, settings, make_batch):
    batch, results = make_batch((3, 5, 4, 2), (4, 6, 2, 3)), []
    for parts, micro_batches in ((1, [batch]), (2, [part(batch, slice(0, 3)), part(batch, slice(3, 4))])):
        model = build(settings)
        updater = Updater(model, keras.optimizers.Adam(), label_smoothing=0.1, clip_norm=0.5, parts=parts)
        results.append((updater.update(micro_batches, 0.01), weights_of(model)))
    (whole, whole_weights), (cut, cut_weights) = results
    np.testing.assert_allclose(whole, cut, rtol=1e-4)
    for path, value in whole_weights.items():
        np.testing.assert_allclose(cut_weights[path], value, atol=2e-5, err_msg=path)


@pytest.mark.usefixtures("eagerly")
def test_a_loss_that_is_no_number_in_one_part_changes_nothing(build, make_batch):
    model, batch = build(), make_batch((3, 5), (4, 6))
    updater = Updater(model, keras.optimizers.Adam(), label_smoothing=0.1, clip_norm=1.0, parts=2)
    plain, before, sound = updater._loss_sums, weights_of(model), []

    def poisoned(*arguments, **options):
        sums = plain(*arguments, **options)
        sound.append(len(sound) % 2 == 0)
        return sums if sound[-1] else sums._replace(smoothed=sums.smoothed * np.nan)

    updater._loss_sums = poisoned
    assert not updater.update([batch], 0.01).applied
    assert sound == [True, False]
    for path, value in weights_of(model).items():
        np.testing.assert_array_equal(value, before[path])


class Compiled(NamedTuple):
    """A model and what makes compiled updates of it, which were traced once; `start` brings the beginning back."""

    model: keras.Model
    updater: Updater
    traced: list[str]
    variables: list[keras.Variable]
    beginning: list[Any]

    def start(self):
        for variable, value in zip(self.variables, self.beginning, strict=True):
            variable.assign(value)


def updater_in_parts():
    """A model of several blocks with dropout, one of them half frozen, and what updates it in two parts."""
    settings = {**tiny.with_dropout(tiny.TRANSFORMER, 0.3), "num_encoder_layers": 3}
    model = tiny.build(settings)
    model.encoder_blocks[2].feed_forward.trainable = False
    for number, variable in enumerate(model.trainable_variables):  # gains and biases too differ from block to block
        variable.assign_add(np.full(variable.shape, 0.01 * number, "float32"))
    return model, Updater(model, keras.optimizers.SGD(0.1, momentum=0.5), label_smoothing=0.1, clip_norm=None, parts=2)


@pytest.fixture(scope="module")
def in_parts(make_batch):
    """What several tests share, since to trace and compile it takes most of their time."""
    traced, plain = [], EncoderBlock.call

    def noted(block, *arguments, **options):
        traced.append(block.name)
        return plain(block, *arguments, **options)

    model, updater = updater_in_parts()
    updater.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *updater.optimizer.variables]  # the state of dropout as well
    beginning = [array_of(variable) for variable in variables]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EncoderBlock, "call", noted)
        updater.update([make_batch((2, 3), (3, 2))], 0.01)
    return Compiled(model, updater, traced, variables, beginning)


def test_parts_side_by_side_give_the_same_bits_each_time(in_parts, make_batch):
    batch, results = make_batch((3, 5, 4), (4, 6, 2)), []
    for _ in range(2):
        in_parts.start()
        results.append(([in_parts.updater.update([batch], 0.01) for _ in range(3)], weights_of(in_parts.model)))
    (first, first_weights), (second, second_weights) = results
    assert first == second
    for path, value in first_weights.items():
        np.testing.assert_array_equal(second_weights[path], value)


def test_blocks_that_are_alike_are_traced_once_and_keep_their_weights_and_seeds(in_parts, make_batch):
    """Two compiled updates of several blocks in parts do what each block for itself does, one of them half frozen."""
    batch = make_batch((3, 5, 4), (4, 6, 2))
    in_parts.start()
    compiled = [in_parts.updater.update([batch], 0.1) for _ in range(2)]
    assert in_parts.traced == ["encoder_0", "encoder_0"]  # the last one is another function, since it is partly frozen
    model, updater = updater_in_parts()
    with tiny.run_eagerly():
        eager = [updater.update([batch], 0.1) for _ in range(2)]
    np.testing.assert_array_equal(array_of(in_parts.model.seed_generator.state), array_of(model.seed_generator.state))
    np.testing.assert_allclose(compiled, eager, rtol=1e-4)
    found = weights_of(in_parts.model)
    for path, value in weights_of(model).items():
        np.testing.assert_allclose(found[path], value, atol=1e-5, err_msg=path)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.usefixtures("eagerly")
def test_each_part_has_dropout_of_its_own(build, settings, make_batch, dropout):
    batch, losses = Batch(*(np.repeat(ids, 2, axis=0) for ids in make_batch((5,), (6,)))), []
    updater = Updater(
        build(settings, dropout=dropout), keras.optimizers.Adam(), label_smoothing=0.0, clip_norm=None, parts=2
    )
    plain = updater._loss_sums

    def noted(*arguments, **options):
        sums = plain(*arguments, **options)
        losses.append(float(sums.smoothed))
        return sums

    updater._loss_sums = noted
    updater.update([batch], 0.01)
    first, second = losses
    assert (first == pytest.approx(second)) == (dropout == 0.0)


@pytest.mark.usefixtures("eagerly")
def test_a_loss_that_is_no_number_changes_nothing(build, make_batch):
    model, batch = build(), make_batch((3, 5), (4, 6))
    updater = Updater(model, keras.optimizers.Adam(), label_smoothing=0.1, clip_norm=1.0, ema=EmaWeights(model, 0.9))
    updater.update([batch], 0.01)
    model.output_bias.assign(np.full(11, np.nan, "float32"))
    poisoned = weights_of(model)
    result = updater.update([batch], 0.01)
    assert not result.applied
    for path, value in weights_of(model).items():
        np.testing.assert_array_equal(value, poisoned[path])
    assert int(updater.optimizer.iterations) == 1


@pytest.mark.usefixtures("eagerly")
def test_an_interruption_between_micro_batches_leaves_no_trace(build, make_batch):
    batches = [make_batch((3, 5), (4, 6)), make_batch((2, 4), (3, 5), seed=2)]
    model, untouched = build(), build()
    updater, other = (
        Updater(m, keras.optimizers.Adam(), label_smoothing=0.1, clip_norm=1.0) for m in (model, untouched)
    )
    calls = []

    def check():
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        updater.update(batches, 0.01, check=check)
    assert updater.update(batches, 0.01) == other.update(batches, 0.01)
    for path, value in weights_of(model).items():
        np.testing.assert_array_equal(value, weights_of(untouched)[path])


def test_shapes_are_not_traced_anew(in_parts, make_batch):
    for lengths in ((3, 5), (4, 2), (7, 6)):
        in_parts.updater.update([make_batch(lengths, lengths)], 0.01)
    assert in_parts.updater._whole.compiled.experimental_get_tracing_count() == 1


@pytest.mark.usefixtures("eagerly")
def test_the_average_is_the_recurrence(build, make_batch):
    model, batch = build(), make_batch((3, 5), (4, 6))
    average = EmaWeights(model, 0.5)
    updater = Updater(model, keras.optimizers.SGD(1.0), label_smoothing=0.0, clip_norm=None, ema=average)
    expected = array_of(model.output_bias)
    for count in (1, 2, 3):
        updater.update([batch], 0.5)
        decay = min(0.5, (1 + count) / (10 + count))
        expected = decay * expected + (1 - decay) * array_of(model.output_bias)
    np.testing.assert_allclose(average.variables["output_bias"], expected, atol=1e-6)
    weights = weights_of(model)
    with average.in_use():
        np.testing.assert_allclose(model.output_bias, expected, atol=1e-6)
    for path, value in weights_of(model).items():
        np.testing.assert_array_equal(value, weights[path])


def test_xla_makes_the_same_update(build, make_batch):
    batch, results = make_batch((3, 5), (4, 6)), []
    for xla in (False, True):
        model = build()
        updater = Updater(model, keras.optimizers.SGD(1.0), label_smoothing=0.1, clip_norm=0.5, xla=xla)
        with nullcontext() if xla else tiny.run_eagerly():
            results.append((updater.update([batch], 0.1), weights_of(model)))
    (outcome, weights), (xla_outcome, xla_weights) = results
    np.testing.assert_allclose(xla_outcome, outcome, rtol=1e-4)
    for path, value in weights.items():
        np.testing.assert_allclose(xla_weights[path], value, atol=1e-5, err_msg=path)


@pytest.mark.bfloat16
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "eagerly"])
def test_products_in_bfloat16_learn_nearly_the_same(build, settings, make_batch, compiled, request):
    """Two updates in each precision: another loss in the third digit, and weights in float32 that moved alike."""
    if not compiled:
        request.getfixturevalue("eagerly")
    batch, losses, moves = make_batch((4, 6, 3), (5, 7, 2)), {}, {}
    for precision in ("float32", "bfloat16"):
        model = build(settings)
        before = weights_of(model)
        updater = Updater(model, keras.optimizers.SGD(1.0), label_smoothing=0.1, clip_norm=1.0, precision=precision)
        losses[precision] = [updater.update([batch], 0.5).loss / 14 for _ in range(2)]
        moves[precision] = {path: value - before[path] for path, value in weights_of(model).items()}
        assert {value.dtype.name for value in moves[precision].values()} == {"float32"}
    assert losses["bfloat16"] != losses["float32"]
    np.testing.assert_allclose(losses["bfloat16"], losses["float32"], rtol=1e-2)
    ours, theirs = (np.concatenate([move.ravel() for move in moves[p].values()]) for p in ("bfloat16", "float32"))
    assert ours @ theirs / (np.linalg.norm(ours) * np.linalg.norm(theirs)) > 0.999


def weighed(batch, *weights):
    return batch._replace(weights=np.array(weights, "float32")[:, None])


@pytest.mark.parametrize("function", [loss_sums, plain_loss_sums])
def test_each_pair_counts_as_often_as_its_weight(build, settings, make_batch, function):
    """By hand: the mean over the tokens of each pair, taken as often as its weight says, which may be a fraction."""
    model, batch = build(settings), make_batch((3, 5, 2), (4, 6, 3))
    log_probs = log_softmax(np.array(model((batch.source_ids, batch.target_input_ids)), "float64"))
    smoothed = nll = 0.0
    for row, (length, weight) in enumerate(zip((4, 6, 3), (0.5, 2.0, 0.0), strict=True)):
        for position in range(length):
            right = log_probs[row, position, batch.target_output_ids[row, position]]
            nll -= weight * right
            smoothed -= weight * (0.8 * right + 0.2 * log_probs[row, position].mean())
    sums = function(model, weighed(batch, 0.5, 2.0, 0.0), label_smoothing=0.2)
    np.testing.assert_allclose([float(s) for s in sums], [smoothed, nll, 13, 0.5 * 4 + 2 * 6], rtol=1e-5)


@pytest.mark.parametrize("cut", ["whole", "micro-batches", "parts", "plain"])
@pytest.mark.usefixtures("eagerly")
def test_weights_are_repeated_and_left_out_pairs(build, make_batch, cut):
    """Weights 0, 1, 2 update as if the first pair were not there and the last twice, however the batch is cut."""
    batch = make_batch((3, 5, 4), (4, 6, 2))
    repeated, weights = part(batch, np.array([1, 2, 2])), weighed(batch, 0, 1, 2)
    given = [part(weights, slice(0, 2)), part(weights, slice(2, 3))] if cut == "micro-batches" else [weights]
    found = []
    for batches, settings in (([repeated], {}), (given, {"weighed": True, "parts": 2 if cut == "parts" else 1})):
        model = build()
        loss = "plain" if cut == "plain" else None
        how = {"label_smoothing": 0.1, "clip_norm": 0.5, "loss": loss, **settings}
        updater = Updater(model, keras.optimizers.Adam(), **how)
        found.append(([updater.update(batches, 0.01) for _ in range(2)], weights_of(model)))
    (expected, expected_weights), (results, weights_found) = found
    for one, other in zip(expected, results, strict=True):
        np.testing.assert_allclose(other.loss / other.tokens, one.loss / one.tokens, rtol=1e-4)
        np.testing.assert_allclose(other.gradient_norm, one.gradient_norm, rtol=1e-4)
        assert (one.tokens, other.tokens) == (10, 12)
    for path, value in expected_weights.items():
        np.testing.assert_allclose(weights_found[path], value, atol=2e-5, err_msg=path)


@pytest.mark.usefixtures("eagerly")
def test_a_loss_that_ignores_weights_is_refused(build, make_batch, monkeypatch):
    def blind(model, batch, *, label_smoothing):
        return plain_loss_sums(model, batch._replace(weights=None), label_smoothing=label_smoothing)

    updater = Updater(build(), keras.optimizers.SGD(1.0), label_smoothing=0.1, clip_norm=None, weighed=True)
    monkeypatch.setattr(updater, "_loss_sums", blind)
    with pytest.raises(ConfigError, match="takes no weights: remove loss_weight_column"):
        updater.update([weighed(make_batch((3, 5), (4, 6)), 1, 2)], 0.1)
