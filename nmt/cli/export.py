"""`nmt export`: a trained model as a directory for another engine."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nmt.cli.options import Checkpoint, Debug, ModelDirectory, Threads, Weights

if TYPE_CHECKING:
    from nmt.export.ctranslate2_export import Export

EXAMPLE = """\b
Examples:
  nmt export runs/travel exports/travel --format ctranslate2 --quantization int8
  nmt translate exports/travel --engine ctranslate2 < hotel.es > hotel.en
"""


class ExportFormat(StrEnum):
    """What `--format` takes."""

    CTRANSLATE2 = "ctranslate2"


class Quantization(StrEnum):
    """What `--quantization` takes."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    INT16 = "int16"
    INT8 = "int8"


def run(
    directory: ModelDirectory,
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Directory to write.", show_default=False)],
    export_format: Annotated[ExportFormat, typer.Option("--format", help="The engine.")] = ExportFormat.CTRANSLATE2,
    quantization: Annotated[
        Quantization, typer.Option("--quantization", help="How weights are stored: smaller ones are less exact.")
    ] = Quantization.FLOAT32,
    checkpoint: Checkpoint = None,
    weights: Weights = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an export that OUT holds.")] = False,
    threads: Threads = None,
    debug: Debug = False,
) -> None:
    """Write a trained Transformer for CTranslate2, with its vocabulary and tokenizer, and check it against the model.

    Model and export are compared on sentences of the validation set. Each quantization has a bound on how far they may
    differ, which docs/export.md gives; beyond it nothing is written.
    """
    from nmt.recipes.export import export_for_ctranslate2

    done = export_for_ctranslate2(
        directory,
        output,
        quantization=quantization,
        checkpoint=checkpoint,
        weights=weights,
        overwrite=overwrite,
        threads=threads,
    )
    for line in _report(done, str(output)):
        typer.echo(line)


def _report(done: Export, output: str) -> list[str]:
    """What was written, and how equal it is."""
    found, names = done.agreement, {"ema": "moving average", "raw": "raw weights"}
    computed = "" if done.computed_in.startswith(done.quantization) else f", computed in {done.computed_in} here"
    sizes = [f"  {name:<24} {size:>12,} bytes" for name, size in done.file_sizes.items()]
    tie = 2 * done.tolerance
    return [
        f"{output}: {done.checkpoint}, {names[done.weights]}, stored in {done.quantization}{computed}",
        *sizes,
        f"scores of {found.num_pairs:,} given translations: differ by {found.mean_difference:.1e} a token, "
        f"by {found.greatest_pair_difference:.1e} in the worst of them, by {found.greatest_token_difference:.1e} at "
        "the worst token",
        f"greedy translations of {found.num_pairs:,} lines: {found.identical_lines:,} identical, "
        f"{found.tied_lines:,} part at a tie (within {tie:g})",
    ]
