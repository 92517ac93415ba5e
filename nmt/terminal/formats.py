"""What `nmt translate` writes of a line: text, JSON records, or columns between tabs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from nmt.terminal.streams import json_line
from nmt.terminal.translation_options import ADDED_FIELDS, Format

if TYPE_CHECKING:
    from nmt.tasks.translate import TranslatedLine

Writer: TypeAlias = Callable[[int, "TranslatedLine", int], str]
"""Gives the lines of output, each with its end, for a line of input: its number from 1, what became of it, and how many
translations were asked for."""


def as_text(number: int, line: TranslatedLine, wanted: int) -> str:
    r"""As many lines as were asked for, empty if the model had no more, so that line numbers can be computed."""
    texts = [translation.text for translation in line.translations]
    texts += [""] * (wanted - len(texts))
    return "".join(f"{text}\n" for text in texts)


def as_jsonl(number: int, line: TranslatedLine, wanted: int) -> str:
    """One object a source line; nothing in it that any reader takes for the end of a line.

    What the record said of an earlier translation gives way to what is said of this one.
    Flags stand with each translation, with the line if it has none; constraints if phrases must appear; tokens with
    their log probabilities, words with their links, and whether probabilities are those of a shortlist, if there are.
    """
    translations = [translation._asdict() for translation in line.translations]
    engines = [translation.pop("engine") for translation in translations]
    for translation in translations:
        del translation["finished"]  # which the flags say
        for optional in ("constraints", "tokens", "token_scores", "shortlist"):
            if not translation[optional]:
                del translation[optional]
    for translation, alignment in zip(translations, line.alignments, strict=False):
        from nmt.tasks.align import as_record

        translation["alignment"] = as_record(alignment)
    content = {
        "line": number,
        **{name: value for name, value in line.record.rest.items() if name not in ADDED_FIELDS},
        line.record.field: line.record.source,
        **({"tag": line.record.control.tag} if line.record.control.tag else {}),
        "translations": translations,
        **({"engine": engines[0]} if engines else {}),  # of the best, if a second search found others
    }
    if not translations:
        from nmt.translation.line_translator import flag_of_none

        content["flags"] = [flag_of_none(line.record.control)]
    return json_line(content)


def as_tsv(number: int, line: TranslatedLine, wanted: int) -> str:
    """One line a translation: number of the source line, rank (both from 1), score, translation."""
    return "".join(
        f"{number}\t{rank}\t{translation.score:.6f}\t{_without_tabs(translation.text)}\n"
        for rank, translation in enumerate(line.translations, start=1)
    )


def as_row(number: int, line: TranslatedLine, wanted: int) -> str:
    """The row that was read, and as many columns more as translations were asked for."""
    texts = [_without_tabs(translation.text) for translation in line.translations]
    texts += [""] * (wanted - len(texts))
    return "\t".join([*line.record.rest["columns"], *texts]) + "\n"


def _without_tabs(text: str) -> str:
    return " ".join(text.split("\t"))


WRITERS: dict[Format, Writer] = {Format.TEXT: as_text, Format.JSONL: as_jsonl, Format.TSV: as_tsv}
