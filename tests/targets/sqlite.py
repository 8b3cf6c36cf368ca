"""What the tests of the SQLite target have in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import aiosqlite

from aflamingock.targets.sqlite import SQLiteTargetSystem

Step = Callable[[aiosqlite.Connection], Awaitable[object]]


def sql(statement: str) -> Step:
    return lambda session: session.execute(statement)


async def transact(target: SQLiteTargetSystem, *steps: Step) -> None:
    async with target.transaction() as session:
        for step in steps:
            await step(session)


async def run(target: SQLiteTargetSystem, statement: str) -> list[Any]:
    async with target.handles() as objects:
        db = objects["db"]
        assert isinstance(db, aiosqlite.Connection)
        return list(await db.execute_fetchall(statement))


async def rows(target) -> list[int]:
    return [x for (x,) in await run(target, "SELECT x FROM t ORDER BY x")]
