"""`nmt average`: one model out of several checkpoints of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nmt.cli.options import Debug, ModelDirectory, WeightsKind, usage_error

EXAMPLE = """\b
Examples:
  nmt average runs/travel --last 3
  nmt average runs/travel --updates 800 1000 1200 -o runs/travel-mean
  nmt evaluate runs/travel-average
"""


def run(
    directory: ModelDirectory,
    more_updates: Annotated[list[str] | None, typer.Argument(metavar="N", hidden=True, show_default=False)] = None,
    last: Annotated[
        int | None, typer.Option("--last", min=1, metavar="K", help="Average the newest K checkpoints.")
    ] = None,
    best: Annotated[
        int | None, typer.Option("--best", min=1, metavar="K", help="Average the K best by validation.")
    ] = None,
    updates: Annotated[
        list[str] | None,
        typer.Option("--updates", metavar="N...", help="Average those after N updates each: 100 200, or 100,200."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="OUT", help="Model directory to write; RUN-average unless given."),
    ] = None,
    weights: Annotated[
        WeightsKind | None,
        typer.Option("--weights", help="What to average; the moving averages where each keeps one unless given."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace any model that OUT holds.")] = False,
    debug: Debug = False,
) -> None:
    """Average checkpoints of a run, variable by variable, tied ones once, into a model directory of its own.

    Give one of --last, --best and --updates. The result is used like any model, but it keeps no optimizer: a training
    can start from it, not go on with it. An earlier average of the same run is replaced.
    """
    from nmt.recipes.average import average

    if [last, best, updates or None].count(None) != 2:
        raise usage_error("give exactly one of --last, --best and --updates")
    if more_updates and not updates:
        raise usage_error(f"got the unexpected argument {more_updates[0]}: numbers of updates need --updates")
    numbers = _numbers([*(updates or []), *(more_updates or [])])
    done = average(
        directory,
        last=last,
        best=best,
        updates=numbers,
        output=output,
        weights=weights,
        overwrite=overwrite,
    )
    kind = "moving averages" if done.weights == "ema" else "raw weights"
    typer.echo(f"{done.directory}: {done.checkpoint}, the mean of the {kind} of {', '.join(done.averaged)}")


def _numbers(texts: list[str]) -> list[int]:
    """Numbers of updates, from `100`, `100,200` and `update-00000100`."""
    parts = [part.strip().removeprefix("update-") for text in texts for part in text.split(",") if part.strip()]
    wrong = [part for part in parts if not (part.isascii() and part.isdecimal())]
    if wrong:
        raise usage_error(f"--updates takes numbers, got {wrong[0]}: give RUN first, then --updates 100 200")
    return [int(part) for part in parts]
