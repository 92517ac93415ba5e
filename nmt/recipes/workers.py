"""How the workers of a run begin together: the chief prepares the model directory, then the others join in."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from nmt.backend.replicas import Replicas
from nmt.config import Config
from nmt.data import TokenStore
from nmt.errors import ConfigError, DataError
from nmt.inference.opening import vocabularies_of
from nmt.models.builder import build_model
from nmt.recipes.start import Start
from nmt.text import TextPair
from nmt.training.signals import ending_at_once
from nmt.tying import named_variables

_SEEN_WITHIN_SECONDS = 60.0
"""A network file system may show a new file that late on other machines."""


class Invitation(NamedTuple):
    """What the chief trains on.

    config: as it is to be used, with nothing left to be chosen.
    tokenizers: fingerprints of those of source and target.
    data_hash: content hash of the training corpus.
    """

    config: Config
    tokenizers: list[str]
    data_hash: str


def invite(replicas: Replicas, invitation: Invitation, *, given: str) -> None:
    """Tell the other workers that text, store and directory are ready; to be called on the chief.

    Args:
        replicas: of the run.
        invitation: what they are to train on.
        given: hash of the settings that the chief was started with.
    """
    if replicas.workers > 1:
        message = invitation._asdict() | {"given": given, "config": invitation.config.model_dump_json()}
        replicas.send_text(json.dumps(message))


def accept(replicas: Replicas, *, given: str) -> Invitation:
    """Wait for the chief; return what it trains on.

    Raises:
        ConfigError: this worker was started with other settings than the chief.
    """
    with ending_at_once():  # building a vocabulary takes the chief a while
        message = json.loads(replicas.send_text(""))
    if message["given"] != given:
        raise ConfigError(
            "all workers must be started with the same settings, model_directory included, but those of this worker "
            "are not the chief's: start them with the same files and --set options"
        )
    config = Config.model_validate_json(message["config"])
    return Invitation(config, message["tokenizers"], message["data_hash"])


def find_shared_text(directory: Path, *, tokenizers: list[str], patience: float = _SEEN_WITHIN_SECONDS) -> None:
    """Wait until the tokenizers that the chief saved are seen here.

    Args:
        directory: the model directory.
        tokenizers: their fingerprints.
        patience: for how many seconds.

    Raises:
        DataError: they are not, so that the directory is not the same one.
    """
    deadline = time.monotonic() + patience
    while _fingerprints_in(directory) != tokenizers:
        if time.monotonic() > deadline:
            raise DataError(
                f"{directory} must be the same directory on all workers, but the tokenizers that the chief saved are "
                "not there: put it on a file system that all machines share"
            )
        time.sleep(0.5)


def _fingerprints_in(directory: Path) -> list[str] | None:
    """Return those of the tokenizers in a directory; None where there are none, or not wholly yet."""
    try:
        return TextPair.load(directory).fingerprints
    except DataError:
        return None


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
