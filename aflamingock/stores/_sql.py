"""A relational database of the audit store: its connections, and what its errors mean."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Self, TypeVar

import anyio
from sqlalchemy import Executable, MetaData, Row
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.schema import CreateIndex, CreateTable

from ..exceptions import (
    AuditStoreConnectionError,
    AuditStoreError,
    AuditStoreIndexError,
    AuditStorePermissionError,
    ConfigurationError,
    FlamingockError,
    SystemBusyError,
    UnknownOutcomeError,
)
from ..targets._sql import connect, look_first, place_of
from ..targets._sql_dialect import (
    DENIED,
    MISSING_DATABASE,
    REFUSED_LOGIN,
    TAKEN_KEY,
    code_of,
    is_busy,
    is_existing,
    is_lost,
    is_missing_table,
    reason_of,
)
from ._refusal import missing_table
from ._sql_schema import Part, command, find_missing, stranger

_CONNECTING_TIME = 10.0
_ANSWERING_TIME = 15.0
_CREATION_TIME = 60.0
_CLOSING_TIME = 5.0

T = TypeVar("T")

Rows = Sequence[Mapping[str, object]]


class SQLDatabase:
    """
    Runs statements, each of them committed by itself, on connections of its own.

    Drivers' errors come out as errors of the audit store that name the place.

    :param make_engine: returns an engine to use until the database is closed
    :param permissions: returns the rights that the user needs, for the error when one is missing
    """

    def __init__(
        self, make_engine: Callable[[], AsyncEngine], permissions: Callable[[], str]
    ) -> None:
        self._make_engine = make_engine
        self._permissions = permissions
        self._engine: AsyncEngine | None = None
        self._is_connected = False

    async def __aenter__(self) -> Self:
        """Make the engine; nothing is connected."""
        self._engine = self._make_engine()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        engine, self._engine = self._engine, None
        self._is_connected = False
        if engine is not None:
            await engine.dispose()

    @property
    def engine(self) -> AsyncEngine:
        """
        The engine.

        :raises ConfigurationError: if the store is not open
        """
        if self._engine is None:
            raise ConfigurationError("The audit store is not open. Use it within 'async with'.")

        return self._engine

    async def rows(self, statement: Executable) -> Sequence[Row[*tuple[Any, ...]]]:
        """Return what a query finds: nothing where the table is missing."""
        with self._explained():
            try:
                return (await self._read(lambda one: one.execute(statement))).all()
            except DBAPIError as exc:
                if is_missing_table(exc):
                    return ()

                raise

    async def write(
        self,
        statement: Executable,
        rows: Rows | None = None,
        *,
        session: AsyncConnection | None = None,
    ) -> int:
        """
        Run one statement that writes, and return how many rows it wrote.

        :param session: write within this transaction instead
        :raises AuditStoreSchemaError: if the table is missing
        :raises DBAPIError: if a key is taken already
        """
        with self._explained(writes=session is None):
            if session is not None:
                return (await session.execute(statement, rows)).rowcount

            async with self._connected() as connection:
                return (await connection.execute(statement, rows)).rowcount

    async def missing(self, metadata: MetaData) -> Sequence[Part]:
        """
        Return the tables and indexes that are not there, in the order to create them.

        :raises AuditStoreIndexError: if something else stands in the place of one
        """
        with self._explained():
            return await self._read(lambda one: one.run_sync(find_missing, metadata, self.place))

    def command(self, part: Part) -> str:
        """Return the statement that creates a part."""
        return command(part, self.engine.dialect, self.place)

    async def create(self, part: Part) -> None:
        """
        Create a table or an index, or find that somebody else has just done so.

        :raises AuditStorePermissionError: if the user may not create a table
        :raises AuditStoreIndexError: if an index cannot be created
        """
        try:
            with self._explained():
                async with self._connected(within=_CREATION_TIME) as connection:
                    await connection.execute(part)
        except (AuditStoreConnectionError, SystemBusyError):
            raise
        except (DBAPIError, FlamingockError) as exc:
            cause = exc if isinstance(exc, DBAPIError) else exc.__cause__
            if cause is not None and is_existing(cause):
                return await self._require(part, cause)

            if isinstance(part, CreateIndex):
                raise AuditStoreIndexError(
                    f"Failed to create audit store indexes in {self.place}: "
                    f"{reason_of(cause or exc)}. Run this as the owner of the table: "
                    f"{self.command(part)}"
                ) from cause

            raise

    async def _require(self, part: Part, exc: BaseException) -> None:
        # Its name is taken: by the same, which somebody else has just created, or not.
        table = part.element if isinstance(part, CreateTable) else part.element.table
        assert table is not None
        missing = await self.missing(table.metadata)
        if part.element.name in {other.element.name for other in missing}:
            raise stranger(part, self.engine.dialect, self.place) from exc

    @property
    def place(self) -> str:
        """Where the database is, without user and password."""
        return place_of(self.engine)

    async def _read(self, reading: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        try:
            async with self._connected() as connection:
                return await reading(connection)
        except (DBAPIError, ConnectionError) as exc:
            if not is_lost(exc):
                raise

        # What has stood idle since the server was restarted is dead, and the pool knows it now.
        async with self._connected() as connection:
            return await reading(connection)

    @asynccontextmanager
    async def _connected(self, within: float | None = None) -> AsyncIterator[AsyncConnection]:
        try:
            with anyio.fail_after(_CONNECTING_TIME):
                if not self._is_connected:
                    await look_first(self.engine)

                connection = await connect(self.engine)
                self._is_connected = True
        except (SQLAlchemyError, OSError) as exc:
            if is_busy(exc):
                raise

            # a user without any right on a database is refused when he connects to it
            raise (self._denied if code_of(exc) in DENIED else self._unreachable)(exc) from exc

        try:
            with anyio.fail_after(within or _ANSWERING_TIME):
                yield connection
        finally:
            with anyio.move_on_after(_CLOSING_TIME, shield=True):
                await connection.close()

    @contextmanager
    def _explained(self, *, writes: bool = False) -> Iterator[None]:
        try:
            yield
        except (DBAPIError, OSError) as exc:
            if code_of(exc) in TAKEN_KEY and not is_lost(exc):
                raise

            raise self._meaning(exc, writes=writes) from exc

    def _meaning(self, exc: DBAPIError | OSError, *, writes: bool) -> FlamingockError:
        if is_lost(exc):
            if writes:
                return UnknownOutcomeError(
                    f"The answer of the audit store {self.place} to a write was lost: it may or "
                    "may not have been done."
                )

            return self._unreachable(exc)

        if is_busy(exc):
            return SystemBusyError(
                f"The audit store {self.place} is busy, and nothing was done: {reason_of(exc)}. "
                "Try again in a moment."
            )

        if is_missing_table(exc):
            return missing_table(self.place)

        if code_of(exc) in DENIED:
            return self._denied(exc)

        if code_of(exc) in ("SQLITE_CANTOPEN", "SQLITE_NOTADB"):
            return self._unreachable(exc)

        return AuditStoreError(f"The audit store {self.place} refused: {reason_of(exc)}.")

    def _denied(self, exc: BaseException) -> AuditStorePermissionError:
        return AuditStorePermissionError(
            f"Insufficient permissions to create collections/tables: {self.place} says: "
            f"{reason_of(exc)}. The user needs the right to create tables there once, and then:\n"
            f"{self._permissions()}"
        )

    def _unreachable(self, exc: BaseException) -> AuditStoreConnectionError:
        code = code_of(exc)
        if code in REFUSED_LOGIN:
            reason = "refuses the user or the password. Verify both, and the rights to connect"
        elif code in MISSING_DATABASE:
            reason = "has no such database. Verify its name, or create it"
        elif self.engine.dialect.name == "sqlite":
            reason = "cannot be opened. Verify the path, the rights, and that it is a database"
        else:
            reason = "does not answer. Verify host and port, and that the server is running"

        return AuditStoreConnectionError(
            f"Unable to connect to audit store: {self.place} {reason}."
        )
