"""What looks wrong about the two sides of a corpus: one file for both, text that is the same, other languages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from nmt.data.corpus import read_pairs
from nmt.errors import DataError
from nmt.text.scripts import foreign_script, in_words, scripts_of_language

LOOKED_AT = 2000
"""Pairs from the beginning of a corpus."""

_MOST_EQUAL = 0.5


def refuse_one_file(name: str, source_paths: Sequence[str], target_paths: Sequence[str]) -> None:
    """Refuse a corpus whose two sides are one file, also by another name: a model would learn to copy.

    Args:
        name: of the corpus in the settings, `data.train`.
        source_paths: its source.
        target_paths: its target.

    Raises:
        DataError: naming the file.
    """
    for source, target in zip(source_paths, target_paths, strict=False):
        same = source == target
        with suppress(OSError):  # what is missing is said where it is read
            same = same or Path(source).samefile(target)
        if same:
            raise DataError(
                f"{name}.source and {name}.target must be two files, line n of one translating line n of the other, "
                f"got {source} for both: split it, say with cut -f1 and cut -f2 where tabs separate the sides"
            )


def doubts_about_sides(
    name: str, source_paths: Sequence[str], target_paths: Sequence[str], *, languages: tuple[str, str]
) -> Iterator[str]:
    """Yield what a user would want to be told about the first pairs of a corpus.

    Args:
        name: of the corpus in the settings, `data.train`.
        source_paths: its source.
        target_paths: its target.
        languages: codes of both sides.

    Raises:
        DataError: it cannot be read.
    """
    pairs = list(islice(read_pairs(source_paths, target_paths), LOOKED_AT))
    equal = sum(source == target for source, target in pairs)
    if equal > _MOST_EQUAL * len(pairs) and languages[0] != languages[1]:
        yield f"{name}: source and target are equal in {equal:,} of {len(pairs):,} pairs: the model learns to copy"
    found = [
        foreign_script(lines, language) for lines, language in zip(zip(*pairs, strict=True), languages, strict=True)
    ]
    expected = [scripts_of_language(language) for language in languages]
    if found[0] in expected[1] and found[1] in expected[0]:
        yield (
            f"{name}: source and target look swapped: the source is in {in_words(str(found[0]))}, the target in "
            f"{in_words(str(found[1]))}, but the languages are {languages[0]} to {languages[1]}"
        )
        return
    for side, script, language in zip(("source", "target"), found, languages, strict=True):
        if script is not None:
            yield f"{name}.{side} is in {in_words(script)}, which is not how {language} is written: is it another file?"
