"""The transactions of the SQLite target."""

from __future__ import annotations

import sqlite3
from contextlib import suppress

import aiosqlite
import anyio
import pytest

from aflamingock._states import MarkerOutcome
from aflamingock.exceptions import FlamingockError, SystemBusyError, UnknownOutcomeError
from aflamingock.targets import sqlite as module
from aflamingock.targets.sqlite import SQLiteTargetSystem
from tests.targets.sqlite import rows, run, sql, transact


@pytest.mark.parametrize(
    "end",
    [
        lambda db: db.commit(),
        lambda db: db.rollback(),
        lambda db: db.execute("COMMIT"),
        lambda db: db.execute("end"),
        lambda db: db.execute("ROLLBACK"),
        lambda db: db.execute("BEGIN"),
        lambda db: db.executescript("INSERT INTO t VALUES (2)"),
        lambda db: db.execute("VACUUM"),
    ],
)
async def test_what_would_end_the_transaction_fails_with_a_hint(target, end):
    with pytest.raises(sqlite3.DatabaseError) as error:
        await transact(target, sql("INSERT INTO t VALUES (1)"), end)

    assert "transactional=False" in error.value.__notes__[0]
    assert await rows(target) == []


async def test_other_errors_get_no_hint(target):
    with pytest.raises(sqlite3.IntegrityError) as error:
        await transact(target, sql("INSERT INTO t VALUES (1), (1)"))

    assert not hasattr(error.value, "__notes__")


async def test_savepoints_and_tables_are_allowed(target):
    await transact(
        target,
        sql("SAVEPOINT s"),
        sql("INSERT INTO t VALUES (1)"),
        sql("ROLLBACK TO s"),
        sql("INSERT INTO t VALUES (2)"),
        sql("RELEASE s"),
        sql("CREATE TABLE other (y)"),
        sql("CREATE INDEX i ON other (y)"),
    )

    assert await rows(target) == [2]


async def test_a_transaction_that_a_statement_has_ended_is_not_taken_for_committed(target):
    async def hide_the_end(session):
        with suppress(sqlite3.IntegrityError):
            await session.execute("INSERT OR ROLLBACK INTO t VALUES (1), (1)")

    async def insert_marker(session):
        await target.insert_marker(session, "k", "c")

    for steps in ([hide_the_end], [hide_the_end, insert_marker]):
        with pytest.raises(FlamingockError, match="ended by a statement"):
            await transact(target, sql("INSERT INTO t VALUES (1)"), *steps)

    assert await rows(target) == []
    assert await target.claim_marker("k", "c") is MarkerOutcome.ABORTED


async def test_a_connection_that_a_change_closes_harms_nobody(target):
    async with target.handles() as objects:
        await objects["db"].close()

    with pytest.raises(FlamingockError, match="ended by a statement"):
        await transact(target, sql("INSERT INTO t VALUES (1)"), lambda session: session.close())

    with anyio.CancelScope() as scope:
        async with target.handles() as objects:
            await objects["db"].close()
            scope.cancel()
            await anyio.sleep_forever()

    assert await rows(target) == []


async def test_a_locked_file_is_busy_at_once(target, path):
    async with aiosqlite.connect(path, isolation_level=None) as other:
        await other.execute("BEGIN IMMEDIATE")
        for use in (
            target.transaction().__aenter__,
            lambda: target.claim_marker("k", "c"),
            lambda: target.remove_marker("k"),
        ):
            with pytest.raises(SystemBusyError, match=r"target\.db is locked"):
                await use()

        await other.execute("ROLLBACK")

    assert await target.claim_marker("k", "c") is MarkerOutcome.ABORTED


async def test_a_file_that_is_locked_for_readers_is_busy(path):
    async with aiosqlite.connect(path, isolation_level=None) as other:
        await other.execute("BEGIN EXCLUSIVE")
        async with SQLiteTargetSystem("db", path) as target:
            with pytest.raises(SystemBusyError):
                await target.transaction().__aenter__()


async def test_a_commit_that_readers_prevent_is_rolled_back(target, path):
    async with aiosqlite.connect(path, isolation_level=None) as reader:
        await reader.executescript("BEGIN")
        await reader.execute_fetchall("SELECT * FROM t")
        with pytest.raises(SystemBusyError, match="rolled back"):
            await transact(target, sql("INSERT INTO t VALUES (1)"))

        await reader.execute("ROLLBACK")

    assert await rows(target) == []


async def test_a_constraint_that_the_commit_refuses_passes_unchanged(target):
    await run(target, "PRAGMA foreign_keys=ON")
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        await transact(
            target,
            sql("CREATE TABLE child (x REFERENCES t (x) DEFERRABLE INITIALLY DEFERRED)"),
            sql("INSERT INTO child VALUES (7)"),
        )

    assert await rows(target) == []


async def test_a_commit_that_does_not_end_is_of_unknown_outcome(target, monkeypatch):
    monkeypatch.setattr(module, "CLOSING_TIME", -0.1)
    with pytest.raises(UnknownOutcomeError, match=r"target\.db"):
        await transact(target, sql("INSERT INTO t VALUES (1)"))


async def test_a_commit_that_the_disk_fails_is_of_unknown_outcome(target):
    """SQLite reports a write beyond the limit of a file's size as an error of the disk."""
    resource = pytest.importorskip("resource", reason="files have no limit here")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
    try:
        with pytest.raises(UnknownOutcomeError, match=r"target\.db"):
            await transact(target, sql("INSERT INTO t VALUES (zeroblob(100000))"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert await rows(target) == []


async def test_a_file_that_is_damaged_meanwhile_is_an_error_of_the_driver(target, path):
    await anyio.Path(path).write_text("Dear diary, " * 1000)
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        await target.claim_marker("k", "c")


async def executed(session, statement: str) -> None:
    await session.execute(statement)


async def test_a_statement_on_its_way_is_over_when_the_block_is(target):
    """A cancelled statement would otherwise go on in its thread, and keep the file locked."""
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"
    for use in (target.transaction, target.handles):
        with anyio.CancelScope() as scope:
            async with use() as used, anyio.create_task_group() as group:
                session = used["db"] if isinstance(used, dict) else used
                await session.execute("INSERT INTO t VALUES (1)")
                group.start_soon(executed, session, endless)
                await anyio.sleep(0.05)
                scope.cancel()

        assert await rows(target) == ([1] if use == target.handles else [])


async def test_a_cursor_that_an_error_keeps_alive_keeps_nothing_locked(target, path):
    async with target.handles() as objects:
        await objects["db"].executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(9)])

    kept = []
    with suppress(ZeroDivisionError):
        async with target.transaction() as session:
            cursor = await session.execute("SELECT * FROM t")
            kept.append(cursor)
            await cursor.fetchone()
            raise ZeroDivisionError

    async with aiosqlite.connect(path, isolation_level=None, timeout=0.1) as other:
        await other.execute("INSERT INTO t VALUES (-1)")

    assert len(kept) == 1


async def test_a_transaction_left_open_outside_is_rolled_back_and_told(target):
    async def leave_open() -> None:
        async with target.handles() as objects:
            await objects["db"].execute("BEGIN")
            await objects["db"].execute("INSERT INTO t VALUES (1)")

    with pytest.raises(FlamingockError, match="begun and not ended"):
        await leave_open()

    assert await rows(target) == []
