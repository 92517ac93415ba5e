"""Verbs that translate: `nmt translate`, a filter from source to target language, and `nmt evaluate`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from nmt.terminal import options
from nmt.terminal.formats import WRITERS, as_row
from nmt.terminal.place import Place
from nmt.terminal.streams import check_stdout, line_counter, text_output
from nmt.terminal.translation_options import (
    ControlOptions,
    FinishOptions,
    Format,
    Input,
    InputOptions,
    JobOptions,
    SamplingOptions,
)

if TYPE_CHECKING:
    from nmt.scoring.evaluation import Evaluation
    from nmt.tasks.evaluate import ModelEvaluation


TRANSLATE_EXAMPLE = """\b
Examples:
  nmt translate runs/travel < hotel.es > hotel.en
  echo "¿Dónde está la estación?" | nmt translate runs/travel --n-best 3 --format tsv
  nmt translate runs/travel --require "single room" --avoid lodging < hotel.es > hotel.en
"""

INPUT = "Text to translate; gzip, xz, bzip2 and zstd are decompressed."
OUTPUT = "Where to write; .gz, .xz, .bz2 and .zst are compressed."
FORMAT = (
    "text: N lines for each line; jsonl: an object for each line, with scores; tsv: line, rank, score and text of each "
    "translation, or of rows of tsv the row and its translations."
)
MBR = "Give that of the N translations which agrees most with the others by chrf, chrf++, bleu or MODULE:FUNCTION."


def translate(
    directories: options.ModelDirectories,
    input_path: Path = options.value("-i, --input", "FILE", INPUT, default=options.DASH),
    output_path: Path = options.value("-o, --output", "FILE", OUTPUT, default=options.DASH),
    beam_size: options.BeamSize = None,
    length_penalty: options.LengthPenalty = None,
    batch_size: int | None = options.value("--batch-size", "N", "Sentences translated at once.", least=1),
    shortlist: options.Shortlist = None,
    n_best: int = options.value("--n-best", "N", "Translations a line; at most the beam size.", least=1, default=1),
    *,
    controls: ControlOptions,
    draws: SamplingOptions,
    utility: str | None = options.value("--mbr", "UTILITY", MBR),
    text: InputOptions,
    output_format: Format = typer.Option(Format.TEXT, "--format", help=FORMAT),
    job: JobOptions,
    engine: options.EngineChoice = None,
    finish: FinishOptions,
    model: options.ModelOptions,
) -> None:
    """Translate text line by line, from standard input to standard output unless files are given.

    One line of input gives one line of output (N with --n-best), in the same order; an empty line stays empty. From
    file to file, work is on the disk every --chunk-lines, and --resume goes on from there.
    """
    from nmt.tasks.translate import prepare_translation

    _check_counts(draws.samples, n_best, beam_size, utility)
    if controls.part_words and not (controls.require or controls.avoid or controls.glossary or text.reading.records):
        raise options.usage_error("--part-words says how --require and --avoid are looked for: give one of them too")
    finish.check(output_format)
    job.check(finish)
    output = None if output_path == options.DASH else output_path
    from_file = None if input_path == options.DASH else input_path
    place = Place(from_file, output, job)
    place.check()
    directory, *others = directories
    prepared = prepare_translation(
        directory,
        *others,
        engine=engine,
        num_hypotheses=draws.samples or n_best,
        asked=controls.control,
        reading=text.reading,
        split_long=job.split_long,
        part_tokens=job.part_tokens,
        token_scores=output_format is Format.JSONL,
        sampling=draws.sampling,
        utility=utility,
        threads=model.threads,
        input_path=from_file,
        output_path=output,
        glossary=controls.glossary,
        hints=controls.hints,
        **finish._asdict(),
        **model.arguments(
            beam_size=beam_size, length_penalty=length_penalty, batch_size=batch_size, shortlist=shortlist
        ),
    )
    wanted = 1 if utility else draws.samples or n_best
    of_rows = output_format is Format.TSV and text.input_format is Input.TSV
    writer = as_row if of_rows else WRITERS[output_format]
    place.write(prepared, lambda number, line: writer(number, line, wanted), output_format)


def _check_counts(samples: int | None, n_best: int, beam_size: int | None, utility: str | None) -> None:
    """Refuse numbers of which one would be ignored."""
    if samples is not None and (n_best > 1 or beam_size is not None):
        raise options.usage_error("--samples draws without a search: leave out --n-best and --beam-size")
    if utility is not None and max(samples or 1, n_best) < 2:
        raise options.usage_error("--mbr chooses among several translations a line: give --samples N or --n-best N")


EVALUATE_EXAMPLE = """\b
Examples:
  nmt evaluate runs/travel
  nmt evaluate runs/travel --source news.es --reference news.en --json
  nmt evaluate --hypotheses before.en --hypotheses after.en --reference hotel.en --reference hotel.other.en
