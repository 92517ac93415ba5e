"""The tied output layer: its arithmetic, what it refuses, and every way on which Keras copies or stores a model.

Run as a program, this file is the new process that opens what the test wrote: `test_tied_output.py FOLDER`.
"""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest
from keras import layers, ops

from nmt.backend.functions import value_and_gradients
from nmt.errors import CheckpointError
from nmt.layers import TiedEmbeddingsTransposed
from nmt.layers.core import TokenEmbedding
from nmt.tying import TieGroup, tie_groups, verify_ties

B, T, V, E, F = 2, 5, 11, 6, 3
IDS = np.array([[4, 4, 7, 1, 0], [10, 7, 4, 0, 0]])  # with repeated ids


def embedding(**options):
    return layers.Embedding(V, E, name="embedding", **options)


def functional():
    shared = embedding(mask_zero=True)
    ids = keras.Input((T,), name="ids")
    hidden = layers.Dense(E, activation="tanh", name="dense")(shared(ids))
    return keras.Model(ids, TiedEmbeddingsTransposed(shared, use_bias=True, name="output")(hidden))


def sequential():
    shared = embedding()
    output = TiedEmbeddingsTransposed(shared, activation="sigmoid", name="output")
    return keras.Sequential([keras.Input((T,)), shared, layers.Dense(E, name="dense"), output])


def time_distributed():
    shared = embedding(mask_zero=True)
    ids = keras.Input((T,), name="ids")
    output = layers.TimeDistributed(TiedEmbeddingsTransposed(shared, use_bias=True, name="output"), name="each")
    return keras.Model(ids, output(layers.Dense(E, name="dense")(shared(ids))))


def nested():
    """The embedding lies in a model within a model, the output outside."""
    shared = embedding()
    ids = keras.Input((T,), name="ids")
    backbone = keras.Sequential([keras.Model(ids, shared(ids), name="lookup"), layers.Dense(E)], name="backbone")
    ids = keras.Input((T,), name="ids")
    return keras.Model(ids, TiedEmbeddingsTransposed(shared, activation=None, name="output")(backbone(ids)))


@keras.saving.register_keras_serializable(package="tests")
class TokensAndPositions(layers.Layer):
    """A layer that owns two embeddings, with automatic names, as in Keras's own examples."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.positions = layers.Embedding(T, E)
        self.tokens = layers.Embedding(V, E)

    def build(self, input_shape):
        self.positions.build()
        self.tokens.build()

    def call(self, token_ids):
        return self.tokens(token_ids) + self.positions(ops.arange(T))


def owned_by_a_layer():
    ids, lookup = keras.Input((T,), name="ids"), TokensAndPositions(name="lookup")
    hidden = layers.Dense(E, name="dense")(lookup(ids))
    return keras.Model(ids, TiedEmbeddingsTransposed(lookup.tokens, use_bias=True, name="output")(hidden))


def own_embedding():
    """`TokenEmbedding` in place of Keras's, with two outputs tied to it."""
    shared = TokenEmbedding(V, E, name="embedding")
    ids = keras.Input((T,), dtype="int32", name="ids")
    first = TiedEmbeddingsTransposed(shared, name="first")(layers.Dense(E, name="dense")(shared(ids)))
    return keras.Model(ids, [first, TiedEmbeddingsTransposed(shared, use_bias=True, name="second")(shared(ids))])


MODELS = [functional, sequential, time_distributed, nested, owned_by_a_layer, own_embedding]
EXPORTED = [functional, time_distributed]


def compiled(model):
    model.compile(keras.optimizers.Adam(0.1), "mse", run_eagerly=True, jit_compile=False)
    return model


def outputs_of(model):
    return [np.asarray(output) for output in keras.tree.flatten(model(IDS))]


def train_once(model):
    targets = [np.linspace(0, 1, B * T * V).reshape(B, T, V)] * len(model.outputs)
    model.train_on_batch(IDS, targets if len(targets) > 1 else targets[0])


def write(folder, make):
    """Writes everything that Keras can write of a trained model, and what must be found again."""
    folder.mkdir()
    model = compiled(make())
    train_once(model)
    model.save(folder / "model.keras")
    model.save_weights(folder / "model.weights.h5")
    (folder / "model.json").write_text(model.to_json())
    (folder / "config.json").write_text(json.dumps(keras.saving.serialize_keras_object(model)["config"]))
    np.savez(folder / "outputs.npz", *outputs_of(model))
    if make in EXPORTED:
        model.export(folder / "exported", verbose=False)
    train_once(model)
    np.savez(folder / "outputs_later.npz", *outputs_of(model))
    (folder / "ties.json").write_text(json.dumps(tie_groups(model)))


