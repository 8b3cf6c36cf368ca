"""A SQLite file, without SQLAlchemy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aflamingock.abc import AuditStore, TransactionalTargetSystem

from .database import Database, Place, transactional_change


class SQLite(Database):
    """A file, without SQLAlchemy."""

    change = transactional_change(
        "db",
        execute="""await db.execute("INSERT INTO effects VALUES ('{id}')")""",
        rollback="""await db.execute("DELETE FROM effects WHERE line = '{id}'")""",
    )
    single_host = True

    @asynccontextmanager
    async def connect(self, place: Place, calls: list[str] | None = None) -> AsyncIterator[str]:
        """Lend the path; there is no server to count the calls of."""
        yield place.url

    def target(self, client: Any, place: Place) -> TransactionalTargetSystem[Any]:
        from aflamingock.targets.sqlite import SQLiteTargetSystem

        return SQLiteTargetSystem("data", client)

    def store(self, client: Any, place: Place, **options: Any) -> AuditStore[Any]:
        return self._store_type()(client, **options)  # type: ignore[no-any-return]  # imported late

    def _store_type(self) -> Any:
        from aflamingock.stores.sqlite import SQLiteAuditStore

        return SQLiteAuditStore

    async def prepare(self, place: Place) -> None:
        await self._run(place, "CREATE TABLE effects (line TEXT)")

    async def effects(self, place: Place) -> list[str]:
        return [line for (line,) in await self._run(place, "SELECT line FROM effects")]

    async def _run(self, place: Place, statement: str) -> list[Any]:
        import aiosqlite

        async with aiosqlite.connect(place.url, isolation_level=None) as connection:
            return list(await connection.execute_fetchall(statement))
