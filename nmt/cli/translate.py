"""`nmt translate`: a filter from source to target language."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from nmt.cli.formats import WRITERS, Format, Translated
from nmt.cli.options import (
    DASH,
    BeamSize,
    Checkpoint,
    Debug,
    LengthPenalty,
    ModelDirectory,
    Overrides,
    Threads,
    Weights,
    with_search,
)
from nmt.cli.streams import is_terminal

EXAMPLE = """\b
Examples:
  nmt translate runs/travel < hotel.es > hotel.en
  echo "¿Dónde está la estación?" | nmt translate runs/travel --n-best 3 --format tsv
"""


def run(
    directory: ModelDirectory,
    input_path: Annotated[
        Path, typer.Option("-i", "--input", metavar="FILE", help="Text to translate; .gz is decompressed.")
    ] = DASH,
    output_path: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="Where to write; .gz is compressed.")
    ] = DASH,
    beam_size: BeamSize = None,
    length_penalty: LengthPenalty = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, metavar="N", help="Sentences translated at once.")
    ] = None,
    n_best: Annotated[
        int, typer.Option("--n-best", min=1, metavar="N", help="Translations a line; at most the beam size.")
    ] = 1,
    output_format: Annotated[
        Format,
        typer.Option(
            "--format",
            help="text: N lines for each line; jsonl: an object for each line, with scores; "
            "tsv: line, rank, score and text of each translation.",
        ),
    ] = Format.TEXT,
    checkpoint: Checkpoint = None,
    weights: Weights = None,
    overrides: Overrides = None,
    threads: Threads = None,
    debug: Debug = False,
) -> None:
    """Translate text line by line, from standard input to standard output unless files are given.

    One line of input gives one line of output (N with --n-best), in the same order; an empty line stays empty.
    """
    from nmt.backend import session
    from nmt.cli.lines import file_chunks, stdin_chunks, text_output
    from nmt.cli.progress import LineCounter
    from nmt.inference.model_directory import read_settings
    from nmt.recipes.translate import check_num_hypotheses, translate

    settings = with_search(overrides, beam_size=beam_size, length_penalty=length_penalty, batch_size=batch_size)
    check_num_hypotheses(n_best, read_settings(directory, settings).search)
    chunks = stdin_chunks() if input_path == DASH else _begun(file_chunks(input_path))
    by_hand = input_path == DASH and is_terminal(sys.stdin)
    to_terminal = output_path == DASH and is_terminal(sys.stdout)  # where a live line would be torn by the text
    with (
        text_output(None if output_path == DASH else output_path) as write,
        LineCounter(hidden=by_hand or to_terminal) as counter,
    ):
        session.start(threads=threads)
        lines = translate(
            directory,
            chunks,
            num_hypotheses=n_best,
            checkpoint=checkpoint,
            weights=None if weights is None else weights.value,
            overrides=settings,
            progress=counter.add,
        )
        if by_hand:
            typer.echo("type a line to have it translated; Ctrl-D ends", err=True)
        for number, line in enumerate(lines, start=1):
            write(WRITERS[output_format](Translated(number, line.source, line.translations, n_best)))


def _begun(chunks: Iterator[list[str]]) -> Iterator[list[str]]:
    """The same chunks, the first one read already: a file that cannot be read is refused before a model is opened."""
    first = next(chunks, [])
    return chain([first], chunks)
