"""The audit store in PostgreSQL, MySQL, MariaDB or SQLite, through SQLAlchemy's asyncio engine."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Self

from sqlalchemy import URL, MetaData, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from .._records import AuditEntry, Issue, Record
from ..abc import AuditStore, TargetSystem
from ..exceptions import SequenceConflictError
from ..targets._sql import (
    check_engine,
    check_names,
    check_schema,
    engine_beside,
    engine_of,
    own_engine,
    place_of,
)
from ..targets._sql_dialect import ServerMilliseconds
from ..targets._sql_transaction import ended_error, has_transaction
from ..targets.sql import SQLTargetSystem
from ._refusal import refuse_network_file_system
from ._sql import SQLDatabase
from ._sql_schema import Part
from ._sql_table import entry_table, grants, issue_table, record_table

_READ_BATCH = 200
_WRITE_BATCH = 100


class SQLAuditStore(AuditStore[AsyncConnection]):
    """
    Keeps the log, the leases and the issues in three tables.

    It works on connections of its own, made from the engine's settings, so that neither a change
    nor an exhausted pool stands in its way. In SQLite an open transaction locks the whole file:
    there the leases are in a second file beside it, ``<path>.lease``.

    :param engine: an engine of the caller's, which is never disposed of
    :param schema: the schema of the tables, which must exist; the default one if not given
    :param audit_repository_name: the table of the log
    :param lock_repository_name: the table of the records
    :param issue_repository_name: the table of the issues
    :param auto_create: whether :meth:`create` may create what is missing
    :raises ConfigurationError: if an argument is wrong
    """

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        schema: str | None = None,
        audit_repository_name: str = "flamingockAuditLog",
        lock_repository_name: str = "flamingockLock",
        issue_repository_name: str = "flamingockIssues",
        auto_create: bool = True,
    ) -> None:
        super().__init__()
        check_engine(engine)
        check_schema(schema)
        check_names(audit_repository_name, lock_repository_name, issue_repository_name)
        self.engine = engine
        self._owns_engine = False
        self._options: dict[str, Any] = {
            "schema": schema,
            "audit_repository_name": audit_repository_name,
            "lock_repository_name": lock_repository_name,
            "issue_repository_name": issue_repository_name,
        }
        self.auto_create = auto_create
        metadata = MetaData(schema=schema)
        self._entries = entry_table(audit_repository_name, metadata)
        self._issues = issue_table(issue_repository_name, metadata)
        self._log = SQLDatabase(partial(own_engine, engine), self.permissions)
        if engine.dialect.name == "sqlite":
            # an instance of this class may be either kind of database
            self.exclusive_transactions = True
            self.single_host = True
            self._records = record_table(lock_repository_name, MetaData())
            self._lease = SQLDatabase(partial(engine_beside, engine, ".lease"), self.permissions)
        else:
            self._records = record_table(lock_repository_name, metadata)
            self._lease = self._log

    @classmethod
    def from_url(cls, url: str | URL, **options: Any) -> Self:
        """
        Return a store with an engine of its own, which is closed with it.

        :param url: of SQLAlchemy's form; the driver may be left out
        :param options: as for the class
        :raises ConfigurationError: if the URL cannot be used
        """
        store = cls(engine_of(url), **options)
        store._owns_engine = True
        return store

    @classmethod
    def from_target_system(cls, target: SQLTargetSystem, **options: Any) -> Self:
        """
        Return a store in the database of *target*, in its schema unless another one is given.

        :param options: as for the class
        """
        store = cls(target.engine, **({"schema": target.schema} | options))
        names = (store._entries.name, store._records.name, store._issues.name)
        check_names(*names, target.marker_repository_name)
        return store

    async def _connect(self, stack: AsyncExitStack) -> None:
        if self._owns_engine:
            stack.push_async_callback(self.engine.dispose)

        await stack.enter_async_context(self._log)
        if self._lease is not self._log:
            await stack.enter_async_context(self._lease)

    async def create(self) -> None:
        """
        Create the tables and indexes that are missing.

        :raises AuditStoreConnectionError: if the server cannot be reached
        :raises AuditStorePermissionError: if the user may not create tables
        :raises AuditStoreIndexError: if an index cannot be created, or something else has its name
        :raises AuditStoreError: if something is missing that may not be created, or if a SQLite
            file lies on a network file system
        """
        if not self.auto_create:
            return await self.require_schema()

        if self.single_host:
            await refuse_network_file_system(place_of(self.engine))

        for database, part in await self._missing():
            await database.create(part)

    async def verify_schema(self) -> list[str]:
        """Return the statements that would create what is missing."""
        return [database.command(part) for database, part in await self._missing()]

    async def _missing(self) -> list[tuple[SQLDatabase, Part]]:
        parts = {self._log: self._entries.metadata, self._lease: self._records.metadata}
        return [
            (database, part)
            for database, metadata in parts.items()
            for part in await database.missing(metadata)
        ]

    def permissions(self) -> str:
        """Return the least rights that the store needs once the tables are there."""
        return grants(self.engine.dialect, self._entries, self._records, self._issues)

    async def last(self, service: str, count: int) -> Sequence[AuditEntry]:
        """Return the last entries of a service, newest first, in one read."""
        column = self._entries.c
        rows = await self._log.rows(
            select(self._entries)
            .where(column.service == service)
            .order_by(column.sequence.desc())
            .limit(count)
        )
        return [AuditEntry.from_document(row._asdict()) for row in rows]

    async def entries(
        self, service: str, *, after: int = 0, brief: bool = False
    ) -> AsyncIterator[AuditEntry]:
        """Yield the entries of a service in the order of their numbers, read in batches."""
        column = self._entries.c
        columns = [c for c in column if not (brief and c.name == "errorTrace")]
        query = select(*columns).where(column.service == service).order_by(column.sequence)
        query = query.limit(_READ_BATCH)
        while rows := await self._log.rows(query.where(column.sequence > after)):
            for row in rows:
                yield AuditEntry.from_document(row._asdict())

            after = rows[-1].sequence
            if len(rows) < _READ_BATCH:
                return

    async def append(
        self, entries: Sequence[AuditEntry], *, session: AsyncConnection | None = None
    ) -> None:
        """
        Insert entries in one statement (a batch above 100 in several, in order).

        :param session: write within this transaction of a target system, as part of it
        :raises SequenceConflictError: if one of the numbers is taken
        """
        if session is not None and not has_transaction(session):
            raise ended_error(place_of(self.engine))

        statement = insert(self._entries)
        dialect = (session or self._log.engine).dialect
        if dialect.insert_executemany_returning:
            # then many rows are one statement, and so all or none of them
            statement = statement.returning(self._entries.c.sequence)

        for start in range(0, len(entries), _WRITE_BATCH):
            batch = entries[start : start + _WRITE_BATCH]
            rows = [entry.to_document() for entry in batch]
            try:
                await self._log.write(statement, rows, session=session)
            except IntegrityError as exc:
                raise SequenceConflictError(batch[0].sequence, state=batch[0].state) from exc

    async def read_record(self, key: str) -> Record | None:
        """Return the record last written under *key*, with its age by the server's clock."""
        column = self._records.c
        age = ServerMilliseconds() - column.writtenAt
        query = select(column.token, column.value, age).where(column.recordKey == key)
        for token, value, milliseconds in await self._lease.rows(query):
            seconds = max(0, milliseconds) / 1000
            return Record(key=key, token=token, value=json.loads(value), age=seconds)

        return None

    async def swap_record(self, current: Record | None, new: Record) -> bool:
        """Write the record *new* if *current* still stands, stamped by the server's clock."""
        column = self._records.c
        values = {
            "token": new.token,
            "value": json.dumps(dict(new.value)),
            "writtenAt": ServerMilliseconds(),
        }
        if current is not None:
            stands = (column.recordKey == new.key, column.token == current.token)
            return await self._lease.write(update(self._records).where(*stands).values(values)) > 0

        try:
            await self._lease.write(insert(self._records).values(values | {"recordKey": new.key}))
        except IntegrityError:
            return False

        return True

    async def save_issue(self, issue: Issue) -> None:
        """Insert the issue, or replace the one of the same service and id."""
        document = issue.to_document()
        column = self._issues.c
        same = (column.service == issue.service, column.issueId == issue.issue_id)
        replacement = update(self._issues).where(*same).values(document)
        if await self._log.write(replacement):
            return

        try:
            await self._log.write(insert(self._issues).values(document))
        except IntegrityError:  # somebody else has inserted it meanwhile
            await self._log.write(replacement)

    async def issues(self, service: str) -> Sequence[Issue]:
        """Return the kept issues of a service, oldest first."""
        column = self._issues.c
        rows = await self._log.rows(
            select(self._issues)
            .where(column.service == service)
            .order_by(column.createdAt, column.issueId)
        )
        return [Issue.from_document(row._asdict()) for row in rows]

    @asynccontextmanager
    async def open_side_channel(self) -> AsyncIterator[AuditStore[Any]]:
        """Open another store on the same tables, and close it at the end."""
        async with SQLAuditStore(
            self.engine, auto_create=self.auto_create, **self._options
        ) as store:
            yield store

    def shares(self, target: TargetSystem) -> bool:
        """Say whether *target* has the same engine, or one with the same pool."""
        return (
            isinstance(target, SQLTargetSystem)
            and target.engine.sync_engine.pool is self.engine.sync_engine.pool
        )

    def __repr__(self) -> str:
        """Return the class and the place."""
        return f"{type(self).__name__}({place_of(self.engine)!r})"
