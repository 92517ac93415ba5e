"""`nmt check-config`: whether settings are valid, and what settings there are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nmt.cli.options import Debug, Overrides, usage_error

EXAMPLE = """\b
Examples:
  nmt check-config configs/quickstart.yaml --set training.max_updates=500
  nmt check-config base.yaml large.yaml
  nmt check-config --explain
"""


def run(
    configs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="CONFIG...", help="YAML file; several are merged from left to right.", show_default=False
        ),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print every setting with its type, default and meaning.")
    ] = False,
    overrides: Overrides = None,
    debug: Debug = False,
) -> None:
    """Check settings as `nmt train` does, without training; all problems are listed at once.

    No text is read, and memory and processors are not looked at: `nmt train` does that when it starts. Files that are
    not here are named.
    """
    from nmt.config import explain_text
    from nmt.recipes.train import check_config

    if explain:
        typer.echo(explain_text(), nl=False)
    if not configs:
        if not explain:
            raise usage_error("give a config file, or --explain")
        return
    checked = check_config(configs, overrides or ())
    for remark in checked.remarks:
        typer.echo(f"nmt: remark: {remark}", err=True)
    files = " + ".join(str(path) for path in configs)
    typer.echo(f"{files}: valid, {checked.config.model.type} for {checked.config.model_directory}", err=explain)
