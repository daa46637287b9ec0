"""Shows tables on a terminal and writes them to a file."""

from __future__ import annotations

import json
import os
import platform
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table as Shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

    from benchmarks.figures import Row, Table


def machine() -> str:
    """Return this machine in one line."""
    return f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, Python {platform.python_version()}"


def show(console: Console, table: Table) -> None:
    """Print one table; a figure with a target has it beside, with a tick or a cross."""
    shown = Shown(title=table.title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column("", no_wrap=True)
    for column in table.columns:
        shown.add_column(column, justify="right", no_wrap=True)
    for row in table.rows:
        shown.add_row(row.name, *(_cell(row, column) for column in table.columns))
    console.print(shown)
    for note in table.notes:
        console.print(f"[dim]{note}[/dim]", highlight=False)
    console.print()


def show_summary(console: Console, tables: Sequence[Table]) -> None:
    """Print how many targets were met and name those that were not."""
    promised = sum(len(row.targets) + len(row.least) for table in tables for row in table.rows)
    missed = [(table, row, column) for table in tables for row in table.rows for column in row.missed]
    console.print(f"{promised - len(missed)} of {promised} targets met on this machine: {machine()}.", highlight=False)
    for table, row, column in missed:
        console.print(
            f"  ✗ {table.title}: {row.name}, {column} {_number(row.values[column])}, target {row.promise(column)}",
            highlight=False,
        )


def write(path: Path, tables: Sequence[Table]) -> None:
    """Write every figure to a JSON file."""
    document = {"machine": machine(), "tables": [_document(table) for table in tables]}
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _cell(row: Row, column: str) -> str:
    if column not in row.values:
        return ""
    number = _number(row.values[column])
    promise = row.promise(column)
    if not promise:
        return number
    mark = "[red]✗[/red]" if column in row.missed else "[green]✓[/green]"
    return f"{number} {promise} {mark}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def _document(table: Table) -> dict[str, Any]:
    return {
        "key": table.key,
        "title": table.title,
        "rows": [
            {
                "name": row.name,
                "values": dict(row.values),
                "targets": dict(row.targets),
                "least": dict(row.least),
                "missed": list(row.missed),
            }
            for row in table.rows
        ],
        "notes": list(table.notes),
    }
