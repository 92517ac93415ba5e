"""Tables: with rich on a terminal, as aligned text anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import typer

from nmt.cli.streams import is_terminal

if TYPE_CHECKING:
    from rich.console import Console


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
    shown = [table for table in tables if table.rows]
    if not is_terminal(sys.stdout):
        typer.echo("\n".join(f"{as_text(table)}\n" for table in shown), nl=False)
        return
    from rich.console import Console

    console = Console(highlight=False)
    for place, table in enumerate(shown):
        if place:
            console.print()
        _draw(console, table)


def as_text(table: Table) -> str:
    """Return a table as aligned text without an end of line."""
    heads = [head.removeprefix(">") for head in table.columns]
    rows = [heads, *table.rows] if any(heads) else list(table.rows)
    widths = [max(len(row[place]) for row in rows) for place in range(len(heads))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if head.startswith(">") else cell.ljust(width)
            for cell, width, head in zip(row, widths, table.columns, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join([table.title, *lines] if table.title else lines)


def describe_bytes(size: int) -> str:
    """Return a number of bytes in a unit that suits it."""
    amount, units = float(size), ["bytes", "KiB", "MiB", "GiB"]
    while amount >= 1024 and len(units) > 1:
        amount, units = amount / 1024, units[1:]
    return f"{amount:,.0f} bytes" if units[0] == "bytes" else f"{amount:,.1f} {units[0]}"


def _draw(console: Console, table: Table) -> None:
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(
        box=None, header_style="dim", show_header=any(table.columns), pad_edge=False, padding=(0, 2, 0, 0)
    )
    for head in table.columns:
        drawn.add_column(head.removeprefix(">"), justify="right" if head.startswith(">") else "left", overflow="fold")
    for row in table.rows:
        drawn.add_row(*(Text(cell) for cell in row))
    if table.title:
        console.print(Text(table.title, style="bold"))
    console.print(drawn)