def opened(folder, make):
    """Yields (way, model) for every way back, in a process that has not seen the model."""
    yield "load_model", keras.models.load_model(folder / "model.keras")
    for way, model in {
        "load_weights": make(),
        "from_config": type(make()).from_config(json.loads((folder / "config.json").read_text())),
        "model_from_json": keras.models.model_from_json((folder / "model.json").read_text()),
        "clone_model": keras.models.clone_model(keras.models.load_model(folder / "model.keras")),
    }.items():
        model.load_weights(folder / "model.weights.h5")
        yield way, compiled(model)


def problems_of(folder, make):
    """Yields what is wrong with what was opened; counts what was looked at, too."""
    ties = [TieGroup(name, tuple(roles), first, tuple(shape)) for name, roles, first, shape in
            json.loads((folder / "ties.json").read_text())]  # fmt: skip
    for way, model in opened(folder, make):
        yield from compare(f"{make.__name__} {way}", model, folder / "outputs.npz")
        if sum(v.shape == (V, E) for v in model.trainable_variables) != 1 or len(ties) != 1:
            yield f"{make.__name__} {way}: not one matrix"
        verify_ties(model, ties)
        if way == "load_model":  # it has the optimizer's slots: the next update must be that of the original
            train_once(model)
            yield from compare(f"{make.__name__} {way} goes on", model, folder / "outputs_later.npz")
        else:
            train_once(model)
        verify_ties(model, ties, model.optimizer)
        yield None


def compare(what, model, path):
    with np.load(path) as expected:
        for output, name in zip(outputs_of(model), expected.files, strict=True):
            if not np.allclose(output, expected[name], atol=1e-5):
                yield f"{what}: outputs differ by {np.abs(output - expected[name]).max()}"


def problems_of_export(folder, make):
    """Keras writes each variable of an export twice, but what is served must use one matrix."""
    import tensorflow as tf

    exported = tf.saved_model.load(str(folder / "exported"))
    served = exported.serve(tf.constant(IDS, tf.float32))
    with np.load(folder / "outputs.npz") as expected:
        if not np.allclose(served, expected["arr_0"], atol=1e-5):
            yield f"{make.__name__} export: outputs differ"
    for variables in (exported.variables, exported.signatures["serving_default"].variables):
        if [tuple(v.shape) for v in variables].count((V, E)) != 1:
            yield f"{make.__name__} export: not one matrix"
    yield None


def new_process(folder):
    """What the new process does: prints problems and how many ways it looked at."""
    found = [problem for make in MODELS for problem in problems_of(folder / make.__name__, make)]
    found += [problem for make in EXPORTED for problem in problems_of_export(folder / make.__name__, make)]
    print(json.dumps({"looked_at": found.count(None), "problems": [p for p in found if p is not None]}))


def test_a_tie_survives_every_way_into_a_new_process(tmp_path, warm_python):
    for make in MODELS:
        write(tmp_path / make.__name__, make)
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [warm_python, __file__, str(tmp_path)], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report == {"looked_at": 5 * len(MODELS) + len(EXPORTED), "problems": []}


@pytest.mark.parametrize("make", MODELS)
def test_copies_of_copies_are_tied(make, tmp_path):
    model = make()
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    clone = keras.models.clone_model(keras.models.model_from_json(loaded.to_json()), recursive=True)
    clone.save(tmp_path / "m.keras")
    for copy in (
        type(model).from_config(keras.models.load_model(tmp_path / "m.keras").get_config()),
        pickle.loads(pickle.dumps(clone)),
    ):
        verify_ties(copy, tie_groups(model))
        copy.set_weights(model.get_weights())
        for output, expected in zip(outputs_of(copy), outputs_of(model), strict=True):
            np.testing.assert_allclose(output, expected, atol=1e-6)


