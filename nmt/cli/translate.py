"""`nmt translate`: a filter from source to target language."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, TypeAlias

import typer

from nmt.cli import options
from nmt.cli.streams import file_chunks, is_terminal, line_counter, stdin_chunks, text_output

if TYPE_CHECKING:
    from nmt.inference.translation import Translation


Format = StrEnum("Format", ["TEXT", "JSONL", "TSV"])
Engine = StrEnum("Engine", ["KERAS", "CTRANSLATE2"])


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


EXAMPLE = """\b
Examples:
  nmt translate runs/travel < hotel.es > hotel.en
  echo "¿Dónde está la estación?" | nmt translate runs/travel --n-best 3 --format tsv
  nmt translate exports/travel --engine ctranslate2 < hotel.es > hotel.en
"""


Input = Annotated[Path, options.value("-i, --input", "FILE", "Text to translate; gzip, xz and bzip2 are decompressed.")]
Output = Annotated[Path, options.value("-o, --output", "FILE", "Where to write; .gz, .xz and .bz2 are compressed.")]
OutputFormat = Annotated[
    Format,
    typer.Option(
        "--format",
        help="text: N lines for each line; jsonl: an object for each line, with scores; "
        "tsv: line, rank, score and text of each translation.",
    ),
]


def run(
    directory: options.ModelDirectory,
    input_path: Input = options.DASH,
    output_path: Output = options.DASH,
    beam_size: options.BeamSize = None,
    length_penalty: options.LengthPenalty = None,
    batch_size: Annotated[
        int | None, options.value("--batch-size", "N", "Sentences translated at once.", least=1)
    ] = None,
    n_best: Annotated[int, options.value("--n-best", "N", "Translations a line; at most the beam size.", least=1)] = 1,
    output_format: OutputFormat = Format.TEXT,
    engine: Annotated[
        Engine, typer.Option("--engine", help="What computes. For ctranslate2, RUN is what nmt export wrote.")
    ] = Engine.KERAS,
    checkpoint: options.Checkpoint = None,
    weights: options.Weights = None,
    overrides: options.Overrides = None,
    threads: options.Threads = None,
    imports: options.Imports = None,
    debug: options.Debug = False,
) -> None:
    """Translate text line by line, from standard input to standard output unless files are given.

    One line of input gives one line of output (N with --n-best), in the same order; an empty line stays empty.
    """
    from nmt.recipes.translate import prepare_translation

    settings = options.with_search(overrides, beam_size=beam_size, length_penalty=length_penalty, batch_size=batch_size)
    output = None if output_path == options.DASH else output_path
    if engine is Engine.CTRANSLATE2 and (checkpoint is not None or weights is not None):
        raise options.usage_error("an export holds one checkpoint: give --checkpoint and --weights to nmt export")
    translate = prepare_translation(
        directory,
        ctranslate2=engine is Engine.CTRANSLATE2,
        num_hypotheses=n_best,
        checkpoint=checkpoint,
        weights=weights,
        overrides=settings,
        threads=threads,
        input_path=None if input_path == options.DASH else input_path,
        output_path=output,
    )
    chunks = stdin_chunks() if input_path == options.DASH else _begun(file_chunks(input_path))
    by_hand = input_path == options.DASH and is_terminal(sys.stdin)
    to_terminal = output_path == options.DASH and is_terminal(sys.stdout)  # where a live line would be torn by the text
    with text_output(output) as write, line_counter(hidden=by_hand or to_terminal) as count:
        lines = translate(chunks, count)
        if by_hand:
            typer.echo("type a line to have it translated; Ctrl-D ends", err=True)
        for number, line in enumerate(lines, start=1):
            write(WRITERS[output_format](Translated(number, line.source, line.translations, n_best)))


def _begun(chunks: Iterator[list[str]]) -> Iterator[list[str]]:
    """The same chunks, the first one read already: a file that cannot be read is refused before a model is opened."""
    first = next(chunks, [])
    return chain([first], chunks)
