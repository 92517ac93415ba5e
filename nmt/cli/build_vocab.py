"""`nmt build-vocab`: the tokenizers of a run, before its training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nmt.cli.options import ConfigFiles, Debug, Overrides

if TYPE_CHECKING:
    from nmt.recipes.build_vocabulary import VocabularyResult

EXAMPLE = """\b
Example:
  nmt build-vocab configs/quickstart.yaml --set data.tokenizer.vocabulary_size=4000
"""


def run(
    configs: ConfigFiles,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Build it anew where there is one.")] = False,
    overrides: Overrides = None,
    debug: Debug = False,
) -> None:
    """Build vocabulary and tokenizers from the training corpus, into the model directory.

    `nmt train` does it by itself where they are missing; this shows them first.
    """
    from nmt.config import load
    from nmt.recipes.build_vocabulary import build_vocabulary

    config = load(list(configs), overrides or (), announce=True)
    result = build_vocabulary(config, overwrite=overwrite)
    typer.echo(f"{config.model_directory}: {_in_words(result)}")
    if not result.built:
        typer.echo("it was there already; --overwrite builds it anew", err=True)


def _in_words(result: VocabularyResult) -> str:
    text = result.text
    if text.joint:
        return f"{text.source.type} vocabulary of {len(text.source.vocabulary):,} tokens for both languages"
    return (
        f"{text.source.type} vocabularies of {len(text.source.vocabulary):,} source and "
        f"{len(text.target.vocabulary):,} target tokens"
    )
