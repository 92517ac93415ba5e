"""`nmt inspect`: what a model directory holds, how two models differ, whether all is as it was written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nmt.cli.options import Checkpoint, Debug, usage_error

if TYPE_CHECKING:
    from nmt.recipes.inspect_model import Verification

EXAMPLE = """\b
Examples:
  nmt inspect runs/travel
  nmt inspect runs/travel@latest --diff runs/travel-average --json
  nmt inspect runs/travel --verify
"""

_FAILED = 1


def run(
    directory: Annotated[
        Path, typer.Argument(metavar="RUN[@WHICH]", help="Model directory, or one of its checkpoints.")
    ],
    checkpoint: Checkpoint = None,
    diff: Annotated[
        Path | None,
        typer.Option(
            "--diff",
            metavar="OTHER[@WHICH]",
            help="Say what differs in another model or checkpoint, weights as stored.",
        ),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read and hash everything; every checkpoint unless one is named.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, with all there is to say.")] = False,
    debug: Debug = False,
) -> None:
    """Show what a checkpoint holds: variables, ties and what they save, scores, hashes, versions.

    A WHICH is best, latest or update-N. The exit status is 0 whether or not two models differ; with --verify it is 1
    where anything is wrong. Nothing is changed, and TensorFlow is not loaded.
    """
    from nmt.cli.inspection_tables import difference_tables, inspection_tables
    from nmt.cli.tables import show_tables
    from nmt.recipes import inspect_model as recipe
    from nmt.recipes.run_reference import parse_run_reference

    run_directory, which = parse_run_reference(str(directory))
    if which is not None and checkpoint is not None:
        raise usage_error(f"RUN@{which} names a checkpoint already: leave out --checkpoint")
    which = which or checkpoint
    if verify and diff is not None:
        raise usage_error("--verify and --diff are two commands: give one of them")
    if verify:
        _report(recipe.verify_model(run_directory, which), as_json=as_json)
    elif diff is not None:
        difference = recipe.diff_models((run_directory, which), parse_run_reference(str(diff)))
        if as_json:
            _print_json(recipe.difference_values(difference))
        else:
            show_tables(difference_tables(difference))
    else:
        inspection = recipe.inspect_model(run_directory, which)
        if as_json:
            _print_json(recipe.inspection_values(inspection))
        else:
            show_tables(inspection_tables(inspection))


def _report(verification: Verification, *, as_json: bool) -> None:
    """Say what is wrong, or what was checked."""
    from nmt.cli.tables import describe_bytes
    from nmt.recipes.inspect_model import verification_values

    if as_json:
        _print_json(verification_values(verification))
    else:
        for problem in verification.problems:
            typer.echo(problem)
        count = len(verification.checkpoints)
        checked = f"{count} checkpoint{'s' if count != 1 else ''}, {verification.num_files} files, "
        checked += describe_bytes(verification.size)
        if not verification.problems:
            beside = "index, settings and tokenizers" if verification.text else "index"
            typer.echo(f"{verification.directory}: all is as it was written: {checked}; {beside} fit")
        for name in verification.set_aside:
            typer.echo(f"nmt: remark: {name} was set aside as damaged and is not read", err=True)
    if verification.problems:
        raise typer.Exit(_FAILED)


def _print_json(values: Mapping[str, Any]) -> None:
    typer.echo(json.dumps(values, ensure_ascii=False))
