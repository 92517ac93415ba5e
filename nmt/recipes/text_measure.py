"""How much text two vocabularies need: the same lines cut by both, and counted."""

from __future__ import annotations

from itertools import chain
from typing import NamedTuple

from nmt.recipes.new_vocabulary import SideFiles, files_by_vocabulary, text_lines
from nmt.text import UNK_ID, TextPair
from nmt.text.sentencepiece_training import sample_lines

MEASURED_LINES = 20_000
"""Lines of each vocabulary's text on which `measure_text` counts; of more a sample is drawn."""


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
