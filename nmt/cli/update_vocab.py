"""`nmt update-vocab`: a trained model with another vocabulary."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nmt.cli.options import Debug, ModelDirectory, Overrides, usage_error

if TYPE_CHECKING:
    from nmt.config import Config
    from nmt.recipes.update_vocabulary import SideFiles, UpdatedModel, VocabularyUpdate
    from nmt.text import TextPair

EXAMPLE = """\b
Examples:
  nmt update-vocab runs/travel --with medical.es medical.en --max-new-tokens 500
  nmt update-vocab runs/travel --with new.es new.en --set data.train.source=new.es --set data.train.target=new.en
  nmt train runs/travel-vocabulary/config.yaml --set training.max_updates=4000
"""

SHOWN_TOKENS = 6
"""Added and dropped tokens that are shown as examples."""

_NAMES = {"joint": "vocabulary of both languages", "source": "source vocabulary", "target": "target vocabulary"}

Files = list[Path] | None


def _option(name: str, metavar: str, words: str, *, least: int | None = None) -> Any:
    return typer.Option(name, metavar=metavar, help=words, min=least)


MoreCorpora = Annotated[Files, typer.Argument(metavar="[FILE...]", help="More files for --with.", show_default=False)]
Corpora = Annotated[Files, _option("--with", "FILE...", "Text of both languages, for a joint vocabulary.")]
SourceCorpora = Annotated[Files, _option("--with-source", "FILE", "Text of the source language; may be repeated.")]
TargetCorpora = Annotated[Files, _option("--with-target", "FILE", "Text of the target language; may be repeated.")]
JointTokenizer = Annotated[
    Path | None, _option("--tokenizer", "FILE", "Take a finished joint one: a .model file, or a token a line.")
]
SourceTokenizer = Annotated[Path | None, _option("--source-tokenizer", "FILE", "The same for the source alone.")]
TargetTokenizer = Annotated[Path | None, _option("--target-tokenizer", "FILE", "The same for the target alone.")]


def run(
    directory: ModelDirectory,
    more_corpora: MoreCorpora = None,
    corpora: Corpora = None,
    source_corpora: SourceCorpora = None,
    target_corpora: TargetCorpora = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Learn the vocabulary anew from these files, instead of extending it.")
    ] = False,
    tokenizer: JointTokenizer = None,
    source_tokenizer: SourceTokenizer = None,
    target_tokenizer: TargetTokenizer = None,
    minimum_count: Annotated[
        int | None, _option("--minimum-count", "N", "Add what occurs so often; as configured, else 1.", least=1)
    ] = None,
    max_new_tokens: Annotated[int | None, _option("--max-new-tokens", "N", "Tokens to add at most.", least=1)] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="OUT", help="Model directory to write; RUN-vocabulary unless given."),
    ] = None,
    checkpoint: Annotated[str, _option("--checkpoint", "WHICH", "best, latest or update-N.")] = "latest",
    overrides: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, with all tokens.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier update in OUT.")] = False,
    debug: Debug = False,
) -> None:
    """Give a trained model the tokens of new text, in a new model directory with which training goes on.

    Tokens that remain keep all that was learned about them, the state of the optimizer too; a new one begins as the
    mean of the pieces it was cut into before. With --set, the new directory gets another training corpus or limit.
    """
    from nmt.data.corpus import refuse_pipes
    from nmt.recipes.output_directory import refuse_to_replace_inputs
    from nmt.recipes.update_vocabulary import SideFiles, default_output, plan_update, report, update_vocabulary

    if more_corpora and directory.is_file() and more_corpora[-1].is_dir():
        raise usage_error(f"RUN comes first: nmt update-vocab {more_corpora[-1]} --with ...")
    if more_corpora and not corpora:
        raise usage_error(f"got the unexpected argument {more_corpora[0]}: files need --with, after RUN")
    both = [*(corpora or ()), *(more_corpora or ())]
    text = SideFiles(*map(tuple, (both, source_corpora or (), target_corpora or ())))
    tokenizers = SideFiles(*((path,) if path else () for path in (tokenizer, source_tokenizer, target_tokenizer)))
    refuse_pipes({"the text to learn from": [str(path) for path in chain(*text)]})
    refuse_to_replace_inputs([*chain(*text, *tokenizers)], output or default_output(directory))
    choose = _choice(text, tokenizers, replace=replace, minimum_count=minimum_count, max_new_tokens=max_new_tokens)
    planned = plan_update(
        directory, choose, corpora=text, output=output, overrides=overrides or (), overwrite=overwrite or dry_run
    )
    done = None
    if not dry_run and not planned.changes_nothing:
        from nmt.backend import session

        session.start()
        done = update_vocabulary(planned, checkpoint=checkpoint)
    if as_json:
        written = {"written": done is not None, "checkpoint": done and done.checkpoint, "update": done and done.update}
        typer.echo(json.dumps({**report(planned), **written}, ensure_ascii=False))
    else:
        typer.echo("\n".join(_lines(planned)))
    typer.echo(_outcome(planned, done), err=True)


def _choice(
    text: SideFiles, tokenizers: SideFiles, *, replace: bool, minimum_count: int | None, max_new_tokens: int | None
) -> Callable[[Config, TextPair], TextPair]:
    """What gives the new tokenizers: one of three ways, and no options of another."""
    from nmt.recipes.update_vocabulary import adopted_text, extended_text, learned_text

    if any(text) == any(tokenizers):
        raise usage_error("give either text, such as --with FILE, or finished vocabularies, such as --tokenizer FILE")
    if replace and any(tokenizers):
        raise usage_error("--replace learns from text: leave it out where a finished vocabulary is given")
    if not replace and not any(tokenizers):
        return partial(extended_text, corpora=text, minimum_count=minimum_count, max_new_tokens=max_new_tokens)
    if (minimum_count, max_new_tokens) != (None, None):
        raise usage_error(
            "--minimum-count and --max-new-tokens bound what is added to a vocabulary: leave them out where it is "
            "replaced (there, --set data.tokenizer.vocabulary_size=N)"
        )
    return partial(learned_text, corpora=text) if replace else partial(adopted_text, files=tokenizers)


def _lines(planned: VocabularyUpdate) -> Iterator[str]:
    for name, difference in planned.differences.items():
        yield f"{_NAMES[name]}: {difference.old_size:,} tokens before, {difference.new_size:,} now"
        width = len(f"{max(difference.kept, len(difference.added), len(difference.dropped)):,}")
        moved = f", {difference.moved:,} of them under another id" if difference.moved else ""
        yield f"  kept     {difference.kept:{width},}{moved}"
        added = [f"{token} ({' '.join(cut)})" for token, cut in difference.added.items()]
        yield f"  added    {len(added):{width},}{_examples(added)}"
        yield f"  dropped  {len(difference.dropped):{width},}{_examples(difference.dropped)}"
        if difference.text is not None:
            yield f"  {_in_words(difference.text)}"


def _examples(tokens: Sequence[str]) -> str:
    """A few tokens from all over the list, which is often sorted."""
    count = min(len(tokens), SHOWN_TOKENS)
    shown = [tokens[place * len(tokens) // count] for place in range(count)]
    return f": {', '.join(shown)}{' ...' if len(tokens) > count else ''}" if shown else ""


def _in_words(text: Mapping[str, int]) -> str:
    lines = "1 line" if text["lines"] == 1 else f"{text['lines']:,} lines"
    return (
        f"{lines} of this text: {text['tokens_before']:,} tokens before, {text['tokens_now']:,} now; "
        f"{text['unknown_before']:,} unknown before, {text['unknown_now']:,} now"
    )


def _outcome(planned: VocabularyUpdate, done: UpdatedModel | None) -> str:
    """One line on what was done, and what to do next."""
    if planned.changes_nothing:
        return f"{planned.directory}: the vocabulary covers this already, nothing is written"
    if done is None:
        return f"{planned.output}: not written, this was a dry run"
    told = f"{done.directory}: {done.checkpoint} of {planned.directory} with the new vocabulary"
    if not done.can_go_on:
        return f"{told}; it kept no optimizer to go on with, start from it with training.initialize_from"
    told += f"; go on with: nmt train {done.directory}/config.yaml"
    return told if done.ended_by is None else f"{told} (so far ended by {done.ended_by}: raise that limit with --set)"
