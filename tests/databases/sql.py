"""The databases that SQLAlchemy talks to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aflamingock.abc import AuditStore, TransactionalTargetSystem

from .database import Database, Place, transactional_change


class SQL(Database):
    """What SQLAlchemy talks to."""

    change = transactional_change(
        "db",
        execute="""await db.exec_driver_sql("INSERT INTO effects VALUES ('{id}')")""",
        rollback="""await db.exec_driver_sql("DELETE FROM effects WHERE line = '{id}'")""",
    )

    def __init__(self, *, single_host: bool = False) -> None:
        self.single_host = single_host

    @asynccontextmanager
    async def connect(self, place: Place, calls: list[str] | None = None) -> AsyncIterator[Any]:
        """Lend an engine."""
        from sqlalchemy import Engine, event
        from sqlalchemy.ext.asyncio import create_async_engine

        def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if calls is not None:
                calls.append(statement)

        # of every engine, for stores make some of their own
        event.listen(Engine, "before_cursor_execute", note)
        engine = create_async_engine(place.url)
        try:
            yield engine
        finally:
            await engine.dispose()
            event.remove(Engine, "before_cursor_execute", note)

    def target(self, client: Any, place: Place) -> TransactionalTargetSystem[Any]:
        from aflamingock.targets.sql import SQLTargetSystem

        # Nobody waits for a minute until the server ends the transaction of a stopped process.
        return SQLTargetSystem("data", client, idle_timeout=3)

    def store(self, client: Any, place: Place, **options: Any) -> AuditStore[Any]:
        return self._store_type()(client, **options)  # type: ignore[no-any-return]  # imported late

    def _store_type(self) -> Any:
        from aflamingock.stores.sql import SQLAuditStore

        return SQLAuditStore

    async def prepare(self, place: Place) -> None:
        await self._run(place, "CREATE TABLE effects (line VARCHAR(190))")

    async def effects(self, place: Place) -> list[str]:
        rows = await self._run(place, "SELECT line FROM effects")
        return sorted(line for (line,) in rows)

    async def _run(self, place: Place, statement: str) -> list[Any]:
        async with self.connect(place) as engine, engine.begin() as connection:
            result = await connection.exec_driver_sql(statement)
            return list(result.all()) if result.returns_rows else []
