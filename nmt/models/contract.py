"""The contract between models and the rest of the toolkit, and building a model from the name of its kind."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Protocol

import keras
import numpy as np
from keras import ops

from nmt.backend.functions import while_loop
from nmt.backend.products import linear
from nmt.errors import CheckpointError, ConfigError
from nmt.kinds import MODELS
from nmt.layers.core import TokenEmbedding, seeded_weights
from nmt.tying import TieGroup
from nmt.types import PAD_ID, Memory, State, Tensor

TIED_ROLES = {
    "none": (),
    "source_target": ("source_embedding", "target_embedding"),
    "target_output": ("target_embedding", "output_projection"),
    "all": ("source_embedding", "target_embedding", "output_projection"),
}
"""The roles that are one variable, by what `tie_embeddings` may be (`auto` is resolved before)."""

TOKEN_ROWS = {
    "source_embedding/embeddings": "source",
    "target_embedding/embeddings": "target",
    "output_projection/embeddings": "target",
    "output_bias": "target",
}
"""The role paths of variables with one row per token, and the side whose tokens these are."""


class Vocabularies(NamedTuple):
    """How many tokens each side has, and whether both sides mean the same by them.

    source_size, target_size: V of each side.
    shared: True if both sides use one vocabulary, token for token. Equal sizes are not enough.
    """

    source_size: int
    target_size: int
    shared: bool


def resolve_ties(tie_embeddings: str, vocabularies: Vocabularies) -> str:
    """Turn a setting into one of `TIED_ROLES`, or refuse it.

    Args:
        tie_embeddings: `auto` or one of `TIED_ROLES`. `auto` means `all` if the vocabulary is shared,
            else `target_output`.
        vocabularies: what the two sides have.

    Raises:
        ConfigError: source and target shall share a matrix and do not share their vocabulary.
    """
    if tie_embeddings == "auto":
        return "all" if vocabularies.shared else "target_output"
    if tie_embeddings not in TIED_ROLES:
        known = ", ".join(TIED_ROLES)
        raise ConfigError(f"model.tie_embeddings must be auto or one of {known}, got {tie_embeddings}")
    if tie_embeddings in ("source_target", "all") and not vocabularies.shared:
        raise ConfigError(
            f"model.tie_embeddings: {tie_embeddings} needs one vocabulary for both languages, but the source has "
            f"{vocabularies.source_size} tokens and the target {vocabularies.target_size}, and they are not the same "
            "tokens in the same order: build a joint one (data.tokenizer.joint: true), or tie target_output only"
        )
    return tie_embeddings


class DecodingModel(Protocol):
    """What a search needs of a model. A `Seq2Seq` has it, and so can an ensemble of several."""

    def encode(self, source_ids: Tensor) -> Memory:
        """Encode source ids (B, S) once; leaves of the memory begin with (B,)."""

    def initial_state(self, memory: Memory, beam_size: Tensor, max_length: Tensor) -> State:
        """Return the state before the first of `max_length` steps; its leaves begin with (B, K)."""

    def decoder(self) -> Callable[[Tensor, State, Memory], tuple[Tensor, State]]:
        """Return a step: token ids (B, K), state and memory to logits (B, K, V) and the next state."""


class Seq2Seq(keras.Model):
    """A source-to-target model that trains in parallel and decodes in steps.

    Both ways give the same logits. The model owns the three roles of weight tying as the attributes
    `source_embedding`, `target_embedding` and `output_projection`: tied roles are one and the same
    `TokenEmbedding` object. The output bias is a variable of its own.

    A model says what its settings are, `settings_class`, and creates its layers from them, `create_layers`.

    Args:
        vocabularies: sizes of the two vocabularies, and whether they are one.
        settings: of `settings_class`; what that says unless given.
        seed: of the initial weights and of dropout.
        name: name of the model; that of its class in small letters unless given.

    Raises:
        ConfigError: if the ties need one vocabulary and there are two.
        ValueError: if sizes do not fit each other.
    """

    settings_class: ClassVar[type[Any]]  # an `Architecture` that knows its embedding_size
    part_names: ClassVar[Mapping[str, str]] = MappingProxyType(
        {}
    )  # what settings call an attribute that holds layers, see `parts`

    def __init__(
        self, vocabularies: Vocabularies, settings: Any = None, *, seed: int = 0, name: str | None = None
    ) -> None:
        settings = settings or self.settings_class()
        super().__init__(name=name or type(self).__name__.lower())
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed, name="seed_generator")
        self.vocabularies = vocabularies
        self.tie_embeddings = ties = resolve_ties(settings.tie_embeddings, vocabularies)
        self.architecture = replace(settings, tie_embeddings=ties)
        source_size, target_size, size = vocabularies.source_size, vocabularies.target_size, settings.embedding_size
        with seeded_weights(seed):
            self.source_embedding = TokenEmbedding(source_size, size, name="source_embedding")
            self.target_embedding = (
                self.source_embedding
                if ties in ("source_target", "all")
                else TokenEmbedding(target_size, size, name="target_embedding")
            )
            self.output_projection = (
                self.target_embedding
                if ties in ("target_output", "all")
                else TokenEmbedding(target_size, size, name="output_projection")
            )
            self.output_bias = self.add_weight(shape=(target_size,), initializer="zeros", name="output_bias")
            self.create_layers(settings)
        self.built = True

    @abstractmethod
    def create_layers(self, settings: Any) -> None:
        """Create all layers but the embeddings, their weights too; `settings` is of `settings_class`."""

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal model, with resolved ties; Keras saves and clones by them."""
        return {
            **asdict(self.architecture),
            "vocabularies": list(self.vocabularies),
            "seed": self.seed,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Seq2Seq:
        """Make a model from what `get_config` returned."""
        settings = dict(config)
        vocabularies, seed, name = (settings.pop(key) for key in ("vocabularies", "seed", "name"))
        return cls(Vocabularies(*vocabularies), cls.settings_class(**settings), seed=seed, name=name)

    def get_build_config(self) -> dict[str, Any]:
        """Return nothing: a model is built when it is made, for inputs of every shape."""
        return {}

    def save_own_variables(self, store: MutableMapping[str, Any]) -> None:
        """Give Keras what the model itself keeps: its ties, the output bias, and the state of dropout.

        Keras leaves the last out, and loads the weights of other ties without a word.
        """
        store["ties"] = np.array(list(TIED_ROLES).index(self.tie_embeddings))
        store["output_bias"] = ops.convert_to_numpy(self.output_bias)
        store["random_state"] = ops.convert_to_numpy(self.seed_generator.state)

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Take back what `save_own_variables` gave.

        Raises:
            CheckpointError: the weights were saved with other ties.
        """
        ties = list(TIED_ROLES)[int(np.array(store["ties"]))]
        if ties != self.tie_embeddings:
            raise CheckpointError(
                f"these weights were saved with tie_embeddings {ties}, but the model has {self.tie_embeddings}: build "
                f"the model with {ties}"
            )
        self.output_bias.assign(store["output_bias"])
        self.seed_generator.state.assign(store["random_state"])

    def load_weights(self, filepath: Any, skip_mismatch: bool = False, **kwargs: Any) -> None:
        """Load a file of weights as every Keras model does, but whole or not at all.

        Keras goes on to the other layers when one does not fit, and raises at the end.

        Args:
            filepath: as for `keras.Model.load_weights`.
            skip_mismatch: whether to leave out what does not fit, with a warning.
            **kwargs: as for `keras.Model.load_weights`.

        Raises:
            ValueError: the file does not fit, in its ties or its shapes; the model is as it was.
        """
        optimizer = getattr(self, "optimizer", None)
        variables = [*self.variables, *(optimizer.variables if optimizer is not None else ())]
        before = [np.array(variable) for variable in variables]
        try:
            super().load_weights(filepath, skip_mismatch=skip_mismatch, **kwargs)
        except Exception:
            for variable, value in zip(variables, before, strict=True):
                variable.assign(value)
            raise

    def quantize(self, mode: str | None = None, config: Any = None, **options: Any) -> None:
        """Refuse: Keras knows none of the layers, would skip them all and return.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"{type(self).__name__} cannot be quantised in place: quantise an export of its model directory, by "
            "nmt export RUN OUTPUT --format ctranslate2 --quantization int8"
        )

    def kept_bytes(self, source_length: int, target_length: int, *, precision: str) -> float | None:
        """Estimate what training keeps of one pair until the backward pass; `benchmarks/memory.py` measures it.

        Args:
            source_length: S.
            target_length: T.
            precision: of the matrix products, `float32` or `bfloat16`.

        Returns:
            Bytes; None if nobody has measured such a model, so that `nmt train` says that it does not know.
        """
        return None

    def declared_ties(self) -> list[TieGroup]:
        """Return the ties that the setting asks for, whatever the variables are; `verify_ties` compares them."""
        roles = TIED_ROLES[self.tie_embeddings]
        if not roles:
            return []
        paths = tuple(f"{role}/embeddings" for role in roles)
        shape = tuple(getattr(self, roles[0]).embeddings.shape)
        return [TieGroup("=".join(roles), paths, paths[0], shape)]

    def call(self, inputs: tuple[Tensor, Tensor], training: bool = False) -> Tensor:
        """Score the next token at every target position, all positions at once (teacher forcing).

        Args:
            inputs: source ids (B, S) that end with EOS, and target ids (B, T) that begin with BOS, both padded.
            training: whether to drop.

        Returns:
            Logits (B, T, V).
        """
        source_ids, target_ids = inputs
        return self.logits(self.hidden(source_ids, target_ids, training=training))

    def logits(self, hidden: Tensor) -> Tensor:
        """Project the decoder's output (..., E) to logits (..., V), by the tied matrix if it is tied."""
        return self.output_projection.project(hidden) + self.output_bias

    @abstractmethod
    def hidden(self, source_ids: Tensor, target_ids: Tensor, training: bool = False) -> Tensor:
        """Compute what `logits` projects: source ids (B, S) and target ids (B, T) to (B, T, E)."""

    def attention(
        self, source_ids: Tensor, target_ids: Tensor, *, layer: int | None = None, head: int | None = None
    ) -> Tensor:
        """Return how each position of whole targets looks at the source.

        Args:
            source_ids: (B, S).
            target_ids: (B, T) from BOS on: position t has read them up to t, and predicts the one after.
            layer: of the decoder, from 1, or 0 for the mean of all; a good one unless given.
            head: of that layer, from 1; the mean of all unless given.

        Returns:
            (B, T, S); rows add up to 1, and padding of the source has 0.

        Raises:
            ConfigError: there is no such layer or head, or the model has no attention that can be read.
        """
        raise ConfigError(f"the attention of {type(self).__name__} cannot be read: write its method attention")

    @abstractmethod
    def encode(self, source_ids: Tensor, training: bool = False) -> Memory:
        """Encode source ids (B, S) once; the memory stays constant during search."""

    @abstractmethod
    def initial_state(self, memory: Memory, beam_size: Tensor, max_length: Tensor) -> State:
        """Return the state before the first step; its leaves begin with (B, K).

        Args:
            memory: what `encode` returned.
            beam_size: K.
            max_length: the most steps that will be taken; a model may reserve room for them.
        """

    @abstractmethod
    def hidden_step(self, token_ids: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        """Compute what `logits` projects, one step of every hypothesis: ids (B, K) to (B, K, E) and the next state."""

    def read(self, token_ids: Tensor, memory: Memory, matrix: Tensor | None = None) -> tuple[Tensor, State]:
        """Read the beginning of a target that is given.

        Args:
            token_ids: (B, T), from BOS on, without padding.
            memory: what `encode` returned.
            matrix: as for `decoder`.

        Returns:
            Logits (B, T, V), and the state after T steps of one hypothesis, leaves (B, 1, ...).
        """
        return read_in_steps(self.decoder(matrix), token_ids, memory, self.initial_state(memory, 1, 0))

    def decode_step(self, token_ids: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        """Take one step of every hypothesis: token ids (B, K) to logits (B, K, V) and the next state."""
        hidden, state = self.hidden_step(token_ids, state, memory)
        return self.logits(hidden), state

    def output_matrix(self) -> Tensor:
        """Return the transpose of the output matrix, (E, V), for `decoder` and `read`."""
        return ops.transpose(self.output_projection.embeddings)

    def decoder(self, matrix: Tensor | None = None) -> Callable[[Tensor, State, Memory], tuple[Tensor, State]]:
        """Return `decode_step` for the many steps of a search: what is the same in all of them is computed once, here.

        That is the transpose of the output matrix; a product with a matrix that lies transposed takes half as long
        again.

        Args:
            matrix: what `output_matrix` returned, if it is at hand.
        """
        matrix = self.output_matrix() if matrix is None else matrix

        def step(token_ids: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
            hidden, state = self.hidden_step(token_ids, state, memory)
            return linear(hidden, matrix, self.output_bias), state

        return step


def read_in_steps(
    step: Callable[[Tensor, State, Memory], tuple[Tensor, State]], token_ids: Tensor, memory: Memory, state: State
) -> tuple[Tensor, State]:
    """Read the beginning of a target step by step, from the state before; see `Seq2Seq.read`."""
    logits, state = step(token_ids[:, :1], state, memory)

    def go_on(carried: tuple[Tensor, Tensor, State]) -> tuple[Tensor, Tensor, State]:
        place, logits, state = carried
        newest = ops.take(token_ids, place, axis=1)[:, None]  # (B, 1)
        following, state = step(newest, state, memory)
        return place + 1, ops.concatenate([logits, following], axis=1), state

    first, length = ops.convert_to_tensor(1, dtype="int32"), ops.shape(token_ids)[1]
    _, logits, state = while_loop(lambda carried: carried[0] < length, go_on, (first, logits, state))
    return logits, state


def token_mask(token_ids: Tensor) -> Tensor:
    """Return True where a token is real, of the shape of `token_ids`."""
    return ops.not_equal(token_ids, PAD_ID)


def build_model(vocabularies: Vocabularies, *, type: str, seed: int, **settings: Any) -> Seq2Seq:
    """Build a model with fresh weights.

    Args:
        vocabularies: sizes of the two vocabularies, and whether they are one.
        type: which of `MODELS`.
        seed: of the initial weights and of dropout.
        settings: those of its `settings_class`, by name; what that says if one is not given.

    Raises:
        ConfigError: there is no such architecture, or sizes or ties do not fit each other.
        TypeError: the architecture does not know a setting.
    """
    model_class = MODELS[type]
    try:
        return model_class(vocabularies, model_class.settings_class(**settings), seed=seed)
    except ValueError as error:
        raise ConfigError(f"model.{error}") from error


def model_without_weights(vocabularies: Vocabularies, *, type: str, **settings: Any) -> Seq2Seq:
    """Build a model whose variables have shapes and no values, so that it can be measured however large it is.

    Args and errors: as for `build_model`.
    """

    def build() -> Seq2Seq:
        with keras.StatelessScope(initialize_variables=False):
            return build_model(vocabularies, type=type, seed=0, **settings)

    # Keras would fill these variables with some later ones of the same thread: this one ends here.
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(build).result()
