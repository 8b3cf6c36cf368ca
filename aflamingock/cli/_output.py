"""What a command prints: tables on a terminal, plain lines in a pipe, or one JSON document."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

# What could move the cursor, colour the screen or turn the direction of writing: ids, errors and
# host names in a store may have been written by anybody.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_FOLDED = 12
"""How wide a column has to be at the least where its cells are wider than that."""

_STYLES = {
    "APPLIED": "green",
    "MANUAL_MARKED_AS_APPLIED": "green",
    "ROLLED_BACK": "yellow",
    "FAILED": "red",
    "ROLLBACK_FAILED": "red",
    "MANUAL_INTERVENTION": "red",
    "OPEN": "red",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """
    Rows of cells under their headings.

    :ivar empty: the sentence that stands where there is no row
    """

    columns: tuple[str, ...]
    rows: Sequence[Sequence[object]]
    empty: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """
    What a command has found out or done.

    :ivar document: its JSON values
    :ivar parts: the same for people: tables, and texts of a line or more
    :ivar warnings: sentences for the error stream
    :ivar code: the exit code
    """

    document: Mapping[str, Any]
    parts: Sequence[Table | str]
    warnings: Sequence[str] = ()
    code: int = 0


def printable(text: str) -> str:
    """Return *text* without what a terminal would obey."""
    return _CONTROLS.sub("", text)


def show_document(document: Mapping[str, Any]) -> None:
    """Print one JSON document; in ASCII, so that nothing in it can reach the terminal."""
    print(json.dumps(document, indent=2, default=str).replace("\x7f", "\\u007f"))


def show(answer: Answer) -> None:
    """Print an answer for a person, or for a pipe."""
    for part in answer.parts:
        if isinstance(part, str):
            print(printable(part))
        elif not part.rows:
            print(part.empty)
        elif sys.stdout.isatty():
            _show_grid(part, sys.stdout)
        else:
            _show_lines(part)

    for warning in answer.warnings:
        complain("warning", warning)


def complain(kind: str, message: str) -> None:
    """
    Print a sentence on the error stream.

    :param kind: ``"error"`` or ``"warning"``
    """
    print(f"{kind}: {printable(message)}", file=sys.stderr)


def cell(value: object) -> str:
    """Return a value as the text of one line."""
    if value is None:
        return ""

    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    if isinstance(value, float):
        return f"{value:.3f}"

    return " ".join(printable(str(value)).split())


def _show_grid(table: Table, stream: TextIO) -> None:
    console = Console(file=stream, highlight=False)
    if _narrowest(table) > console.width:
        return _show_blocks(table)

    grid = RichTable(box=SIMPLE_HEAD, pad_edge=False)
    for column in table.columns:
        grid.add_column(Text(column), overflow="fold")

    for row in table.rows:
        texts = map(cell, row)
        grid.add_row(*(Text(text, style=_STYLES.get(text, "")) for text in texts))

    console.print(grid)


def _narrowest(table: Table) -> int:
    """Return how wide a table has to be, that what is folded in it can still be read."""
    columns = zip(table.columns, *(map(cell, row) for row in table.rows), strict=True)
    return sum(min(max(map(len, column)), _FOLDED) + 2 for column in columns)


def _show_blocks(table: Table) -> None:
    for number, row in enumerate(table.rows):
        if number:
            print()

        for name, text in zip(table.columns, map(cell, row), strict=True):
            if text:
                print(f"{name}: {text}")


def _show_lines(table: Table) -> None:
    print("\t".join(table.columns))
    for row in table.rows:
        print("\t".join(map(cell, row)))
