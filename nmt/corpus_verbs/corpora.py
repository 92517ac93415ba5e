"""Verbs that work on corpora: `nmt convert`, from any format to any other, and `nmt split`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from nmt.terminal import options
from nmt.terminal.streams import line_counter, text_output

if TYPE_CHECKING:
    from nmt.corpora.convert import Output
    from nmt.data import Corpus

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
COLUMN = "Number or name of a column of tsv, field of jsonl, language of tmx or zip."


class CorpusOptions(NamedTuple):
    """How corpora are read and written; a group of options."""

    from_format: Annotated[
        str | None, options.value("--from", "FORMAT", "How INPUT has both sides, if no ending says it.", default=...)
    ] = None
    to_format: Annotated[
        str | None, options.value("--to", "FORMAT", "tsv, jsonl, tmx or zip, if no ending says it.", default=...)
    ] = None
    source_column: Annotated[str | None, options.value("--source-column", "WHICH", COLUMN, default=...)] = None
    target_column: Annotated[str | None, options.value("--target-column", "WHICH", COLUMN, default=...)] = None
    languages: Annotated[
        str | None, options.value("--languages", "S,T", "As es,en; unless names have them, {es,en}.", default=...)
    ] = None
    imports: options.Imports = None
    debug: options.Debug = False

    def opened(self, paths: list[str]) -> tuple[Corpus, Output]:
        """Input and output of the verb."""
        from nmt.corpora import convert
        from nmt.data.corpus import Layout

        *inputs, output = paths
        if not inputs:
            raise options.usage_error(f"give INPUT and OUTPUT, got {output} alone")
        languages = convert.languages_of(self.languages, *inputs, output)
        columns = (column_of(self.source_column), column_of(self.target_column))
        place = convert.Output.parse(output, kind=self.to_format, languages=languages)
        return convert.open_corpus(inputs, Layout(self.from_format, columns, languages)), place


def column_of(given: str | None) -> int | str | None:
    """A column as the command line has it: a number, or a name."""
    return int(given) if given and given.isdecimal() and int(given) else given


def convert(paths: Paths, *, how: CorpusOptions) -> None:
    """Write a corpus in another format.

    Every pair that the format can hold is written, in order. docs/data.md has the formats.
    """
    from nmt.corpora.convert import convert as convert_corpus

    corpus, output = how.opened(paths)
    with line_counter(waiting="reading") as count:
        told = convert_corpus(corpus, output, open_text=text_output, count=count)
    typer.echo(told, err=True)


def split(
    paths: Paths,
    validation: int = options.value("--validation", "N", "Pairs for validation.", least=0, default=2000),
    test: int = options.value("--test", "N", "Pairs for test.", least=0, default=2000),
    seed: int = options.value("--seed", "N", "Of the choice.", least=0, default=42),
    *,
    how: CorpusOptions,
) -> None:
    """Take validation and test out of a corpus, by chance; write them and what is left to train on.

    OUTPUT gets train, validation and test before its ending. Training gets no line that is near to one of the others on
    either side: that has the same letters, accents and case apart.
    """
    from nmt.corpora.split import split as split_corpus

    corpus, output = how.opened(paths)
    sizes = {"validation": validation, "test": test}
    with line_counter(waiting="reading") as count:
        told = split_corpus(corpus, output, sizes, seed=seed, open_text=text_output, count=count)
    typer.echo(told, err=True)
