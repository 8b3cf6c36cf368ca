"""The SQL target passes the suite on every database, and what is special about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from aflamingock._states import MarkerOutcome
from aflamingock.exceptions import ConfigurationError, FlamingockError
from aflamingock.targets.sql import SQLTargetSystem
from aflamingock.testing import TargetSystemSuite
from tests.servers import sql
from tests.servers.sql import DATABASES, query, url_of
from tests.targets.kit import check_that_it_must_be_open

pytestmark = pytest.mark.usefixtures("excused_sql")


def connection_of(objects: Mapping[str, Any]) -> AsyncConnection:
    db: AsyncConnection = objects["db"]
    return db


class SQLRules(TargetSystemSuite):
    @pytest.fixture
    async def url(self):
        raise NotImplementedError

    @pytest.fixture
    async def make_target(self, url):
        await query(url, "CREATE TABLE written (value VARCHAR(40))")
        return lambda: SQLTargetSystem.from_url("db", url)

    async def write(self, objects, value):
        statement = text("INSERT INTO written VALUES (:value)")
        await connection_of(objects).execute(statement, {"value": value})

    async def read(self, objects):
        found = await connection_of(objects).execute(text("SELECT value FROM written"))
        return found.scalars().all()

    async def commit(self, objects):
        await connection_of(objects).commit()

    async def roll_back(self, objects):
        await connection_of(objects).rollback()


class TestOnSQLite(SQLRules):
    @pytest.fixture
    async def url(self, tmp_path):
        return sql.sqlite_url(tmp_path)


class TestOnPostgreSQL(SQLRules):
    @pytest.fixture
    async def url(self, postgresql_url):
        return postgresql_url


class TestOnMariaDB(SQLRules):
    @pytest.fixture
    async def url(self, mariadb_url):
        return mariadb_url


class TestOnMariaDBWithAiomysql(SQLRules):
    @pytest.fixture
    async def url(self, mariadb_url):
        return mariadb_url.set(drivername="mariadb+aiomysql")


class WithStatements(SQLRules):
    """A change that ends its transaction by a statement."""

    async def commit(self, objects):
        await connection_of(objects).execute(text(" /* now */ commit"))

    async def roll_back(self, objects):
        await connection_of(objects).execute(text("ROLLBACK"))


class TestOnAnEngineThatCommitsEverything(WithStatements):
    @pytest.fixture
    async def make_target(self, postgresql_url):
        await query(postgresql_url, "CREATE TABLE written (value VARCHAR(40))")
        engine = create_async_engine(postgresql_url, isolation_level="AUTOCOMMIT")
        yield lambda: SQLTargetSystem("db", engine)
        await engine.dispose()


class TestOnAnEngineThatSkipsRollbacks(WithStatements):
    @pytest.fixture
    async def make_target(self, mariadb_url):
        await query(mariadb_url, "CREATE TABLE written (value VARCHAR(40))")
        engine = create_async_engine(
            mariadb_url, isolation_level="AUTOCOMMIT", skip_autocommit_rollback=True
        )
        yield lambda: SQLTargetSystem("db", engine)
        await engine.dispose()


class TestOnAnEngineThatBegins(WithStatements):
    """The engine is prepared for savepoints, as SQLAlchemy's documents used to advise."""

    @pytest.fixture
    async def make_target(self, tmp_path):
        url = sql.sqlite_url(tmp_path)
        await query(url, "CREATE TABLE written (value VARCHAR(40))")
        engine = create_async_engine(url)

        @event.listens_for(engine.sync_engine, "connect")
        def take_over(connection, record):
            connection.isolation_level = None

        @event.listens_for(engine.sync_engine, "begin")
        def begin(connection):
            connection.exec_driver_sql("BEGIN")

        yield lambda: SQLTargetSystem("db", engine)
        await engine.dispose()


@pytest.fixture(params=DATABASES)
def url(request):
    return url_of(request.param, request)


@pytest.fixture
async def target(url):
    async with SQLTargetSystem.from_url("db", url) as target:
        yield target


