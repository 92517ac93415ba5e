"""Hints: words of a source line with their translations behind them, between symbols of the vocabulary.

`das __source__ Haus __target__ house __done__ ist alt` is how a model reads a hint, as OpusTrainer writes it by its
modifier Tags (inline terminology: Dinu et al. 2019, "Training Neural Machine Translation to Apply Terminology
Constraints"). The marks are ids that no text gives.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import TypeAlias

from nmt.errors import ConfigError
from nmt.text.tokenizer import Tokenizer

HINT_MARKS = (" __source__", " __target__", " __done__")
"""The marks before a word, between it and its translation, and behind that, as `Tokenizer.tags` has them: the space
tells them from tags of corpora, which hold none."""

Stretches: TypeAlias = tuple[str, ...]
"""A line with H hints in 3 H + 1 parts: text, word, translation, text, word, translation, ..., text."""


def hinted(line: str, hints: Iterable[tuple[int, int, str]]) -> Stretches:
    """Put hints into a line.

    Args:
        line: any text.
        hints: where a word begins and ends in it, and its translation; in order, and none within another.
    """
    stretches, before = list[str](), 0
    for start, end, translation in hints:
        stretches += [line[before:start], line[start:end], translation]
        before = end
    return *stretches, line[before:]


def encode_hinted(tokenizer: Tokenizer, lines: Sequence[str | Stretches]) -> list[list[int]]:
    """Token ids of many lines, of which some may have hints: each part is encoded by itself, and marks stand between.

    Raises:
        ConfigError: a line may have hints, even if it has none, and the vocabulary has no marks for them.
    """
    if all(isinstance(line, str) for line in lines):
        return tokenizer.encode_batch([*map(str, lines)])
    refuse_without_marks(tokenizer)
    whole = [(line,) if isinstance(line, str) else line for line in lines]
    encoded = iter(tokenizer.encode_batch(list(chain.from_iterable(whole))))
    parts = [list(islice(encoded, len(line))) for line in whole]
    source, target, done = (tokenizer.tags[mark] for mark in HINT_MARKS)
    before = ([done], [source], [target])  # of a part, by its place
    return [
        [*first, *chain.from_iterable([*before[place % 3], *ids] for place, ids in enumerate(others, start=1))]
        for first, *others in parts
    ]


def refuse_without_marks(tokenizer: Tokenizer) -> None:
    """Refuse hints for a model that cannot read them.

    Raises:
        ConfigError: the vocabulary of the source has no marks for them.
    """
    if not tokenizer.tags.keys() >= {*HINT_MARKS}:
        raise ConfigError(
            "hints need a model that was trained with them, and this one was not: train with data.variation of tags or "
            "placeholders, or ask for terms by --glossary"
        )
