"""`nmt vary`: varied copies of corpora and test sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nmt.corpus_verbs.corpora import ReadingOptions
from nmt.terminal import options
from nmt.terminal.streams import line_counter, text_output

if TYPE_CHECKING:
    from nmt.data.corpus import Layout
    from nmt.variation import Changes

EXAMPLE = """\b
Examples:
  nmt vary test.de -o test.typos.de --with typos
  nmt vary "test.{de,en}" -o "test.varied.{de,en}" --with upper_case:0.1 --with typos:0.1 --languages de,en
"""


def run(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="A file of source lines; or a corpus as nmt convert reads it, whose both sides are varied.",
            show_default=False,
        ),
    ],
    output: Annotated[
        str, options.value("-o, --output", "FILE", "Where the copy goes, as for nmt convert.", default=...)
    ],
    given: Annotated[
        list[str],
        typer.Option(
            "--with",
            metavar="KIND[:RATE]",
            help="A kind of data.variation and its share of the lines, all unless given; may be repeated.",
        ),
    ],
    seed: int = options.value("--seed", "N", "Of the changes.", least=0, default=42),
    imports: options.Imports = None,
    debug: options.Debug = False,
    *,
    reading: ReadingOptions,
) -> None:
    """Write a copy of a test set or corpus whose lines are changed by chance, to see what a model can bear.

    Of a file of lines the source side alone is varied, line by line, so that its references still fit it.
    """
    from nmt.data.corpus import kind_of, reader_of
    from nmt.errors import ConfigError, DataError
    from nmt.settings.data import languages_in
    from nmt.variation import Changes, rates_of

    rates, layout = rates_of(given), reading.layout(*paths, output)
    alone = len(paths) == 1 and languages_in(paths[0]) is None and reader_of(paths[0], layout) is None
    if alone and rates.get("merge"):
        raise ConfigError(
            "--with merge needs both sides, got one: give a corpus with both, as 'test.{de,en}' in quotes"
        )
    source = layout.languages[0] or (kind_of(paths[0]) if alone else "")  # of test.de it is German
    changes = Changes(rates, seed=(seed,), languages=(source, source) if alone else layout.languages)
    written, changed, dropped = _copied(paths, output, changes, layout if not alone else None)
    if not written:
        raise DataError(f"{paths[0]}: must hold a line, got an empty file")
    lost = f"; dropped: {', '.join(f'{number:,} {reason}' for reason, number in dropped.items())}" if dropped else ""
    typer.echo(f"{written:,} {'lines' if alone else 'pairs'} written, {changed:,} changed{lost}", err=True)


def _copied(paths: list[str], output: str, changes: Changes, layout: Layout | None) -> tuple[int, int, Counter[str]]:
    """Write the copy; return how much was written and changed, and what was not written by its reasons.

    Args:
        paths: what is read.
        output: where it goes.
        changes: what is varied.
        layout: how files hold both sides; None if a file of lines of one side is read.
    """
    from nmt.atomic_files import same_file
    from nmt.corpora import convert
    from nmt.data.lines import read_lines
    from nmt.errors import ConfigError
    from nmt.text.tokenizer import in_blocks
    from nmt.variation import vary_pairs

    dropped = Counter[str]()
    with ExitStack() as stack:
        if layout is None:
            path, place = "/dev/stdin" if paths[0] == "-" else paths[0], None if output == "-" else Path(output)
            if place is not None and same_file(Path(path), place):
                raise ConfigError(f"the output must be another file than the input, got {path} for both")
            pairs: Iterator[tuple[str, str]] = ((line, line) for line in read_lines(path))
            write_text = stack.enter_context(text_output(place))
        else:
            corpus = convert.open_corpus(paths, layout)
            place_of_pairs = convert.Output.parse(output, kind=None, languages=layout.languages)
            place_of_pairs.refuse_inputs(corpus)
            pairs = corpus.pairs()
            write_pairs = stack.enter_context(place_of_pairs.open(text_output, dropped))
        written = changed = 0
        count = stack.enter_context(line_counter(waiting="reading"))
        for block in in_blocks(vary_pairs(pairs, changes)):
            found = [pair for pair, _ in block]
            changed += sum(is_changed for _, is_changed in block)
            if layout is None:
                write_text("".join(f"{source}\n" for source, _ in found))
            written += len(found) if layout is None else write_pairs(found)
            count(len(block))
    return written, changed, dropped
