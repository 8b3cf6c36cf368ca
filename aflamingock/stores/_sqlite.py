"""A SQLite file of the audit store: its connection, and what its errors mean."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Self

import aiosqlite
import anyio
from anyio.to_thread import run_sync

from ..exceptions import (
    AuditStoreConnectionError,
    AuditStoreError,
    AuditStorePermissionError,
    ConfigurationError,
    FlamingockError,
    UnknownOutcomeError,
)
from ..targets._sqlite import (
    SQLiteFile,
    busy_error,
    close,
    connect,
    error_code,
    is_busy,
    is_missing_table,
    is_taken_key,
)
from ._refusal import missing_table

_CREATION_TIME = 10.0

_NOT_WRITABLE = (
    "Insufficient permissions to create collections/tables: {path} cannot be written. Let the "
    "user of this process write the file and its folder."
)
_MEANINGS: dict[int, tuple[type[AuditStoreError], str]] = {
    sqlite3.SQLITE_NOTADB: (
        AuditStoreConnectionError,
        "Unable to connect to audit store: {path} is not a SQLite database. Verify the path.",
    ),
    sqlite3.SQLITE_READONLY: (AuditStorePermissionError, _NOT_WRITABLE),
    sqlite3.SQLITE_PERM: (AuditStorePermissionError, _NOT_WRITABLE),
    sqlite3.SQLITE_FULL: (
        AuditStoreError,
        "The disk of the audit store {path} is full, and nothing was written. Make room on it.",
    ),
    sqlite3.SQLITE_CORRUPT: (
        AuditStoreError,
        "The audit store {path} is damaged. Restore it from a backup.",
    ),
}


class SQLiteDatabase:
    """
    One connection to a file, made when it is first needed.

    Drivers' errors come out as errors of the audit store that name the file.

    :param suffix: what to add to the file's real path
    """

    def __init__(self, file: SQLiteFile, suffix: str = "") -> None:
        self._file = file
        self._suffix = suffix
        self._path: str | None = None
        self._connection: aiosqlite.Connection | None = None
        self._gate = anyio.Lock(fast_acquire=True)

    async def __aenter__(self) -> Self:
        """Find out where the file is; it is not touched."""
        self._path = await self._file.locate() + self._suffix
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connection if there is one."""
        self._path = None
        connection, self._connection = self._connection, None
        if connection is not None:
            await close(connection)

    @property
    def path(self) -> str:
        """
        The file's real path.

        :raises ConfigurationError: if the store is not open
        """
        if self._path is None:
            raise ConfigurationError(
                f"The audit store {self._file.given} is not open. Use it within 'async with'."
            )

        return self._path

    async def rows(self, statement: str, parameters: Sequence[object]) -> Sequence[sqlite3.Row]:
        """Return what a query finds: nothing where the file or the table is missing."""
        try:
            connection = await self._connected()
            if connection is None:
                return ()

            return list(await connection.execute_fetchall(statement, parameters))
        except sqlite3.Error as exc:
            if is_missing_table(exc):
                return ()

            raise await self._meaning(exc) from exc

    async def write(
        self,
        statement: str,
        parameters: Sequence[object],
        *,
        session: aiosqlite.Connection | None = None,
    ) -> int:
        """
        Run one statement that writes, and return how many rows it wrote.

        :param session: write within this transaction instead
        :raises AuditStoreSchemaError: if the file or the table is missing
        :raises sqlite3.IntegrityError: if a key is taken already
        """
        try:
            connection = session or await self._connected()
            if connection is None:
                raise missing_table(self.path)

            cursor = await connection.execute(statement, parameters)
        except sqlite3.Error as exc:
            if is_taken_key(exc):
                raise

            if is_missing_table(exc):
                raise missing_table(self.path) from exc

            if error_code(exc) == sqlite3.SQLITE_IOERR and session is None:
                raise UnknownOutcomeError(
                    f"The disk of the audit store {self.path} failed during a write, which may "
                    "or may not have been done."
                ) from exc

            raise await self._meaning(exc) from exc

        return cursor.rowcount

    async def create(self, statements: Iterable[str]) -> None:
        """
        Run the statements in one transaction, in a file that is created if it is missing.

        :raises SystemBusyError: if others hold the file for too long
        """
        script = "; ".join(statements)
        deadline = anyio.current_time() + _CREATION_TIME
        while True:
            try:
                return await self._create(script)
            except sqlite3.Error as exc:
                # Many processes at once: turning the log on is refused without waiting.
                if not is_busy(exc) or anyio.current_time() > deadline:
                    raise await self._meaning(exc) from exc

            await anyio.sleep(random.uniform(0.01, 0.1))

    async def _create(self, script: str) -> None:
        connection = await connect(self.path, mode="rwc")
        try:
            [(pages,)] = await connection.execute_fetchall("PRAGMA page_count")
            if pages == 0:
                # A file with tables is somebody's own, and keeps its journal mode.
                await connection.execute_fetchall("PRAGMA journal_mode=WAL")

            await connection.executescript(f"BEGIN IMMEDIATE; {script}; COMMIT")
        finally:
            await close(connection)

    async def _connected(self) -> aiosqlite.Connection | None:
        if self._connection is None:
            async with self._gate:
                if self._connection is None:  # another may have been quicker
                    self._connection = await self._connect()

        return self._connection

    async def _connect(self) -> aiosqlite.Connection | None:
        try:
            return await connect(self.path, mode="rw")
        except sqlite3.OperationalError as exc:
            if error_code(exc) != sqlite3.SQLITE_CANTOPEN:
                raise

            if await run_sync(_is_merely_missing, self.path):
                return None

        # another process may have created it between the attempt and the look
        return await connect(self.path, mode="rw")

    async def _meaning(self, exc: sqlite3.Error) -> FlamingockError:
        if is_busy(exc):
            return busy_error(self.path)

        if error_code(exc) == sqlite3.SQLITE_CANTOPEN:
            return await run_sync(_why_not_opened, self.path)

        if meaning := _MEANINGS.get(error_code(exc)):
            kind, sentence = meaning
            return kind(sentence.format(path=self.path))

        return AuditStoreError(f"The audit store {self.path} refused: {exc}.")


def _is_merely_missing(path: str) -> bool:
    return os.path.isdir(os.path.dirname(path)) and not os.path.lexists(path)


def _why_not_opened(path: str) -> AuditStoreError:
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        return AuditStoreConnectionError(
            f"Unable to connect to audit store: the folder {folder} does not exist. Verify the "
            "path, or create the folder."
        )

    if os.path.isfile(path) or not os.path.lexists(path):
        return AuditStorePermissionError(_NOT_WRITABLE.format(path=path))

    return AuditStoreConnectionError(
        f"Unable to connect to audit store: {path} is not a file. Verify the path."
    )
