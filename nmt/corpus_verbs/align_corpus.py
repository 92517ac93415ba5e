"""`nmt align-corpus`: which words of a parallel corpus translate each other."""

from __future__ import annotations

from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nmt.terminal import options
from nmt.terminal.streams import Write, text_output

if TYPE_CHECKING:
    from nmt.tasks.align_corpus import Outcome

EXAMPLE = """\b
Examples:
  nmt align-corpus train.es train.en --tokenize -o links.txt.gz --lexical lexicon.tsv
  nmt align-corpus train.es train.en --tokenize --tokens train.cut > links.txt
"""

Model = StrEnum("Model", ["IBM1", "HMM"])


class Symmetrization(StrEnum):
    """How the links of both directions become one set: words of `nmt.alignment.links.SYMMETRIZATIONS`."""

    GROW_DIAG_FINAL_AND = "grow-diag-final-and"
    GROW_DIAG = "grow-diag"
    INTERSECTION = "intersection"
    UNION = "union"
    FORWARD = "forward"
    BACKWARD = "backward"


def run(
    source: Path = typer.Argument(metavar="SOURCE", help="Source text; may be compressed.", show_default=False),
    target: Path = typer.Argument(
        metavar="TARGET", help="Target text: line n translates line n of SOURCE.", show_default=False
    ),
    output: Path = options.value(
        "-o, --output", "FILE", "Where links go; .gz, .xz, .bz2 and .zst are compressed.", default=options.DASH
    ),
    lexical: Path | None = options.value(
        "--lexical", "FILE", "Also write word pairs with their probabilities in both directions."
    ),
    tokenize: bool = options.flag("--tokenize", "Cut words and punctuation; else words are between spaces."),
    tokens: Path | None = options.value(
        "--tokens", "PREFIX", "Write the text as cut to PREFIX.source and PREFIX.target; links count these words."
    ),
    symmetrization: Symmetrization = typer.Option(
        Symmetrization.GROW_DIAG_FINAL_AND, "--symmetrization", help="How both directions become one."
    ),
    model: Model = typer.Option(Model.HMM, "--model", help="ibm1 is faster and makes more errors."),
    iterations: int = options.value("--iterations", "N", "Of EM, for each model.", least=1, default=5),
    max_length: int = options.value("--max-length", "N", "Lines of more words get no links.", least=1, default=100),
    keep_case: bool = options.flag("--keep-case", "Take words that differ in case alone for different words."),
    threads: options.Threads = None,
    imports: options.Imports = None,
    debug: options.Debug = False,
) -> None:
    """Align the words of a parallel corpus by statistics: IBM Model 1 and an HMM, both directions made one.

    Prints a line for each pair of lines: links such as 0-0 1-2, source word before target word, counted from 0. Nothing
    has to be trained before. docs/alignment.md has the formats, and how good the links are.
    """
    from nmt.backend.machine import available_processors
    from nmt.tasks.align_corpus import align_corpus

    if tokens is not None and not tokenize:
        raise options.usage_error("--tokens writes the text as --tokenize cuts it: give --tokenize too")
    with ExitStack() as files:

        def opened(path: Path | None) -> Write:
            return files.enter_context(text_output(path))

        outcome = align_corpus(
            source,
            target,
            write=opened(None if output == options.DASH else output),
            write_tokens=None
            if tokens is None
            else (opened(Path(f"{tokens}.source")), opened(Path(f"{tokens}.target"))),
            write_lexical=None if lexical is None else opened(lexical),
            symmetrization=symmetrization,
            tokenize=tokenize,
            model1_iterations=iterations,
            hmm_iterations=iterations if model is Model.HMM else 0,
            max_length=max_length,
            keep_case=keep_case,
            threads=threads or available_processors(),
        )
    typer.echo(_summary(outcome, max_length), err=True)


def _summary(outcome: Outcome, max_length: int) -> str:
    left = {"with an empty side": outcome.empty, f"longer than {max_length} words": outcome.too_long}
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in left.items() if count)
    without = f" ({reasons}: without links)" if reasons else ""
    return (
        f"{outcome.pairs:,} pairs{without}: {outcome.links / outcome.target_words:.2f} links a target word, "
        f"{outcome.unlinked_source / outcome.source_words:.1%} of the source words and "
        f"{outcome.unlinked_target / outcome.target_words:.1%} of the target words without one; perplexity of the "
        f"target {outcome.perplexities[0]:.1f}, of the source {outcome.perplexities[1]:.1f}"
    )
