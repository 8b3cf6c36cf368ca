"""The audit store in a SQLite file: the embedded default, for the processes of one host."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import aiosqlite

from .._records import ENTRY_COLUMNS, ISSUE_COLUMNS, AuditEntry, Issue, Record
from ..abc import AuditStore, TargetSystem
from ..exceptions import SequenceConflictError
from ..targets._sqlite import SQLiteFile, check_names, require_transaction
from ..targets._sqlite_place import PERMISSIONS
from ..targets.sqlite import SQLiteTargetSystem
from ._refusal import refuse_network_file_system
from ._sqlite import SQLiteDatabase
from ._sqlite_schema import Schema, issue_table, log_table, record_table

_READ_BATCH = 200
_WRITE_BATCH = 500

_MILLISECONDS = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
_COLUMNS = tuple(ENTRY_COLUMNS)
_BRIEF_COLUMNS = tuple(column for column in _COLUMNS if column != "errorTrace")


class SQLiteAuditStore(AuditStore[aiosqlite.Connection]):
    """
    Keeps the log in a file, and the leases in a second one beside it, ``<path>.lease``.

    So the lease can be renewed while a change's transaction holds the first. A new file is in
    WAL mode; one that has tables already keeps its mode.

    :param path: the file; its folder must exist, on a local disk
    :param audit_repository_name: the table of the log
    :param lock_repository_name: the table of the records
    :param issue_repository_name: the table of the issues
    :param auto_create: whether :meth:`create` may create files and tables
    :raises ConfigurationError: if *path* is no path of a file, or a name is no name
    """

    exclusive_transactions = True
    single_host = True

    def __init__(
        self,
        path: str | Path,
        *,
        audit_repository_name: str = "flamingockAuditLog",
        lock_repository_name: str = "flamingockLock",
        issue_repository_name: str = "flamingockIssues",
        auto_create: bool = True,
    ) -> None:
        super().__init__()
        names = (audit_repository_name, lock_repository_name, issue_repository_name)
        check_names(*names)
        self.auto_create = auto_create
        self._names = names
        self._log_table, self._lock_table, self._issue_table = (f'"{name}"' for name in names)
        self._use(SQLiteFile(path))

    @classmethod
    def from_target_system(cls, target: SQLiteTargetSystem, **options: Any) -> Self:
        """
        Return a store in the file of *target*, on a connection of its own.

        :param options: keyword arguments, as for the class
        """
        store = cls(target.file.given, **options)
        check_names(*store._names, target.marker_repository_name)
        store._use(target.file)
        return store

    def _use(self, file: SQLiteFile) -> None:
        self._file = file
        self._log = SQLiteDatabase(file)
        self._lease = SQLiteDatabase(file, ".lease")
        audit, lock, issue = self._names
        self._log_schema = Schema(self._log, log_table(audit), issue_table(issue))
        self._lease_schema = Schema(self._lease, record_table(lock))

    async def _connect(self, stack: AsyncExitStack) -> None:
        await stack.enter_async_context(self._log)
        await stack.enter_async_context(self._lease)

    async def create(self) -> None:
        """
        Create both files and the tables that are missing.

        :raises AuditStoreConnectionError: if the file cannot be a database
        :raises AuditStorePermissionError: if it cannot be written
        :raises AuditStoreIndexError: if there is another table or index of the same name
        :raises AuditStoreError: if it lies on a network file system, or if something is missing
            that may not be created
        :raises SystemBusyError: if others hold it for too long
        """
        if not self.auto_create:
            return await self.require_schema()

        await refuse_network_file_system(self._log.path)
        await self._log_schema.create()
        await self._lease_schema.create()

    async def verify_schema(self) -> list[str]:
        """Return the statements that create what is missing, each with the file to run it in."""
        return [*await self._log_schema.missing(), *await self._lease_schema.missing()]

    def permissions(self) -> str:
        """Return which files have to be written."""
        return PERMISSIONS

    async def last(self, service: str, count: int) -> Sequence[AuditEntry]:
        """Return the last entries of a service, newest first, in one read."""
        rows = await self._log.rows(
            f"SELECT {', '.join(_COLUMNS)} FROM {self._log_table} WHERE service = ? "
            "ORDER BY sequence DESC LIMIT ?",
            (service, count),
        )
        return [_entry(_COLUMNS, row) for row in rows]

    async def entries(
        self, service: str, *, after: int = 0, brief: bool = False
    ) -> AsyncIterator[AuditEntry]:
        """Yield the entries of a service in the order of their numbers, read in batches."""
        columns = _BRIEF_COLUMNS if brief else _COLUMNS
        statement = (
            f"SELECT {', '.join(columns)} FROM {self._log_table} "
            "WHERE service = ? AND sequence > ? ORDER BY sequence LIMIT ?"
        )
        while rows := await self._log.rows(statement, (service, after, _READ_BATCH)):
            for row in rows:
                entry = _entry(columns, row)
                yield entry

            after = entry.sequence
            if len(rows) < _READ_BATCH:
                return

    async def append(
        self, entries: Sequence[AuditEntry], *, session: aiosqlite.Connection | None = None
    ) -> None:
        """
        Insert entries in one statement (a batch above 500 in several, in order).

        :param session: write within this transaction of a target system, as part of it
        :raises SequenceConflictError: if one of the numbers is taken
        """
        if session is not None:
            require_transaction(session, self._file)

        for start in range(0, len(entries), _WRITE_BATCH):
            batch = entries[start : start + _WRITE_BATCH]
            values = [value for entry in batch for value in entry.to_document().values()]
            try:
                await self._log.write(_insert(self._log_table, len(batch)), values, session=session)
            except sqlite3.IntegrityError as exc:
                raise SequenceConflictError(batch[0].sequence, state=batch[0].state) from exc

    async def read_record(self, key: str) -> Record | None:
        """Return the record last written under *key*, with its age by the database's clock."""
        rows = await self._lease.rows(
            f"SELECT token, value, max(0, {_MILLISECONDS} - writtenAt) / 1000.0 "
            f"FROM {self._lock_table} WHERE recordKey = ?",
            (key,),
        )
        for token, value, age in rows:
            return Record(key=key, token=token, value=json.loads(value), age=age)

        return None

    async def swap_record(self, current: Record | None, new: Record) -> bool:
        """Write the record *new* if *current* still stands, stamped by the database's clock."""
        value = json.dumps(dict(new.value))
        if current is None:
            written = await self._lease.write(
                f"INSERT INTO {self._lock_table} (recordKey, token, value, writtenAt) "
                f"VALUES (?, ?, ?, {_MILLISECONDS}) ON CONFLICT (recordKey) DO NOTHING",
                (new.key, new.token, value),
            )
            return written > 0

        written = await self._lease.write(
            f"UPDATE {self._lock_table} SET token = ?, value = ?, writtenAt = {_MILLISECONDS} "
            "WHERE recordKey = ? AND token = ?",
            (new.token, value, new.key, current.token),
        )
        return written > 0

    async def save_issue(self, issue: Issue) -> None:
        """Insert the issue, or replace the one of the same service and id."""
        document = issue.to_document()
        await self._log.write(
            f"INSERT OR REPLACE INTO {self._issue_table} ({', '.join(ISSUE_COLUMNS)}) "
            f"VALUES ({', '.join('?' * len(ISSUE_COLUMNS))})",
            [document[column] for column in ISSUE_COLUMNS],
        )

    async def issues(self, service: str) -> Sequence[Issue]:
        """Return the kept issues of a service, oldest first."""
        rows = await self._log.rows(
            f"SELECT {', '.join(ISSUE_COLUMNS)} FROM {self._issue_table} WHERE service = ? "
            "ORDER BY createdAt, issueId",
            (service,),
        )
        return [Issue.from_document(dict(zip(ISSUE_COLUMNS, row, strict=True))) for row in rows]

    @asynccontextmanager
    async def open_side_channel(self) -> AsyncIterator[AuditStore[Any]]:
        """Open another store on the same files, and close it at the end."""
        audit, lock, issue = self._names
        store = SQLiteAuditStore(
            self._log.path,
            audit_repository_name=audit,
            lock_repository_name=lock,
            issue_repository_name=issue,
            auto_create=self.auto_create,
        )
        async with store:
            yield store

    def shares(self, target: TargetSystem) -> bool:
        """Say whether *target* is the same file, by whatever link."""
        return isinstance(target, SQLiteTargetSystem) and self._file.is_same(target.file)

    def __repr__(self) -> str:
        """Return the class and the path."""
        return f"{type(self).__name__}({self._file.given!r})"


def _entry(columns: Sequence[str], row: sqlite3.Row) -> AuditEntry:
    return AuditEntry.from_document(dict(zip(columns, row, strict=True)))


@lru_cache(maxsize=32)
def _insert(table: str, rows: int) -> str:
    values = f"({', '.join('?' * len(_COLUMNS))})"
    return f"INSERT INTO {table} ({', '.join(_COLUMNS)}) VALUES {', '.join([values] * rows)}"
