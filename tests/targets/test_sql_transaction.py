"""The transactions of the SQL target: what ends them, and what must not."""

from __future__ import annotations

from contextlib import suppress

import anyio
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from aflamingock._states import MarkerOutcome
from aflamingock.exceptions import FlamingockError, SystemBusyError, UnknownOutcomeError
from aflamingock.targets._sql_transaction import TransactionGuard
from aflamingock.targets.sql import SQLTargetSystem
from tests.servers import sql
from tests.servers.sql import DATABASES, SERVERS, query, url_of
from tests.targets.sql import prepared, rows, transact

pytestmark = pytest.mark.usefixtures("excused_sql")


@pytest.fixture(params=DATABASES)
def url(request):
    return url_of(request.param, request)


async def test_what_a_session_of_the_orm_commits_is_part_of_the_transaction(url):
    await prepared(url)

    async def use_orm(session):
        async with AsyncSession(bind=session) as orm:
            await orm.execute(text("INSERT INTO t VALUES (1)"))
            await orm.commit()

    with pytest.raises(IntegrityError):
        await transact(url, use_orm, "INSERT INTO t VALUES (1)")

    assert await rows(url) == []
    await transact(url, use_orm)
    assert await rows(url) == [1]


async def test_an_error_that_is_hidden_is_not_taken_for_a_commit(postgresql_url):
    """PostgreSQL answers COMMIT with ROLLBACK then, and raises nothing."""
    await prepared(postgresql_url)

    async def hide(session):
        with suppress(IntegrityError):
            await session.execute(text("INSERT INTO t VALUES (1)"))

    with pytest.raises(FlamingockError, match="an error that the change has hidden"):
        await transact(postgresql_url, "INSERT INTO t VALUES (1)", hide)

    assert await rows(postgresql_url) == []


async def test_a_transaction_that_the_driver_has_ended_is_not_taken_for_committed(postgresql_url):
    await prepared(postgresql_url)

    async def go_behind(session):
        raw = await session.get_raw_connection()
        await raw.driver_connection.execute("ROLLBACK")

    with pytest.raises(FlamingockError, match="ended by a statement in it"):
        await transact(postgresql_url, "INSERT INTO t VALUES (1)", go_behind)

    assert await rows(postgresql_url) == []


async def test_a_locked_file_is_busy(tmp_path):
    url = sql.sqlite_url(tmp_path).update_query_dict({"timeout": "0.1"})
    await prepared(url)
    one, other = (SQLTargetSystem.from_url("db", url) for _ in range(2))
    async with one, other, one.transaction():
        for use in (
            other.transaction().__aenter__,
            lambda: other.claim_marker("k", "c"),
        ):
            with pytest.raises(SystemBusyError, match="busy, and nothing was done"):
                await use()

    assert await rows(url) == []


@pytest.mark.parametrize("url", SERVERS, indirect=True)
async def test_a_claim_does_not_wait_for_ever_for_an_open_transaction(url):
    one, other = (SQLTargetSystem.from_url("db", url) for _ in range(2))
    async with one, other:
        async with one.transaction() as session:
            await one.insert_marker(session, "k", "c")
            with pytest.raises(SystemBusyError):
                await other.claim_marker("k", "c")

            await other.remove_marker("another")

        assert await other.claim_marker("k", "c") is MarkerOutcome.COMMITTED


async def test_a_transaction_that_stands_idle_is_ended_by_the_server(postgresql_url):
    await prepared(postgresql_url)
    target = SQLTargetSystem.from_url("db", postgresql_url, idle_timeout=0.2)

    async def change() -> None:
        async with target.transaction() as session:
            await session.execute(text("INSERT INTO t VALUES (1)"))
            await anyio.sleep(0.6)

    async with target:
        with pytest.raises((FlamingockError, DBAPIError)):
            await change()

        assert await target.claim_marker("k", "c") is MarkerOutcome.ABORTED

    assert await rows(postgresql_url) == []


@pytest.mark.parametrize("url", SERVERS, indirect=True)
async def test_a_commit_whose_answer_is_lost_is_of_unknown_outcome(url, monkeypatch):
    await prepared(url)

    async def kill(session: AsyncConnection) -> None:
        is_mysql = url.get_backend_name() == "mysql"
        mine = "connection_id()" if is_mysql else "pg_backend_pid()"
        number = (await session.execute(text(f"SELECT {mine}"))).scalar()
        await query(url, f"KILL {number}" if is_mysql else f"SELECT pg_terminate_backend({number})")

    async def killed_after_the_last_look(guard):
        await kill(guard._connection)

    monkeypatch.setattr(TransactionGuard, "require", killed_after_the_last_look)
    with pytest.raises(UnknownOutcomeError, match="answer to the commit"):
        await transact(url, "INSERT INTO t VALUES (1)")


async def test_a_constraint_that_the_commit_refuses_passes_unchanged(postgresql_url):
    await prepared(postgresql_url)
    with pytest.raises(IntegrityError, match="foreign key"):
        await transact(
            postgresql_url,
            "CREATE TABLE c (x INTEGER REFERENCES t (x) DEFERRABLE INITIALLY DEFERRED)",
            "INSERT INTO c VALUES (7)",
        )

    assert await rows(postgresql_url) == []


async def test_a_statement_that_is_cut_off_is_over_when_the_block_is(postgresql_url):
    await prepared(postgresql_url)
    async with SQLTargetSystem.from_url("db", postgresql_url) as target:
        with anyio.CancelScope() as scope:
            async with target.transaction() as session, anyio.create_task_group() as group:
                await session.execute(text("LOCK TABLE t"))
                group.start_soon(session.execute, text("SELECT pg_sleep(60)"))
                await anyio.sleep(0.1)
                scope.cancel()

        async with target.transaction() as session:
            await session.execute(text("INSERT INTO t VALUES (1)"))

    assert await rows(postgresql_url) == [1]
