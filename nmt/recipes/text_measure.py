"""How much text two vocabularies need: the same lines cut by both, and counted."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from nmt.config import CorpusSettings
from nmt.data import TokenStore, read_pairs
from nmt.recipes.new_vocabulary import SideFiles, files_by_vocabulary, text_lines
from nmt.text import EOS_ID, PAD_ID, UNK_ID, TextPair
from nmt.text.sentencepiece_training import sample_lines
from nmt.text.vocabulary import MOST_UNKNOWN

MEASURED_LINES = 20_000
"""Lines of each vocabulary's text on which tokens are counted; of more a sample is drawn."""

logger = logging.getLogger(__name__)


class TextMeasure(NamedTuple):
    """How text is cut, before and now.

    lines: of the text, or of a sample of it.
    tokens_before, tokens_now: in these lines.
    unknown_before, unknown_now: those of them that are `<unk>`.
    """

    lines: int
    tokens_before: int
    tokens_now: int
    unknown_before: int
    unknown_now: int


def measure_text(old: TextPair, new: TextPair, corpora: SideFiles) -> dict[str, TextMeasure]:
    """Count the tokens of text under old and new tokenizers, by vocabulary.

    Raises:
        DataError: a file cannot be read.
    """
    measures = {}
    for name, paths in files_by_vocabulary(old, corpora).items():
        side = "source" if name == "joint" else name
        lines = sample_lines(text_lines(paths), MEASURED_LINES, seed=0)
        before, now = (list(chain.from_iterable(getattr(text, side).encode_batch(lines))) for text in (old, new))
        measures[name] = TextMeasure(len(lines), len(before), len(now), before.count(UNK_ID), now.count(UNK_ID))
    return measures


def report_unknown(what: str, source: Iterable[Sequence[int]], target: Iterable[Sequence[int]]) -> None:
    """Log the share of tokens that are `<unk>`, which a model can neither read nor learn to write.

    Args:
        what: the text, in words.
        source: token ids of its lines, PAD and EOS not counted.
        target: likewise.
    """
    shares = [unknown_share(side) for side in (source, target)]
    sentence = f"unknown tokens in {what}: {shares[0]:.2%} of the source, {shares[1]:.2%} of the target"
    if max(shares) <= MOST_UNKNOWN:
        logger.info("%s", sentence)
    else:
        logger.warning(
            "%s: the model can neither read nor write what they stand for; a larger data.tokenizer.vocabulary_size or "
            "character_coverage, a lower minimum_count or type sentencepiece leaves fewer",
            sentence,
        )


def report_unknown_in_store(store: TokenStore) -> None:
    """Log the share of unknown tokens in an encoded training corpus, or in pairs spread evenly over it."""
    indices = np.arange(0, len(store), max(1, len(store) // MEASURED_LINES))
    blocks = np.array_split(indices, 1 + len(indices) // 1000)
    sides = ((row for block in blocks for row in side.padded(block)[0]) for side in (store.source, store.target))
    report_unknown("the training corpus", *sides)


def report_unknown_in_pairs(text: TextPair, train: CorpusSettings) -> None:
    """Log the share of unknown tokens in a training corpus that is not encoded yet, or in a sample of it.

    Raises:
        DataError: it cannot be read.
    """
    pairs = sample_lines(read_pairs(train.source_paths, train.target_paths), MEASURED_LINES, seed=0)
    source, target = zip(*pairs, strict=True)
    report_unknown("the training corpus", text.source.encode_batch(source), text.target.encode_batch(target))


def unknown_share(sequences: Iterable[Sequence[int]]) -> float:
    """Return the share of `<unk>` among the tokens of sequences, PAD and EOS not counted; 0 where there are none."""
    unknown = tokens = 0
    for sequence in sequences:
        token_ids = np.asarray(sequence)
        unknown += int(np.count_nonzero(token_ids == UNK_ID))
        tokens += int(np.count_nonzero((token_ids != PAD_ID) & (token_ids != EOS_ID)))
    return unknown / max(1, tokens)
