"""`nmt train`, and what comes before it: `nmt check-config` and `nmt build-vocab`."""

import sys
from contextlib import nullcontext
from pathlib import Path

import typer

from nmt.terminal import options
from nmt.terminal.streams import is_terminal

TRAIN_EXAMPLE = """\b
Examples:
  nmt train configs/quickstart.yaml
  nmt train base.yaml large.yaml --set seed=7 --set training.max_minutes=20
"""


def train(
    configs: options.ConfigFiles,
    overwrite: bool = options.flag("--overwrite", "Delete what an earlier run left in the model directory."),
    overrides: options.Overrides = None,
    threads: options.Threads = None,
    imports: options.Imports = None,
    debug: options.Debug = False,
) -> None:
    """Train a model, or go on with a run that was interrupted: the same command continues it.

    Ctrl-C and SIGTERM save first. Everything is kept in the model directory of the config. `nmt check-config --explain`
    lists all settings, which are the keys of --set.
    """
    from nmt.config import load
    from nmt.recipes import train as recipe
    from nmt.terminal.progress import LiveProgress
    from nmt.training.lockstep import Interrupted

    config = load(list(configs), overrides or (), announce=True)
    try:
        with LiveProgress() if is_terminal(sys.stderr) else nullcontext() as live:
            reporters = [] if live is None else [live]
            result = recipe.train(config, overwrite=overwrite, reporters=reporters, processes=threads, threads=threads)
    except Interrupted as interrupted:
        typer.echo(f"{interrupted}; the same command goes on with the run", err=True)
        raise typer.Exit(128 + interrupted.signal_number) from None
    typer.echo(f"{result.directory}: {result.update:,} updates, ended by {result.reason}", err=True)


BUILD_EXAMPLE = """\b
Example:
  nmt build-vocab configs/quickstart.yaml --set data.tokenizer.vocabulary_size=4000
"""


def build_vocab(
    configs: options.ConfigFiles,
    overwrite: bool = options.flag("--overwrite", "Build it anew if there is one."),
    overrides: options.Overrides = None,
    imports: options.Imports = None,
    debug: options.Debug = False,
) -> None:
    """Build vocabulary and tokenizers from the training corpus, into the model directory.

    `nmt train` does it by itself if they are missing; this shows them first.
    """
    from nmt.config import load
    from nmt.recipes.build_vocabulary import build_vocabulary

    config = load(list(configs), overrides or (), announce=True)
    result = build_vocabulary(config, overwrite=overwrite)
    source, target = (f"{len(side.vocabulary):,}" for side in (result.text.source, result.text.target))
    sizes = f"vocabularies of {source} source and {target} target tokens"
    if result.text.joint:
        sizes = f"vocabulary of {source} tokens for both languages"
    typer.echo(f"{config.model_directory}: {result.text.source.type} {sizes}")
    if not result.built:
        typer.echo("it was there already; --overwrite builds it anew", err=True)


CHECK_EXAMPLE = """\b
Examples:
  nmt check-config configs/quickstart.yaml --set training.max_updates=500
  nmt check-config base.yaml large.yaml
  nmt check-config --explain
"""


def check(
    configs: list[Path] | None = typer.Argument(
        None, metavar="CONFIG...", help="YAML file; several are merged from left to right.", show_default=False
    ),
    explain: bool = options.flag("--explain", "Print every setting with its type, default and meaning."),
    overrides: options.Overrides = None,
    imports: options.Imports = None,
    debug: options.Debug = False,
) -> None:
    """Check settings as `nmt train` does, without training; all problems are listed at once.

    No text is read, and memory and processors are not looked at: `nmt train` does that when it starts. Files that are
    not here are named.
    """
    from nmt.config.reference import explain_text
    from nmt.recipes.train import check_config

    if explain:
        typer.echo(explain_text(), nl=False)
    if not configs:
        if not explain:
            raise options.usage_error("give a config file, or --explain")
        return
    config, remarks = check_config(configs, overrides or ())
    for remark in remarks:
        typer.echo(f"nmt: remark: {remark}", err=True)
    files = " + ".join(str(path) for path in configs)
    typer.echo(f"{files}: valid, {config.model.type} for {config.model_directory}", err=explain)
