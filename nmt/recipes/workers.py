"""How the workers of a run begin together: the chief prepares the model directory, then the others join in."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

from nmt.backend.replicas import Replicas
from nmt.config import Config
from nmt.data import TokenStore
from nmt.errors import ConfigError, DataError
from nmt.inference.opening import vocabularies_of
from nmt.models.builder import build_model
from nmt.recipes.start import Start
from nmt.text import TextPair
from nmt.tying import named_variables

_SEEN_WITHIN_SECONDS = 60.0
"""A network file system may show a new file that late on other machines."""


def invite(replicas: Replicas, config: Config, *, given: str, store: TokenStore) -> None:
    """Tell the other workers that text, store and directory are ready; to be called on the chief.

    Args:
        replicas: of the run.
        config: as it is to be used, with nothing left to be chosen.
        given: hash of the settings that the chief was started with.
        store: its training corpus.
    """
    if replicas.workers > 1:
        message = {"given": given, "config": config.model_dump_json(), "data_hash": store.content_hash}
        replicas.send_text(json.dumps(message))


def accept(replicas: Replicas, *, given: str) -> tuple[Config, str]:
    """Wait for the chief; return the settings that it uses and the content hash of its training corpus.

    Raises:
        ConfigError: this worker was started with other settings than the chief.
    """
    message = json.loads(replicas.send_text(""))
    if message["given"] != given:
        raise ConfigError(
            "all workers must be started with the same settings, model_directory included, but those of this worker "
            "are not the chief's: start them with the same files and --set options"
        )
    return Config.model_validate_json(message["config"]), message["data_hash"]


def find_shared_text(config: Config) -> None:
    """Wait until the tokenizers that the chief saved are seen here.

    Raises:
        DataError: they are not, so that the directory is not the same one.
    """
    deadline = time.monotonic() + _SEEN_WITHIN_SECONDS
    while not TextPair.exists(Path(config.model_directory)):
        if time.monotonic() > deadline:
            raise DataError(
                f"{config.model_directory} must be the same directory on all workers, but the tokenizers that the "
                "chief saved are not there: put it on a file system that all machines share"
            )
        time.sleep(0.5)


def check_same_corpus(store: TokenStore, *, data_hash: str) -> None:
    """Refuse a training corpus that is not the chief's.

    Raises:
        DataError: its content is another one.
    """
    if store.content_hash != data_hash:
        raise DataError(
            "all workers must train on the same corpus, but the text in data.train is not the chief's on this worker: "
            "copy it anew, or put it on a file system that all machines share"
        )


def mirrored(start: Start, config: Config, replicas: Replicas) -> Start:
    """Return a start whose model has a copy on each replica, with the same weights; to be called on all workers.

    TensorFlow lets workers create such variables only in step with each other, so that the first model of a run, which
    may take its weights from elsewhere, cannot be one.
    """
    if not replicas.mirrors:
        return start
    with replicas.scope():
        model = build_model(vocabularies_of(start.text), seed=config.seed, **config.model.model_dump())
    weights = named_variables(start.model)
    for path, variable in named_variables(model).items():
        variable.assign(weights[path])
    return replace(start, model=model)
