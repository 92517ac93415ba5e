"""Making the engine of a checkpoint for CTranslate2, see `nmt.directory.engines`; and what exports are compared on."""

from __future__ import annotations

import logging
import os
import random
import time
from contextlib import suppress
from itertools import islice
from pathlib import Path
from threading import Lock

from nmt.backend import session
from nmt.config import Config
from nmt.data.corpus import pairs_of
from nmt.directory.engines import QUANTIZATION, engine_folders, engine_name, find_engine
from nmt.directory.model_directory import FoundModel, find_model
from nmt.errors import DataError, ExportError, NMTError
from nmt.inference import engines
from nmt.text import SPECIAL_TOKENS, TextPair
from nmt.translation.ctranslate2_engine import check_exportable

_LOGGER = logging.getLogger(__name__)

SAMPLE_PAIRS = 200
"""Sentence pairs on which an export is compared with its model."""

SAMPLE_LENGTH = 100
"""Tokens of a side of such a pair, at most."""


_making = Lock()
"""Of this process, whose temporary folders are told apart by its number alone."""


def make_engine(found: FoundModel, *, threads: int | None = None) -> Path:
    """Write the engine of a model where there is room for it, checked as `nmt export` checks, and return its directory.

    TensorFlow is started for a search, unless it runs. Whoever comes second, of two that write it at once, takes what
    the first one wrote.

    Raises:
        NMTError: the model cannot be opened, cannot be exported, or no place can be written.
    """
    place = writable_folder(found) / engine_name(found)
    check_exportable(found.config, place, quantization=QUANTIZATION, overwrite=True)
    if not session.is_running():
        session.start(threads=threads, a_core_each=True)

    from nmt.export.ctranslate2_export import SamplePair, export_ctranslate2
    from nmt.inference.translator import open_found

    started = time.monotonic()
    with _making:
        opened = open_found(found)
        sample = [SamplePair(*pair) for pair in sample_pairs(opened.config, opened.text)]
        try:
            export_ctranslate2(opened, place, sample, quantization=QUANTIZATION)
        except ExportError:
            if (there := find_engine(found)) is None:
                raise
            return there  # another was first
    _LOGGER.info("made an engine for CTranslate2 in %.1f s: %s", time.monotonic() - started, place)
    return place


def writable_folder(found: FoundModel) -> Path:
    """Return where an engine can be written, and create the folder.

    Raises:
        ExportError: nowhere.
    """
    folders = engine_folders(found)
    for folder in folders:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                return folder
    raise ExportError(f"an engine needs a place to be written, and there is none in {' or '.join(map(str, folders))}")


def make_engine_of_run(config: Config) -> None:
    """Make the engine of what a finished run found best, if its settings and this machine let translating use it.

    A run is not worth less if that fails: then a line says so.
    """
    if config.search.engine == engines.KERAS or not engines.is_installed():
        return
    try:
        found = find_model(config.model_directory)
        if find_engine(found) is None and not engines.lacking([found]):
            make_engine(found)
    except NMTError as error:
        _LOGGER.warning("no engine for CTranslate2 could be made: %s", error)


def sample_pairs(config: Config, text: TextPair) -> list[tuple[list[int], list[int]]]:
    """Return token ids of pairs of the first set of the config that is on this machine, else of random tokens."""
    for name in ("validation", "test"):
        if getattr(config.data, name) is None:
            continue
        try:
            pairs = list(islice(pairs_of(config.data, name), 1000))
        except DataError as error:
            _LOGGER.info("not used to compare export and model: %s", error)
            continue
        encoded = ((text.source.encode(source), text.target.encode(target)) for source, target in pairs)
        if sample := [pair for pair in encoded if all(0 < len(side) <= SAMPLE_LENGTH for side in pair)]:
            return sample[:SAMPLE_PAIRS]
    generator = random.Random(config.seed)

    def draw(vocabulary_size: int) -> list[int]:
        first, last = min(len(SPECIAL_TOKENS), vocabulary_size - 1), vocabulary_size - 1
        return [generator.randint(first, last) for _ in range(generator.randint(1, 20))]

    return [(draw(len(text.source.vocabulary)), draw(len(text.target.vocabulary))) for _ in range(SAMPLE_PAIRS)]
