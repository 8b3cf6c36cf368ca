"""What the tests of the SQLite store have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiosqlite

from aflamingock._records import Record
from aflamingock.testing._log import chain

ENTRIES = chain(3)
FIRST = Record(key="lease:shop", value={"number": 1})
SECOND = Record(key="lease:shop", value={"number": 2})


async def query(connection: aiosqlite.Connection, statement: str) -> list[Any]:
    return list(await connection.execute_fetchall(statement))


async def last_numbers(store) -> list[int]:
    return [entry.sequence for entry in await store.last("shop", 9)]


def names_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())
