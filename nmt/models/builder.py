"""Building a model from the name of its architecture and plain settings."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras

from nmt.config.settings import MODELS
from nmt.errors import ConfigError
from nmt.models.contract import Seq2Seq, Vocabularies


def build_model(vocabularies: Vocabularies, *, type: str, seed: int, **settings: Any) -> Seq2Seq:
    """Build a model with fresh weights.

    Args:
        vocabularies: sizes of the two vocabularies, and whether they are one.
        type: which of `MODELS`.
        seed: of the initial weights and of dropout.
        settings: those of its `settings_class`, by name; what that says where one is not given.

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
