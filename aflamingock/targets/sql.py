"""A relational database as a target system, through SQLAlchemy's asyncio engine."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import Self

import anyio
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from .._states import MarkerOutcome
from ..abc import Offer, TransactionalTargetSystem
from ..exceptions import ConfigurationError, FlamingockError, SystemBusyError, UnknownOutcomeError
from ._refusal import claimed_error
from ._sql import (
    CLOSING_TIME,
    check_engine,
    check_names,
    check_schema,
    connect,
    engine_of,
    place_of,
)
from ._sql_dialect import TAKEN_KEY, code_of, is_busy, is_lost, is_within_transaction, reason_of
from ._sql_marker import SQLMarkers
from ._sql_transaction import (
    BEGINNING_TIME,
    TransactionGuard,
    add_hint,
    begin,
    commit_everything,
    ended_error,
    give_back,
    has_transaction,
    is_dead,
    sync_of,
)
from ._sqlite_place import warn_of_network_file_system

Prepare = Callable[[AsyncConnection], Awaitable[None]]

_MOST_DEAD = 100


class SQLTargetSystem(TransactionalTargetSystem[AsyncConnection]):
    """
    Gives changes an :class:`~sqlalchemy.ext.asyncio.AsyncConnection`, by annotation or as ``db``.

    Outside a transaction the connection commits every statement by itself. A change begins one of
    its own there by ``text("BEGIN")``: SQLAlchemy's ``begin()``, which would do nothing, raises.

    :param id: what changes call it in ``target_system=``
    :param engine: an engine of the caller's, which is never disposed of; markers are claimed on
        connections of their own, made from the same settings
    :param schema: the schema of the markers, which must exist; the default one if not given
    :param marker_repository_name: the table of the markers
    :param idle_timeout: after how many seconds without a statement PostgreSQL ends a transaction,
        so that a stopped process does not lock its rows for ever
    :raises ConfigurationError: if an argument is wrong
    """

    def __init__(
        self,
        id: str,
        engine: AsyncEngine,
        *,
        schema: str | None = None,
        marker_repository_name: str = "flamingockMarkers",
        idle_timeout: float = 60.0,
    ) -> None:
        super().__init__(id)
        check_engine(engine)
        check_schema(schema)
        check_names(marker_repository_name)
        if not (0 < idle_timeout <= 3600 and math.isfinite(idle_timeout)):
            raise ConfigurationError(f"idle_timeout={idle_timeout!r}: give up to 3600 seconds.")

        self.engine = engine
        self.schema = schema
        self.marker_repository_name = marker_repository_name
        self._place = place_of(engine)
        self._idle_timeout = idle_timeout
        self._owns_engine = False
        self._is_open = False
        self._markers = SQLMarkers(engine, marker_repository_name, schema)
        self._guards: dict[AsyncConnection, TransactionGuard] = {}

    @classmethod
    def from_url(
        cls,
        id: str,
        url: str | URL,
        *,
        schema: str | None = None,
        marker_repository_name: str = "flamingockMarkers",
        idle_timeout: float = 60.0,
    ) -> Self:
        """
        Return a target with an engine of its own, which is closed with it.

        :param url: of SQLAlchemy's form; the driver may be left out
        """
        target = cls(
            id,
            engine_of(url),
            schema=schema,
            marker_repository_name=marker_repository_name,
            idle_timeout=idle_timeout,
        )
        target._owns_engine = True
        return target

    async def _connect(self, stack: AsyncExitStack) -> None:
        if self._owns_engine:
            stack.push_async_callback(self.engine.dispose)

        if self.engine.dialect.name == "sqlite":
            await warn_of_network_file_system(self._place)

        await stack.enter_async_context(self._markers)
        self._is_open = True
        stack.callback(setattr, self, "_is_open", False)

    def offers(self) -> Sequence[Offer]:
        """Return the one offer: a connection."""
        return (Offer(names=("db", "connection", "session"), type=AsyncConnection),)

    def objects(self, session: AsyncConnection) -> Mapping[str, object]:
        """Return the connection that the transaction is on."""
        return {"db": session}

    @asynccontextmanager
    async def handles(self) -> AsyncIterator[Mapping[str, object]]:
        """
        Lend a connection that commits every statement.

        :raises FlamingockError: if a transaction was begun and not ended; it is rolled back
        """
        async with self._lend(_prepare) as connection:
            yield self.objects(connection)
            if is_within_transaction(sync_of(connection)):
                raise FlamingockError(
                    f"A transaction on {self._place} was begun and not ended, so that what it "
                    "wrote is rolled back. End it with COMMIT, or leave out transactional=False."
                )

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """
        Run a transaction on a connection of its own; on SQLite it locks the file from the start.

        :raises SystemBusyError: if it could not be begun; nothing was done
        :raises UnknownOutcomeError: if the answer to the commit was lost
        """
        async with self._lend(partial(begin, idle_timeout=self._idle_timeout)) as connection:
            guard = self._guards[connection] = TransactionGuard(connection, self._place)
            try:
                yield connection
                with anyio.move_on_after(CLOSING_TIME, shield=True):
                    await self._commit(connection, guard)
                    return

                await connection.invalidate()
                raise self._unknown_outcome()
            except Exception as exc:
                add_hint(exc)
                raise
            finally:
                guard.release()
                del self._guards[connection]

    async def has_committed(self, session: AsyncConnection) -> bool:
        """Say whether MySQL or MariaDB may have committed a part of the transaction by itself."""
        return await self._guards[session].may_have_committed()

    @asynccontextmanager
    async def _lend(self, prepare: Prepare) -> AsyncIterator[AsyncConnection]:
        self._require_open()
        with self._telling_busy():
            connection = await self._prepared(prepare)

        try:
            yield connection
        finally:
            await give_back(connection)

    async def _prepared(self, prepare: Prepare) -> AsyncConnection:
        for _ in range(_MOST_DEAD):
            connection = await connect(self.engine)
            try:
                with anyio.fail_after(BEGINNING_TIME):
                    await prepare(connection)
            except BaseException as exc:
                if not is_dead(connection, exc):
                    await give_back(connection)
                    raise

                # It had stood idle in the pool since the server was restarted.
                await connection.invalidate()
                await connection.close()
            else:
                return connection

        raise SystemBusyError(f"{self._place} ends every connection at once. Try again.")

    def _require_open(self) -> None:
        if not self._is_open:
            raise ConfigurationError(f"{self!r} is not open. Use it within 'async with'.")

    async def _commit(self, connection: AsyncConnection, guard: TransactionGuard) -> None:
        await guard.require()
        guard.release()
        try:
            with self._telling_busy():
                await connection.commit()
        except (DBAPIError, OSError) as exc:
            if is_lost(exc):
                raise self._unknown_outcome() from exc

            raise

    @contextmanager
    def _telling_busy(self, *, lost: bool = False) -> Iterator[None]:
        """
        Tell what is safe to do again.

        :param lost: whether that is so when the connection is lost, too
        """
        try:
            yield
        except (DBAPIError, OSError) as exc:
            if not (is_busy(exc) or (lost and is_lost(exc))):
                raise

            raise SystemBusyError(
                f"{self._place} is busy, and nothing was done: {reason_of(exc)}. Try again in a "
                "moment."
            ) from exc

    def _unknown_outcome(self) -> UnknownOutcomeError:
        return UnknownOutcomeError(
            f"The answer to the commit of a transaction on {self._place} was lost: it may or may "
            "not have been done."
        )

    async def insert_marker(self, session: AsyncConnection, key: str, change_id: str) -> None:
        """
        Say, as the last statement of a transaction, that it was committed.

        :raises LockLostError: if somebody has claimed the marker
        :raises SystemBusyError: if a claim of it could not be waited for
        """
        if not has_transaction(session):
            raise ended_error(self._place)

        try:
            with self._telling_busy():
                await self._markers.insert(session, key, change_id)
        except DBAPIError as exc:
            if code_of(exc) not in TAKEN_KEY:
                raise

            raise claimed_error(change_id) from exc

    async def claim_marker(self, key: str, change_id: str) -> MarkerOutcome:
        """
        Insert the marker as ABORTED if there is none, and return what it says then.

        :raises SystemBusyError: if the transaction that it belongs to is still open, or the
            server does not answer; it is safe to try again
        """
        self._require_open()
        with self._telling_busy(lost=True):
            return await self._markers.claim(key, change_id)

    async def remove_marker(self, key: str) -> None:
        """
        Remove the marker, and ABORTED ones that are older than a day.

        :raises SystemBusyError: if somebody else's transaction holds it, or the server does not
            answer; it is safe to try again
        """
        self._require_open()
        with self._telling_busy(lost=True):
            await self._markers.remove(key)

    def __repr__(self) -> str:
        """Return the class, the id and the place."""
        return f"{type(self).__name__}({self.id!r}, {self._place!r})"


async def _prepare(connection: AsyncConnection) -> None:
    await commit_everything(connection)
    await connection.exec_driver_sql("SELECT 1")
