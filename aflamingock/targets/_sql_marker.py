"""The markers of a SQL target: one table beside the data."""

from __future__ import annotations

from typing import Self

from sqlalchemy import BigInteger, Column, MetaData, Table, delete, insert, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from .._states import MarkerOutcome
from ._sql import connected, own_engine
from ._sql_dialect import (
    TAKEN_KEY,
    ExactText,
    ServerMilliseconds,
    code_of,
    is_existing,
    is_missing_table,
)

_DAY = 24 * 60 * 60 * 1000
_MOST_AT_ONCE = 1000


class SQLMarkers:
    """
    Inserts markers on the connection of a change, and claims them on connections of its own.

    The errors of SQLAlchemy pass unchanged.
    """

    def __init__(self, engine: AsyncEngine, name: str, schema: str | None) -> None:
        self._template = engine
        self._engine = engine
        self._is_created = False
        self._table = Table(
            name,
            MetaData(schema=schema),
            Column("key", ExactText(190), primary_key=True),
            Column("outcome", ExactText(40), nullable=False),
            Column("changeId", ExactText()),
            Column("createdAt", BigInteger, nullable=False),
        )

    async def __aenter__(self) -> Self:
        """Make an engine; nothing is connected."""
        self._engine = own_engine(self._template)
        self._is_created = False
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self._engine.dispose()

    async def insert(self, session: AsyncConnection, key: str, change_id: str) -> None:
        """Insert a marker as COMMITTED, within a transaction."""
        if session.dialect.name == "sqlite":
            # the transaction has locked the file for every other connection
            await session.run_sync(self._table.create, checkfirst=True)
        else:
            await self._create()

        await self._insert(session, key, change_id, MarkerOutcome.COMMITTED)

    async def claim(self, key: str, change_id: str) -> MarkerOutcome:
        """Insert a marker as ABORTED if there is none, and return what it says then."""
        await self._create()
        query = select(self._table.c.outcome).where(self._table.c.key == key)
        async with connected(self._engine) as connection:
            while True:
                try:
                    await self._insert(connection, key, change_id, MarkerOutcome.ABORTED)
                except DBAPIError as exc:
                    if code_of(exc) not in TAKEN_KEY:
                        raise
                else:
                    return MarkerOutcome.ABORTED

                # nothing is found if it was removed since
                if (found := (await connection.execute(query)).scalar()) is not None:
                    return MarkerOutcome(found)

    async def remove(self, key: str) -> None:
        """Remove a marker, and ABORTED ones that are older than a day."""
        column = self._table.c
        # Looked up first: a delete that scans would wait for the markers of open transactions.
        old = select(column.key).where(
            column.outcome == MarkerOutcome.ABORTED,
            column.createdAt < ServerMilliseconds() - _DAY,
        )
        try:
            async with connected(self._engine) as connection:
                found = await connection.execute(old.limit(_MOST_AT_ONCE))
                keys = [key, *found.scalars()]
                await connection.execute(delete(self._table).where(column.key.in_(keys)))
        except DBAPIError as exc:
            if not is_missing_table(exc):
                raise

    async def _create(self) -> None:
        if self._is_created:
            return

        try:
            async with connected(self._engine) as connection:
                await connection.run_sync(self._table.create, checkfirst=True)
        except DBAPIError as exc:
            if not is_existing(exc):
                raise

        self._is_created = True

    async def _insert(
        self, session: AsyncConnection, key: str, change_id: str, outcome: MarkerOutcome
    ) -> None:
        await session.execute(
            insert(self._table).values(
                key=key, outcome=outcome, changeId=change_id, createdAt=ServerMilliseconds()
            )
        )
