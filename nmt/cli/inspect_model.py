"""`nmt inspect`: what a model directory holds, how two models differ, whether all is as it was written."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from nmt.cli.options import Checkpoint, Debug, usage_error
from nmt.cli.streams import is_terminal

if TYPE_CHECKING:
    from nmt.checkpoint.inspection import Description, FoundCheckpoint, VariableUse
    from nmt.recipes.inspect_model import Inspection, ModelDifference, Verification

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
    from nmt.recipes import inspect_model as recipe
    from nmt.recipes.output_directory import parse_run_reference

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


class Table(NamedTuple):
    """Rows of text under a title.

    title: what they are; may be empty.
    columns: their heads, all empty where none are needed; one that begins with `>` is aligned to the right.
    rows: as many cells each as there are columns.
    """

    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]


def show_tables(tables: Sequence[Table]) -> None:
    """Print tables on standard output, those without rows left out."""
    text = "\n".join(as_text(table, width=None if is_terminal(sys.stdout) else WIDE) for table in tables if table.rows)
    typer.echo(text, nl=False)


WIDE = 10**6
"""Columns, so that no cell is broken where a program may read it."""


def as_text(table: Table, *, width: int | None = WIDE) -> str:
    """Return a table as aligned lines; for a terminal, in its width and styles, where none is given."""
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(
        box=None, header_style="dim", show_header=any(table.columns), pad_edge=False, padding=(0, 2, 0, 0)
    )
    for head in table.columns:
        drawn.add_column(head.removeprefix(">"), justify="right" if head.startswith(">") else "left", overflow="fold")
    for row in table.rows:
        drawn.add_row(*(Text(cell) for cell in row))
    console = Console(highlight=False, width=width, force_terminal=width is None)
    with console.capture() as captured:
        if table.title:
            console.print(Text(table.title, style="bold"))
        console.print(drawn)
    return "".join(f"{line.rstrip()}\n" for line in captured.get().split("\n")[:-1])


def describe_bytes(size: int) -> str:
    """Return a number of bytes in a unit that suits it."""
    amount, units = float(size), ["bytes", "KiB", "MiB", "GiB"]
    while amount >= 1024 and len(units) > 1:
        amount, units = amount / 1024, units[1:]
    return f"{amount:,.0f} bytes" if units[0] == "bytes" else f"{amount:,.1f} {units[0]}"


PART_NAMES = {"embeddings": "embeddings and output"}
_HASH = re.compile("[0-9a-f]{64}")
_SHORT_HASH = 12  # characters
_LAYER = re.compile(r"/(\d+)(?=/)")


def inspection_tables(inspection: Inspection) -> list[Table]:
    """Return all about one checkpoint."""
    described = inspection.description
    return [
        Table("", ("", ""), [*_identity(inspection), *_facts(described)]),
        Table("checkpoints", ("name", ">update", ">score", ">size", ""), _checkpoint_rows(described)),
        Table("parameters", ("part", ">variables", ">parameters"), _part_rows(described)),
        Table("ties", ("one variable in several roles", ">parameters saved", ">saved on disk"), _tie_rows(described)),
        Table("variables", ("role path", "shape", ">count", ">parameters"), variable_rows(described.variables)),
        Table("files", ("name", ">bytes", "sha256"), _file_rows(described)),
    ]


def difference_tables(found: ModelDifference) -> list[Table]:
    """Return what differs between two checkpoints."""
    difference = found.difference
    tokenizers = {True: "the same", False: "others", None: "not recorded"}[difference.same_tokenizers]
    head = [
        ("from", f"{found.before.directory} {found.before.name}"),
        ("to", f"{found.after.directory} {found.after.name}"),
        ("tokenizers", tokenizers),
        ("equal variables", f"{difference.num_equal:,}"),
        ("changed", f"{len(difference.changed):,}"),
        ("added, removed", f"{len(difference.added):,}, {len(difference.removed):,}"),
        ("of another shape", f"{len(difference.shapes_changed):,}"),
    ]
    ties = [("+", name) for name in difference.ties_added] + [("-", name) for name in difference.ties_removed]
    return [
        Table("", ("", ""), head),
        Table("ties", ("", "roles of one variable"), ties),
        Table("added", ("role path", "shape"), [(one.name, _shape(one.shape)) for one in difference.added]),
        Table("removed", ("role path", "shape"), [(one.name, _shape(one.shape)) for one in difference.removed]),
        Table(
            "other shapes",
            ("role path", "before", "after"),
            [(one.name, _shape(one.before), _shape(one.after)) for one in difference.shapes_changed],
        ),
        Table(
            "changed values (norm of the change / norm before)",
            ("role path", ">change"),
            [(one.name, _relative(one.relative_norm)) for one in difference.changed],
        ),
    ]


def variable_rows(variables: Iterable[VariableUse]) -> list[tuple[str, ...]]:
    """Return a row for each variable; those of the layers of a stack share one: `encoder_blocks/0-5/...`."""
    groups: dict[tuple[object, ...], list[VariableUse]] = {}
    for variable in variables:
        layer = _LAYER.search(variable.name)
        pattern = _LAYER.sub("/*", variable.name, count=1) if len(variable.roles) == 1 and layer else None
        groups.setdefault((pattern or variable.name, variable.shape), []).append(variable)
    return [
        (
            _name_of([variable.name for variable in group]),
            _shape(group[0].shape),
            str(len(group)),
            f"{sum(variable.parameters for variable in group):,}",
        )
        for group in groups.values()
    ]


def _name_of(names: Sequence[str]) -> str:
    if len(names) == 1:
        return names[0]
    layers = [int(match[1]) for name in names if (match := _LAYER.search(name))]
    whole = layers == list(range(layers[0], layers[-1] + 1))
    numbers = f"{layers[0]}-{layers[-1]}" if whole else ",".join(map(str, layers))
    return _LAYER.sub(f"/{numbers}", names[0], count=1)


def _identity(inspection: Inspection) -> list[tuple[str, str]]:
    described, manifest, config = inspection.description, inspection.description.manifest, inspection.config
    rows = [("model directory", str(described.directory))]
    if config is not None:
        languages = f"{config.data.source_language} to {config.data.target_language}"
        rows.append(("model", f"{config.model.type}, {languages}, tie_embeddings {config.model.tie_embeddings}"))
    marks = [mark for mark, name in _marks(described) if name == described.checkpoint]
    score = "" if manifest.score is None else f", score {manifest.score:.4f}"
    rows.append(("checkpoint", ", ".join([f"{described.checkpoint}{score}", *marks])))
    kept = ["weights"]
    if described.keeps_ema and manifest.preferred_weights == "raw":
        kept[0] = "weights (used unless the moving average is asked for, since they were validated to be better)"
        kept.append("moving average")
    elif described.keeps_ema:
        kept.append("moving average (used unless raw weights are asked for)")
    kept.append(
        f"optimizer {manifest.optimizer}"
        if manifest.optimizer
        else "no optimizer (a training can start from it, not go on)"
    )
    rows.append(("keeps", ", ".join(kept)))
    rows.append(("written by", ", ".join(f"{name} {version}" for name, version in manifest.versions.items())))
    return rows


def _facts(described: Description) -> list[tuple[str, str]]:
    """What the trainer and later tools recorded, such as where the weights came from."""
    return [(key.replace("_", " "), _fact(value)) for key, value in described.manifest.facts.items()]


def _fact(value: Any) -> str:
    """Put a JSON value into words: hashes shortened, those within a list of things left to `--json`."""
    if isinstance(value, dict):
        named = {key.replace("_", " "): _fact(one) for key, one in value.items() if one is not None and key != "sha256"}
        return ", ".join(named.values() if len(named) == 1 else (f"{key} {text}" for key, text in named.items()))
    if isinstance(value, list):
        return "; ".join(dict.fromkeys(map(_fact, value)))
    if isinstance(value, float):
        return f"{value:.4f}"
    return value[:_SHORT_HASH] if isinstance(value, str) and _HASH.fullmatch(value) else str(value)


def _checkpoint_rows(described: Description) -> list[tuple[str, ...]]:
    rows = [_checkpoint_row(one, _marks(described)) for one in described.checkpoints]
    return [*rows, *((name, "", "", "", "set aside as damaged") for name in described.set_aside)]


def _checkpoint_row(one: FoundCheckpoint, marks: Sequence[tuple[str, str | None]]) -> tuple[str, ...]:
    score = "" if one.score is None else f"{one.score:.4f}"
    if one.problem is not None:
        return one.name, f"{one.update:,}", score, "", f"DAMAGED: {one.problem}"
    marked = [mark for mark, name in marks if name == one.name]
    if one.judged is not None and one.judged.weights == "raw":
        marked.append("raw weights")
    if one.judged is not None and one.judged.loss is None:
        marked.append("diverged: its loss is not finite")
    elif one.judged is not None and one.score is None:
        marked.append("judged on other validation text")
    return one.name, f"{one.update:,}", score, describe_bytes(one.size), ", ".join(marked)


def _marks(described: Description) -> list[tuple[str, str | None]]:
    return [("best", described.best), ("latest", described.latest)]


def _part_rows(described: Description) -> list[tuple[str, ...]]:
    rows = []
    for part, count in described.parts.items():
        variables = sum(variable.part == part for variable in described.variables)
        rows.append((PART_NAMES.get(part, part), f"{variables:,}", f"{count:,}"))
    return [*rows, ("total", f"{len(described.variables):,}", f"{described.parameters:,}")]


def _tie_rows(described: Description) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for tie in described.ties:
        rows.append((tie.variable, f"{tie.parameters:,}", describe_bytes(tie.size)))
        rows += [(f"= {role}", "", "") for role in tie.roles if role != tie.variable]
    return rows


def _file_rows(described: Description) -> list[tuple[str, ...]]:
    return [
        (name, f"{record.size:,}", record.sha256[:_SHORT_HASH]) for name, record in described.manifest.files.items()
    ]


def _shape(shape: Sequence[int]) -> str:
    return f"({', '.join(map(str, shape))})" if shape else "()"


def _relative(norm: float | None) -> str:
    if norm is None:
        return "from zero"
    return f"{norm:.4f}" if norm >= 1e-4 else f"{norm:.1e}"
