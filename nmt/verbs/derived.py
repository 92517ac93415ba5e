"""Verbs that make something of a trained model: `nmt average`, `export`, `build-shortlist` and `update-vocab`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from nmt.terminal import options

if TYPE_CHECKING:
    from nmt.adaptation.update_vocabulary import SideFiles, UpdatedModel, VocabularyUpdate
    from nmt.config import Config
    from nmt.text import TextPair


_WEIGHTS = {"ema": "moving averages", "raw": "raw weights"}


AVERAGE_EXAMPLE = """\b
Examples:
  nmt average runs/travel --last 3
  nmt average runs/travel --updates 800 1000 1200 -o runs/travel-mean
  nmt average runs/old@best runs/new@best --shares 0.5,0.5 -o runs/between
"""


def average(
    directory: options.ModelDirectory,
    more_updates: list[str] | None = typer.Argument(None, metavar="N", hidden=True),
    last: int | None = options.value("--last", "K", "Average the newest K checkpoints.", least=1),
    best: int | None = options.value("--best", "K", "Average the K best by validation.", least=1),
    updates: list[str] | None = options.value(
        "--updates", "N...", "Average those after N updates each: 100 200, or 100,200."
    ),
    output: Path | None = options.value("-o, --output", "OUT", "Model directory to write; RUN-average unless given."),
    weights: options.WeightsKind | None = typer.Option(
        None, "--weights", help="What to average; the moving averages if each keeps one unless given."
    ),
    shares: str | None = options.value(
        "--shares", "A,B...", "Shares of models of several runs, RUN@best among others, in place of those of one."
    ),
    overwrite: bool = options.flag("--overwrite", "Replace any model that OUT holds."),
    imports: options.Imports = None,
    debug: options.Debug = False,
) -> None:
    """Average checkpoints of a run, variable by variable, tied ones once, into a model directory of its own.

    Give one of --last, --best and --updates; or several models with their --shares, 0.25,0.75 say, as of a model before
    and after it was adapted: they must have the same tokenizers and ties, and the settings are those of the last. The
    result is used like any model, but it keeps no optimizer: a training can start from it, not go on with it. An
    earlier average of the same run is replaced.
    """
    from nmt.adaptation import derived as recipe

    if shares is not None:
        if [last, best, updates or None].count(None) != 3:
            raise options.usage_error("--shares is for models of several runs, --last, --best and --updates for one")
        _interpolate([str(directory), *(more_updates or ())], shares, output, weights, overwrite=overwrite)
        return
    if [last, best, updates or None].count(None) != 2:
        raise options.usage_error("give exactly one of --last, --best and --updates")
    if more_updates and not updates:
        raise options.usage_error(f"got the unexpected argument {more_updates[0]}: numbers of updates need --updates")
    # Numbers may be written as `100`, `100,200` and `update-00000100`.
    parts = [part.strip() for text in (*(updates or ()), *(more_updates or ())) for part in text.split(",")]
    numbers = [part.removeprefix("update-") for part in parts if part]
    if wrong := [number for number in numbers if not (number.isascii() and number.isdecimal())]:
        raise options.usage_error(f"--updates takes numbers, got {wrong[0]}: give RUN first, then --updates 100 200")
    which: dict[str, Any] = {"last": last, "best": best, "updates": [*map(int, numbers)]}
    done = recipe.average(directory, **which, output=output, weights=weights, overwrite=overwrite)
    averaged = ", ".join(done.averaged)
    typer.echo(f"{done.directory}: {done.checkpoint}, the mean of the {_WEIGHTS[done.weights]} of {averaged}")


def _interpolate(
    models: list[str], shares: str, output: Path | None, weights: options.WeightsKind | None, *, overwrite: bool
) -> None:
    from nmt.adaptation.derived import interpolate

    try:
        numbers = [float(share) for share in shares.split(",")]
    except ValueError as error:
        raise options.usage_error(f"--shares takes numbers, such as 0.5,0.5, got {shares}") from error
    if output is None:
        raise options.usage_error("--shares needs -o: where the mean of models of several runs goes")
    done = interpolate(models, numbers, output=output, weights=weights, overwrite=overwrite)
    typer.echo(f"{done.directory}: {done.checkpoint}, the sum of {' and '.join(done.averaged)}")


SHORTLIST_EXAMPLE = """\b
Examples:
  nmt build-shortlist runs/travel
  nmt translate runs/travel --shortlist < hotel.es > hotel.en
