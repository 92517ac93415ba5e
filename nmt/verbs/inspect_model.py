"""`nmt inspect`: what a model directory holds, how two models differ, whether all is as it was written."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from nmt.terminal import options
from nmt.terminal.streams import is_terminal

if TYPE_CHECKING:
    from nmt.config import Config
    from nmt.directory.inspection import Description, FoundCheckpoint, VariableUse

EXAMPLE = """\b
Examples:
  nmt inspect runs/travel
  nmt inspect runs/travel@latest --diff runs/travel-average --json
  nmt inspect runs/travel --verify
"""

_FAILED = 1


def run(
    directory: Path = typer.Argument(metavar="RUN[@WHICH]", help="Model directory, or one of its checkpoints."),
    checkpoint: options.Checkpoint = None,
    diff: Path | None = options.value(
        "--diff", "OTHER[@WHICH]", "Say what differs in another model or checkpoint, weights as stored."
    ),
    verify: bool = options.flag("--verify", "Read and hash everything; every checkpoint unless one is named."),
    as_json: options.AsJson = False,
    imports: options.Imports = None,
    debug: options.Debug = False,
) -> None:
    """Show what a checkpoint holds: variables, ties and what they save, scores, hashes, versions.

    A WHICH is best, latest or update-N. The exit status is 0 whether or not two models differ; with --verify it is 1
    if anything is wrong. Nothing is changed, and TensorFlow is not loaded.
    """
    from nmt.directory import inspect_model as recipe
    from nmt.directory.model_directory import parse_run_reference

    run_directory, which = parse_run_reference(str(directory))
    if which is not None and checkpoint is not None:
        raise options.usage_error(f"RUN@{which} names a checkpoint already: leave out --checkpoint")
    which = which or checkpoint
    if verify and diff is not None:
        raise options.usage_error("--verify and --diff are two commands: give one of them")
    tables: list[Table] = []
    if verify:
        values = recipe.verify_model(run_directory, which)
        if not as_json:
            _report(values, with_text=recipe.holds_text(Path(run_directory)))
    elif diff is not None:
        values = recipe.diff_models((run_directory, which), parse_run_reference(str(diff)))
        tables = difference_tables(values)
    else:
        described, config = recipe.inspect_model(run_directory, which)
        values = recipe.inspection_values(described, config)
        tables = inspection_tables(described, config)
    if as_json:
        typer.echo(json.dumps(values, ensure_ascii=False))
    elif not verify:
        width = None if is_terminal(sys.stdout) else WIDE
        typer.echo("\n".join(as_text(table, width=width) for table in tables if table.rows), nl=False)
    if values.get("problems"):
        raise typer.Exit(_FAILED)


def _report(verified: Mapping[str, Any], *, with_text: bool) -> None:
    """Say what is wrong, or what was checked."""
    for problem in verified["problems"]:
        typer.echo(problem)
    if not verified["problems"]:
        count = len(verified["checkpoints"])
        checked = f"{count} checkpoint{'s' if count != 1 else ''}, {verified['files']} files"
        beside = "index, settings and tokenizers" if with_text else "index"
        size = describe_bytes(verified["bytes"])
        typer.echo(f"{verified['model_directory']}: all is as it was written: {checked}, {size}; {beside} fit")
    for name in verified["set_aside"]:
        typer.echo(f"nmt: remark: {name} was set aside as damaged and is not read", err=True)


class Table(NamedTuple):
    """Rows of text under a title.

    title: what they are; may be empty.
    columns: their heads, all empty if none are needed; one that begins with `>` is aligned to the right.
    rows: as many cells each as there are columns.
    """

    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]


WIDE = 10**6
"""Columns, so that no cell is broken if a program may read it."""


def as_text(table: Table, *, width: int | None = WIDE) -> str:
    """Return a table as aligned lines; for a terminal, in its width and styles, if none is given."""
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(
        box=None, header_style="dim", show_header=any(table.columns), pad_edge=False, padding=(0, 2, 0, 0)
    )
    for head in table.columns:
        drawn.add_column(head.removeprefix(">"), justify="right" if head.startswith(">") else "left", overflow="fold")
    for row in table.rows:
        drawn.add_row(*map(Text, row))
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


_HASH = re.compile("[0-9a-f]{64}")
_SHORT_HASH = 12  # characters
_LAYER = re.compile(r"/(\d+)(?=/)")


def inspection_tables(described: Description, config: Config | None) -> list[Table]:
    """Return all about one checkpoint."""
    parts = []
    for part, parameters in described.parts.items():
        count = sum(variable.part == part for variable in described.variables)
        parts.append(("embeddings and output" if part == "embeddings" else part, f"{count:,}", f"{parameters:,}"))
    parts.append(("total", f"{len(described.variables):,}", f"{described.parameters:,}"))
    ties: list[tuple[str, ...]] = []
    for tie in described.ties:
        ties.append((tie.variable, f"{tie.parameters:,}", describe_bytes(tie.size)))
        ties += [(f"= {role}", "", "") for role in tie.roles if role != tie.variable]
    records = described.manifest.files.items()
    files = [(name, f"{record.size:,}", record.sha256[:_SHORT_HASH]) for name, record in records]
    checkpoints = [_checkpoint_row(one, described) for one in described.checkpoints]
    checkpoints += [(name, "", "", "", "set aside as damaged") for name in described.set_aside]
    return [
        Table("", ("", ""), _facts(described, config)),
        Table("checkpoints", ("name", ">update", ">score", ">size", ""), checkpoints),
        Table("parameters", ("part", ">variables", ">parameters"), parts),
        Table("ties", ("one variable in several roles", ">parameters saved", ">saved on disk"), ties),
        Table("variables", ("role path", "shape", ">count", ">parameters"), variable_rows(described.variables)),
        Table("files", ("name", ">bytes", "sha256"), files),
    ]


def difference_tables(found: Mapping[str, Any]) -> list[Table]:
    """Return what differs between two checkpoints, from what `diff_models` returns."""
    before, after = (f"{one['model_directory']} {one['checkpoint']}" for one in (found["before"], found["after"]))
    added, removed, changed = found["added"], found["removed"], found["changed"]
    head = [
        ("from", before),
        ("to", after),
        ("tokenizers", {True: "the same", False: "others", None: "not recorded"}[found["same_tokenizers"]]),
        ("equal variables", f"{found['num_equal']:,}"),
        ("changed", f"{len(changed):,}"),
        ("added, removed", f"{len(added):,}, {len(removed):,}"),
        ("of another shape", f"{len(found['shapes_changed']):,}"),
    ]
    ties = [("+", name) for name in found["ties_added"]] + [("-", name) for name in found["ties_removed"]]
    shapes = [(one["name"], _shape(one["before"]), _shape(one["after"])) for one in found["shapes_changed"]]
    values = "changed values (norm of the change / norm before)"
    return [
        Table("", ("", ""), head),
        Table("ties", ("", "roles of one variable"), ties),
        Table("added", ("role path", "shape"), [(one["name"], _shape(one["shape"])) for one in added]),
        Table("removed", ("role path", "shape"), [(one["name"], _shape(one["shape"])) for one in removed]),
        Table("other shapes", ("role path", "before", "after"), shapes),
        Table(values, ("role path", ">change"), [(one["name"], _relative(one["relative_norm"])) for one in changed]),
    ]


def variable_rows(variables: Iterable[VariableUse]) -> list[tuple[str, ...]]:
    """Return a row for each variable; those of the layers of a stack share one: `encoder_blocks/0-5/...`."""
    groups: dict[tuple[object, ...], list[VariableUse]] = {}
    for variable in variables:
        layer = _LAYER.search(variable.name)
        pattern = _LAYER.sub("/*", variable.name, count=1) if len(variable.roles) == 1 and layer else None
        groups.setdefault((pattern or variable.name, variable.shape), []).append(variable)
    rows: list[tuple[str, ...]] = []
    for group in groups.values():
        name = group[0].name
        if len(group) > 1:
            layers = [int(match[1]) for variable in group if (match := _LAYER.search(variable.name))]
            whole = layers == list(range(layers[0], layers[-1] + 1))
            numbers = f"{layers[0]}-{layers[-1]}" if whole else ",".join(map(str, layers))
            name = _LAYER.sub(f"/{numbers}", name, count=1)
        rows.append((name, _shape(group[0].shape), str(len(group)), f"{sum(one.parameters for one in group):,}"))
    return rows


def _facts(described: Description, config: Config | None) -> list[tuple[str, str]]:
    """What the checkpoint is, and what the trainer and later tools recorded, such as where its weights came from."""
    manifest, rows = described.manifest, [("model directory", str(described.directory))]
    if config is not None:
        languages = f"{config.data.source_language} to {config.data.target_language}"
        rows.append(("model", f"{config.model.type}, {languages}, tie_embeddings {config.model.tie_embeddings}"))
    score = "" if manifest.score is None else f", score {manifest.score:.4f}"
    rows.append(("checkpoint", ", ".join([f"{described.checkpoint}{score}", *_marks(described.checkpoint, described)])))
    kept = ["weights"]
    if described.keeps_ema and manifest.preferred_weights == "raw":
        kept[0] = "weights (used unless the moving average is asked for, since they were validated to be better)"
        kept.append("moving average")
    elif described.keeps_ema:
        kept.append("moving average (used unless raw weights are asked for)")
    without = "no optimizer (a training can start from it, not go on)"
    kept.append(f"optimizer {manifest.optimizer}" if manifest.optimizer else without)
    rows.append(("keeps", ", ".join(kept)))
    rows.append(("written by", ", ".join(f"{name} {version}" for name, version in manifest.versions.items())))
    return [*rows, *((key.replace("_", " "), _fact(value)) for key, value in manifest.facts.items())]


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


def _checkpoint_row(one: FoundCheckpoint, described: Description) -> tuple[str, ...]:
    score = "" if one.score is None else f"{one.score:.4f}"
    if one.problem is not None:
        return one.name, f"{one.update:,}", score, "", f"DAMAGED: {one.problem}"
    marked = _marks(one.name, described)
    if one.judged is not None and one.judged.weights == "raw":
        marked.append("raw weights")
    if one.judged is not None and one.judged.loss is None:
        marked.append("diverged: its loss is not finite")
    elif one.judged is not None and one.score is None:
        marked.append("judged on other validation text")
    return one.name, f"{one.update:,}", score, describe_bytes(one.size), ", ".join(marked)


def _marks(name: str, described: Description) -> list[str]:
    return [mark for mark, marked in (("best", described.best), ("latest", described.latest)) if marked == name]


def _shape(shape: Sequence[int]) -> str:
    return f"({', '.join(map(str, shape))})"


def _relative(norm: float | None) -> str:
    if norm is None:
        return "from zero"
    return f"{norm:.4f}" if norm >= 1e-4 else f"{norm:.1e}"
