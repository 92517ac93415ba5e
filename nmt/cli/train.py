"""`nmt train`: from a config to a model directory."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import Annotated

import typer

from nmt.cli.options import ConfigFiles, Debug, Overrides, Threads
from nmt.cli.streams import is_terminal

EXAMPLE = """\b
Examples:
  nmt train configs/quickstart.yaml
  nmt train base.yaml large.yaml --set seed=7 --set training.max_minutes=20
"""


def run(
    configs: ConfigFiles,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete what an earlier run left in the model directory.")
    ] = False,
    overrides: Overrides = None,
    threads: Threads = None,
    debug: Debug = False,
) -> None:
    """Train a model, or go on with a run that was interrupted: the same command continues it.

    Ctrl-C and SIGTERM save first. Everything is kept in the model directory of the config. `nmt check-config --explain`
    lists all settings, which are the keys of --set.
    """
    from nmt.cli.progress import LiveProgress
    from nmt.config import load
    from nmt.recipes.train import train
    from nmt.training.signals import Interrupted

    config = load(list(configs), overrides or (), announce=True)
    try:
        with LiveProgress() if is_terminal(sys.stderr) else nullcontext() as live:
            reporters = [] if live is None else [live]
            result = train(config, overwrite=overwrite, reporters=reporters, processes=threads, threads=threads)
    except Interrupted as interrupted:
        typer.echo(f"{interrupted}; the same command goes on with the run", err=True)
        raise typer.Exit(128 + interrupted.signal_number) from None
    typer.echo(f"{result.directory}: {result.update:,} updates, ended by {result.reason}", err=True)
