"""What a run starts from: tokenizers and a model, its own or those of another model directory."""

import json
import logging
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from nmt.atomic_files import delete_entry, sync_folder, temporary_path
from nmt.backend.kernels import array_view
from nmt.backend.replicas import Replicas
from nmt.checkpoint.disk import FileRecord, read_arrays, write_arrays
from nmt.checkpoint.manifest import ANCHOR, ANCHOR_NAME, EMA, MODEL, ORIGIN
from nmt.checkpoint.weights import load_weights
from nmt.config import Config
from nmt.directory import model_directory
from nmt.errors import CheckpointError, ConfigError, DataError
from nmt.inference import translator
from nmt.models import parts
from nmt.models.contract import Seq2Seq, build_model
from nmt.recipes.build_vocabulary import build_text
from nmt.text import TextPair
from nmt.training import batch_size, lockstep
from nmt.tying import named_variables

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """What a run starts from.

    text: the tokenizers.
    model: with its first weights; a checkpoint of the run, if there is one, takes their place.
    facts: what the manifests of the run record about its start, as JSON values.
    remarks: what the log says about it.
    """

    text: TextPair
    model: Seq2Seq
    facts: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def start_own(config: Config, text: TextPair | None = None) -> Start:
    """Return the tokenizers of the run, which are built if it has none yet, and a model with fresh weights.

    Args:
        config: the run.
        text: the tokenizers in its directory, if there are any.

    Raises:
        ConfigError: the settings do not fit the corpus or each other.
        DataError: tokenizers or corpus cannot be used.
    """
    if text is None:
        text = build_text(config)
    return Start(text, _build(config, text))


def start_from_other(config: Config) -> Start:
    """Return tokenizers and weights of the directory that `training.initialize_from` names; nothing is written.

    The weights are those that `nmt translate` would use: the moving average if one was kept. A row of an embedding
    means a token, so the tokenizers come with them.

    Args:
        config: the run, with `training.initialize_from`.

    Raises:
        ConfigError: the model is another one than that of the directory, or the directory is the run's own.
        CheckpointError: there is no such model or checkpoint, it cannot be trusted, its ties differ and
            `training.on_tie_change` does not admit that, or it was trained with other tokenizers.
        DataError: the tokenizers cannot be read.
    """
    directory, checkpoint = model_directory.parse_run_reference(str(config.training.initialize_from))
    if Path(directory).resolve() == Path(config.model_directory).resolve():
        raise ConfigError(
            f"training.initialize_from must be another directory than model_directory, got {directory} for "
            "both: choose another model_directory, or leave training.initialize_from out"
        )
    try:
        other = model_directory.read_settings(directory)
        # Weights of another architecture mean something else, be they of the same shapes or not.
        here, there = config.model.model_dump(), other.model.model_dump()
        names = [name for name in there if name != "tie_embeddings" and not name.endswith("dropout")]
        names = ["type"] if here["type"] != there["type"] else [name for name in names if here[name] != there[name]]
        if problems := "; ".join(f"model.{name} must be {there[name]}, got {here[name]}" for name in names):
            raise ConfigError(
                f"training.initialize_from: the model must be that of {directory}: {problems}; set these as "
                "there, or begin with fresh weights"
            )
        text = TextPair.load(directory)
        model = _build(config, text)
        loaded = load_weights(directory, model, checkpoint=checkpoint, on_tie_change=config.training.on_tie_change)
        translator.check_tokenizers(text, loaded.path, loaded.manifest.facts)
    except CheckpointError as error:
        hint = ": a checkpoint is named by @best, @latest or @update-N" if "@" in directory else ""
        raise CheckpointError(f"training.initialize_from: {error}{hint}") from error
    for name in ("tokenizer", "normalization"):
        if getattr(other.data, name) != getattr(config.data, name):
            logger.warning(
                "data.%s is not used: with the weights of %s come its tokenizers, whose settings differ",
                name, directory,
            )  # fmt: skip
    tie_change = None if loaded.tie_change is None else loaded.tie_change.describe()
    remarks = [f"initial weights ({loaded.weights}) and tokenizers: {directory}, {loaded.name}"]
    if tie_change is not None:
        remarks.append(f"weight ties changed: {tie_change}")
    origin = {
        "directory": directory,
        "checkpoint": loaded.name,
        "weights": loaded.weights,
        "sha256": loaded.manifest.files[EMA if loaded.weights == "ema" else MODEL].sha256,
        "tie_change": tie_change,
    }
    return Start(text, model, {ORIGIN: origin}, tuple(remarks))


