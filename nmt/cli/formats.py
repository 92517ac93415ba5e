"""How translations are written: plain text, JSON lines or tab-separated values."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from nmt.inference.translation import Translation


class Format(StrEnum):
    """What `nmt translate --format` takes."""

    TEXT = "text"
    JSONL = "jsonl"
    TSV = "tsv"


class Translated(NamedTuple):
    """A line and what became of it.

    number: of the line, from 1.
    source: the line.
    translations: best first, at most `wanted`.
    wanted: how many were asked for.
    """

    number: int
    source: str
    translations: Sequence[Translation]
    wanted: int


Writer: TypeAlias = Callable[[Translated], str]
"""Gives the lines of output, each with its end, for one line of input."""


def as_text(line: Translated) -> str:
    r"""As many lines as were asked for, empty where the model had no more, so that line numbers can be computed."""
    texts = [translation.text for translation in line.translations]
    texts += [""] * (line.wanted - len(texts))
    return "".join(f"{text}\n" for text in texts)


def as_jsonl(line: Translated) -> str:
    """One object a source line; nothing in it that any reader takes for the end of a line."""
    content = {
        "line": line.number,
        "source": line.source,
        "translations": [translation._asdict() for translation in line.translations],
    }
    text = json.dumps(content, ensure_ascii=False)
    for character in ("\x85", "\u2028", "\u2029"):
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f"{text}\n"


def as_tsv(line: Translated) -> str:
    """One line a translation: number of the source line, rank (both from 1), score, translation."""
    return "".join(
        f"{line.number}\t{rank}\t{translation.score:.6f}\t{' '.join(translation.text.split(chr(9)))}\n"
        for rank, translation in enumerate(line.translations, start=1)
    )


WRITERS: dict[Format, Writer] = {Format.TEXT: as_text, Format.JSONL: as_jsonl, Format.TSV: as_tsv}
