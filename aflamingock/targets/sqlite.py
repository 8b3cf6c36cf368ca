"""A SQLite file as a target system."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiosqlite
import anyio

from .._states import MarkerOutcome
from ..abc import Offer, TransactionalTargetSystem
from ..exceptions import ConfigurationError, FlamingockError, SystemBusyError, UnknownOutcomeError
from ._refusal import claimed_error
from ._sqlite import (
    CLOSING_TIME,
    SQLiteFile,
    busy_error,
    check_names,
    error_code,
    is_busy,
    is_missing_table,
    is_taken_key,
    is_within_transaction,
    require_transaction,
)
from ._sqlite_place import warn_of_network_file_system
from ._sqlite_pool import ConnectionPool, waiting

_NOW = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
_YESTERDAY = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-1 day')"
_HINT = (
    "aflamingock ends the transaction itself; give the change transactional=False if it must "
    "commit on its own."
)


class SQLiteTargetSystem(TransactionalTargetSystem[aiosqlite.Connection]):
    """
    Gives changes an :class:`aiosqlite.Connection` to a file, by annotation or as ``db``.

    The file is created by the first change that uses it. Its journal mode is left as it is.

    :param id: what changes call it in ``target_system=``
    :param path: the file; its folder must exist
    :param marker_repository_name: the table of the markers
    :param busy_timeout: how long a statement, or the commit, waits for somebody else's
        transaction, in seconds
    :raises ConfigurationError: if an argument is wrong
    """

    def __init__(
        self,
        id: str,
        path: str | Path,
        *,
        marker_repository_name: str = "flamingockMarkers",
        busy_timeout: float = 60.0,
    ) -> None:
        super().__init__(id)
        if not (0 <= busy_timeout <= 3600 and math.isfinite(busy_timeout)):
            raise ConfigurationError(f"busy_timeout={busy_timeout!r}: give 0 to 3600 seconds.")

        check_names(marker_repository_name)
        self.file: SQLiteFile = SQLiteFile(path)
        self.marker_repository_name = marker_repository_name
        self._table = f'"{marker_repository_name}"'
        self._busy_timeout = busy_timeout
        self._pool: ConnectionPool | None = None

    async def _connect(self, stack: AsyncExitStack) -> None:
        await warn_of_network_file_system(await self.file.locate())
        self._pool = await stack.enter_async_context(ConnectionPool(self.file))

    def offers(self) -> Sequence[Offer]:
        """Return the one offer: a connection."""
        return (Offer(names=("db", "connection", "session"), type=aiosqlite.Connection),)

    def objects(self, session: aiosqlite.Connection) -> Mapping[str, object]:
        """Return the connection that the transaction is on."""
        return {"db": session}

    @asynccontextmanager
    async def handles(self) -> AsyncIterator[Mapping[str, object]]:
        """
        Lend a connection that commits every statement.

        :raises FlamingockError: if a transaction was begun and not ended; it is rolled back
        """
        async with self._connections().lend() as connection:
            await connection.executescript(waiting(self._busy_timeout))
            yield self.objects(connection)
            if is_within_transaction(connection):
                raise FlamingockError(
                    f"A transaction on {self.file.given} was begun and not ended, so that what it "
                    "wrote is rolled back. End it with COMMIT, or leave out transactional=False."
                )

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[aiosqlite.Connection]:
        """
        Run a transaction on a connection of its own; it locks the file from the beginning.

        :raises SystemBusyError: if somebody else's transaction holds the file; nothing was done
        :raises UnknownOutcomeError: if the disk failed during the commit
        """
        async with self._connections().lend() as connection:
            await self._begin(connection)
            try:
                yield connection
            except Exception as exc:
                _add_hint(exc)
                raise

            with anyio.move_on_after(self._busy_timeout + CLOSING_TIME, shield=True):
                await self._commit(connection)
                return

            raise self._unknown_outcome()

    def _connections(self) -> ConnectionPool:
        if self._pool is None or not self._pool.is_open:
            raise ConfigurationError(f"{self!r} is not open. Use it within 'async with'.")

        return self._pool

    async def _begin(self, connection: aiosqlite.Connection) -> None:
        try:
            await connection.executescript(f"BEGIN IMMEDIATE; {waiting(self._busy_timeout)}")
        except sqlite3.Error as exc:
            if is_busy(exc):
                raise busy_error(self.file.given) from exc

            raise

        await connection.set_authorizer(_deny_ends)

    async def _commit(self, connection: aiosqlite.Connection) -> None:
        require_transaction(connection, self.file)
        try:
            await connection.set_authorizer(None)
            await connection.execute("COMMIT")
        except sqlite3.Error as exc:
            if is_busy(exc):
                raise SystemBusyError(
                    f"{self.file.given} was being read by others for longer than busy_timeout="
                    f"{self._busy_timeout:g} s: the transaction was rolled back, nothing was done."
                ) from exc

            if error_code(exc) == sqlite3.SQLITE_IOERR:
                raise self._unknown_outcome() from exc

            raise

    def _unknown_outcome(self) -> UnknownOutcomeError:
        return UnknownOutcomeError(
            f"The disk failed while a transaction on {self.file.given} was committed: it may or "
            "may not have been done."
        )

    async def insert_marker(self, session: aiosqlite.Connection, key: str, change_id: str) -> None:
        """
        Say, as the last statement of a transaction, that it was committed.

        :raises LockLostError: if somebody has claimed the marker
        """
        require_transaction(session, self.file)
        try:
            await self._insert(session, key, change_id, MarkerOutcome.COMMITTED)
        except sqlite3.IntegrityError as exc:
            if not is_taken_key(exc):
                raise

            raise claimed_error(change_id) from exc

    async def claim_marker(self, key: str, change_id: str) -> MarkerOutcome:
        """
        Insert the marker as ABORTED if there is none, and return what it says then.

        :raises SystemBusyError: if somebody else's transaction holds the file
        """
        async with self.transaction() as session:
            await session.execute(self._create_table())
            await self._insert(session, key, change_id, MarkerOutcome.ABORTED, "OR IGNORE")
            rows = await session.execute_fetchall(
                f"SELECT outcome FROM {self._table} WHERE key = ?", (key,)
            )
            return MarkerOutcome(next(iter(rows))[0])

    async def remove_marker(self, key: str) -> None:
        """
        Remove the marker, and ABORTED ones that are older than a day.

        :raises SystemBusyError: if somebody else's transaction holds the file
        """
        async with self.transaction() as session:
            try:
                await session.execute(
                    f"DELETE FROM {self._table} WHERE key = ? "
                    f"OR outcome = 'ABORTED' AND createdAt < {_YESTERDAY}",
                    (key,),
                )
            except sqlite3.OperationalError as exc:
                if not is_missing_table(exc):
                    raise

    async def _insert(
        self,
        session: aiosqlite.Connection,
        key: str,
        change_id: str,
        outcome: MarkerOutcome,
        resolution: str = "",
    ) -> None:
        statement = f"INSERT {resolution} INTO {self._table} VALUES (?, ?, ?, {_NOW})"
        try:
            await session.execute(statement, (key, outcome, change_id))
        except sqlite3.OperationalError as exc:
            if not is_missing_table(exc):
                raise

            await session.execute(self._create_table())
            await session.execute(statement, (key, outcome, change_id))

    def _create_table(self) -> str:
        return (
            f"CREATE TABLE IF NOT EXISTS {self._table} "
            "(key TEXT PRIMARY KEY, outcome TEXT NOT NULL, changeId TEXT, createdAt TEXT)"
        )

    def __repr__(self) -> str:
        """Return the class, the id and the path."""
        return f"{type(self).__name__}({self.id!r}, {self.file.given!r})"


def _deny_ends(action: int, *_: object) -> int:
    return sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_TRANSACTION else sqlite3.SQLITE_OK


def _add_hint(exc: BaseException) -> None:
    """Explain an error of SQLite that comes from the transaction around the change."""
    if not isinstance(exc, sqlite3.DatabaseError):
        return

    if error_code(exc) == sqlite3.SQLITE_AUTH or "transaction" in str(exc):
        exc.add_note(_HINT)