def test_the_transpose_is_of_the_matrix_as_it_is_now():
    shared = embedding()
    layer = TiedEmbeddingsTransposed(shared, use_bias=True, bias_initializer="ones", name="output")
    hidden = np.random.default_rng(0).standard_normal((B, T, E)).astype("float32")
    layer(hidden)
    matrix = np.random.default_rng(1).standard_normal((V, E)).astype("float32")
    shared.embeddings.assign(matrix)
    logits = np.exp(hidden @ matrix.T + 1.0)
    np.testing.assert_allclose(layer(hidden), logits / logits.sum(axis=-1, keepdims=True), rtol=1e-5)
    assert layer.compute_output_shape((None, None, E)) == (None, None, V)
    assert [v.shape for v in layer.trainable_variables] == [(V,), (V, E)]
    assert not [value for value in vars(layer).values() if getattr(value, "shape", None) == (E, V)]


@pytest.mark.parametrize("activation", [None, "softmax", keras.activations.tanh])
def test_activations_by_name_and_as_functions(activation):
    layer = TiedEmbeddingsTransposed(embedding(), activation=activation)
    hidden = np.random.default_rng(0).standard_normal((B, E)).astype("float32")
    logits = ops.matmul(hidden, ops.transpose(layer.tied_to.embeddings))
    np.testing.assert_allclose(layer(hidden), keras.activations.get(activation)(logits), rtol=1e-5)


def test_the_gradient_is_that_of_both_uses():
    """Against central differences in double precision; ids repeat."""
    shared = embedding(dtype="float64")
    output = TiedEmbeddingsTransposed(shared, use_bias=True, bias_initializer="normal", dtype="float64")
    output.build((B, T, E))

    def loss():
        return ops.sum(ops.log(output(ops.tanh(shared(IDS)))[..., 4])), None

    variables = output.trainable_variables
    for variable, gradient in zip(variables, value_and_gradients(loss, variables)[2], strict=True):
        value, expected = variable.numpy(), np.zeros(variable.shape)
        for index in np.ndindex(*variable.shape):
            sides = []
            for shift in (1e-5, -1e-5):
                moved = value.copy()
                moved[index] += shift
                variable.assign(moved)
                sides.append(float(loss()[0]))
            expected[index] = (sides[0] - sides[1]) / 2e-5
        variable.assign(value)
        np.testing.assert_allclose(gradient, expected, atol=1e-7)


def test_one_update_moves_the_one_matrix_by_the_sum():
    """The loss is linear in the logits, so its gradient is known: C · E scattered to the ids, and Cᵀ · E[ids]."""
    shared = embedding()
    ids = keras.Input((T,))
    model = keras.Model(ids, TiedEmbeddingsTransposed(shared, activation=None, name="output")(shared(ids)))
    model.compile(keras.optimizers.SGD(0.5, momentum=0.9), lambda c, logits: ops.sum(c * logits), run_eagerly=True)
    weights = np.random.default_rng(0).standard_normal((B, T, V)).astype("float32")
    matrix = shared.embeddings.numpy()
    model.train_on_batch(IDS, weights)
    gradient = np.einsum("btv,bte->ve", weights, matrix[IDS])
    np.add.at(gradient, IDS, weights @ matrix)
    np.testing.assert_allclose(shared.embeddings.numpy(), matrix - 0.5 * gradient, rtol=1e-4, atol=1e-5)
    assert len(model.optimizer.variables) == 2 + 1  # iterations, learning rate and one slot


@pytest.mark.parametrize("make", [functional, time_distributed])
def test_masks_are_passed_on(make):
    np.testing.assert_array_equal(make()(IDS)._keras_mask, IDS != 0)


@pytest.mark.bfloat16
def test_half_precision_and_compilation():
    shared = embedding(dtype="mixed_bfloat16")
    ids = keras.Input((T,))
    output = TiedEmbeddingsTransposed(shared, use_bias=True, dtype="mixed_bfloat16", name="output")
    model = keras.Model(ids, output(layers.Dense(E)(shared(ids))))  # a float32 layer between
    assert shared.embeddings.dtype == output.bias.dtype == "float32"
    assert model(IDS).dtype == model.output.dtype == "bfloat16"
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    clone.compile(jit_compile=True)
    np.testing.assert_allclose(
        np.asarray(clone.predict(IDS, verbose=0), "float32"), np.asarray(ops.cast(model(IDS), "float32")), atol=1e-2
    )


def test_an_adapted_matrix_is_read_as_the_embedding_adapts_it():
    shared = embedding(lora_rank=2)
    layer = TiedEmbeddingsTransposed(shared, activation=None)
    shared.lora_embeddings_b.assign(np.ones((2, E)))
    hidden = np.eye(E, dtype="float32")
    np.testing.assert_allclose(layer(hidden), shared(np.arange(V)).numpy().T, rtol=1e-5)
    assert [v.shape for v in layer.trainable_variables] == [(V, 2), (2, E)]


