"""The databases that workers run on: where the log is, the target, and what stands in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import aiosqlite

from aflamingock import FlamingockError
from aflamingock._host import boot_time
from aflamingock.abc import AuditStore, TransactionalTargetSystem
from aflamingock.stores.sqlite import SQLiteAuditStore
from aflamingock.targets.sqlite import SQLiteTargetSystem
from tests.history.events import Commit

_TABLE = (
    "CREATE TABLE IF NOT EXISTS effects "
    "(at DOUBLE PRECISION, service TEXT, change_id TEXT, method TEXT, attempt INTEGER)"
)
_SELECT = "SELECT change_id, method, attempt FROM effects WHERE service = '{}' ORDER BY at"


class Backend(ABC):
    """
    A database with a target and a log; made anew in each process.

    :param folder: of the schedule
    :param service: of the schedule; a database of many schedules knows them apart by it
    :ivar last_ttl: of the lease of the worker at the end, in seconds: nothing befalls that one, on
        however slow a machine
    :ivar last_errors: what its runs may be ended by before one succeeds
    """

    single_host = False
    last_ttl = 60.0
    last_errors: tuple[type[FlamingockError], ...] = ()

    def __init__(self, url: str, folder: Path, service: str) -> None:
        self.url = url
        self.folder = folder
        self.service = service

    @abstractmethod
    def target(self) -> TransactionalTargetSystem[Any]:
        """Return the target system ``data``."""

    @abstractmethod
    def store(self, target: Any, *, apart: bool) -> AuditStore[Any]:
        """
        Return the audit store.

        :param apart: whether it shares nothing with *target*, where that is possible
        """

    @abstractmethod
    async def leave(self, session: Any, change_id: str, method: str, attempt: int) -> None:
        """Leave something in the target, within a transaction."""

    @abstractmethod
    async def commits(self) -> Sequence[Commit]:
        """Return what was left there."""

    def row(self, change_id: str, method: str, attempt: int) -> dict[str, Any]:
        """Return what a transaction leaves behind."""
        told = {"change_id": change_id, "method": method, "attempt": attempt}
        return {"at": boot_time(), "service": self.service} | told


class SQLiteBackend(Backend):
    """Files in the folder of the schedule."""

    single_host = True

    def target(self) -> SQLiteTargetSystem:
        """Return the target system ``data``."""
        return SQLiteTargetSystem("data", self.folder / "data.db")

    def store(self, target: Any, *, apart: bool) -> SQLiteAuditStore:
        """Return the audit store."""
        if apart:
            return SQLiteAuditStore(self.folder / "audit.db")

        return SQLiteAuditStore.from_target_system(target)

    async def leave(self, session: Any, change_id: str, method: str, attempt: int) -> None:
        """Leave a row in the target."""
        row = self.row(change_id, method, attempt)
        await session.execute(_TABLE)
        marks = ", ".join("?" * len(row))
        await session.execute(f"INSERT INTO effects VALUES ({marks})", tuple(row.values()))

    async def commits(self) -> Sequence[Commit]:
        """Return the rows."""
        async with aiosqlite.connect(self.folder / "data.db") as connection:
            tables = await connection.execute_fetchall(
                "SELECT name FROM sqlite_master WHERE name = 'effects'"
            )
            rows: Any = ()
            if list(tables):
                rows = await connection.execute_fetchall(_SELECT.format(self.service))

        return [Commit(change_id=id, method=method, attempt=n) for id, method, n in rows]


class PostgreSQLBackend(Backend):
    """Tables of one database, which all schedules share."""

    def target(self) -> TransactionalTargetSystem[Any]:
        """Return the target system ``data``."""
        from aflamingock.targets.sql import SQLTargetSystem

        return SQLTargetSystem.from_url("data", self.url)

    def store(self, target: Any, *, apart: bool) -> AuditStore[Any]:
        """Return the audit store."""
        from aflamingock.stores.sql import SQLAuditStore

        return SQLAuditStore.from_target_system(target)

    async def leave(self, session: Any, change_id: str, method: str, attempt: int) -> None:
        """Leave a row in the target."""
        from sqlalchemy import text

        row = self.row(change_id, method, attempt)
        names = ", ".join(f":{name}" for name in row)
        await session.execute(text(f"INSERT INTO effects VALUES ({names})"), row)

    async def commits(self) -> Sequence[Commit]:
        """Return the rows."""
        from sqlalchemy import text

        async with self.target() as target, target.transaction() as session:
            rows = await session.execute(text(_SELECT.format(self.service)))
            return [Commit(change_id=id, method=method, attempt=n) for id, method, n in rows]

    @staticmethod
    def create_statement() -> str:
        """Return what creates the table of the effects."""
        return _TABLE


class MongoDBBackend(Backend):
    """Collections of one database, which all schedules share."""

    database = "chaos"

    def target(self) -> TransactionalTargetSystem[Any]:
        """Return the target system ``data``."""
        from pymongo import AsyncMongoClient

        from aflamingock.targets.mongodb import MongoDBTargetSystem

        # never closed: the process ends with its work
        return MongoDBTargetSystem("data", AsyncMongoClient(self.url), self.database)

    def store(self, target: Any, *, apart: bool) -> AuditStore[Any]:
        """Return the audit store."""
        from aflamingock.stores.mongodb import MongoDBAuditStore

        return MongoDBAuditStore.from_target_system(target)

    async def leave(self, session: Any, change_id: str, method: str, attempt: int) -> None:
        """Leave a document in the target."""
        await session.effects.insert_one(self.row(change_id, method, attempt))

    async def commits(self) -> Sequence[Commit]:
        """Return the documents."""
        from pymongo import MongoClient

        with closing(MongoClient[dict[str, Any]](self.url)) as client:
            found = client[self.database].effects.find({"service": self.service}).sort("at")
            names = ("change_id", "method", "attempt")
            return [Commit(**{name: row[name] for name in names}) for row in found]


class ElectingBackend(MongoDBBackend):
    """The same on a replica set that loses its primary again and again."""

    last_ttl = 5.0
    last_errors = (FlamingockError,)


BACKENDS: dict[str, type[Backend]] = {
    "sqlite": SQLiteBackend,
    "postgresql": PostgreSQLBackend,
    "mongodb": MongoDBBackend,
    "elections": ElectingBackend,
}
