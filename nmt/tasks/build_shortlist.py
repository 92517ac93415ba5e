"""The shortlist of a trained model, learned from its training corpus."""

from __future__ import annotations

import logging
import os
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nmt.config import Config
from nmt.control.shortlist import Columns, Shortlist, learn
from nmt.data.corpus import pairs_of
from nmt.directory.model_directory import parse_run_reference, read_settings
from nmt.errors import DataError
from nmt.text import TextPair
from nmt.text.tokenizer import Sample, in_blocks
from nmt.types import PathLike

_LOGGER = logging.getLogger(__name__)

MOST_PAIRS = 500_000
"""Pairs of the training corpus that are read, drawn from all of it: matrices of their tokens take 1 GB of disk."""

_MEASURED_LINES = 1024


class BuiltShortlist(NamedTuple):
    """A shortlist that was written.

    path: of its file.
    shortlist: what it holds.
    num_pairs: that it was learned from.
    covered: share of the tokens of validation references that are in the lists of their lines; None without them.
    of_line: tokens of such a line on average.
    of_batch: columns of a batch of such lines on average.
    batch_size: lines of a batch, by the settings of the run.
    """

    path: Path
    shortlist: Shortlist
    num_pairs: int
    covered: float | None
    of_line: float
    of_batch: float
    batch_size: int


def build_shortlist(directory: PathLike, *, best: int, frequent: int, threads: int) -> BuiltShortlist:
    """Learn which target tokens each source token makes likely, and write that into a model directory.

    Args:
        directory: the model directory.
        best: target tokens of each source token.
        frequent: target tokens of every line.
        threads: how many to use.

    Raises:
        NMTError: there is no such model, its training corpus cannot be read, or the file cannot be written.
    """
    directory, _ = parse_run_reference(os.fspath(directory))
    config, text = read_settings(directory), TextPair.load(directory)
    shortlist, num_pairs = learn_from_corpus(config, text, best=best, frequent=frequent, threads=threads)
    path, size = shortlist.save(directory), config.search.batch_size
    covered, of_line, of_batch = None, 0.0, 0.0
    if config.data.validation is not None:
        try:
            pairs = list(islice(pairs_of(config.data, "validation"), _MEASURED_LINES))
            covered, of_line, of_batch = _measured(shortlist, text, pairs, size)
        except DataError as error:
            _LOGGER.info("not used to measure the shortlist: %s", error)
    return BuiltShortlist(path, shortlist, num_pairs, covered, of_line, of_batch, size)


def learn_from_corpus(
    config: Config, text: TextPair, *, best: int, frequent: int, threads: int
) -> tuple[Shortlist, int]:
    """Learn a shortlist from the training corpus of a run; return it, and from how many pairs.

    Raises:
        DataError: the corpus cannot be read.
    """
    sample = Sample[tuple[str, str]](MOST_PAIRS, seed=0)
    for block in in_blocks(pairs_of(config.data, "train")):
        sample.update(block)

    def tokens(lines: list[str], side: int) -> list[list[str]]:
        tokenizer = (text.source, text.target)[side]
        return [tokenizer.tokens(ids) for ids in tokenizer.encode_batch(lines)]

    shortlist = learn(
        zip(*(tokens([pair[side] for pair in sample.lines], side) for side in range(2)), strict=True),
        text,
        best=best,
        frequent=frequent,
        max_length=config.data.max_length,
        threads=threads,
        report=_LOGGER.info,
    )
    return shortlist, len(sample.lines)


def _measured(
    shortlist: Shortlist, text: TextPair, pairs: list[tuple[str, str]], batch_size: int
) -> tuple[float, float, float]:
    """What of the target is covered, tokens of a line, and columns of a batch of lines that are about equally long."""
    sources, targets = map(list, zip(*pairs, strict=True))
    pairs_of_ids = list(zip(text.source.encode_batch(sources), text.target.encode_batch(targets), strict=True))
    pairs_of_ids.sort(key=lambda pair: len(pair[0]))
    counts, columns, found = [], [], []
    for start in range(0, len(pairs_of_ids), batch_size):
        source_ids, target_ids = zip(*pairs_of_ids[start : start + batch_size], strict=True)
        listed = shortlist.listed(source_ids)
        columns.append(len(Columns(listed, least=0).token_ids))
        counts += listed.sum(axis=1).tolist()
        found += [line[ids] for line, ids in zip(listed, target_ids, strict=True) if ids]
    return float(np.concatenate(found).mean()), float(np.mean(counts)), float(np.mean(columns))
