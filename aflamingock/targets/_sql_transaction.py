"""Transactions of a SQL target that a change cannot end, and what comes back to the pool."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

import anyio
from sqlalchemy import Connection, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from ..exceptions import FlamingockError
from ._sql import CLOSING_TIME
from ._sql_dialect import (
    NO_SAVEPOINT,
    RELEASE,
    beginning,
    code_of,
    commits_implicitly,
    ends_transaction,
    family,
    is_lost,
    is_plain,
    is_within_transaction,
    needs_no_transaction,
)

logger = logging.getLogger(__name__)

BEGINNING_TIME = 30.0
"""How long a connection from the pool may take to begin, in seconds."""

"""How long an end that must not be cut off may take, in seconds."""

_HINT = (
    "aflamingock ends the transaction itself; give the change transactional=False if it must "
    "commit on its own."
)


def sync_of(connection: AsyncConnection) -> Connection:
    """Return the connection that events and drivers know."""
    assert connection.sync_connection is not None
    return connection.sync_connection


async def commit_everything(connection: AsyncConnection) -> None:
    """Let every statement on a connection be committed by itself."""
    await connection.execution_options(isolation_level="AUTOCOMMIT")
    await connection.begin()
    if is_within_transaction(sync_of(connection)):
        # an event of the user's engine has begun one
        await connection.exec_driver_sql("ROLLBACK")


async def begin(connection: AsyncConnection, *, idle_timeout: float) -> None:
    """
    Begin a transaction.

    :param idle_timeout: after how many seconds without a statement PostgreSQL may end it
    """
    dialect = sync_of(connection).dialect
    if dialect.name != "postgresql":
        # Begun and ended by statements: nothing else shows where MySQL commits by itself, and
        # SQLite would begin too late.
        await commit_everything(connection)
    elif await connection.run_sync(_commits_everything):
        await connection.execution_options(isolation_level="READ COMMITTED")

    for statement in beginning(dialect, idle_timeout):
        await connection.exec_driver_sql(statement)


def _commits_everything(connection: Connection) -> bool:
    driver: Any = connection.connection.dbapi_connection
    return connection.dialect.detect_autocommit_setting(driver)


class TransactionGuard:
    """
    Keeps a transaction open while a change is at work in it.

    :param connection: where it was begun
    :param place: what messages call the database
    """

    def __init__(self, connection: AsyncConnection, place: str) -> None:
        self._connection = connection
        self._sync = sync_of(connection)
        self._place = place
        self._is_armed = True
        self._has_failed = False
        self._is_plain = True
        event.listen(self._sync, "commit", self._refuse)
        event.listen(self._sync, "rollback", self._refuse)
        event.listen(self._sync, "before_cursor_execute", self._before)
        event.listen(self._sync, "after_cursor_execute", self._after)

    def release(self) -> None:
        """Let the transaction be ended."""
        self._is_armed = False

    async def may_have_committed(self) -> bool:
        """
        Say whether something in the transaction may stand, though it was not committed here.

        Only MySQL and MariaDB commit by themselves. A savepoint from the beginning tells whether
        the transaction is still the same; where it is not, it was the error of a plain statement
        that has ended it, by rolling it back, or it may have been committed.
        """
        if family(self._sync.dialect) != "mysql":
            return False

        self.release()
        with anyio.move_on_after(CLOSING_TIME, shield=True):
            try:
                await self._connection.exec_driver_sql(RELEASE)
            except DBAPIError as exc:
                if code_of(exc) == NO_SAVEPOINT:
                    return not (self._is_plain and self._has_failed)
            except (SQLAlchemyError, OSError):
                pass  # the connection is lost: nobody can be asked
            else:
                return False
            finally:
                self._is_armed = True

        return not self._is_plain

    async def require(self) -> None:
        """
        Make sure that the transaction still stands, as it was begun.

        :raises FlamingockError: if it was ended from within, or has failed
        """
        if not has_transaction(self._connection):
            raise ended_error(self._place)

        try:
            # After an error PostgreSQL answers COMMIT with ROLLBACK, and no driver says so.
            await self._connection.exec_driver_sql("SELECT 1")
        except SQLAlchemyError as exc:
            raise ended_error(self._place) from exc

    def _refuse(self, _: Connection) -> None:
        if self._is_armed:
            raise FlamingockError(f"A change cannot end the transaction that it runs in. {_HINT}")

    def _before(self, _: Connection, __: object, statement: str, *___: object) -> None:
        if not self._is_armed:
            return

        if words := ends_transaction(statement):
            raise FlamingockError(f"{words} would end the transaction of this change. {_HINT}")

        if words := commits_implicitly(self._sync.dialect, statement):
            raise FlamingockError(
                f"{words} would commit the transaction of this change: MySQL and MariaDB run no "
                "such statement within one. Give the change transactional=False."
            )

        if self._has_failed and family(self._sync.dialect) == "mysql":
            # An error may have ended the transaction, and does not say so.
            driver: Any = self._sync.connection.dbapi_connection
            driver.ping()

        if not is_within_transaction(self._sync):
            raise ended_error(self._place)

        self._is_plain = self._is_plain and is_plain(statement)
        self._has_failed = True

    def _after(self, _: Connection, __: object, statement: str, *___: object) -> None:
        self._has_failed = False
        if self._is_armed and not is_within_transaction(self._sync):
            raise FlamingockError(
                f"The transaction on {self._place} was ended by {statement[:60]!r}: what was "
                f"written before may stand. {_HINT}"
            )


def has_transaction(connection: AsyncConnection) -> bool:
    """Say whether SQLAlchemy and the server agree that a transaction is open."""
    sync = connection.sync_connection
    if sync is None or sync.closed:
        return False

    transaction = sync.get_transaction()
    return transaction is not None and transaction.is_active and is_within_transaction(sync)


def ended_error(place: str) -> FlamingockError:
    """Return the error for a transaction that does not stand any more."""
    return FlamingockError(
        f"The transaction on {place} was ended by a statement in it, or by an error that the "
        "change has hidden. Let the error leave the change."
    )


def add_hint(exc: BaseException) -> None:
    """Explain an error of the server that comes from the transaction around the change."""
    if needs_no_transaction(exc):
        exc.add_note(_HINT)


def is_dead(connection: AsyncConnection, exc: BaseException) -> bool:
    """Say whether an error, of SQLAlchemy or of the driver, tells that the connection has ended."""
    dialect = connection.dialect
    assert dialect.dbapi is not None
    if isinstance(exc, dialect.dbapi.Error):
        return dialect.is_disconnect(exc, None, None)

    return isinstance(exc, DBAPIError | ConnectionError | TimeoutError) and is_lost(exc)


async def give_back(connection: AsyncConnection) -> None:
    """
    Roll back what was left open, and return a connection to its pool if it is in order.

    Raises nothing, for what was committed on it stays so: the pool may talk to the server here,
    to restore what a connection was like, and even errors of the driver itself come out of it.
    """
    with anyio.move_on_after(CLOSING_TIME, shield=True):
        try:
            await connection.run_sync(_roll_back)
            await connection.close()
            return
        except Exception as exc:  # as above; the connection is not used again
            logger.info("A connection was broken when it was given back: %s", exc)

    with anyio.move_on_after(CLOSING_TIME, shield=True), suppress(Exception):
        await connection.invalidate()
        await connection.close()


def _roll_back(connection: Connection) -> None:
    connection.rollback()
    if is_within_transaction(connection):
        # SQLAlchemy takes the transaction for ended, by a commit that was refused.
        connection.connection.rollback()

    if is_within_transaction(connection):
        connection.invalidate()