"""


def build_shortlist(
    directory: options.ModelDirectory,
    best: int = options.value("--best", "N", "Target tokens of each source token.", least=1, default=100),
    frequent: int = options.value("--frequent", "M", "The most frequent ones, of every line.", least=0, default=100),
    as_json: options.AsJson = False,
    threads: options.Threads = None,
    imports: options.Imports = None,
    debug: options.Debug = False,
) -> None:
    """Learn which target tokens a source makes likely, so that the search needs to look at no others.

    The training corpus is aligned token by token (IBM Model 1), and the table is written into the model directory. It
    counts with --shortlist or search.shortlist: true, and goes into exports. Write it anew at any time.
    """
    from nmt.backend.machine import available_processors
    from nmt.tasks.build_shortlist import build_shortlist

    built = build_shortlist(directory, best=best, frequent=frequent, threads=threads or available_processors())
    shortlist, size = built.shortlist, built.shortlist.num_tokens
    if as_json:
        facts = built._asdict() | {"path": str(built.path), "best": best, "frequent": frequent, "num_tokens": size}
        typer.echo(json.dumps({name: value for name, value in facts.items() if name != "shortlist"}))
        return
    typer.echo(
        f"{built.path}: the {best} best target tokens of {len(shortlist.best):,} source tokens, and the "
        f"{len(shortlist.frequent)} most frequent, from {built.num_pairs:,} pairs"
    )
    if built.covered is not None:
        typer.echo(
            f"validation: a line has {built.of_line:,.0f} of {size:,} tokens, a batch of {built.batch_size} "
            f"{built.of_batch:,.0f} ({built.of_batch / size:.0%}); {built.covered:.2%} of the reference is among them"
        )


EXPORT_EXAMPLE = """\b
Examples:
  nmt export runs/travel exports/travel --format ctranslate2 --quantization int8
  nmt translate exports/travel --engine ctranslate2 < hotel.es > hotel.en
"""


ExportFormat = StrEnum("ExportFormat", ["CTRANSLATE2"])
Quantization = StrEnum("Quantization", ["FLOAT32", "FLOAT16", "BFLOAT16", "INT16", "INT8"])


def export(
    directory: options.ModelDirectory,
    output: Path = typer.Argument(metavar="OUT", help="Directory to write.", show_default=False),
    export_format: ExportFormat = typer.Option(ExportFormat.CTRANSLATE2, "--format", help="The engine."),
    quantization: Quantization = typer.Option(
        Quantization.FLOAT32, "--quantization", help="How weights are stored: smaller ones are less exact."
    ),
    checkpoint: options.Checkpoint = None,
    weights: options.Weights = None,
    overwrite: bool = options.flag("--overwrite", "Replace an export that OUT holds."),
    threads: options.Threads = None,
    imports: options.Imports = None,
    debug: options.Debug = False,
) -> None:
    """Write a trained Transformer for CTranslate2, with its vocabulary and tokenizer, and check it against the model.

    Model and export are compared on sentences of the validation set. Each quantization has a bound on how far they may
    differ, which docs/export.md gives; beyond it nothing is written.
    """
    from nmt.adaptation.derived import export_for_ctranslate2

    done = export_for_ctranslate2(
        directory,
        output,
        quantization=quantization,
        checkpoint=checkpoint,
        weights=weights,
        overwrite=overwrite,
        threads=threads,
    )
    found, facts, names = done.agreement, done.facts, {"ema": "moving average", "raw": "raw weights"}
    computed = "" if done.computed_in.startswith(facts.quantization) else f", computed in {done.computed_in} here"
    typer.echo(f"{output}: {facts.checkpoint}, {names[facts.weights]}, stored in {facts.quantization}{computed}")
    for name, size in done.file_sizes.items():
        typer.echo(f"  {name:<24} {size:>12,} bytes")
    typer.echo(
        f"scores of {found.num_pairs:,} given translations: differ by {found.mean_difference:.1e} a token, "
        f"by {found.greatest_pair_difference:.1e} in the worst of them, by {found.greatest_token_difference:.1e} at "
        "the worst token"
    )
    typer.echo(
        f"greedy translations of {found.num_pairs:,} lines: {found.identical_lines:,} identical, "
        f"{found.tied_lines:,} part at a tie (within {2 * done.tolerance:g})"
    )


UPDATE_EXAMPLE = """\b
Examples:
  nmt update-vocab runs/travel --with medical.es medical.en --max-new-tokens 500
  nmt update-vocab runs/travel --with new.es new.en --set data.train.source=new.es --set data.train.target=new.en
  nmt train runs/travel-vocabulary/config.yaml --set training.max_updates=4000
