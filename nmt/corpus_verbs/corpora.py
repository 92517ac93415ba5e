"""Verbs that work on corpora: `nmt convert`, from any format to any other, and `nmt split`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from nmt.terminal import options
from nmt.terminal.streams import line_counter, text_output

if TYPE_CHECKING:
    from nmt.corpora.convert import Output
    from nmt.data import Corpus
    from nmt.data.corpus import Layout

CONVERT_EXAMPLE = """\b
Examples:
  nmt convert corpus.tmx "corpus.{de,en}.gz"
  nmt convert corpus.de corpus.en corpus.tsv
  zcat news.tsv.gz | nmt convert - news.jsonl --from tsv --source-column de --target-column 3
"""
SPLIT_EXAMPLE = """\b
Examples:
  nmt split corpus.tmx "parts/corpus.{de,en}.gz" --validation 2000 --test 2000
  nmt split "corpus.{de,en}" parts/corpus.tsv --seed 7
"""

Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT... OUTPUT",
        help="Files with both sides (.tsv, .jsonl, .tmx, .zip), or 'corpus.{es,en}' in quotes, or SOURCE and TARGET; - "
        "is a standard stream. Compressed by the ending, as .gz.",
        show_default=False,
    ),
]


class ReadingOptions(NamedTuple):
    """How corpora are read; a group of options."""

    from_format: Annotated[
        str | None,
        options.value("--from", "FORMAT", "How the input has both sides, if no ending says it.", default=...),
    ] = None
    source_column: Annotated[str | None, options.value("--source-column", "WHICH", options.COLUMN, default=...)] = None
    target_column: Annotated[str | None, options.value("--target-column", "WHICH", options.COLUMN, default=...)] = None
    languages: Annotated[
        str | None,
        options.value("--languages", "S,T", "As es,en; unless names, {es,en}, or a config have them.", default=...),
    ] = None

    def layout(self, *paths: str) -> Layout:
        """How files on the command line have both sides; the name of an output may tell languages too."""
        from nmt.corpora import convert
        from nmt.data.corpus import Layout

        columns = options.column_of(self.source_column), options.column_of(self.target_column)
        return Layout(self.from_format, columns, convert.languages_of(self.languages, *paths))


ToFormat = Annotated[
    str | None, options.value("--to", "FORMAT", "tsv, jsonl, tmx or zip, if no ending says it.", default=...)
]


def _opened(paths: list[str], reading: ReadingOptions, to_format: str | None) -> tuple[Corpus, Output]:
    """Input and output of a verb."""
    from nmt.corpora import convert

    *inputs, output = paths
    if not inputs:
        raise options.usage_error(f"give INPUT and OUTPUT, got {output} alone")
    layout = reading.layout(*paths)
    place = convert.Output.parse(output, kind=to_format, languages=layout.languages)
    corpus = convert.open_corpus(inputs, layout)
    place.refuse_other_languages(corpus)
    return corpus, place


def convert(
    paths: Paths,
    to_format: ToFormat = None,
    imports: options.Imports = None,
    debug: options.Debug = False,
    *,
    reading: ReadingOptions,
) -> None:
    """Write a corpus in another format.

    Every pair that the format can hold is written, in order. docs/data.md has the formats.
    """
    from nmt.corpora.convert import convert as convert_corpus

    corpus, output = _opened(paths, reading, to_format)
    with line_counter(waiting="reading") as count:
        told = convert_corpus(corpus, output, open_text=text_output, count=count)
    typer.echo(told, err=True)


def split(
    paths: Paths,
    validation: int = options.value("--validation", "N", "Pairs for validation.", least=0, default=2000),
    test: int = options.value("--test", "N", "Pairs for test.", least=0, default=2000),
    seed: int = options.value("--seed", "N", "Of the choice.", least=0, default=42),
    to_format: ToFormat = None,
    imports: options.Imports = None,
    debug: options.Debug = False,
    *,
    reading: ReadingOptions,
) -> None:
    """Take validation and test out of a corpus, by chance; write them and what is left to train on.

    OUTPUT gets train, validation and test before its ending. Training gets no line that is near to one of the others on
    either side: that has the same letters, accents and case apart.
    """
    from nmt.corpora.split import split as split_corpus

    corpus, output = _opened(paths, reading, to_format)
    sizes = {"validation": validation, "test": test}
    with line_counter(waiting="reading") as count:
        told = split_corpus(corpus, output, sizes, seed=seed, open_text=text_output, count=count)
    typer.echo(told, err=True)
