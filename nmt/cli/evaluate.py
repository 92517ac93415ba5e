"""`nmt evaluate`: BLEU and chrF2 of a model, or of translations that exist already."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nmt.cli import options
from nmt.cli.streams import check_stdout, line_counter, text_output

if TYPE_CHECKING:
    from nmt.inference.evaluation import Evaluation

EXAMPLE = """\b
Examples:
  nmt evaluate runs/travel
  nmt evaluate runs/travel --source news.es --reference news.en --json
  nmt evaluate --hypotheses hotel.out.en --reference hotel.en --reference hotel.other.en
"""


OptionalModel = Annotated[
    Path | None,
    typer.Argument(metavar="RUN", help="Model directory, no export; not with --hypotheses.", show_default=False),
]
Source = Annotated[Path | None, options.value("--source", "FILE", "Text to translate, in place of data.test.")]
References = Annotated[
    list[Path] | None, options.value("--reference", "FILE", "Its translation, line for line; may be repeated.")
]
Hypotheses = Annotated[Path | None, options.value("--hypotheses", "FILE", "Finished translations to score, no model.")]
TOKENIZE = "How sacreBLEU cuts text for BLEU; as in validations of the run, for files what suits their script."
Tokenization = Annotated[str | None, options.value("--tokenize", "NAME", TOKENIZE)]
JOIN = (
    "Join words that were cut, on both sides, before they are scored: bpe (fr@@ om), sentencepiece (▁fr om), "
    "wordpiece (fr ##om) or joiner (fr￭ om); as in the model's config unless given."
)
Join = Annotated[str | None, options.value("--join", "NAME", JOIN)]
Output = Annotated[Path | None, options.value("-o, --output", "FILE", "Also write the model's translations here.")]


def run(
    directory: OptionalModel = None,
    source: Source = None,
    references: References = None,
    hypotheses: Hypotheses = None,
    output_path: Output = None,
    as_json: options.AsJson = False,
    tokenization: Tokenization = None,
    lowercase: Annotated[bool, typer.Option("--lowercase", help="Ignore case; the signatures say so.")] = False,
    join: Join = None,
    beam_size: options.BeamSize = None,
    length_penalty: options.LengthPenalty = None,
    checkpoint: options.Checkpoint = None,
    weights: options.Weights = None,
    overrides: options.Overrides = None,
    threads: options.Threads = None,
    imports: options.Imports = None,
    debug: options.Debug = False,
) -> None:
    """Print BLEU and chrF2 with sacreBLEU's signatures.

    A model is scored on the test set of its config, or on --source and --reference. With --hypotheses and
    --reference no model is needed. To score an export, translate with it first, and give the result as --hypotheses.
    Several references count together: --reference FILE for each.
    """
    how: dict[str, Any] = {"tokenization": tokenization, "lowercase": lowercase}
    if hypotheses is not None:
        of_model = {
            "RUN": directory, "--source": source, "--output": output_path, "--beam-size": beam_size,
            "--length-penalty": length_penalty, "--checkpoint": checkpoint, "--weights": weights,
            "--set": overrides or None, "--threads": threads,
        }  # fmt: skip
        if given := ", ".join(name for name, value in of_model.items() if value is not None):
            raise options.usage_error(f"--hypotheses scores finished translations, without a model: leave out {given}")
        _score_files(hypotheses, references or [], as_json=as_json, join=join or "none", **how)
        return
    from nmt.recipes.translate import prepare_evaluation

    if directory is None:
        raise options.usage_error("give a model directory, or --hypotheses and --reference")
    if (source is None) != (not references):
        raise options.usage_error("--source and --reference go together")
    prepared = prepare_evaluation(
        directory,
        source=source,
        references=references or (),
        checkpoint=checkpoint,
        weights=weights,
        overrides=options.with_search(overrides, beam_size=beam_size, length_penalty=length_penalty),
        join=join,
        output_path=output_path,
        **how,
    )
    check_stdout()
    output = nullcontext() if output_path is None else text_output(output_path)
    with output as write, line_counter(total=len(prepared.test_set.source_lines)) as count:
        result = prepared.run(threads=threads, progress=count)
        if write is not None:
            write("".join(f"{line}\n" for line in result.hypotheses))
    facts = {"model_directory": str(directory), **result._asdict()}
    del facts["evaluation"], facts["hypotheses"]
    _show(result.evaluation, facts, as_json=as_json)


def _score_files(hypotheses: Path, references: Sequence[Path], *, as_json: bool, **how: Any) -> None:
    """Print the scores of finished translations."""
    if not references:
        raise options.usage_error("--hypotheses needs a --reference to compare with")
    from nmt.inference.evaluation import evaluate_files

    scored = evaluate_files(hypotheses, *references, **how)
    _show(scored, {"hypotheses": str(hypotheses), "reference": [*map(str, references)]}, as_json=as_json)


def _show(evaluation: Evaluation, facts: dict[str, Any], *, as_json: bool) -> None:
    scores = {"bleu": evaluation.bleu, "chrf2": evaluation.chrf2}
    if as_json:
        content = {key: {"score": score.score, "signature": score.signature} for key, score in scores.items()}
        typer.echo(json.dumps({**content, "num_lines": evaluation.num_lines, **facts}, ensure_ascii=False))
        return
    for score in scores.values():
        typer.echo(f"{score.name:<5} {score.score:6.2f}  {score.signature}")