"""

SHOWN_TOKENS = 6
"""Added and dropped tokens that are shown as examples."""

_NAMES = {"joint": "vocabulary of both languages", "source": "source vocabulary", "target": "target vocabulary"}


def update_vocab(
    directory: options.ModelDirectory,
    more_corpora: list[Path] | None = typer.Argument(None, metavar="[FILE...]", help="More files for --with."),
    corpora: list[Path] | None = options.value("--with", "FILE...", "Text of both languages, for a joint vocabulary."),
    source_corpora: list[Path] | None = options.value("--with-source", "FILE", "Source text; may be repeated."),
    target_corpora: list[Path] | None = options.value("--with-target", "FILE", "Target text; may be repeated."),
    replace: bool = options.flag("--replace", "Learn the vocabulary anew from these files, instead of extending it."),
    tokenizer: Path | None = options.value(
        "--tokenizer", "FILE", "Take a finished joint one: a .model file, or a token a line."
    ),
    source_tokenizer: Path | None = options.value("--source-tokenizer", "FILE", "The same for the source alone."),
    target_tokenizer: Path | None = options.value("--target-tokenizer", "FILE", "The same for the target alone."),
    minimum_count: int | None = options.value(
        "--minimum-count", "N", "Add what occurs so often; as configured, else 1.", least=1
    ),
    max_new_tokens: int | None = options.value("--max-new-tokens", "N", "Tokens to add at most.", least=1),
    output: Path | None = options.value(
        "-o, --output", "OUT", "Model directory to write; RUN-vocabulary unless given."
    ),
    checkpoint: str = options.value("--checkpoint", "WHICH", "best, latest or update-N.", default="latest"),
    overrides: options.Overrides = None,
    dry_run: bool = options.flag("--dry-run", "Only say what would change."),
    as_json: options.AsJson = False,
    overwrite: bool = options.flag("--overwrite", "Replace an earlier update in OUT."),
    imports: options.Imports = None,
    debug: options.Debug = False,
) -> None:
    """Give a trained model the tokens of new text, in a new model directory with which training goes on.

    Tokens that remain keep all that was learned about them, the state of the optimizer too; a new one begins as the
    mean of the pieces it was cut into before. With --set, the new directory gets another training corpus or limit.
    """
    from nmt.adaptation.update_vocabulary import SideFiles, plan_update, report, update_vocabulary
    from nmt.data.lines import refuse_pipes
    from nmt.directory.model_directory import sibling_directory
    from nmt.inference.output_directory import refuse_to_replace_inputs

    if more_corpora and directory.is_file() and more_corpora[-1].is_dir():
        raise options.usage_error(f"RUN comes first: nmt update-vocab {more_corpora[-1]} --with ...")
    if more_corpora and not corpora:
        raise options.usage_error(f"got the unexpected argument {more_corpora[0]}: files need --with, after RUN")
    both = [*(corpora or ()), *(more_corpora or ())]
    text = SideFiles(*map(tuple, (both, source_corpora or (), target_corpora or ())))
    tokenizers = SideFiles(*((path,) if path else () for path in (tokenizer, source_tokenizer, target_tokenizer)))
    refuse_pipes("the text to learn from", chain(*text))
    output = output or sibling_directory(directory, "vocabulary")
    refuse_to_replace_inputs([*chain(*text, *tokenizers)], output)
    choose = _choice(text, tokenizers, replace=replace, minimum_count=minimum_count, max_new_tokens=max_new_tokens)
    planned = plan_update(
        directory, choose, corpora=text, output=output, overrides=overrides or (), overwrite=overwrite or dry_run
    )
    writes = not dry_run and not planned.changes_nothing
    done = update_vocabulary(planned, checkpoint=checkpoint) if writes else None
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
    from nmt.adaptation.update_vocabulary import adopted_text, extended_text, learned_text

    if any(text) == any(tokenizers):
        raise options.usage_error(
            "give either text, such as --with FILE, or finished vocabularies, such as --tokenizer FILE"
        )
    if replace and any(tokenizers):
        raise options.usage_error("--replace learns from text: leave it out if a finished vocabulary is given")
    if not replace and not any(tokenizers):
        return partial(extended_text, corpora=text, minimum_count=minimum_count, max_new_tokens=max_new_tokens)
    if (minimum_count, max_new_tokens) != (None, None):
        raise options.usage_error(
            "--minimum-count and --max-new-tokens bound what is added to a vocabulary: leave them out if it is "
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
        if (text := difference.text) is not None:
            lines = "1 line" if text["lines"] == 1 else f"{text['lines']:,} lines"
            yield (
                f"  {lines} of this text: {text['tokens_before']:,} tokens before, {text['tokens_now']:,} now; "
                f"{text['unknown_before']:,} unknown before, {text['unknown_now']:,} now"
            )


def _examples(tokens: Sequence[str]) -> str:
    """A few tokens from all over the list, which is often sorted."""
    count = min(len(tokens), SHOWN_TOKENS)
    shown = [tokens[place * len(tokens) // count] for place in range(count)]
    return f": {', '.join(shown)}{' ...' if len(tokens) > count else ''}" if shown else ""


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
