"""Verbs that show what a model looks at: `nmt align` and `nmt attention`."""

from __future__ import annotations

from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from nmt.corpus_verbs.align_corpus import Symmetrization
from nmt.terminal import options
from nmt.terminal.streams import check_stdout, json_line, line_counter, text_output
from nmt.verbs.score import read_items

if TYPE_CHECKING:
    from nmt.inference.alignment import Alignment
    from nmt.scoring.items import Item

LinkFormat = StrEnum("LinkFormat", ["PHARAOH", "JSONL"])

ALIGN_EXAMPLE = """\b
Examples:
  nmt align runs/travel --source hotel.es --target hotel.en > links.txt
  nmt align runs/travel --source hotel.es --target hotel.en --format jsonl --soft
  nmt align runs/travel --pairs pairs.jsonl --format jsonl --symmetrization intersection
"""

LAYER = "Of the decoder, from 1; 0: the mean of all. That above the middle unless given."
SHIFT = "Align a token by the step that reads it (SHIFT-ATT), not by the one that predicts it."


class ReadOutOptions(NamedTuple):
    """Which attention is taken; a group of options, see `options.spread`."""

    layer: Annotated[int | None, options.value("--layer", "N", LAYER, least=0, default=...)] = None
    head: Annotated[
        int | None, options.value("--head", "N", "Of the layer, from 1; the mean unless given.", least=1, default=...)
    ] = None
    shift: Annotated[bool, typer.Option("--shift", help=SHIFT)] = False


def align(
    directories: options.ModelDirectories,
    source: Path | None = options.value("--source", "FILE", "Source lines."),
    target: Path | None = options.value("--target", "FILE", "Their translations, line for line."),
    pairs: Path | None = options.value("--pairs", "FILE", "JSON lines of source, and target or target_ids, instead."),
    output_path: Path = options.value("-o, --output", "FILE", "Where links go.", default=options.DASH),
    output_format: LinkFormat = typer.Option(
        LinkFormat.PHARAOH,
        "--format",
        help="pharaoh: 0-0 1-2 for each pair, source word before target word; jsonl: an object for each pair, with the "
        "offsets of its words.",
    ),
    soft: bool = options.flag("--soft", "Give the attention of tokens and of words too; in jsonl."),
    tokens: Path | None = options.value(
        "--tokens", "PREFIX", "Write the words that links count to PREFIX.source and PREFIX.target."
    ),
    symmetrization: Symmetrization = typer.Option(
        Symmetrization.GROW_DIAG_FINAL_AND, "--symmetrization", help="How links of both directions become one."
    ),
    tag: options.Tag = None,
    batch_size: int | None = options.value("--batch-size", "N", "Pairs at once.", least=1),
    *,
    read_out: ReadOutOptions,
    model: options.ModelOptions,
) -> None:
    """Link the words of given translations to those of their sources, by the attention of a model.

    Words are cut as nmt align-corpus --tokenize does; between spaces if the tokenizer of the model does so.
    """
    from nmt.tasks import align as recipe
    from nmt.tasks import score as scoring

    if (source is None) != (target is None) or [source, pairs].count(None) != 1:
        raise options.usage_error("give --source and --target, or --pairs")
    if soft and output_format is LinkFormat.PHARAOH:
        raise options.usage_error("--soft needs --format jsonl: links alone have no room for it")
    files = {"--source": source, "--target": target, "--pairs": pairs}
    output = None if output_path == options.DASH else output_path
    prepared = scoring.prepare_model(
        directories,
        threads=model.threads,
        inputs=[(flag, None if path == options.DASH else path) for flag, path in files.items() if path],
        output_paths=[output, *(_words_path(tokens, side) for side in _SIDES if tokens)],
        tagged=bool(tag or pairs),
        **model.arguments(batch_size=batch_size),
    )
    chunks = read_items(source, target, pairs or options.DASH, n_best=False, tag=tag)
    with ExitStack() as opened:
        write = opened.enter_context(text_output(output))
        sides = [opened.enter_context(text_output(_words_path(tokens, side))) for side in _SIDES if tokens]
        count = opened.enter_context(line_counter(hidden=output is None))
        found = recipe.align_items(
            chunks,
            prepared.open(),
            read_out=read_out._asdict(),
            soft=soft,
            symmetrization=symmetrization.value,
            progress=count,
        )
        for number, (item, alignment) in enumerate(found, 1):
            write(_jsonl(number, item, alignment) if output_format is LinkFormat.JSONL else _pharaoh(alignment))
            for write_side, line, words in zip(sides, alignment[:2], alignment[2:4], strict=False):
                write_side(" ".join(recipe.words_of(line, words)) + "\n")


_SIDES = ("source", "target")


def _words_path(prefix: Path, side: str) -> Path:
    return Path(f"{prefix}.{side}")


def _pharaoh(alignment: Alignment) -> str:
    from nmt.alignment.links import pharaoh

    return f"{pharaoh(set(alignment.links))}\n"


def _jsonl(number: int, item: Item, alignment: Alignment) -> str:
    from nmt.tasks.align import FIELDS, as_record

    lines = {"source": alignment.source, "target": alignment.target}
    kept = {name: value for name, value in item.record.items() if name not in FIELDS}
    return json_line({"line": number, **kept, **lines, **as_record(alignment)})


ATTENTION_EXAMPLE = """\b
Examples:
  nmt attention runs/travel "La cuenta, por favor."
  nmt attention runs/travel "La cuenta, por favor." --target "The bill, please." --layer 1 --head 2 -o head.png
"""


def attention(
    directory: options.ModelDirectory,
    sentence: str = typer.Argument(metavar="SENTENCE", help="What to translate.", show_default=False),
    target: str | None = options.value("--target", "TEXT", "Its translation; that of the model unless given."),
    output_path: Path = options.value("-o, --output", "FILE", "The picture.", default=Path("attention.png")),
    tag: options.Tag = None,
    *,
    read_out: ReadOutOptions,
    model: options.ModelOptions,
) -> None:
    """Draw how a model looks at a sentence while it writes the translation, into a PNG file.

    Prints the translation. The picture has a row for each of its tokens and a column for each of the source.
    """
    from nmt.tasks import align as recipe
    from nmt.tasks import score as scoring

    if output_path.suffix.lower() != ".png":
        raise options.usage_error(
            f"pictures are PNG files: give --output a name that ends with .png, got {output_path}"
        )
    recipe.load_matplotlib()
    check_stdout()
    arguments: dict[str, Any] = model.arguments()
    arguments |= {"output_paths": [output_path], "tagged": tag is not None}
    prepared = scoring.prepare_model([directory], threads=model.threads, **arguments)
    alignment = recipe.attention_to(prepared.open(), sentence, target, tag=tag, read_out=read_out._asdict())
    asked = {
        f"layer {read_out.layer}" if read_out.layer else "mean of layers": read_out.layer is not None,
        f"head {read_out.head}": read_out.head is not None,
        "shifted": read_out.shift,
    }
    title = ", ".join([str(directory), *(words for words, is_asked in asked.items() if is_asked)])
    recipe.draw_attention(alignment, output_path, title=title)
    typer.echo(alignment.target)
    typer.echo(f"drawn into {output_path}", err=True)
