"""Where a model keeps what CTranslate2 reads of its checkpoint: an engine.

It is an export in float32, checked as any, in a folder named by a hash over all that decides its content. So none is
ever out of date, and a copy of a model directory brings its engines along. No Keras here: a model that has its engine
is opened without.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from nmt.checkpoint.disk import DamagedCheckpointError
from nmt.checkpoint.folder import ENGINES_NAME, checkpoints_folder
from nmt.checkpoint.index import candidates, read_index
from nmt.checkpoint.manifest import EMA, MODEL, read_manifest
from nmt.config import Config
from nmt.directory.model_directory import EXPORT_NAME, MAP_NAME, SHORTLIST_NAME, FoundModel
from nmt.errors import CheckpointError

QUANTIZATION = "float32"
"""How engines store weights: as the model has them, so that both engines translate alike."""

LEAST_POSITIONS = 2050
"""Tokens that an export reads and writes at least: a tag, the longest source that is read, and EOS."""

FORMAT = 1
"""Of what the exporter writes; another number makes all engines anew."""


class Identity(NamedTuple):
    """Which weights a model has, wherever its directory lies.

    checkpoint: the name of the checkpoint.
    weights: `ema` or `raw`.
    files: the SHA-256 of each file that holds weights which are read.
    """

    checkpoint: str
    weights: str
    files: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.checkpoint} {self.weights} {next(iter(self.files.values()))[:12]}"


def identity_of(found: FoundModel) -> Identity:
    """Look which checkpoint of a model would be opened; its weights are not read.

    Raises:
        CheckpointError: there is no such checkpoint, or none that is whole.
    """
    folder = checkpoints_folder(found.directory)
    for name in candidates(found.directory, read_index(folder), found.checkpoint):
        with suppress(DamagedCheckpointError):  # as whoever opens the model passes it by
            manifest = read_manifest(folder / name)
            weights = found.weights or manifest.preferred_weights
            read = [EMA, MODEL] if weights == "ema" and EMA in manifest.files else [MODEL]
            return Identity(name, weights, {file: manifest.files[file].sha256 for file in read})
    raise CheckpointError(f"{found.directory}: no whole checkpoint is left")


def engine_name(found: FoundModel) -> str:
    """Return the name of the folder of a model's engine: a hash over all that decides what is in it.

    Raises:
        CheckpointError: there is no such checkpoint, or none that is whole.
    """
    content = {
        "format": FORMAT,
        "shortlist": shortlist_hash(found.directory),  # of which the vocabulary map is made
        "weights": identity_of(found).files,
        "text": text_hashes(found.directory),
        "model": found.config.model.model_dump(mode="json"),
        "num_positions": num_positions(found.config),
        "quantization": QUANTIZATION,
        "ctranslate2": metadata.version("ctranslate2"),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def text_hashes(directory: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of the tokenizers: with those of another model, a model is refused."""
    paths = [path for pattern in ("tokenizer.*", "vocabulary.*") for path in sorted(directory.glob(pattern))]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def shortlist_hash(directory: Path) -> str | None:
    """Return the beginning of the SHA-256 of the shortlist of a model or of an export; None if it has none."""
    for name in (SHORTLIST_NAME, MAP_NAME):
        if (directory / name).is_file():
            return hashlib.sha256((directory / name).read_bytes()).hexdigest()[:12]
    return None


def num_positions(config: Config) -> int:
    """Return how many tokens an export can read or write."""
    return max(LEAST_POSITIONS, config.search.settled_max_length)


def user_cache() -> Path:
    """Return the folder of nmt in the cache of the user; it may not be there yet."""
    cache = os.environ.get("XDG_CACHE_HOME", "")  # to be ignored if it is relative, by its specification
    return (Path(cache) if os.path.isabs(cache) else Path.home() / ".cache") / "nmt"


def engine_folders(found: FoundModel) -> list[Path]:
    """Return where engines of a model may lie: in its directory, or if that cannot be written, in the user's cache."""
    return [found.directory / ENGINES_NAME, user_cache() / ENGINES_NAME]


def find_engine(found: FoundModel) -> Path | None:
    """Return the directory of a model's engine, None if it was not made yet; raises what `engine_name` raises."""
    name = engine_name(found)
    for folder in engine_folders(found):
        with suppress(OSError):  # that of the cache may not be looked into
            if (folder / name / EXPORT_NAME).is_file():
                return folder / name
    return None
