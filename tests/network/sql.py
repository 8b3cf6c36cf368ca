"""Relational databases behind a proxy."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import URL, text
from sqlalchemy.ext.asyncio import create_async_engine

from aflamingock import Verification
from aflamingock.abc import ChangeContext
from aflamingock.stores.sql import SQLAuditStore
from aflamingock.targets.sql import SQLTargetSystem
from tests.network.system import TARGET, Coroutine, Pair, System
from tests.servers.proxy import Proxy
from tests.servers.sql import query


class SQLSystem(System):
    """
    PostgreSQL or MariaDB.

    :param url: of an empty database
    """

    commit = r"(?<!AUTO)COMMIT\b"

    def __init__(self, url: URL) -> None:
        self._url = url

    def proxy(self) -> Proxy:
        """Return a proxy before the port, or the socket, of the server."""
        folder = self._url.query.get("host")
        if isinstance(folder, str):
            return Proxy(Path(folder) / f".s.PGSQL.{self._url.port or 5432}")

        return Proxy((self._url.host or "", self._url.port or 3306))

    @asynccontextmanager
    async def lent(self, proxy: Proxy | None = None) -> AsyncIterator[Pair]:
        """Lend a store and a target on an engine of their own."""
        url = self._url
        if proxy is not None:
            url = url.set(host="127.0.0.1", port=proxy.port).difference_update_query(["host"])

        engine = create_async_engine(url)
        try:
            target = SQLTargetSystem(TARGET, engine)
            yield SQLAuditStore.from_target_system(target), target
        finally:
            await engine.dispose()

    async def prepare(self) -> None:
        """Create the tables."""
        columns = "row_id varchar(36) primary key, service varchar(60), change_id varchar(60)"
        await query(self._url, f"CREATE TABLE effects ({columns})")
        async with self.lent() as (store, target), store, target:
            await store.create()
            await target.claim_marker("first", "none")

    async def effects(self, service: str) -> Counter[str]:
        """Return how often each change has left its line."""
        statement = "SELECT change_id FROM effects WHERE service = :service"
        return Counter(row[0] for row in await query(self._url, statement, service=service))

    def coroutines(self, id: str) -> dict[str, Coroutine]:
        """Return the coroutines of a change; the rows are inserted, so that no lock is shared."""

        async def execute(self: object, db: Any, context: ChangeContext) -> None:
            values = {"row": str(uuid4()), "service": context.service, "id": id}
            await db.execute(text("INSERT INTO effects VALUES (:row, :service, :id)"), values)

        async def rollback(self: object, db: Any, context: ChangeContext) -> None:
            statement = "DELETE FROM effects WHERE service = :service AND change_id = :id"
            await db.execute(text(statement), {"service": context.service, "id": id})

        async def verify(self: object, db: Any, context: ChangeContext) -> Verification:
            statement = "SELECT 1 FROM effects WHERE service = :service AND change_id = :id"
            found = await db.execute(text(statement), {"service": context.service, "id": id})
            return Verification.APPLIED if found.all() else Verification.NOT_APPLIED

        return {"execute": execute, "rollback": rollback, "verify": verify}
