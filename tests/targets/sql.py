"""What the tests of the SQL target have in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sqlalchemy import URL, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from aflamingock.targets.sql import SQLTargetSystem
from tests.servers.sql import query

Step = str | Callable[[AsyncConnection], Awaitable[object]]


async def prepared(url: URL) -> None:
    engine = " ENGINE=InnoDB" if url.get_backend_name() == "mysql" else ""
    await query(url, f"CREATE TABLE t (x INTEGER PRIMARY KEY){engine}")


async def rows(url: URL) -> list[int]:
    return [x for (x,) in await query(url, "SELECT x FROM t ORDER BY x")]


async def transact(url: URL, *steps: Step) -> None:
    async with SQLTargetSystem.from_url("db", url) as target, target.transaction() as session:
        for step in steps:
            if isinstance(step, str):
                await session.execute(text(step))
            else:
                await step(session)


async def with_orm(session):
    async with AsyncSession(bind=session) as orm:
        await orm.execute(text("INSERT INTO t VALUES (2)"))
        await orm.rollback()