@pytest.mark.parametrize("name", ["embedding", "output"])
def test_freezing_either_use_freezes_the_one_matrix_in_copies_too(name):
    model = functional()
    model.get_layer(name).trainable = False
    for frozen in (model, keras.models.clone_model(model)):
        assert not frozen.get_layer("embedding").embeddings.trainable
        assert (V, E) not in [v.shape for v in frozen.trainable_variables]


def test_a_penalty_on_the_matrix_counts_once():
    shared, ids = embedding(embeddings_regularizer="l2"), keras.Input((T,))
    model = keras.Model(ids, TiedEmbeddingsTransposed(shared)(shared(ids)))
    assert len(model.losses) == 1


def test_a_model_of_nothing_but_the_output_trains_and_returns(tmp_path):
    hidden = keras.Input((E,))
    model = compiled(keras.Model(hidden, TiedEmbeddingsTransposed(embedding(), name="output")(hidden)))
    before = model.get_weights()[0]
    inputs = np.ones((B, E), "float32")
    model.train_on_batch(inputs, np.zeros((B, V)))
    assert len(model.trainable_variables) == 1
    assert np.abs(model.get_weights()[0] - before).max() > 0.01
    model.save(tmp_path / "m.keras")
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "m.keras")(inputs), model(inputs), rtol=1e-6)


def test_an_embedding_in_another_branch_is_found_in_a_file(tmp_path):
    """It comes later in the config than the output that is tied to it, and the inputs of that do not lead to it."""
    shared, hidden, ids = embedding(), keras.Input((T, E), name="hidden"), keras.Input((T,), name="ids")
    deep = layers.Dense(V)(layers.Dense(F)(TiedEmbeddingsTransposed(shared, name="output")(hidden)))
    model = keras.Model([hidden, ids], layers.Add()([deep, layers.Dense(V)(shared(ids))]))
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert again.get_layer("output").tied_to is again.get_layer("embedding")
    for copy in copies(model):
        with pytest.raises(CheckpointError, match="'output' must be tied to the embedding 'embedding' of the same"):
            copy()


def copies(model):
    """The three ways on which Keras shares nothing."""
    return [
        lambda: type(model).from_config(model.get_config()),
        lambda: keras.models.model_from_json(model.to_json()),
        lambda: keras.models.clone_model(model),
    ]


def head_within(lookup):
    """A model whose head is a model of its own, which cannot see the embedding."""
    head = keras.Sequential(
        [keras.Input((T, E)), layers.Dense(E), TiedEmbeddingsTransposed(lookup.get_layer("embedding"), name="output")],
        name="head",
    )
    ids = keras.Input((T,))
    return head, ids


def lookup_model():
    ids = keras.Input((T,))
    return keras.Model(ids, embedding()(ids), name="lookup")


def test_a_head_that_cannot_see_its_embedding_is_never_copied_silently(tmp_path):
    lookup = lookup_model()
    head, ids = head_within(lookup)
    for model in (keras.Model(ids, head(lookup.get_layer("embedding")(ids))), keras.Model(ids, head(lookup(ids)))):
        assert len(model.weights) == 3
        for copy in copies(model):
            with pytest.raises(CheckpointError, match="its inputs are not connected with 'embedding': build the model"):
                copy()
        model.save(tmp_path / "m.keras")
        if model.get_layer("head") and "lookup" not in [layer.name for layer in model.layers]:
            assert len(keras.models.load_model(tmp_path / "m.keras").weights) == 3  # the file says what is shared
    with pytest.raises(ValueError, match="'output' must be tied to the embedding 'embedding' of the same model"):
        keras.models.load_model(tmp_path / "m.keras")
    head.get_layer("output").tied_to.embeddings.assign(np.zeros((V, E)))
    model.load_weights(tmp_path / "m.keras")  # what the message advises
    assert np.abs(lookup.get_weights()[0]).max() > 0


def test_a_wrapped_head_that_cannot_see_its_embedding_says_so_before_it_is_used():
    output = layers.TimeDistributed(TiedEmbeddingsTransposed(embedding(), name="output"))
    copy = keras.models.clone_model(keras.Sequential([keras.Input((T, E)), output]))
    for use in (lambda: copy.weights, lambda: copy.get_config(), lambda: copy(np.ones((B, T, E)))):
        with pytest.raises(CheckpointError, match="'output' must be tied to the embedding 'embedding' of the same"):
            use()