def keep_anchor(directory: Path, model: Seq2Seq) -> dict[str, Any]:
    """Write the first weights of a run, to which it is pulled, into its directory; return the fact that proves them."""
    place = directory / ANCHOR_NAME
    temporary = temporary_path(place)
    delete_entry(temporary)
    trained = {path: array_view(each) for path, each in named_variables(model).items() if each.trainable}
    record = write_arrays(temporary, trained)
    temporary.replace(place)
    sync_folder(directory)
    return {ANCHOR: record._asdict()}


def read_anchor(config: Config, facts: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the weights to which a run is pulled, by role path; none if it is not.

    Raises:
        CheckpointError: they are not what they were when the run began.
    """
    if config.training.pull is None:
        return {}
    place = Path(config.model_directory) / ANCHOR_NAME
    if ANCHOR not in facts:
        raise CheckpointError(
            f"{config.model_directory}: no training with training.pull goes on with weights that another verb, say nmt "
            "update-vocab, made of a run: begin another run with training.initialize_from"
        )
    try:
        record = FileRecord(**facts[ANCHOR])
        return read_arrays(place, record)
    except (TypeError, CheckpointError) as error:
        problem = error if isinstance(error, CheckpointError) else f"{place}: belongs to another run"
        raise CheckpointError(
            f"{problem}: training.pull needs the weights that the run began with; bring the file back, or begin "
            "another run with training.initialize_from"
        ) from error


def _build(config: Config, text: TextPair) -> Seq2Seq:
    batch_size.refuse_too_large_model(config, translator.vocabularies_of(text))
    return _built(config, text)


def _built(config: Config, text: TextPair) -> Seq2Seq:
    model = build_model(translator.vocabularies_of(text), seed=config.seed, **config.model.model_dump())
    parts.freeze(model, config.training.freeze)
    parts.factors_by_path(model, config.training.learning_rate_factors)  # which refuses what is no part of it
    return model


def invite(replicas: Replicas, config: Config, facts: Mapping[str, Any], *, given: str) -> None:
    """Tell the other workers that text, store and directory are ready; to be called on the chief.

    Args:
        replicas: of the run.
        config: as it is to be used, with nothing left to be chosen.
        facts: what the manifests record: the tokenizers' fingerprints and the corpus's hash among it.
        given: hash of the settings that the chief was started with.
    """
    replicas.send_text(json.dumps({"given": given, "config": config.model_dump_json(), "facts": dict(facts)}))


def accept(replicas: Replicas, *, given: str) -> tuple[Config, dict[str, Any]]:
    """Wait for the chief; return its settings and facts.

    Raises:
        ConfigError: this worker was started with other settings than the chief.
    """
    with lockstep.handling_stops(signal.SIG_DFL):  # building a vocabulary takes the chief a while, and nothing is lost
        message = json.loads(replicas.send_text(""))
    if message["given"] != given:
        raise ConfigError(
            "all workers must be started with the same settings, model_directory included, but those of this worker "
            "are not the chief's: start them with the same files and --set options"
        )
    return Config.model_validate_json(message["config"]), message["facts"]


def find_shared_text(directory: Path, *, tokenizers: list[str], patience: float = 60.0) -> TextPair:
    """Wait until the tokenizers that the chief saved are seen here, and return them.

    Args:
        directory: the model directory.
        tokenizers: their fingerprints.
        patience: for how many seconds; a network file system may show a new file that late on other machines.

    Raises:
        DataError: they are not, so that the directory is not the same one.
    """
    deadline = time.monotonic() + patience
    while True:
        with suppress(DataError):  # none are there, or not wholly yet
            if (text := TextPair.load(directory)).fingerprints == tokenizers:
                return text
        if time.monotonic() > deadline:
            raise DataError(
                f"{directory} must be the same directory on all workers, but the tokenizers that the chief saved are "
                "not there: put it on a file system that all machines share"
            )
        time.sleep(0.5)


def mirrored(start: Start, config: Config, replicas: Replicas) -> Start:
    """Return a start whose model has a copy on each replica, with the same weights; to be called on all workers.

    TensorFlow lets workers create such variables only in step with each other, so that the first model of a run, which
    may take its weights from elsewhere, cannot be one.
    """
    if not replicas.mirrors:
        return start
    with replicas.scope():
        model = _built(config, start.text)
    weights = named_variables(start.model)
    for path, variable in named_variables(model).items():
        variable.assign(weights[path])
    return replace(start, model=model)
