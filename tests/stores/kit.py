"""What the tests of stores have in common."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiosqlite
import pytest

from aflamingock import AuditEntry
from aflamingock._records import Record, new_id
from aflamingock.exceptions import ConfigurationError
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


def continued(log: list[AuditEntry], entries: list[AuditEntry]) -> list[AuditEntry]:
    """Return a log that goes on with entries of another one."""
    log = list(log)
    for entry in entries:
        moved = replace(entry, service=log[0].service, entry_id=new_id())
        log.append(moved.sealed(sequence=len(log) + 1, previous=log[-1].digest))

    return log


async def check_that_it_must_be_open(store) -> None:
    """Check what a store says before it is opened, and after it was closed."""
    for _ in range(2):
        for call in (store.last("shop", 1), store.create(), store.verify_schema()):
            with pytest.raises(ConfigurationError, match="not open"):
                await call

        await store.open()
        await store.aclose()


async def check_shared_transaction(store, target) -> None:
    """Check that the first entry is written with the transaction of a target, or not at all."""
    assert store.shares(target)
    with suppress(ZeroDivisionError):
        async with target.transaction() as session:
            await store.append(ENTRIES[:1], session=session)
            raise ZeroDivisionError

    assert await last_numbers(store) == []
    async with target.transaction() as session:
        await store.append(ENTRIES[:1], session=session)
        assert await last_numbers(store) == []

    assert await last_numbers(store) == [1]