def foreign_embedding(wrap=lambda layer: layer):
    """The output is tied to an embedding that no model has; the model has another one of the same name and size."""
    ids = keras.Input((T,), name="ids")
    return keras.Model(ids, wrap(TiedEmbeddingsTransposed(embedding(), name="output"))(embedding()(ids)))


def foreign_embedding_in_a_wrapper():
    return foreign_embedding(lambda layer: layers.TimeDistributed(layer, name="each"))


def embedding_of_a_model_on_the_same_input():
    foreign, ids = embedding(), keras.Input((T,), name="ids")
    keras.Model(ids, foreign(ids))
    return keras.Model(ids, TiedEmbeddingsTransposed(foreign, name="output")(embedding()(ids)))


def embedding_of_a_model_on_the_same_input_within_a_layer():
    ids = keras.Input((T,), name="ids")
    foreign, lookup = TokensAndPositions(name="lookup"), TokensAndPositions(name="lookup")
    keras.Model(ids, foreign(ids))
    return keras.Model(ids, TiedEmbeddingsTransposed(foreign.tokens, name="output")(lookup(ids)))


def output_of_another_model():
    """The output layer is that of a model with its embedding, and plays a part in a second model."""
    foreign, ids, others = embedding(), keras.Input((T,), name="ids"), keras.Input((T,), name="others")
    output = TiedEmbeddingsTransposed(foreign, name="output")
    keras.Model(others, output(foreign(others)))
    return keras.Model(ids, output(embedding()(ids)))


FOREIGN = [
    foreign_embedding,
    foreign_embedding_in_a_wrapper,
    embedding_of_a_model_on_the_same_input,
    embedding_of_a_model_on_the_same_input_within_a_layer,
    output_of_another_model,
]


@pytest.mark.parametrize("make", FOREIGN)
def test_another_embedding_of_the_same_name_is_never_taken(make, tmp_path):
    model = make()
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    for file_of in (model, loaded):
        file_of.save(tmp_path / "m.keras")
        again = keras.models.load_model(tmp_path / "m.keras")
        assert [v.shape for v in again.weights].count((V, E)) == 2
        np.testing.assert_allclose(outputs_of(again), outputs_of(model), atol=1e-6)
        for copy in copies(file_of):
            with pytest.raises(CheckpointError, match="of the same model, not to another one of this name"):
                copy().get_config()


def test_another_model_of_the_same_names_on_the_same_input_does_not_count(tmp_path):
    ids = keras.Input((T,), name="ids")
    first, second = embedding(), embedding()
    keras.Model(ids, TiedEmbeddingsTransposed(first, name="output")(first(ids)))
    model = keras.Model(ids, TiedEmbeddingsTransposed(second, name="output")(second(ids)))
    model.save(tmp_path / "m.keras")
    for copy in (*copies(model), lambda: keras.models.load_model(tmp_path / "m.keras")):
        verify_ties(copy(), tie_groups(model))


def test_a_renamed_embedding_is_not_replaced_by_another():
    def renamed(layer):
        config = layer.get_config()
        return type(layer).from_config({**config, "name": "x" if layer.name == "embedding" else config["name"]})

    with pytest.raises(CheckpointError, match="not connected with 'embedding'"):
        keras.models.clone_model(functional(), clone_function=renamed)


def test_a_copy_that_keeps_its_layers_keeps_the_matrix():
    model = functional()
    clone = keras.models.clone_model(
        model, clone_function=lambda x: x if x.name == "embedding" else type(x).from_config(x.get_config())
    )
    assert clone.get_layer("output").tied_to is clone.get_layer("embedding") is model.get_layer("embedding")


def test_a_copy_of_a_copy_that_was_never_built():
    shared = embedding()
    model = keras.Sequential([shared, TiedEmbeddingsTransposed(shared, name="output")])
    copy = keras.Sequential.from_config(keras.Sequential.from_config(model.get_config()).get_config())
    assert [v.shape for v in copy.weights] == [(V, E)]
    copy(IDS)
    assert len(copy.weights) == 1
    assert len(tie_groups(copy)) == 1


