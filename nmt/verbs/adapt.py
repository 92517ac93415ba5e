"""`nmt adapt`: a trained model goes on with other text."""

import json
import sys
from contextlib import nullcontext
from pathlib import Path

import typer

from nmt.terminal import options
from nmt.terminal.streams import is_terminal

EXAMPLE = """\b
Examples:
  nmt adapt runs/travel --with medical.es,medical.en
  nmt adapt runs/travel@best --with 'medical.{es,en}' --test 'medical-test.{es,en}' --replay 0.5 --freeze embeddings
  nmt adapt runs/travel --with medical.tsv --set training.pull=0.001 -o runs/medical
  nmt adapt runs/en-all --with 'medical.{en,de}' --tag '<2de>'
"""

_CORPUS = "source,target, a file of pairs or 'corpus.{es,en}'"


def adapt(
    directory: options.ModelDirectory,
    corpus: str = options.value("--with", "CORPUS", f"The new text: {_CORPUS}.", default=...),
    validation: str | None = options.value("--validation", "CORPUS", "New text to validate on; taken from --with."),
    test: str | None = options.value("--test", "CORPUS", "New text to compare on; taken from --with unless given."),
    source_column: str | None = options.value("--source-column", "WHICH", options.COLUMN),
    target_column: str | None = options.value("--target-column", "WHICH", options.COLUMN),
    tag: str | None = options.value(
        "--tag", "TAG", "The tag of data.train with which the new text is trained, or none; if the model has tags."
    ),
    replay: float = options.value("--replay", "SHARE", "Old pairs in what is trained on.", default=0.25),
    replay_source: Path | None = options.value(
        "--replay-source", "FILE", "Replay the model's own translations of this text, if the old corpus is gone."
    ),
    freeze: list[str] | None = options.value(
        "--freeze", "PART", "A part to keep as it is, embeddings say; repeatable."
    ),
    most_lost: float = options.value("--most-lost", "BLEU", "Most to lose on the old test set.", least=0, default=0.5),
    extend: bool | None = typer.Option(
        None, "--update-vocab/--keep-vocab", help="Add tokens of the new text; if above 0.5 % are unknown unless given."
    ),
    output: Path | None = options.value("-o, --output", "OUT", "Model directory to write; RUN-adapted unless given."),
    overrides: options.Overrides = None,
    as_json: options.AsJson = False,
    overwrite: bool = options.flag("--overwrite", "Replace a run that OUT holds."),
    threads: options.Threads = None,
    imports: options.Imports = None,
    debug: options.Debug = False,
) -> None:
    """Go on with a trained model on other text, in a new model directory, with some of the old text against forgetting.

    Learning rate, batches and updates are chosen from the size of the new text (docs/adaptation.md), --set changes
    them. At its end a table compares both models on the old and the new test set.
    """
    from nmt.adaptation import adapt as recipe
    from nmt.terminal.progress import LiveProgress
    from nmt.training.lockstep import Interrupted

    planned = recipe.plan_adaptation(
        str(directory),
        corpus,
        output=output,
        validation=validation,
        test=test,
        columns=(options.column_of(source_column), options.column_of(target_column)),
        tag=tag,
        replay=replay,
        replay_source=replay_source,
        freeze=freeze or (),
        extend_vocabulary=extend,
        overrides=overrides or (),
        overwrite=overwrite,
        threads=threads,
    )
    try:
        with LiveProgress() if is_terminal(sys.stderr) else nullcontext() as live:
            reporters = [] if live is None else [live]
            done = recipe.adapt(planned, most_lost=most_lost, overwrite=overwrite, reporters=reporters, threads=threads)
    except Interrupted as interrupted:
        config = Path(planned.config.model_directory) / "config.yaml"
        again = "the same command, without --overwrite," if overwrite else "the same command"
        typer.echo(f"{interrupted}; {again} goes on, nmt train {config} does without the table", err=True)
        raise typer.Exit(128 + interrupted.signal_number) from None
    typer.echo(json.dumps(recipe.as_json(done)) if as_json else "\n".join(recipe.table(done)))
