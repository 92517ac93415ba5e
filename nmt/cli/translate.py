"""Verbs that translate: `nmt translate`, a filter from source to target language, and `nmt evaluate`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import typer

from nmt.cli import options
from nmt.cli.streams import check_stdout, file_chunks, is_terminal, line_counter, stdin_chunks, text_output

if TYPE_CHECKING:
    from nmt.inference.evaluation import Evaluation
    from nmt.inference.translation import Translation


Format = StrEnum("Format", ["TEXT", "JSONL", "TSV"])
Engine = StrEnum("Engine", ["KERAS", "CTRANSLATE2"])


class Translated(NamedTuple):
    """A line and what became of it.

    number: of the line, from 1.
    source: the line.
    translations: best first, at most `wanted`.
    wanted: how many were asked for.
    """

    number: int
    source: str
    translations: Sequence[Translation]
    wanted: int


Writer: TypeAlias = Callable[[Translated], str]
"""Gives the lines of output, each with its end, for one line of input."""


def as_text(line: Translated) -> str:
    r"""As many lines as were asked for, empty if the model had no more, so that line numbers can be computed."""
    texts = [translation.text for translation in line.translations]
    texts += [""] * (line.wanted - len(texts))
    return "".join(f"{text}\n" for text in texts)


def as_jsonl(line: Translated) -> str:
    """One object a source line; nothing in it that any reader takes for the end of a line."""
    content = {
        "line": line.number,
        "source": line.source,
        "translations": [translation._asdict() for translation in line.translations],
    }
    text = json.dumps(content, ensure_ascii=False)
    for character in ("\x85", "\u2028", "\u2029"):
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f"{text}\n"


def as_tsv(line: Translated) -> str:
    """One line a translation: number of the source line, rank (both from 1), score, translation."""
    return "".join(
        f"{line.number}\t{rank}\t{translation.score:.6f}\t{' '.join(translation.text.split(chr(9)))}\n"
        for rank, translation in enumerate(line.translations, start=1)
    )


WRITERS: dict[Format, Writer] = {Format.TEXT: as_text, Format.JSONL: as_jsonl, Format.TSV: as_tsv}


TRANSLATE_EXAMPLE = """\b
Examples:
  nmt translate runs/travel < hotel.es > hotel.en
  echo "¿Dónde está la estación?" | nmt translate runs/travel --n-best 3 --format tsv
  nmt translate exports/travel --engine ctranslate2 < hotel.es > hotel.en
"""


def translate(
    directory: options.ModelDirectory,
    input_path: Path = options.value(
        "-i, --input", "FILE", "Text to translate; gzip, xz and bzip2 are decompressed.", default=options.DASH
    ),
    output_path: Path = options.value(
        "-o, --output", "FILE", "Where to write; .gz, .xz and .bz2 are compressed.", default=options.DASH
    ),
    beam_size: options.BeamSize = None,
    length_penalty: options.LengthPenalty = None,
    batch_size: int | None = options.value("--batch-size", "N", "Sentences translated at once.", least=1),
    n_best: int = options.value("--n-best", "N", "Translations a line; at most the beam size.", least=1, default=1),
    output_format: Format = typer.Option(
        Format.TEXT,
        "--format",
        help="text: N lines for each line; jsonl: an object for each line, with scores; "
        "tsv: line, rank, score and text of each translation.",
    ),
    engine: Engine = typer.Option(
        Engine.KERAS, "--engine", help="What computes. For ctranslate2, RUN is what nmt export wrote."
    ),
    checkpoint: options.Checkpoint = None,
    weights: options.Weights = None,
    overrides: options.Overrides = None,
    threads: options.Threads = None,
    imports: options.Imports = None,
    debug: options.Debug = False,
) -> None:
    """Translate text line by line, from standard input to standard output unless files are given.

    One line of input gives one line of output (N with --n-best), in the same order; an empty line stays empty.
    """
    from nmt.recipes.translate import prepare_translation

    settings = options.with_search(overrides, beam_size=beam_size, length_penalty=length_penalty, batch_size=batch_size)
    output = None if output_path == options.DASH else output_path
    if engine is Engine.CTRANSLATE2 and (checkpoint is not None or weights is not None):
        raise options.usage_error("an export holds one checkpoint: give --checkpoint and --weights to nmt export")
    translate_lines = prepare_translation(
        directory,
        ctranslate2=engine is Engine.CTRANSLATE2,
        num_hypotheses=n_best,
        checkpoint=checkpoint,
        weights=weights,
        overrides=settings,
        threads=threads,
        input_path=None if input_path == options.DASH else input_path,
        output_path=output,
    )
    chunks = stdin_chunks() if input_path == options.DASH else _begun(file_chunks(input_path))
    by_hand = input_path == options.DASH and is_terminal(sys.stdin)
    to_terminal = output_path == options.DASH and is_terminal(sys.stdout)  # where a live line would be torn by the text
    with text_output(output) as write, line_counter(hidden=by_hand or to_terminal) as count:
        lines = translate_lines(chunks, count)
        if by_hand:
            typer.echo("type a line to have it translated; Ctrl-D ends", err=True)
        for number, line in enumerate(lines, start=1):
            write(WRITERS[output_format](Translated(number, line.source, line.translations, n_best)))


def _begun(chunks: Iterator[list[str]]) -> Iterator[list[str]]:
    """The same chunks, the first one read already: a file that cannot be read is refused before a model is opened."""
    first = next(chunks, [])
    return chain([first], chunks)


EVALUATE_EXAMPLE = """\b
Examples:
  nmt evaluate runs/travel
  nmt evaluate runs/travel --source news.es --reference news.en --json
  nmt evaluate --hypotheses hotel.out.en --reference hotel.en --reference hotel.other.en
"""

TOKENIZE = "How sacreBLEU cuts text for BLEU; as in validations of the run, for files what suits their script."
JOIN = (
    "Join words that were cut, on both sides, before they are scored: bpe (fr@@ om), sentencepiece (▁fr om), "
    "wordpiece (fr ##om) or joiner (fr￭ om); as in the model's config unless given."
)


def evaluate(
    directory: Path | None = typer.Argument(
        None, metavar="RUN", help="Model directory, no export; not with --hypotheses."
    ),
    source: Path | None = options.value("--source", "FILE", "Text to translate, in place of data.test."),
    references: list[Path] | None = options.value(
        "--reference", "FILE", "Its translation, line for line; may be repeated."
    ),
    hypotheses: Path | None = options.value("--hypotheses", "FILE", "Finished translations to score, no model."),
    output_path: Path | None = options.value("-o, --output", "FILE", "Also write the model's translations here."),
    as_json: options.AsJson = False,
    tokenization: str | None = options.value("--tokenize", "NAME", TOKENIZE),
    lowercase: bool = options.flag("--lowercase", "Ignore case; the signatures say so."),
    join: str | None = options.value("--join", "NAME", JOIN),
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