@keras.saving.register_keras_serializable(package="tests")
class Subclassed(keras.Model):
    """A model with a config of its own, whose layers are made from it one by one."""

    def __init__(self, shared, output):
        super().__init__()
        self.shared, self.a_output = shared, output

    def call(self, token_ids):
        return self.a_output(self.shared(token_ids))

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {"output": serialize(self.a_output), "shared": serialize(self.shared)}

    @classmethod
    def from_config(cls, config):
        made = {name: keras.saving.deserialize_keras_object(value) for name, value in config.items()}
        return cls(**made)


def test_subclassed_models(tmp_path):
    shared = embedding()
    model = Subclassed(shared, TiedEmbeddingsTransposed(shared, use_bias=True, name="output"))
    expected = np.asarray(model(IDS))
    assert len(tie_groups(model)) == 1
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(again(IDS), expected, rtol=1e-6)
    assert again.a_output.tied_to is again.shared
    copy = Subclassed.from_config(model.get_config())
    with pytest.raises(CheckpointError, match=r"call tie_to\(embedding\) in the from_config of your model"):
        copy(IDS)
    copy.a_output.tie_to(copy.shared)
    copy(IDS)
    assert tie_groups(copy) == tie_groups(model)
    with pytest.raises(ValueError, match="'output' is tied to an embedding already"):
        copy.a_output.tie_to(embedding())


def test_only_an_embedding_of_the_same_shape_can_be_tied_to_a_copy():
    layer = TiedEmbeddingsTransposed(embedding(), name="output")
    copy = TiedEmbeddingsTransposed.from_config(layer.get_config())
    with pytest.raises(ValueError, match=r"'output' must be tied to an embedding of shape \(11, 6\), got \(12, 6\)"):
        copy.tie_to(layers.Embedding(V + 1, E))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: layers.Dense(3), "tied_to must be an embedding layer, got Dense"),
        (lambda: np.zeros((V, E)), "tied_to must be an embedding layer, got ndarray"),
        (lambda: "embedding", "tied_to must be an embedding layer, got str"),
    ],
)
def test_what_cannot_be_tied_to_is_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        TiedEmbeddingsTransposed(make())


def test_a_width_that_does_not_fit_is_refused():
    layer = TiedEmbeddingsTransposed(embedding(), name="output")
    with pytest.raises(ValueError, match="must be as wide as the embedding it is tied to, 6, got 3: project them to 6"):
        layer(np.ones((B, F)))


def output_of(model):
    last = model.layers[-1]
    return last.layer if isinstance(last, layers.TimeDistributed) else last


@pytest.mark.parametrize(
    ("mode", "steps"), [("int8", 127), ("int4", 7), (keras.quantizers.Int4QuantizationConfig(block_size=2), 1)]
)
@pytest.mark.parametrize("make", [functional, sequential, time_distributed, nested])
def test_a_quantised_model_looks_up_and_projects_by_the_same_quantised_matrix(make, mode, steps, tmp_path):
    model = make()
    output, shared = output_of(model), output_of(model).tied_to
    output.activation = keras.activations.linear
    exact = ops.convert_to_numpy(shared.embeddings)
    model.quantize(**{"mode" if isinstance(mode, str) else "config": mode}, filters="embedding")
    assert shared.quantization_mode in ("int8", "int4")
    assert not any(tuple(weight.shape) == (V, E) and "float" in weight.dtype for weight in model.weights)

    rows = ops.convert_to_numpy(shared(np.arange(V)))
    assert not np.array_equal(rows, exact)
    np.testing.assert_allclose(rows, exact, atol=np.abs(exact).max() / steps)
    hidden = np.random.default_rng(3).normal(size=(B, E)).astype("float32")
    np.testing.assert_allclose(output(hidden), hidden @ rows.T, rtol=1e-5, atol=1e-6)

    before = model(IDS)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert output_of(loaded).tied_to.quantization_mode == shared.quantization_mode
    np.testing.assert_allclose(loaded(IDS), before, rtol=1e-6)


def test_an_output_is_tied_to_an_embedding_that_is_quantised_already():
    shared = embedding()
    shared.build()
    shared.quantize("int8")
    output = TiedEmbeddingsTransposed(shared, activation=None, name="output")
    hidden = np.eye(E, dtype="float32")
    np.testing.assert_allclose(output(hidden), ops.transpose(shared(np.arange(V))), rtol=1e-6)


if __name__ == "__main__":
    new_process(Path(sys.argv[1]))
