"""What the SQL target refuses within a transaction, and what it allows."""

from __future__ import annotations

from contextlib import suppress

import anyio
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from aflamingock.exceptions import FlamingockError
from aflamingock.targets.sql import SQLTargetSystem
from tests.servers import sql
from tests.servers.sql import DATABASES, query, url_of
from tests.targets.sql import prepared, rows, transact, with_orm

pytestmark = pytest.mark.usefixtures("excused_sql")


@pytest.fixture(params=DATABASES)
def url(request):
    return url_of(request.param, request)


@pytest.fixture(params=["mysql+asyncmy", "mysql+aiomysql"])
def mysql_url(request):
    return url_of(request.param, request)


@pytest.mark.parametrize(
    "end",
    [
        lambda db: db.commit(),
        lambda db: db.rollback(),
        lambda db: db.close(),
        lambda db: db.run_sync(lambda connection: connection.commit()),
        lambda db: db.exec_driver_sql("COMMIT"),
        lambda db: db.execute(text("/* a */ -- b\n end")),
        lambda db: db.execute(text("ROLLBACK")),
        lambda db: db.execute(text("start  transaction")),
        with_orm,
    ],
)
async def test_what_would_end_the_transaction_is_refused_with_a_hint(url, end):
    await prepared(url)
    with pytest.raises(FlamingockError, match="transactional=False"):
        await transact(url, "INSERT INTO t VALUES (1)", end)

    assert await rows(url) == []


@pytest.mark.parametrize("end", [lambda db: db.commit(), lambda db: db.rollback()])
async def test_a_refusal_that_is_hidden_fails_the_transaction(url, end):
    await prepared(url)

    async def hide(session):
        with suppress(FlamingockError):
            await end(session)

    with pytest.raises(FlamingockError, match="ended by a statement in it"):
        await transact(url, "INSERT INTO t VALUES (1)", hide)

    assert await rows(url) == []


async def test_savepoints_are_allowed(url):
    await prepared(url)

    async def save(session):
        with suppress(IntegrityError):
            async with session.begin_nested():
                await session.execute(text("INSERT INTO t VALUES (2)"))
                await session.execute(text("INSERT INTO t VALUES (1)"))

        async with session.begin_nested():
            await session.execute(text("INSERT INTO t VALUES (3)"))

    await transact(
        url,
        "INSERT INTO t VALUES (1)",
        save,
        "SAVEPOINT s",
        "INSERT INTO t VALUES (4)",
        "ROLLBACK TO SAVEPOINT s",
        "RELEASE SAVEPOINT s",
    )
    assert await rows(url) == [1, 3]


@pytest.mark.parametrize("statement", ["CREATE INDEX CONCURRENTLY i ON t (x)", "VACUUM"])
async def test_what_cannot_be_in_a_transaction_fails_with_a_hint(postgresql_url, statement):
    await prepared(postgresql_url)
    with pytest.raises(DBAPIError) as error:
        await transact(postgresql_url, statement)

    assert "transactional=False" in error.value.__notes__[0]
    target = SQLTargetSystem.from_url("db", postgresql_url)
    async with target, target.handles() as objects:
        db = objects["db"]
        assert isinstance(db, AsyncConnection)
        await db.execute(text(statement))


async def test_what_sqlite_cannot_run_in_a_transaction_fails_with_a_hint(tmp_path):
    with pytest.raises(DBAPIError) as error:
        await transact(sql.sqlite_url(tmp_path), "VACUUM")

    assert "transactional=False" in error.value.__notes__[0]


@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
async def test_tables_are_part_of_the_transaction(url):
    await prepared(url)
    with pytest.raises(IntegrityError):
        await transact(
            url,
            "DROP TABLE t",
            "CREATE TABLE u (x INTEGER PRIMARY KEY)",
            "INSERT INTO u VALUES (1), (1)",
        )

    assert await rows(url) == []


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE u (x INTEGER)",
        "alter table t ADD COLUMN y INTEGER",
        "/* a */ DROP TABLE t",
        "TRUNCATE t",
        "GRANT SELECT ON t TO x",
        "LOCK TABLES t WRITE",
        "SET autocommit = 0",
        "CREATE OR REPLACE VIEW v AS SELECT x FROM t",
    ],
)
async def test_what_mysql_commits_implicitly_is_refused_before_it_does(mysql_url, statement):
    await prepared(mysql_url)
    with pytest.raises(FlamingockError, match="transactional=False"):
        await transact(mysql_url, "INSERT INTO t VALUES (1)", statement)

    assert await rows(mysql_url) == []


async def test_temporary_tables_are_allowed_on_mysql(mysql_url):
    await prepared(mysql_url)
    await transact(
        mysql_url,
        "CREATE TEMPORARY TABLE u (x INTEGER)",
        "INSERT INTO u VALUES (7)",
        "INSERT INTO t SELECT x FROM u",
        "DROP TEMPORARY TABLE u",
    )
    assert await rows(mysql_url) == [7]


async def test_a_commit_that_mysql_hides_in_a_procedure_is_found_at_once(mysql_url):
    await prepared(mysql_url)
    await query(
        mysql_url,
        "CREATE PROCEDURE p() BEGIN CREATE TABLE u (x INTEGER); INSERT INTO t VALUES (2); END",
    )
    with pytest.raises(FlamingockError, match="ended by 'CALL p.*what was written before may"):
        await transact(
            mysql_url, "INSERT INTO t VALUES (1)", "CALL p()", "INSERT INTO t VALUES (3)"
        )

    assert await rows(mysql_url) == [1, 2]


async def test_after_a_deadlock_that_is_hidden_nothing_is_written_outside(mysql_url):
    """InnoDB has rolled the transaction back, and the protocol's error does not say so."""
    await prepared(mysql_url)
    await query(mysql_url, "INSERT INTO t VALUES (10), (20), (30)")
    target = SQLTargetSystem.from_url("db", mysql_url)
    async with target, target.engine.connect() as other:
        # who has written more is not the victim
        await other.execute(text("UPDATE t SET x = 31 WHERE x = 30"))
        await other.execute(text("INSERT INTO t VALUES (41), (42), (43), (44)"))
        await other.execute(text("UPDATE t SET x = 21 WHERE x = 20"))

        async def change() -> None:
            async with target.transaction() as session:
                await session.execute(text("UPDATE t SET x = 11 WHERE x = 10"))
                async with anyio.create_task_group() as group:
                    group.start_soon(other.execute, text("UPDATE t SET x = 12 WHERE x = 10"))
                    await anyio.sleep(0.3)
                    with suppress(DBAPIError):
                        await session.execute(text("UPDATE t SET x = 22 WHERE x = 20"))

                await session.execute(text("INSERT INTO t VALUES (99)"))

        with pytest.raises(FlamingockError, match="an error that the change has hidden"):
            await change()

        await other.rollback()

    assert await rows(mysql_url) == [10, 20, 30]
