"""Exporting a trained model for another engine."""

from __future__ import annotations

import logging
import os
import random
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from nmt.config import Config
from nmt.data import Corpus
from nmt.errors import DataError
from nmt.export.ctranslate2_spec import check_exportable
from nmt.inference.model_directory import find_model
from nmt.inference.output_directory import check_not_among_checkpoints
from nmt.text import SPECIAL_TOKENS, TextPair
from nmt.types import PathLike

if TYPE_CHECKING:
    from nmt.export.ctranslate2_export import Export

SAMPLE_PAIRS = 200
"""Sentence pairs on which an export is compared with its model."""

SAMPLE_LENGTH = 100
"""Tokens of a side of such a pair, at most."""

_LOGGER = logging.getLogger(__name__)


def export_for_ctranslate2(
    directory: PathLike,
    output: PathLike,
    *,
    quantization: str = "float32",
    checkpoint: str | None = None,
    weights: str | None = None,
    overwrite: bool = False,
    threads: int | None = None,
) -> Export:
    """Write a trained Transformer as a directory that CTranslate2 reads, and prove that it translates alike.

    They are compared on the first pairs of the validation set, or the test set, where their files are there, else on
    text drawn from the vocabulary.

    Args:
        directory: the model directory, or a checkpoint in it.
        output: the directory to write.
        quantization: how weights are stored: `float32`, `float16`, `bfloat16`, `int16` or `int8`.
        checkpoint: `best`, `latest` or `update-N`; the best, else the latest unless given.
        weights: `ema` or `raw`; unless given the moving average where it was kept, or what validation found better.
        overwrite: replace an earlier export.
        threads: processor cores to use; all unless given.

    Raises:
        NMTError: there is no such model, it cannot be exported, or the export is not equal to it; the output is then
            as it was.
    """
    found = find_model(directory, checkpoint=checkpoint, weights=weights)
    place = Path(os.path.abspath(output))  # with a name at its end, which `.` and `..` have not
    check_not_among_checkpoints(place)
    check_exportable(found.config, place, quantization=quantization, overwrite=overwrite)

    from nmt.backend import session

    session.start(threads=threads)

    from nmt.export.ctranslate2_export import SamplePair, export_ctranslate2
    from nmt.inference.translator import open_found

    opened = open_found(found)
    sample = [SamplePair(*pair) for pair in _sample(opened.config, opened.text)]
    return export_ctranslate2(opened, place, sample, quantization=quantization, overwrite=overwrite)


def _sample(config: Config, text: TextPair) -> list[tuple[list[int], list[int]]]:
    """Token ids of pairs of the first set of the config that lies on this machine, else of pairs of random tokens."""
    for corpus in (config.data.validation, config.data.test):
        try:
            pairs = [] if corpus is None else list(islice(Corpus(*corpus.paths).pairs(), 1000))
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
