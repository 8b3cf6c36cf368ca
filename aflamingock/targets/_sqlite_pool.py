"""Connections to a SQLite file that are lent to changes, and used again."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Self, cast
from weakref import WeakSet

import aiosqlite
import anyio

from ..exceptions import ConfigurationError
from ._sqlite import CLOSING_TIME, PATIENCE, SQLiteFile, busy_error, close, connect, is_busy

_FREE_CONNECTIONS = 4


def waiting(seconds: float) -> str:
    """Return the statement by which a connection waits longer, or shorter, for others."""
    return f"PRAGMA busy_timeout={round(seconds * 1000)}"


class ConnectionPool:
    """Keeps a few connections that came back in order; every other one is closed at once."""

    def __init__(self, file: SQLiteFile) -> None:
        self.is_open = False
        self._file = file
        self._free: list[aiosqlite.Connection] = []

    async def __aenter__(self) -> Self:
        """Find out where the file is; it is not touched."""
        await self._file.locate()
        self.is_open = True
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        self.is_open = False
        while self._free:
            await close(self._free.pop())

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[aiosqlite.Connection]:
        """
        Lend a connection that commits every statement, and waits only shortly for others.

        At the end what was left open is rolled back, after all that was sent before.

        :raises ConfigurationError: if the file cannot be opened
        :raises SystemBusyError: if it is locked by others
        """
        connection = self._free.pop() if self._free else await self._connect()
        try:
            yield connection
        except BaseException as exc:
            if not isinstance(exc, Exception):
                # A cancellation: the statement on its way would go on in its thread.
                with suppress(ValueError):
                    await connection.interrupt()

            await _discard(connection)
            raise

        if await self._is_in_order(connection):
            self._free.append(connection)
            return

        await _discard(connection)

    async def _connect(self) -> aiosqlite.Connection:
        try:
            return await connect(await self._file.locate(), mode="rwc", factory=_Connection)
        except sqlite3.Error as exc:
            if is_busy(exc):
                raise busy_error(self._file.given) from exc

            raise ConfigurationError(
                f"The target system's file {self._file.given} cannot be opened: {exc}. Verify "
                "that its folder exists, that it is a SQLite database, and that it may be written."
            ) from exc

    async def _is_in_order(self, connection: aiosqlite.Connection) -> bool:
        """Take back what a change has set on the connection, if it can be used again."""
        # A connection that the change has closed raises ValueError.
        with anyio.move_on_after(CLOSING_TIME, shield=True), suppress(sqlite3.Error, ValueError):
            await connection.set_authorizer(None)
            if connection.in_transaction or connection.isolation_level is not None:
                return False

            await connection.executescript(f"{waiting(PATIENCE)}; PRAGMA synchronous=FULL")
            connection.row_factory = None
            connection.text_factory = str
            return self.is_open and len(self._free) < _FREE_CONNECTIONS

        return False


async def _discard(connection: aiosqlite.Connection) -> None:
    with anyio.move_on_after(CLOSING_TIME, shield=True), suppress(sqlite3.Error, ValueError):
        await connection.set_authorizer(None)
        await connection.rollback()

    await close(connection)


class _Connection(sqlite3.Connection):
    """
    A connection that at its end closes what is still being read.

    Otherwise a cursor in the traceback of a change's error would keep the file locked.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._cursors: WeakSet[sqlite3.Cursor] = WeakSet()
        super().__init__(*args, **kwargs)

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """Return a cursor, and remember it."""
        cursor = super().cursor(*args, **kwargs)
        self._cursors.add(cursor)
        return cursor

    def execute(self, *args: Any) -> sqlite3.Cursor:
        """Execute a statement on a new cursor."""
        return cast("sqlite3.Cursor", self.cursor().execute(*args))

    def close(self) -> None:
        """Close the cursors, then the connection."""
        for cursor in tuple(self._cursors):
            cursor.close()

        super().close()