"""

TOKENIZE = "How sacreBLEU cuts text for BLEU; as in validations of the run, for files what suits their script."
HYPOTHESES = "Finished translations to score, no model; several are compared with the first."
EVALUATED = "Several translate together, as for nmt translate; no export, and not with --hypotheses."
JOIN = (
    "Join words that were cut, on both sides, before they are scored: bpe (fr@@ om), sentencepiece (▁fr om), "
    "wordpiece (fr ##om) or joiner (fr￭ om); as in the model's config unless given."
)


def evaluate(
    directories: list[Path] | None = typer.Argument(None, metavar="RUN...", help=EVALUATED),
    source: Path | None = options.value("--source", "FILE", "Text to translate, in place of data.test."),
    references: list[Path] | None = options.value("--reference", "FILE", "Its translation, line by line; repeatable."),
    hypotheses: list[Path] | None = options.value("--hypotheses", "FILE", HYPOTHESES),
    output_path: Path | None = options.value("-o, --output", "FILE", "Also write the model's translations here."),
    as_json: options.AsJson = False,
    tokenization: str | None = options.value("--tokenize", "NAME", TOKENIZE),
    lowercase: bool = options.flag("--lowercase", "Ignore case; the signatures say so."),
    join: str | None = options.value("--join", "NAME", JOIN),
    tag: str | None = options.value("--tag", "TAG", "The tag of data.train that the model reads with --source."),
    beam_size: options.BeamSize = None,
    length_penalty: options.LengthPenalty = None,
    engine: options.EngineChoice = None,
    shortlist: options.Shortlist = None,
    *,
    model: options.ModelOptions,
) -> None:
    """Print BLEU and chrF2 with sacreBLEU's signatures.

    A model is scored on the test set of its config, or on --source and --reference. With --hypotheses and
    --reference no model is needed. To score an export, translate with it first, and give the result as --hypotheses.
    Several references count together: --reference FILE for each. Several --hypotheses are compared with the first
    by paired bootstrap: p is how probable so large a difference in BLEU is by chance.
    """
    how: dict[str, Any] = {"tokenization": tokenization, "lowercase": lowercase}
    if hypotheses:
        of_model = {
            "RUN": directories or None, "--source": source, "--output": output_path, "--beam-size": beam_size,
            "--length-penalty": length_penalty, "--shortlist": shortlist, "--tag": tag,
            "--checkpoint": model.checkpoint, "--weights": model.weights,
            "--member-weights": model.member_weights, "--log-linear": model.log_linear or None,
            "--set": model.overrides or None, "--threads": model.threads, "--engine": engine,
        }  # fmt: skip
        if given := ", ".join(name for name, value in of_model.items() if value is not None):
            raise options.usage_error(f"--hypotheses scores finished translations, without a model: leave out {given}")
        _score_files(hypotheses, references or [], as_json=as_json, join=join or "none", **how)
        return
    from nmt.tasks.evaluate import prepare_evaluation

    if not directories:
        raise options.usage_error("give a model directory, or --hypotheses and --reference")
    if (source is None) != (not references) or (tag and source is None):
        raise options.usage_error(
            "--source and --reference go together, and --tag is for them: a set of data.test has its own tag"
        )
    directory, *others = directories
    _say_together(others)
    of_set: dict[str, Any] = {"source": source, "references": references or (), "engine": engine, "tag": tag}
    prepared = prepare_evaluation(
        directory,
        *others,
        output_path=output_path,
        join=join,
        **of_set,
        **how,
        **model.arguments(beam_size=beam_size, length_penalty=length_penalty, shortlist=shortlist),
    )
    check_stdout()
    output = nullcontext() if output_path is None else text_output(output_path)
    with output as write, line_counter(total=len(prepared.test_set.source_lines)) as count:
        result = prepared.run(threads=model.threads, progress=count)
        if write is not None:
            write("".join(f"{line}\n" for line in result.hypotheses))
    _show_sets(result, as_json=as_json)


def _say_together(others: Sequence[Path]) -> None:
    """Say that several models are no comparison."""
    if others:
        typer.echo(
            f"{1 + len(others)} models translate together, as one (an ensemble): to compare them, translate with each, "
            "and give the translations as --hypotheses", err=True,
        )  # fmt: skip


def _show_sets(result: ModelEvaluation, *, as_json: bool) -> None:
    """Print the scores of all lines, and of each test set if they are several."""
    if result.sets and not as_json:
        typer.echo(f"all sets together, {result.evaluation.num_lines:,} lines:")
    _show(result.evaluation, _facts(result), as_json=as_json)
    for name, evaluation in {} if as_json else result.sets.items():
        typer.echo(f"{name}, {evaluation.num_lines:,} lines:")
        _show(evaluation, {}, as_json=False)


def _facts(result: ModelEvaluation) -> dict[str, Any]:
    """What is said of an evaluation besides its scores; a single model stands for itself."""
    facts = result._asdict() | {"members": [member._asdict() for member in result.members]}
    del facts["evaluation"], facts["hypotheses"]
    if sets := facts.pop("sets"):
        facts["sets"] = {name: _scores(each) | {"num_lines": each.num_lines} for name, each in sets.items()}
    if len(result.members) > 1:
        return facts
    (member,) = facts.pop("members")
    del member["share"], facts["log_linear"]
    return member | facts


def _score_files(hypotheses: Sequence[Path], references: Sequence[Path], *, as_json: bool, **how: Any) -> None:
    """Print the scores of finished translations, and of several a table that compares them."""
    if not references:
        raise options.usage_error("--hypotheses needs a --reference to compare with")
    from nmt.scoring.evaluation import compare_files

    compared = compare_files(hypotheses, *references, **how)
    of_all = {"reference": [*map(str, references)]}
    systems = [({"hypotheses": str(path)}, *each) for path, each in zip(hypotheses, compared, strict=True)]
    (first, scored, _), *others = systems
    if not others:
        _show(scored, first | of_all, as_json=as_json)
        return
    if as_json:
        rows = [facts | _scores(each) | {"p_value": p_value} for facts, each, p_value in systems]
        typer.echo(json.dumps({"systems": rows, "num_lines": scored.num_lines, **of_all}, ensure_ascii=False))
        return
    width = max(len(facts["hypotheses"]) for facts, *_ in systems)
    typer.echo(f"{'hypotheses':<{width}}    BLEU  change      p   chrF2")
    for facts, each, p_value in systems:
        change = "" if p_value is None else f"{each.bleu.score - scored.bleu.score:+.2f}"
        told = "" if p_value is None else f"{p_value:.3f}"
        typer.echo(
            f"{facts['hypotheses']:<{width}}  {each.bleu.score:6.2f}  {change:>6}  {told:>5}  {each.chrf2.score:6.2f}"
        )
    for score in (scored.bleu, scored.chrf2):
        typer.echo(f"{score.name:<5} {score.signature}")


def _scores(evaluation: Evaluation) -> dict[str, Any]:
    """The scores as JSON has them."""
    scores = {"bleu": evaluation.bleu, "chrf2": evaluation.chrf2}
    return {key: {"score": score.score, "signature": score.signature} for key, score in scores.items()}


def _show(evaluation: Evaluation, facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(_scores(evaluation) | {"num_lines": evaluation.num_lines, **facts}, ensure_ascii=False))
        return
    for score in (evaluation.bleu, evaluation.chrf2):
        typer.echo(f"{score.name:<5} {score.score:6.2f}  {score.signature}")