async def test_tombstones_are_removed_after_a_day(target, url):
    await target.claim_marker("old", "c")
    await target.claim_marker("young", "c")
    async with target.transaction() as session:
        await target.insert_marker(session, "committed", "c")

    name = target.engine.dialect.identifier_preparer.quote("flamingockMarkers")
    created = target.engine.dialect.identifier_preparer.quote("createdAt")
    key = target.engine.dialect.identifier_preparer.quote("key")
    await query(
        url, f"UPDATE {name} SET {created} = {created} - 86460000 WHERE {key} <> :k", k="young"
    )
    await target.remove_marker("other")
    rows = await query(url, f"SELECT {key} FROM {name} ORDER BY 1")

    assert [row[0] for row in rows] == ["committed", "young"]


async def test_markers_are_in_the_schema_that_was_asked_for(postgresql_url):
    await query(postgresql_url, "CREATE SCHEMA ours")
    target = SQLTargetSystem.from_url(
        "db", postgresql_url, schema="ours", marker_repository_name="marks"
    )
    async with target:
        assert await target.claim_marker("k", "c") is MarkerOutcome.ABORTED

    assert await query(postgresql_url, "SELECT count(*) FROM ours.marks") == [(1,)]


async def test_a_transaction_left_open_outside_is_rolled_back_and_told(target, url):
    await query(url, "CREATE TABLE t (x INTEGER)")

    async def change() -> None:
        async with target.handles() as objects:
            await connection_of(objects).execute(text("BEGIN"))
            await connection_of(objects).execute(text("INSERT INTO t VALUES (1)"))

    with pytest.raises(FlamingockError, match="begun and not ended"):
        await change()

    async with target.handles() as objects:
        await connection_of(objects).execute(text("INSERT INTO t VALUES (2)"))

    assert await query(url, "SELECT x FROM t") == [(2,)]


async def test_a_begin_without_effect_is_refused(target):
    async with target.handles() as objects:
        with pytest.raises(InvalidRequestError):
            await connection_of(objects).begin()


async def test_a_connection_comes_back_as_it_was(url):
    """Neither the level of isolation nor a transaction is left on the user's connection."""
    engine = create_async_engine(url, pool_size=1, max_overflow=0)
    try:
        async with SQLTargetSystem("db", engine) as target:
            async with target.handles():
                pass

            async with target.transaction() as session:
                await session.execute(text("CREATE TEMPORARY TABLE t (x INTEGER)"))

            async with engine.begin() as connection:
                await connection.execute(text("INSERT INTO t VALUES (1)"))

            async with engine.connect() as connection:
                await connection.execute(text("INSERT INTO t VALUES (2)"))
                await connection.rollback()
                assert (await connection.execute(text("SELECT x FROM t"))).all() == [(1,)]
    finally:
        await engine.dispose()


def test_a_connection_is_offered_under_three_names():
    [offer] = SQLTargetSystem.from_url("db", "sqlite:///x.db").offers()

    assert offer.type is AsyncConnection
    assert offer.names == ("db", "connection", "session")


def test_its_name_is_short_and_keeps_the_secrets():
    target = SQLTargetSystem.from_url("db", "postgresql://me:secret@host/shop")

    assert repr(target) == "SQLTargetSystem('db', 'postgresql://host/shop')"


@pytest.mark.parametrize("seconds", [-1, 0, float("nan"), float("inf"), 3601])
def test_an_odd_idle_timeout_is_refused(seconds):
    with pytest.raises(ConfigurationError, match="idle_timeout"):
        SQLTargetSystem.from_url("db", "sqlite:///x.db", idle_timeout=seconds)


@pytest.mark.parametrize("name", ["", "a-b", 'a"b', "1a", "a" * 56, "sqlite_x", "ä", "a\n"])
def test_an_odd_name_of_the_markers_is_refused(name):
    with pytest.raises(ConfigurationError, match="repository"):
        SQLTargetSystem.from_url("db", "sqlite:///x.db", marker_repository_name=name)


async def test_it_must_be_open(url):
    await check_that_it_must_be_open(SQLTargetSystem.from_url("db", url))
