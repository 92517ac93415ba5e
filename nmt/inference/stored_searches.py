"""Searches that were compiled before, in the user's cache: a start from them builds no model and imports no Keras.

What is stored is the graph of a search, a program, so that it lies in no model directory. Weights are read from the
checkpoint. The name of a file is a hash over all that decides the graph: none is ever out of date. Whatever is wrong
with the cache, the model itself is opened.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nmt.atomic_files import read_regular_file, replace_file
from nmt.backend import session
from nmt.backend.machine import processors_for
from nmt.backend.stored_functions import Handle, handles_of, load_function, store_function
from nmt.checkpoint.folder import checkpoints_folder, read_weights
from nmt.checkpoint.manifest import read_manifest
from nmt.control.shortlist import Shortlist
from nmt.directory.engines import Identity, identity_of, text_hashes, user_cache
from nmt.directory.model_directory import FoundModel
from nmt.errors import CheckpointError
from nmt.inference.compiled_translator import CompiledFor, CompiledTranslator
from nmt.inference.members import open_in_keras
from nmt.kinds import imported_files
from nmt.text import TextPair

if TYPE_CHECKING:
    from nmt.inference.translator import Translator

_LOGGER = logging.getLogger(__name__)

FOLDER = "searches"
"""In the cache of the user."""

MOST_FILES = 32
"""Of 0.3 MB each, say: those that were used last are kept."""

_FORMAT = 1


class StoredSearches(NamedTuple):
    """The searches of one model that were compiled, all of them for one number of threads.

    found: the model.
    identity: of its checkpoint that is opened, unless that is damaged.
    threads: as asked for.
    folder: in the cache of the user; it may not be there yet.
    key: what the names of its files begin with.
    """

    found: FoundModel
    identity: Identity
    threads: int | None
    folder: Path
    key: str

    @classmethod
    def of(cls, found: FoundModel, threads: int | None) -> StoredSearches | None:
        """Look for nothing yet; None if searches could not be told from others, or no checkpoint or home is there."""
        with suppress(CheckpointError, OSError, metadata.PackageNotFoundError, RuntimeError):
            if not imported_files():
                identity = identity_of(found)
                return cls(found, identity, threads, user_cache() / FOLDER, _key(found, identity, threads))
        return None

    def path(self, wanted: CompiledFor) -> Path:
        """Where a search lies, or would lie."""
        asked = json.dumps([wanted.search.model_dump(mode="json"), *wanted[1:]], default=repr)
        return self.folder / f"{self.key}-{_hash(asked.encode())[:16]}"

    def read(self, wanted: CompiledFor) -> bytes | None:
        """Return a search as `store_function` returned it; None if it is not there, or not what was written."""
        path = self.path(wanted)
        try:
            if path.stat().st_uid != os.getuid():  # it is a program
                return None
            checksum, _, content = read_regular_file(path).partition(b"\n")
        except OSError:
            return None
        if checksum.decode("ascii", "replace") != _hash(path.name.encode() + content):
            return None
        with suppress(OSError):
            os.utime(path)  # it was used last
        return content

    def write(self, translator: Translator) -> None:
        """Keep the searches that a translator with the model has compiled, those without draws.

        What cannot be written is not kept.
        """
        for wanted, search in translator.compiled.traced().items():
            if wanted.sampling or session.has_gpu() or self.read(wanted) is not None:
                continue
            try:
                if (content := store_function(search, *translator.variables_of_search())) is not None:
                    self._write(self.path(wanted), content)
            except Exception as error:  # the translations are there
                _LOGGER.debug("a search is not stored: %s", error)

    def _write(self, path: Path, content: bytes) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(path, _hash(path.name.encode() + content).encode() + b"\n" + content)
        used = sorted(self.folder.iterdir(), key=lambda each: each.stat().st_mtime_ns, reverse=True)
        for each in used[MOST_FILES:]:
            each.unlink(missing_ok=True)

    def open(self) -> StoredTranslator | None:
        """Read text and weights, and start what of TensorFlow calls a search.

        Returns:
            What translates; None if there is no search of this model, or if it takes the model itself: for a GPU, or to
            say what is wrong with a checkpoint.

        Raises:
            NMTError: the tokenizers cannot be read, or there is no shortlist that fits.
        """
        try:
            if not any(self.folder.glob(f"{self.key}-*")):
                return None
        except OSError:  # a folder that may not be looked into
            return None
        text = TextPair.load(self.found.directory)
        shortlist = Shortlist.load(self.found.directory, text) if self.found.config.search.shortlist else None
        try:
            path = checkpoints_folder(self.found.directory) / self.identity.checkpoint
            weights = read_weights(path, self.identity.weights).model
            tokenizers = read_manifest(path).facts.get("tokenizers")
            if tokenizers in (None, text.fingerprints) and all(np.isfinite(each).all() for each in weights.values()):
                session.start(threads=self.threads, a_core_each=True, whole=False)
                if not session.has_gpu():
                    return StoredTranslator(self, text, handles_of(weights), shortlist)
        except Exception as error:  # nothing is lost: what is wrong with the model itself is said when that is opened
            _LOGGER.debug("no stored search is taken: %s", error)
        return None


class StoredTranslator(CompiledTranslator):
    """Translates lines by searches that were stored, and opens the model for all else.

    Args:
        stored: the searches.
        text: the tokenizers of the model.
        handles: of its weights.
        shortlist: for searches with one.
    """

    def __init__(
        self, stored: StoredSearches, text: TextPair, handles: Mapping[str, Handle], shortlist: Shortlist | None
    ) -> None:
        config = stored.found.config
        super().__init__(text, config.search, segmentation=config.data.segmentation)
        self.stored, self.shortlist, self.opened = stored, shortlist, None
        self._handles, self._opening = handles, Lock()
        self._searches: dict[CompiledFor, Callable[..., Any]] = {}

    opened: Translator | None
    """The model in Keras, as soon as something is asked for that was not stored."""

    def compiled_for(self, wanted: CompiledFor) -> Callable[..., Any]:
        """Return a search, from the cache if it is there."""
        with self._opening:
            if wanted not in self._searches:
                self._searches[wanted] = self._loaded(wanted) or self._in_keras().compiled_for(wanted)
            return self._searches[wanted]

    def _loaded(self, wanted: CompiledFor) -> Callable[..., Any] | None:
        content = None if wanted.sampling else self.stored.read(wanted)
        try:
            return None if content is None else load_function(content, self._handles)
        except Exception as error:  # the model is there
            _LOGGER.debug("a stored search is not taken: %s", error)
            return None

    def keep(self) -> None:
        """Store what was not."""
        if self.opened is not None:
            self.stored.write(self.opened)

    def _in_keras(self) -> Translator:
        if self.opened is None:
            _LOGGER.debug("the model is opened, for what was not asked of it before")
            checkpoint, weights, _ = self.stored.identity
            found = self.stored.found._replace(checkpoint=checkpoint, weights=weights)
            self.opened = open_in_keras(found, self.stored.threads)
        return self.opened


def _key(found: FoundModel, identity: Identity, threads: int | None) -> str:
    """A hash over all that decides the graphs of a model, for this installation."""
    manifest = read_manifest(checkpoints_folder(found.directory) / identity.checkpoint)
    content = {
        "format": _FORMAT,
        "code": _hash_of_code(),
        "versions": {name: metadata.version(name) for name in ("tensorflow", "keras")},
        "keras": _keras_settings(),
        "model": found.config.model.model_dump(mode="json"),
        "seed": found.config.seed,
        "text": text_hashes(found.directory),
        "variables": manifest.variables,
        "tie_groups": manifest.tie_groups,
        "threads": processors_for(threads),
    }
    return _hash(json.dumps(content, sort_keys=True).encode())[:16]


def _hash_of_code() -> str:
    """A hash over all modules of nmt."""
    root, digest = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _keras_settings() -> list[str]:
    """What a user tells Keras of types and layouts: by environment, and by a file."""
    folder = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    told = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("KERAS_")]
    with suppress(OSError):
        told.append((folder / "keras.json").read_text("utf-8", "replace"))
    return [each for each in told if not each.startswith("KERAS_BACKEND=")]


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
