"""An output layer that reuses the matrix of an embedding, for any Keras model.

The layer itself is a product with a transposed matrix. The rest keeps the tie in the copies that Keras makes from a
config: such a copy finds the copy of its embedding among the layers that its inputs depend on, by the nodes that
symbolic calls leave behind; in a `.keras` file, the two share it. These are internals of Keras 3, read nowhere else.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops
from keras.src.backend.common.global_state import get_global_attribute

from nmt.errors import CheckpointError
from nmt.layers.core import TokenEmbedding
from nmt.types import Tensor

EMBEDDINGS = (keras.layers.Embedding, TokenEmbedding)

LOADING, WRITING = "shared_objects/id_to_obj_map", "shared_objects/id_to_config_map"
"""What Keras keeps while it loads and while it writes a `.keras` file: the layers that the file shares."""

Steps = list[str | int]
"""The way to a layer: the name of each within a Functional or Sequential model, its place within any other layer."""


@dataclass(frozen=True)
class TieReference:
    """What a config says about the embedding of a tied layer: enough to find it again in the same model.

    No tuple: Keras takes what lies in one for a part of the layer that holds it.

    config: the part of the config that says all this. `tied_to_steps` is the way to it from the layers of the model.
        `tied_to_place` is where it is: `before` every call of the output, `nowhere` among the layers that these depend
        on (version 0.1.0 also wrote `around`), or `unknown` if no symbolic call was made.
    layer: an embedding made from the config, or the one that the `.keras` file being loaded shares.
    is_shared: whether that file shares it: it has no embedding before the output, or this one.
    """

    config: dict[str, Any]
    layer: keras.Layer
    is_shared: bool


@keras.saving.register_keras_serializable(package="nmt")
class TiedEmbeddingsTransposed(keras.layers.Layer):
    """The output projection that is the transpose of an embedding: hidden · Eᵀ, then an activation.

    The matrix belongs to the embedding and is read from it at every call, so both uses are one variable with one
    gradient, the sum of both (Press & Wolf 2017, arXiv:1608.05859, section 3). Nothing is copied, and no
    transposed matrix is kept. What the embedding makes of its matrix is respected: with LoRA enabled, the
    adapted matrix is used; if `model.quantize` has quantised it, both uses are, and every call of the output
    expands it; and freezing either layer freezes the one matrix.

    The tie survives `model.save`, `load_model`, `save_weights`, `load_weights`, `model.export`, and also
    `from_config`, `model_from_json` and `clone_model`, which keep no shared layers of their own: a copy finds the
    copy of its embedding among the layers that its inputs depend on, by name in Functional and
    Sequential models, also nested ones, and by place within other layers. If it is not found, or was not among
    these layers in the original, the call that makes the copy raises; a copy in a wrapper such as
    `TimeDistributed`, which hides the connections, looks when it is first asked for its weights or called. There
    is never a second matrix, and never that of another embedding of the same name; only a copy of a model that was
    never built has nothing but the name to go by.

    In a new process, `import nmt` before loading a model.

    Args:
        tied_to: a `keras.layers.Embedding`, `ReversibleEmbedding` or `TokenEmbedding`; it is built here if
            it is not yet.
        activation: function of the logits, by name or itself; None leaves them as they are.
        use_bias: whether to add a bias (V,) of its own to the logits.
        bias_initializer: initialiser of the bias.
        bias_regularizer: regulariser of the bias.
        bias_constraint: constraint of the bias.
        **kwargs: `name`, `dtype`, `trainable` and `activity_regularizer` as for every Keras layer.

    Call arguments:
        inputs: hidden states (..., E). A mask is passed on.

    Raises:
        ValueError: tied_to is no embedding; inputs are not E wide.
        CheckpointError: a copy made from a config does not find the embedding it is tied to.
    """

    tied_to: Any = None
    bias: keras.Variable | None = None
    _wrapper: weakref.ref[keras.Layer] | None = None
    _reference: TieReference | None = None

    def __init__(
        self,
        tied_to: keras.Layer | TieReference,
        *,
        activation: Any = "softmax",
        use_bias: bool = False,
        bias_initializer: Any = "zeros",
        bias_regularizer: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.supports_masking = True
        if isinstance(tied_to, TieReference):
            self._reference = tied_to
        else:
            self.tied_to = _built(tied_to)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Check the width of the inputs and create the bias.

        Args:
            input_shape: (..., E).

        Raises:
            ValueError: the inputs are not as wide as the embedding.
        """
        vocabulary_size, embedding_size = self._sizes()
        if input_shape[-1] != embedding_size:
            raise ValueError(
                f"the inputs of {self.name!r} must be as wide as the embedding it is tied to, {embedding_size}, got "
                f"{input_shape[-1]}: project them to {embedding_size} first"
            )
        if self.use_bias:
            self.bias = self.add_weight(
                shape=(vocabulary_size,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
                name="bias",
            )
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        """Map hidden states (..., E) to the activation of the logits (..., V)."""
        self._settle()
        matrix = ops.cast(_matrix(self.tied_to), self.compute_dtype)
        logits = ops.matmul(ops.cast(inputs, self.compute_dtype), ops.transpose(matrix))
        if self.bias is not None:
            logits = ops.add(logits, ops.cast(self.bias, self.compute_dtype))
        return self.activation(logits)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return (..., V) for hidden states of shape (..., E)."""
        running = get_global_attribute("current_call_ctx")
        if running is not None and running.entry_layer is not self and not self._calls():
            self._wrapper = weakref.ref(running.entry_layer)  # symbolic calls leave nodes at a wrapper only
        return (*input_shape[:-1], self._sizes()[0])

    def compute_output_spec(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        """Return the symbolic output for a symbolic input; a copy made from a config finds its embedding here."""
        self._settle(inputs)
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), dtype=self.compute_dtype)

    def tie_to(self, embedding: keras.Layer) -> None:
        """Give a copy that was made from a config its embedding, if a model with a `from_config` of its own does so.

        Args:
            embedding: the copy of the embedding that the original is tied to.

        Raises:
            ValueError: the layer is tied already, or not to such an embedding.
        """
        if self._reference is None:
            raise ValueError(f"{self.name!r} is tied to an embedding already; make a new layer for another one")
        wanted, given = _sizes(self._reference.layer), _sizes(_built(embedding))
        if wanted != given:
            raise ValueError(f"{self.name!r} must be tied to an embedding of shape {wanted}, got {given}")
        self.tied_to, self._reference = embedding, None

    def get_config(self) -> dict[str, Any]:
        """Return what makes an equal layer: the embedding is described, and where in the model it is found."""
        self._settle(wait=True)
        return {
            **super().get_config(),
            **self._tie_config(),
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TiedEmbeddingsTransposed:
        """Make a layer that finds the embedding it is tied to when it is called, in the model of that call."""
        config = dict(config)
        tie = {key: config.pop(key) for key in list(config) if key.startswith("tied_to")}
        layer, shared = tie["tied_to"], get_global_attribute(LOADING)
        if shared is None:  # only a file has a matrix for it
            layer = {key: value for key, value in layer.items() if key != "build_config"}
        is_shared = shared is not None and (not tie["tied_to_came_before"] or layer["shared_object_id"] in shared)
        made = keras.saving.deserialize_keras_object(layer)
        return super().from_config({**config, "tied_to": TieReference(tie, made, is_shared)})

    def load_own_variables(self, store: Any) -> None:
        """Load the bias; the matrix is loaded by the embedding.

        Raises:
            CheckpointError: the file has the embedding elsewhere, and what the layer is tied to is not that one.
        """
        self._settle()
        super().load_own_variables(store)

    @property
    def variables(self) -> list[keras.Variable]:
        """The matrix of the embedding and the bias, with all other state."""
        self._settle(wait=True)
        return super().variables

    @property
    def weights(self) -> list[keras.Variable]:
        """The matrix of the embedding and the bias."""
        self._settle(wait=True)
        return super().weights

    def _lock_state(self) -> None:
        """Stay open: a copy made from a config is built before it has found its embedding."""

    def _sizes(self) -> tuple[int, int]:
        """Return (V, E)."""
        return _sizes(self.tied_to if self._reference is None else self._reference.layer)

    def _calls(self) -> list[Any]:
        """Return the nodes of all symbolic calls, which show what came before: its own, or those of its wrapper."""
        wrapper = None if self._wrapper is None else self._wrapper()
        return self._inbound_nodes or ([] if wrapper is None else wrapper._inbound_nodes)

    def _settle(self, inputs: keras.KerasTensor | None = None, *, wait: bool = False) -> None:
        """Tie a copy made from a config to the embedding that comes before it, or to the one that a file shares.

        Args:
            inputs: of the symbolic call that is being made; without them the model around it is complete.
            wait: whether a copy that was not called yet stays as it is.

        Raises:
            CheckpointError: it does not find its embedding, and no file says that it alone has one.
        """
        reference, calls = self._reference, self._calls()
        if reference is None or (wait and not calls):
            return

        # What the inputs, and the inputs of calls before, depend on; if the original found nothing, a copy must not.
        steps, place = reference.config["tied_to_steps"], reference.config["tied_to_place"]
        history = getattr(inputs, "_keras_history", None)
        if history is not None and history.operation is not None:
            calls = [history.operation._inbound_nodes[history.node_index], *calls]
        found = [each for call in calls for each in embeddings_before(call, steps, _sizes(reference.layer))]
        if found and place in ("before", "unknown"):
            self.tie_to(found[0])
        elif inputs is not None and get_global_attribute(LOADING) is not None:
            return  # what the file shares is known when the model is whole
        elif reference.is_shared:
            self.tie_to(reference.layer)
        else:
            raise CheckpointError(
                f"{self.name!r} must be tied to the embedding {reference.layer.name!r} of the same model, not to "
                f"another one of this name, but its inputs are not connected with {'/'.join(map(str, steps))!r}: build "
                "the model by the code that first made it and load its weights, or call tie_to(embedding) in the "
                "from_config of your model"
            )

    def _tie_config(self) -> dict[str, Any]:
        """Describe the embedding, the way to it, and whether that leads to it and to no other: see `TieReference`."""
        if self._reference is not None:
            return self._reference.config
        layer = keras.saving.serialize_keras_object(self.tied_to)
        came_before = "shared_object_id" in layer
        if get_global_attribute(WRITING) is not None:
            layer["shared_object_id"] = id(self.tied_to)  # Keras gives the first of several none, if it is nested

        # The way to the embedding from the nearest layer that has it; its own name if none has.
        calls = self._calls()
        owners = [layer for call in calls for layer in layers_before(call) if layer is not call.operation]
        ways = ([owner.name, *way] for owner in owners for way, each in _within(owner) if each is self.tied_to)
        steps = next(ways, [self.tied_to.name])

        # Whether this way leads to it, and to no other, from every call.
        found = [embeddings_before(call, steps, _sizes(self.tied_to)) for call in calls]
        is_before = all(set(embeddings) == {self.tied_to} for embeddings in found)
        return {
            "tied_to": layer,
            "tied_to_steps": steps,
            "tied_to_place": "unknown" if not found else "before" if is_before else "nowhere",
            "tied_to_came_before": came_before,
        }


def _built(layer: Any) -> keras.Layer:
    """Return a built embedding that can be tied to.

    Raises:
        ValueError: it is no embedding.
    """
    if not isinstance(layer, EMBEDDINGS):
        raise ValueError(f"tied_to must be an embedding layer, got {type(layer).__name__}: pass the layer itself")
    if not layer.built:
        layer.build()
    return layer


def _matrix(embedding: keras.Layer) -> Tensor:
    """Return the matrix (V, E) of an embedding; what its numbers stand for if it is quantised."""
    if embedding.quantization_mode is None:
        return embedding.embeddings
    return embedding.quantized_call(ops.arange(_sizes(embedding)[0]))  # all rows, as a look-up would give them


def _sizes(embedding: keras.Layer) -> tuple[int, int]:
    """Return (V, E) of an embedding, built or not."""
    if isinstance(embedding, TokenEmbedding):
        return embedding.vocabulary_size, embedding.embedding_size
    return embedding.input_dim, embedding.output_dim


def embeddings_before(call: Any, steps: Steps, sizes: tuple[int, int]) -> list[keras.Layer]:
    """Return every embedding of some sizes (V, E) to which the steps lead from a layer that a call depends on.

    Args:
        call: the node of a symbolic call.
        steps: the name of a layer, and the way from there.
        sizes: (V, E).
    """
    named = [layer for layer in layers_before(call) if layer.name == steps[0]]
    ends = [each for layer in named for way, each in _within(layer) if way == steps[1:]]
    return [end for end in ends if isinstance(end, EMBEDDINGS) and _sizes(end) == sizes]


def layers_before(call: Any) -> list[keras.Layer]:
    """Return the layers that a symbolic call depends on, the nearest first; its own is the first."""
    nodes, seen = [call], {call}
    for node in nodes:  # which grows while the walk goes on
        parents = [parent for parent in dict.fromkeys(node.parent_nodes) if parent not in seen]
        nodes += parents
        seen.update(parents)
    operations = dict.fromkeys(node.operation for node in nodes)
    return [operation for operation in operations if isinstance(operation, keras.Layer)]


def _within(layer: keras.Layer) -> Iterator[tuple[Steps, keras.Layer]]:
    """Yield a layer and all that it owns, each with the steps that lead there, also in a copy.

    Copies of Functional and Sequential models keep names; elsewhere automatic names differ, and order stays.
    """
    yield [], layer
    named = isinstance(layer, keras.Sequential) or hasattr(layer, "_nodes_by_depth")
    for place, child in enumerate(layer._flatten_layers(include_self=False, recursive=False)):
        for steps, each in _within(child):
            yield [child.name if named else place, *steps], each
